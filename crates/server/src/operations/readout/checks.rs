//! Whether the numbers of an experiment may be used at all.

use flywheel_core::experiment::Experiment;
use flywheel_stats::{health, srm};
use flywheel_storage::statistics::ExperimentStatistics;

use super::compare::Comparing;
use super::{
    ArmUnits, CheckState, DataCheck, GuardrailState, MetricReadout, MetricRole, deciding, words,
};

/// The checks, the most serious first.
pub(super) fn checks(comparing: &Comparing<'_>, arms: &[ArmUnits]) -> Vec<DataCheck> {
    let (experiment, statistics) = (comparing.experiment, comparing.statistics);
    let mut checks = vec![
        split(experiment, statistics, arms),
        two_arms(statistics, arms),
        outcomes(comparing),
    ];
    checks.extend(moved(statistics, arms));
    checks.extend(stopped_arms(experiment));
    checks.extend(changed(experiment));
    checks
}

/// Arms that a guardrail stopped while the others go on.
fn stopped_arms(experiment: &Experiment) -> impl Iterator<Item = DataCheck> {
    experiment.epochs.iter().filter_map(|epoch| {
        let stopped = epoch.stopped_arm.as_ref()?;
        let at = epoch.since.strftime("%Y-%m-%d %H:%M");
        Some(DataCheck {
            name: "stopped arm",
            state: CheckState::Warning,
            detail: format!(
                "{} is served to nobody since {at}: {}",
                stopped.arm, stopped.reason
            ),
        })
    })
}

fn counts_in(experiment: &Experiment, statistics: &ExperimentStatistics, epoch: usize) -> Vec<u64> {
    (0..experiment.arms.len())
        .map(|place| {
            let arm = statistics.arms.get(&(epoch, place));
            let n = arm.map_or(0, |arm| arm.assigned.values().sum::<i64>());
            u64::try_from(n).unwrap_or(0)
        })
        .collect()
}

fn weights_in(experiment: &Experiment, epoch: usize) -> Vec<u32> {
    match experiment.epochs.get(epoch) {
        Some(epoch) => epoch.weights.clone(),
        None => experiment.arms.iter().map(|arm| arm.weight).collect(),
    }
}

/// Evidence that the counts do not follow the weights, of the epoch with the most.
fn evidence(
    experiment: &Experiment,
    weights: impl Fn(usize) -> Vec<f64>,
    counts: impl Fn(usize) -> Vec<u64>,
) -> Option<(f64, usize)> {
    let epochs = experiment.epochs.len().max(1);
    (0..epochs)
        .filter_map(|epoch| {
            // An arm without weight gets nobody, which no ratio can say.
            let (counts, weights): (Vec<u64>, Vec<f64>) = counts(epoch)
                .into_iter()
                .zip(weights(epoch))
                .filter(|(_, weight)| *weight > 0.0)
                .unzip();
            // An epoch that has just begun says nothing of those before it.
            counts.iter().any(|n| *n > 0).then_some(())?;
            let log_e = srm::averaged_log_e(&counts, &weights).ok()?;
            Some((log_e, epoch))
        })
        .max_by(|one, other| one.0.total_cmp(&other.0))
}

/// E, and of which epoch where there are several.
fn shown_evidence(experiment: &Experiment, log_e: f64, epoch: usize) -> String {
    let e = words::evidence(log_e);
    match experiment.epochs.len() {
        0 | 1 => format!("E = {e}"),
        _ => format!("E = {e} in epoch {epoch}, the most of all"),
    }
}

fn split(
    experiment: &Experiment,
    statistics: &ExperimentStatistics,
    arms: &[ArmUnits],
) -> DataCheck {
    let name = "traffic split";
    let weights = |epoch: usize| {
        let weights = weights_in(experiment, epoch).into_iter();
        weights.map(f64::from).collect()
    };
    let found = evidence(experiment, weights, |epoch| {
        counts_in(experiment, statistics, epoch)
    });
    let Some((log_e, epoch)) = found else {
        return DataCheck {
            name,
            state: CheckState::Unknown,
            detail: "no units yet".to_owned(),
        };
    };
    let saw: Vec<String> = arms
        .iter()
        .map(|arm| words::count(arm.units as f64))
        .collect();
    let expected: Vec<String> = arms.iter().map(|arm| words::count(arm.expected)).collect();
    let saw = saw.join("/");
    if log_e >= -srm::ALPHA.ln() {
        return DataCheck {
            name,
            state: CheckState::Failed,
            detail: format!(
                "expected {}, saw {saw} ({}): likely causes are a bot filter, crashes or timeouts in one arm, a redirect, late logging, or merged ids",
                expected.join("/"),
                shown_evidence(experiment, log_e, epoch)
            ),
        };
    }
    DataCheck {
        name,
        state: CheckState::Passed,
        detail: format!(
            "{saw} units, as the weights say ({})",
            shown_evidence(experiment, log_e, epoch)
        ),
    }
}

fn two_arms(statistics: &ExperimentStatistics, arms: &[ArmUnits]) -> DataCheck {
    let name = "one arm per unit";
    let both: i64 = statistics.arms.values().map(|arm| arm.in_two_arms).sum();
    let both = u64::try_from(both).unwrap_or(0);
    let all: u64 = arms.iter().map(|arm| arm.units).sum();
    let state = match health::too_many_in_two_arms(both, all) {
        Err(_) => CheckState::Unknown,
        Ok(true) => CheckState::Failed,
        Ok(false) if both > 0 => CheckState::Warning,
        Ok(false) => CheckState::Passed,
    };
    let detail = match (state, both) {
        (CheckState::Unknown, _) => "no units yet".to_owned(),
        (_, 0) => "no unit was seen in two arms".to_owned(),
        (_, both) => format!(
            "{} of {} seen in two arms, dropped from both",
            words::count(both as f64),
            words::plural(all, "unit")
        ),
    };
    DataCheck {
        name,
        state,
        detail,
    }
}

/// Units with an outcome may differ because the arms do, so that this is only worth a look.
fn outcomes(comparing: &Comparing<'_>) -> DataCheck {
    let (experiment, statistics) = (comparing.experiment, comparing.statistics);
    let name = "units with an outcome";
    let plan = &experiment.plan;
    let place = plan
        .metrics
        .iter()
        .position(|metric| Some(&metric.name) == plan.primary.as_ref());
    let reading = place.and_then(|place| deciding(&plan.readings(), place));
    let counts = |epoch: usize| -> Vec<u64> {
        let of = |arm: usize| {
            let days = statistics
                .arms
                .get(&(epoch, arm))
                .and_then(|found| found.readings.get(&reading?));
            let n: i64 = days.into_iter().flatten().map(|(_, sums)| sums.n).sum();
            u64::try_from(n).unwrap_or(0)
        };
        (0..experiment.arms.len()).map(of).collect()
    };
    let unknown = |detail: &str| DataCheck {
        name,
        state: CheckState::Unknown,
        detail: detail.to_owned(),
    };
    if reading.is_none() {
        return unknown("no primary metric");
    }
    // Of units that were given another arm none has an outcome here.
    let weights = |epoch: usize| {
        let arms = 0..experiment.arms.len();
        arms.map(|arm| comparing.kept_share(arm, epoch, i64::MAX))
            .collect()
    };
    let Some((log_e, epoch)) = evidence(experiment, weights, counts) else {
        return unknown("no outcome yet");
    };
    let epochs = 0..experiment.epochs.len().max(1);
    let mut all = vec![0_u64; experiment.arms.len()];
    for found in epochs.map(counts) {
        for (sum, n) in all.iter_mut().zip(found) {
            *sum += n;
        }
    }
    let shown: Vec<String> = all.iter().map(|n| words::count(*n as f64)).collect();
    let shown = shown.join("/");
    let evidence = shown_evidence(experiment, log_e, epoch);
    if log_e >= -srm::ALPHA.ln() {
        return DataCheck {
            name,
            state: CheckState::Warning,
            detail: format!(
                "{shown} units have an outcome, which the weights do not explain ({evidence}): one arm may be asked or answer more often, and those who answer may differ"
            ),
        };
    }
    DataCheck {
        name,
        state: CheckState::Passed,
        detail: format!("{shown} units have one, as the weights say ({evidence})"),
    }
}

fn moved(statistics: &ExperimentStatistics, arms: &[ArmUnits]) -> Option<DataCheck> {
    let moved: i64 = statistics.arms.values().map(|arm| arm.moved).sum();
    let moved = u64::try_from(moved).ok().filter(|moved| *moved > 0)?;
    let all: u64 = arms.iter().map(|arm| arm.units).sum();
    Some(DataCheck {
        name: "changed weights",
        state: CheckState::Warning,
        detail: format!(
            "{} of {} have another arm since the weights changed, and count in neither",
            words::count(moved as f64),
            words::plural(all, "unit")
        ),
    })
}

/// Guardrails without a value in any arm.
pub(super) fn unmeasured(metrics: &[MetricReadout], experiment: &Experiment) -> Option<DataCheck> {
    let is_unmeasured = |metric: &&MetricReadout| {
        let states = metric.comparisons.iter().map(|found| found.guardrail);
        metric.role == MetricRole::Guardrail
            && states
                .into_iter()
                .all(|state| state == Some(GuardrailState::Unmeasured))
    };
    let names: Vec<String> = metrics
        .iter()
        .filter(is_unmeasured)
        .map(|metric| metric.metric.name.to_string())
        .collect();
    if names.is_empty() || experiment.started_at.is_none() {
        return None;
    }
    Some(DataCheck {
        name: "guardrails",
        state: CheckState::Warning,
        detail: format!(
            "no arm has a value of {}, which guards nothing",
            names.join(", ")
        ),
    })
}

fn changed(experiment: &Experiment) -> Option<DataCheck> {
    let last = experiment.plan_changes.last()?;
    Some(DataCheck {
        name: "plan",
        state: CheckState::Warning,
        detail: format!(
            "changed after the start, last by {} at {}: {}",
            last.by,
            last.at.strftime("%Y-%m-%d %H:%M"),
            last.changed.join(", ")
        ),
    })
}
