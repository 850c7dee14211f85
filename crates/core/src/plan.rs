//! The plan of an experiment: what is compared, how, and when it is enough. It is frozen when the experiment starts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ContentHash;
use crate::metric::{Direction, Metric, MetricKind, MetricSource};
use crate::name::{ArmName, MetricName};

/// What is compared, how, and when it is enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The arm that the others are compared with.
    pub control: ArmName,
    /// The metric that decides; without one there is no verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<MetricName>,
    /// The smallest effect on it that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mde: Option<Effect>,
    /// Metrics that must not become worse by more than a margin.
    pub guardrails: Vec<Guardrail>,
    /// How results may be read.
    pub mode: ReadingMode,
    /// The chance of a verdict where there is no difference, both sides together.
    pub alpha: f64,
    /// The chance of finding the smallest effect that matters.
    pub power: f64,
    /// Full days before a verdict can ship.
    pub minimum_days: u32,
    /// Units in each arm below which counts are shown and no verdict.
    pub floor: u64,
    /// Whether all arms serve the same, to test the experiment itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_aa: bool,
    /// Tags by whose value effects are broken down, as hypotheses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// The metrics as they were declared when the experiment started.
    pub metrics: Vec<Metric>,
    /// For quantiles: the app's value before the start. The share of calls beyond it tells how calls of a unit go together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<MetricName, f64>,
    /// What the app's own traffic said of the primary metric before the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// How many units it takes; nothing where the app's traffic could not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// How many units, all arms together, it may take until a guardrail is settled, of those whose values tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guardrail_units: BTreeMap<MetricName, f64>,
    /// What the app's own traffic said of them: their mean, and the variance of one unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guardrail_baselines: BTreeMap<MetricName, [f64; 2]>,
    /// For how many units, all arms together, the sequence is tightest.
    pub tuned_for: f64,
}

/// An effect or a margin, in the metric's own unit (0.05 of a share are five points) or relative to the control (0.05 are
/// five per cent of it).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// In the metric's unit.
    Absolute(f64),
    /// As a share of the control's value.
    Relative(f64),
}

impl Effect {
    /// In the metric's unit, given the control's value.
    #[must_use]
    pub fn absolute(self, base: f64) -> f64 {
        match self {
            Self::Absolute(value) => value,
            Self::Relative(share) => share * base.abs(),
        }
    }

    /// The number as it was given.
    #[must_use]
    pub fn number(self) -> f64 {
        match self {
            Self::Absolute(value) | Self::Relative(value) => value,
        }
    }
}

/// A metric that must not become worse by more than a margin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Guardrail {
    /// The metric.
    pub metric: MetricName,
    /// By how much it may become worse.
    pub margin: Effect,
}

impl Guardrail {
    /// How many times the control's value the arm is held against at the margin, as far as the control's uncertainty then counts
    /// for more: a relative margin of a value that is better lower moves up with it.
    #[must_use]
    pub fn control_factor(&self, direction: Direction, base: f64) -> f64 {
        match (self.margin, direction) {
            (Effect::Relative(share), Direction::Lower) if base > 0.0 => 1.0 + share,
            (Effect::Relative(share), Direction::Higher) if base < 0.0 => 1.0 + share,
            _ => 1.0,
        }
    }
}

/// How results may be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadingMode {
    /// At any time, and acted on.
    #[default]
    Anytime,
    /// At the end of each day, up to the planned number of units.
    Planned,
    /// At any time at a level of .01, and once more at the planned number of units.
    Hybrid,
    /// Once, at the planned number of units.
    Fixed,
}

/// What the app's own traffic said of a metric before an experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Baseline {
    /// Where the traffic begins.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub since: Timestamp,
    /// Where it ends.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub until: Timestamp,
    /// Units with a value.
    pub units: u64,
    /// The metric's value.
    pub mean: f64,
    /// The variance of one unit, linearised for ratios.
    pub unit_variance: f64,
    /// For each day the distinct units seen until its end.
    pub distinct_units: Vec<u64>,
}

/// How many units an experiment takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Size {
    /// Of each arm, if there were one look at the end.
    pub fixed_per_arm: f64,
    /// Of all arms, at most.
    pub largest: f64,
    /// Of all arms, expected if the effect is the smallest that matters.
    pub expected: f64,
    /// Days that takes, in full weeks; nothing if the traffic seen does not suffice.
    pub days: Option<u32>,
    /// Whether the days are a guess from too little history.
    pub days_are_guessed: bool,
}

/// A change of a plan after the start, which every result says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanChange {
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Which members changed.
    pub changed: Vec<String>,
    /// The hash of the plan before.
    pub before: ContentHash,
}

/// Which events of a unit a sum takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All from the first exposure on.
    Whole,
    /// All, with the unit's total at most the metric's cap.
    Capped,
    /// Those of the first half of the minimum duration after the unit's first exposure.
    Early,
    /// Those after it.
    Late,
    /// How long feedback took after its call, in microseconds; units are classed by the mean of theirs.
    Delay,
}

/// One column of an experiment's statistics: a metric, and which events of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The metric's place in the plan.
    pub metric: usize,
    /// Which events.
    pub part: Part,
}

/// Why a plan cannot be followed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPlan {
    /// A metric that the app does not have.
    #[error("{role} `{metric}` is no metric of the app; it has {known}")]
    UnknownMetric {
        /// `primary` or `guardrail`.
        role: &'static str,
        /// The metric.
        metric: MetricName,
        /// Those there are.
        known: String,
    },
    /// An arm that the experiment does not have.
    #[error("control `{0}` is no arm of the experiment")]
    UnknownControl(ArmName),
    /// A primary metric without the effect that matters.
    #[error(
        "`mde` is missing: say which effect on `{0}` matters at least, `{{\"absolute\": 0.05}}` in its unit (five points of a share) or `{{\"relative\": 0.05}}` (five per cent of the control)"
    )]
    NoEffect(MetricName),
    /// An effect on nothing.
    #[error("`mde` needs a `primary` metric that it is an effect on")]
    NoPrimary,
    /// A number out of range.
    #[error("`{member}` must be {rule}, not `{value}`")]
    Number {
        /// The member.
        member: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        value: f64,
    },
    /// A metric in two roles.
    #[error("`{0}` is named twice among the guardrails and the primary metric")]
    Twice(MetricName),
    /// Too many of something.
    #[error("a plan has at most {most} {what}, {found} given")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// How many there are.
        found: usize,
    },
}

/// The level if none is given.
pub const DEFAULT_ALPHA: f64 = 0.05;
/// The power if none is given.
pub const DEFAULT_POWER: f64 = 0.8;
/// The minimum duration if none is given: a full week.
pub const DEFAULT_DAYS: u32 = 7;
/// For how many units a sequence is tuned when the plan knows no number.
pub const DEFAULT_TUNING: f64 = 5000.0;

/// How many metrics a plan has at most.
pub const MOST_METRICS: usize = 50;
/// How many tags effects are broken down by at most.
pub const MOST_SEGMENTS: usize = 3;

impl Plan {
    /// The guardrails that take more units to settle than the primary metric, with how many.
    pub fn slow_guardrails(&self) -> impl Iterator<Item = (&MetricName, f64)> {
        let planned = self.size.map_or(f64::INFINITY, |size| size.largest);
        let units = self
            .guardrail_units
            .iter()
            .map(|(name, units)| (name, *units));
        units.filter(move |(_, units)| *units > planned)
    }

    /// A metric by its name.
    #[must_use]
    pub fn metric(&self, name: &MetricName) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.name == *name)
    }

    /// The columns of its statistics, in order.
    #[must_use]
    pub fn readings(&self) -> Vec<Reading> {
        let mut readings = Vec::new();
        for (place, metric) in self.metrics.iter().enumerate() {
            let mut add = |part| {
                readings.push(Reading {
                    metric: place,
                    part,
                });
            };
            add(Part::Whole);
            if metric.cap.is_some() {
                add(Part::Capped);
            }
            if Some(&metric.name) == self.primary.as_ref() && metric.kind != MetricKind::Quantile {
                add(Part::Early);
                add(Part::Late);
            }
        }
        // Of what decides alone, as keeping it costs as much as a metric more; and at the end, where it moves none of those
        // that earlier releases have kept.
        let primary = self.metrics.iter().position(|metric| {
            Some(&metric.name) == self.primary.as_ref()
                && matches!(metric.source, MetricSource::Feedback(_))
        });
        readings.extend(primary.map(|metric| Reading {
            metric,
            part: Part::Delay,
        }));
        readings
    }

    /// How many seconds after its first exposure a unit is no newcomer any more: half of the minimum duration.
    #[must_use]
    pub fn newcomer_seconds(&self) -> i64 {
        i64::from(self.minimum_days.max(1)) * 43_200
    }

    /// Identifies what was planned.
    #[must_use]
    pub fn hash(&self) -> ContentHash {
        ContentHash::of_json(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Checks it against the arms of the experiment.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self, arms: &[ArmName]) -> Result<(), InvalidPlan> {
        let number = |member, rule, value| {
            Err(InvalidPlan::Number {
                member,
                rule,
                value,
            })
        };
        if !arms.contains(&self.control) {
            return Err(InvalidPlan::UnknownControl(self.control.clone()));
        }
        for (what, most, found) in [
            ("metrics", MOST_METRICS, self.metrics.len()),
            ("segments", MOST_SEGMENTS, self.segments.len()),
        ] {
            if found > most {
                return Err(InvalidPlan::TooMany { what, most, found });
            }
        }
        let mut seen: Vec<_> = self.primary.iter().collect();
        if let Some(primary) = &self.primary {
            self.must_know("primary", primary)?;
        }
        for Guardrail { metric, .. } in &self.guardrails {
            self.must_know("guardrail", metric)?;
            if seen.contains(&metric) {
                return Err(InvalidPlan::Twice(metric.clone()));
            }
            seen.push(metric);
        }
        match (&self.primary, self.mde) {
            (Some(primary), None) => return Err(InvalidPlan::NoEffect(primary.clone())),
            (None, Some(_)) => return Err(InvalidPlan::NoPrimary),
            _ => {}
        }
        if let Some(mde) = self.mde.map(Effect::number)
            && !(mde.is_finite() && mde > 0.0)
        {
            return number("mde", "a positive number", mde);
        }
        for guardrail in &self.guardrails {
            let margin = guardrail.margin.number();
            if !(margin.is_finite() && margin >= 0.0) {
                return number("margin", "a number that is not negative", margin);
            }
        }
        if !(self.alpha > 0.0 && self.alpha <= 0.2) {
            return number("alpha", "above 0 and at most 0.2", self.alpha);
        }
        if !(self.power >= 0.5 && self.power < 1.0) {
            return number("power", "at least 0.5 and below 1", self.power);
        }
        if self.minimum_days > 365 {
            let days = f64::from(self.minimum_days);
            return number("minimum_days", "at most 365", days);
        }
        Ok(())
    }

    /// The plan of an experiment for which nobody planned anything: everything is read and nothing decided.
    #[must_use]
    pub fn unplanned(control: ArmName, metrics: Vec<Metric>) -> Self {
        Self {
            control,
            primary: None,
            mde: None,
            guardrails: Vec::new(),
            mode: ReadingMode::default(),
            alpha: DEFAULT_ALPHA,
            power: DEFAULT_POWER,
            minimum_days: DEFAULT_DAYS,
            floor: 0,
            is_aa: false,
            segments: Vec::new(),
            metrics,
            thresholds: BTreeMap::new(),
            baseline: None,
            size: None,
            guardrail_units: BTreeMap::new(),
            guardrail_baselines: BTreeMap::new(),
            tuned_for: DEFAULT_TUNING,
        }
    }

    fn must_know(&self, role: &'static str, name: &MetricName) -> Result<(), InvalidPlan> {
        if self.metric(name).is_some() {
            return Ok(());
        }
        let known: Vec<_> = self
            .metrics
            .iter()
            .map(|m| format!("`{}`", m.name))
            .collect();
        Err(InvalidPlan::UnknownMetric {
            role,
            metric: name.clone(),
            known: known.join(", "),
        })
    }
}

/// Units in each arm below which a metric of this kind is not judged: enough to look at, no promise of power.
#[must_use]
pub fn floor(kind: MetricKind) -> u64 {
    match kind {
        MetricKind::Binary => 500,
        _ => 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::starter_set;

    fn plan() -> Plan {
        Plan {
            primary: "task_completed".parse().ok(),
            mde: Some(Effect::Absolute(0.05)),
            guardrails: vec![Guardrail {
                metric: "latency_p95".parse().unwrap(),
                margin: Effect::Relative(0.1),
            }],
            ..Plan::unplanned("a".parse().unwrap(), starter_set())
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_name() {
        let arms = ["a".parse().unwrap(), "b".parse().unwrap()];
        assert_eq!(plan().check(&arms), Ok(()));
        let with = |change: fn(&mut Plan)| {
            let mut plan = plan();
            change(&mut plan);
            plan.check(&arms).unwrap_err().to_string()
        };
        for (found, said) in [
            (with(|p| p.control = "c".parse().unwrap()), "control `c`"),
            (
                with(|p| p.primary = "joy".parse().ok()),
                "primary `joy` is no metric of the app; it has `thumbs_up`",
            ),
            (
                with(|p| p.guardrails[0].metric = p.primary.clone().unwrap()),
                "named twice",
            ),
            (with(|p| p.mde = Some(Effect::Relative(0.0))), "`mde`"),
            (
                with(|p| p.mde = None),
                "say which effect on `task_completed`",
            ),
            (with(|p| p.primary = None), "needs a `primary`"),
            (with(|p| p.alpha = f64::NAN), "`alpha`"),
            (with(|p| p.power = 1.0), "`power`"),
        ] {
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn the_primary_metric_is_read_in_halves_too() {
        let readings = plan().readings();
        assert_eq!(readings.len(), 13);
        assert_eq!((readings[12].metric, readings[12].part), (2, Part::Delay));
        assert_eq!(readings[3].part, Part::Early);
        assert_eq!(plan().hash(), plan().hash());
    }
}
