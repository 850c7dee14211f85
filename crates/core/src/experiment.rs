//! Experiments as the serving side knows them: arms, weights, exposure, layers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::assignment::{self, ALL_BASIS_POINTS};
use crate::hash::ContentHash;
use crate::manifest::ManifestId;
use crate::name::{AppName, ArmName, EnvironmentName, ExperimentName};
use crate::plan::{Plan, PlanChange};

/// An A/B/n test between manifests of one app's environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Experiment {
    /// Its name, unique in the installation.
    pub name: ExperimentName,
    /// The app.
    pub app: AppName,
    /// The environment whose traffic takes part.
    pub environment: EnvironmentName,
    /// What is expected and why.
    #[serde(default)]
    pub hypothesis: String,
    /// Drawn when the experiment is made; decides who gets which arm.
    pub salt: String,
    /// What is randomised.
    pub unit: UnitKind,
    /// Experiments in one layer share no unit; different layers are independent. By default every environment of an
    /// app is a layer of its own, because a request can be served by one manifest only.
    pub layer: String,
    /// How much of the layer this experiment holds, in basis points.
    pub layer_share: u32,
    /// Where in the layer that share begins; decided when the experiment starts.
    #[serde(default)]
    pub layer_offset: u32,
    /// The arms in declared order; their weights add up to 10000.
    pub arms: Vec<Arm>,
    /// How much of the layer's share takes part, in basis points.
    pub exposure: u32,
    /// Whether it is running.
    pub status: ExperimentStatus,
    /// When it was made.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::DateTime>"))]
    pub started_at: Option<Timestamp>,
    /// When it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::DateTime>"))]
    pub stopped_at: Option<Timestamp>,
    /// What is compared, how, and when it is enough; frozen at the start.
    pub plan: Plan,
    /// What identified the plan at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_hash: Option<ContentHash>,
    /// Changes of the plan after the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan_changes: Vec<PlanChange>,
    /// What was allocated since when, from the start on. Units are compared within the epoch of their first exposure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epochs: Vec<Epoch>,
    /// Why and with what it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// A time within which traffic was allocated in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Epoch {
    /// When it began.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub since: Timestamp,
    /// The arms' weights, in their order, in basis points.
    pub weights: Vec<u32>,
    /// How much of the layer's share took part, in basis points.
    pub exposure: u32,
    /// The arm that a guardrail stopped, if that is why it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_arm: Option<StoppedArm>,
}

/// An arm that is served to nobody any more, while the others go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StoppedArm {
    /// The arm.
    pub arm: ArmName,
    /// Why.
    pub reason: String,
}

/// Why and with what an experiment ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decision {
    /// Who decided; `flywheel` where a guardrail did.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The arm that was promoted, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<ArmName>,
    /// What the readout said at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<serde_json::Value>,
}

/// One manifest of an experiment with its share of the traffic that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name, such as `control`.
    pub name: ArmName,
    /// What it serves. An arm without it follows its environment: it serves what is deployed there at any time, as the
    /// rest does that a holdout is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestId>,
    /// Its weight in basis points.
    pub weight: u32,
}

/// What is randomised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// The `user` of the request.
    #[default]
    User,
    /// The `flywheel.session` of the request.
    Session,
    /// Every request for itself.
    Request,
}

/// Where an experiment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ExperimentStatus {
    /// Made, not yet serving.
    Draft,
    /// Serving.
    Running,
    /// Ended. What is said of its calls later still counts.
    Stopped,
    /// Put away with its statistics as they were: nothing counts in it any more, and nothing of it is removed.
    Archived,
}

impl ExperimentStatus {
    /// Its spelling in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Archived => "archived",
        }
    }

    /// Whether it serves nobody any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Stopped | Self::Archived)
    }
}

/// Why an experiment cannot be made or changed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExperiment {
    /// A test needs something to compare.
    #[error("an experiment needs at least two arms, {0} given")]
    TooFewArms(usize),
    /// The weights do not cover the traffic.
    #[error("the arms' weights must add up to 10000 basis points (100%), they add up to {0}")]
    Weights(u64),
    /// Arms that would serve the same at any time.
    #[error("arms `{0}` and `{1}` both follow the environment, so there is nothing to compare")]
    FollowTheSame(ArmName, ArmName),
    /// Two arms have one name.
    #[error("two arms are named `{0}`")]
    DuplicateArm(ArmName),
    /// None, or more than all, of the traffic.
    #[error("{member} must lie between 1 and 10000 basis points (0.01% to 100%), not `{value}`")]
    Share {
        /// `exposure` or `layer_share`.
        member: &'static str,
        /// The value as given.
        value: u32,
    },
    /// The layer has not that much left.
    #[error(
        "layer `{layer}` has {}% in one piece left beside {others}, {}% is asked for", percent(*.free), percent(*.asked)
    )]
    LayerFull {
        /// The layer.
        layer: String,
        /// Its largest free piece.
        free: u32,
        /// What is asked for.
        asked: u32,
        /// Who holds the rest.
        others: String,
    },
}

/// Basis points as people read them.
fn percent(basis_points: u32) -> f64 {
    f64::from(basis_points) / 100.0
}

impl Experiment {
    /// Checks arms and exposure.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidExperiment> {
        if self.arms.len() < 2 {
            return Err(InvalidExperiment::TooFewArms(self.arms.len()));
        }
        let total: u64 = self.arms.iter().map(|arm| u64::from(arm.weight)).sum();
        if total != u64::from(ALL_BASIS_POINTS) {
            return Err(InvalidExperiment::Weights(total));
        }
        for (index, arm) in self.arms.iter().enumerate() {
            if self.arms[..index]
                .iter()
                .any(|other| other.name == arm.name)
            {
                return Err(InvalidExperiment::DuplicateArm(arm.name.clone()));
            }
        }
        let mut following = self.arms.iter().filter(|arm| arm.manifest.is_none());
        if let (Some(one), Some(other)) = (following.next(), following.next()) {
            let (one, other) = (one.name.clone(), other.name.clone());
            return Err(InvalidExperiment::FollowTheSame(one, other));
        }
        for (member, value) in [
            ("exposure", self.exposure),
            ("layer_share", self.layer_share),
        ] {
            if !(1..=ALL_BASIS_POINTS).contains(&value) {
                return Err(InvalidExperiment::Share { member, value });
            }
        }
        Ok(())
    }

    /// The epoch in which something happened.
    #[must_use]
    pub fn epoch_at(&self, at: Timestamp) -> usize {
        let begun = self.epochs.iter().filter(|epoch| epoch.since <= at).count();
        begun.saturating_sub(1)
    }

    /// Gives an arm's weight to one beside it, the control if that is beside it, so that of all units only the arm's own
    /// move. Returns whether there was one.
    pub fn close_arm(&mut self, place: usize) -> bool {
        // Between the arm's units and theirs there are only arms that are served to nobody.
        let is_served = |other: &usize| self.arms[*other].weight > 0;
        let before = (0..place).rev().find(is_served);
        let after = (place + 1..self.arms.len()).find(is_served);
        let is_control = |other: &usize| self.arms[*other].name == self.plan.control;
        let heir = before.filter(is_control).or(after.filter(is_control));
        let Some(heir) = heir.or(before).or(after) else {
            return false;
        };
        self.arms[heir].weight += std::mem::take(&mut self.arms[place].weight);
        true
    }

    /// An arm's weight at the start, with which the plan was made.
    #[must_use]
    pub fn planned_weight(&self, place: usize) -> u32 {
        let at_start = self.epochs.first();
        at_start
            .and_then(|epoch| epoch.weights.get(place).copied())
            .unwrap_or(self.arms[place].weight)
    }

    /// Whether a guardrail stopped an arm while the others go on.
    #[must_use]
    pub fn is_stopped(&self, arm: &ArmName) -> bool {
        let mut stopped = self
            .epochs
            .iter()
            .filter_map(|epoch| epoch.stopped_arm.as_ref());
        stopped.any(|stopped| stopped.arm == *arm)
    }

    /// The arms that are compared with the control.
    pub fn treatments(&self) -> impl Iterator<Item = &Arm> {
        let is_treatment = |arm: &&Arm| arm.name != self.plan.control;
        self.arms.iter().filter(is_treatment)
    }

    /// The names of its arms.
    #[must_use]
    pub fn arm_names(&self) -> Vec<ArmName> {
        self.arms.iter().map(|arm| arm.name.clone()).collect()
    }

    /// Its arm of that name.
    #[must_use]
    pub fn arm(&self, name: &ArmName) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == *name)
    }

    /// The arm that a unit gets, or `None` if the unit does not take part.
    #[must_use]
    pub fn assign(&self, unit: &str) -> Option<&Arm> {
        if !self.takes_part(unit) {
            return None;
        }
        let index = assignment::arm(&self.salt, unit, self.arms.iter().map(|arm| arm.weight))?;
        self.arms.get(index)
    }

    /// Whether a unit takes part: it must fall into this experiment's share of the layer, which no other experiment
    /// there holds, and be drawn by the experiment's own exposure.
    fn takes_part(&self, unit: &str) -> bool {
        self.holds_in_layer(unit) && assignment::is_exposed(&self.salt, unit, self.exposure)
    }

    fn holds_in_layer(&self, unit: &str) -> bool {
        if self.layer_share == ALL_BASIS_POINTS {
            return true;
        }
        let bucket = assignment::bucket_in_layer(&self.layer, unit);
        let end = self.layer_offset.saturating_add(self.layer_share);
        !assignment::is_below(bucket, self.layer_offset) && assignment::is_below(bucket, end)
    }
}

/// The layer of an experiment that names none.
#[must_use]
pub fn default_layer(app: &AppName, environment: &EnvironmentName) -> String {
    format!("{app}/{environment}")
}

/// Where in its layer an experiment with the given share can begin beside those that run there.
///
/// # Errors
/// When no free piece of the layer is large enough.
pub fn place_in_layer(
    layer: &str,
    share: u32,
    running: &[&Experiment],
) -> Result<u32, InvalidExperiment> {
    let mut taken: Vec<(u32, u32)> = running
        .iter()
        .map(|other| (other.layer_offset, other.layer_offset + other.layer_share))
        .collect();
    taken.sort_unstable();
    taken.push((ALL_BASIS_POINTS, ALL_BASIS_POINTS));
    let mut from = 0;
    let mut largest = 0;
    for (start, end) in taken {
        let free = start.saturating_sub(from);
        if free >= share {
            return Ok(from);
        }
        largest = largest.max(free);
        from = from.max(end);
    }
    let others: Vec<_> = running
        .iter()
        .map(|other| format!("`{}` ({}%)", other.name, percent(other.layer_share)))
        .collect();
    Err(InvalidExperiment::LayerFull {
        layer: layer.to_owned(),
        free: largest,
        asked: share,
        others: others.join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(name: &str, layer: &str, offset: u32, share: u32) -> Experiment {
        let arm = |name: &str| Arm {
            name: name.parse().unwrap(),
            manifest: Some(ContentHash::of_bytes(name.as_bytes())),
            weight: 5000,
        };
        Experiment {
            name: name.parse().unwrap(),
            app: "a".parse().unwrap(),
            environment: "production".parse().unwrap(),
            hypothesis: String::new(),
            salt: name.to_owned(),
            unit: UnitKind::User,
            layer: layer.to_owned(),
            arms: vec![arm("control"), arm("candidate")],
            layer_share: share,
            layer_offset: offset,
            exposure: 10_000,
            status: ExperimentStatus::Running,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            stopped_at: None,
            plan: Plan::unplanned("control".parse().unwrap(), Vec::new()),
            plan_hash: None,
            plan_changes: Vec::new(),
            epochs: Vec::new(),
            decision: None,
        }
    }

    #[test]
    fn no_unit_is_in_two_experiments_of_a_layer() {
        let first = experiment("one", "prompt", 0, 4000);
        let second = experiment("two", "prompt", 4000, 6000);
        let mut counts = [0; 2];
        for number in 0..10_000 {
            let unit = format!("u{number}");
            let in_both = [first.assign(&unit), second.assign(&unit)];
            assert_eq!(in_both.iter().flatten().count(), 1, "{unit}");
            counts[usize::from(in_both[1].is_some())] += 1;
        }
        assert!((3800..4200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_closed_arm_moves_no_unit_but_its_own() {
        let mut before = experiment("one", "l", 0, 10_000);
        before.arms = [("a", 2000), ("control", 3000), ("b", 1000), ("c", 4000)]
            .map(|(name, weight)| Arm {
                name: name.parse().unwrap(),
                manifest: None,
                weight,
            })
            .to_vec();
        for (closing, heir) in [("b", "control"), ("c", "control"), ("a", "control")] {
            let mut after = before.clone();
            let place = before
                .arms
                .iter()
                .position(|arm| arm.name.as_str() == closing);
            assert!(after.close_arm(place.unwrap()));
            for number in 0..2000 {
                let unit = format!("u{number}");
                let arm = |experiment: &Experiment| experiment.assign(&unit).unwrap().name.clone();
                let (was, is) = (arm(&before), arm(&after));
                let expected = if was.as_str() == closing {
                    heir
                } else {
                    was.as_str()
                };
                assert_eq!(is.as_str(), expected, "{unit} after {closing}");
            }
            before = after;
        }
    }

    #[test]
    fn layers_fill_up() {
        let first = experiment("one", "l", 0, 4000);
        let second = experiment("two", "l", 5000, 3000);
        let running = [&first, &second];
        assert_eq!(place_in_layer("l", 1000, &running), Ok(4000));
        assert_eq!(place_in_layer("l", 2000, &running), Ok(8000));
        let error = place_in_layer("l", 2001, &running).unwrap_err().to_string();
        assert!(
            error.contains("20% in one piece left beside `one` (40%), `two` (30%)"),
            "{error}"
        );
        assert_eq!(place_in_layer("l", 10_000, &[]), Ok(0));
    }

    #[test]
    fn checks() {
        let valid = experiment("x", "l", 0, 10_000);
        assert_eq!(valid.check(), Ok(()));
        let mut weights = valid.clone();
        weights.arms[0].weight = 4000;
        assert_eq!(weights.check(), Err(InvalidExperiment::Weights(9000)));
        let mut names = valid.clone();
        names.arms[1].name = names.arms[0].name.clone();
        assert!(matches!(
            names.check(),
            Err(InvalidExperiment::DuplicateArm(_))
        ));
        assert!(
            Experiment {
                exposure: 0,
                ..valid
            }
            .check()
            .is_err()
        );
    }
}
