//! Outcomes that were kept and are not analysed, so that nobody wonders where they are.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_core::experiment::Epoch;
use flywheel_core::metric::{Metric, MetricKind, MetricSource};
use flywheel_core::plan::Part;
use schemars::JsonSchema;
use serde::Serialize;

use super::compare::Comparing;
use super::{ArmUnits, words};

/// What was said from the hour on in which an experiment began of the calls of its app and environment, by series; of each call and series the
/// latest counts.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Of all calls.
    pub of_all: BTreeMap<String, u64>,
    /// Of those of the experiment.
    pub of_experiment: BTreeMap<String, u64>,
}

/// Outcomes that metrics of the plan read, of calls from the hour of the start on; each series of a call is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeptOutcomes {
    /// Those that the numbers contain.
    pub analysed: u64,
    /// Those on calls that belong to no arm: their units were not exposed.
    pub outside: u64,
    /// Those on calls of the experiment that count in no arm: of units that were dropped, of arms that were served to nobody any
    /// more, or later than they may come.
    pub left_out: u64,
    /// Units that were dropped, because they were seen in two arms or moved to another.
    pub dropped_units: u64,
    /// All of that in a sentence.
    pub said: String,
}

/// How many outcomes of a series a metric contains, if its sums tell.
fn contained(comparing: &Comparing<'_>, place: usize, metric: &Metric) -> Option<f64> {
    let is_words =
        matches!(&metric.source, MetricSource::Feedback(s) if s == "comment" || s == "correction");
    let column = match metric.kind {
        MetricKind::Binary | MetricKind::Continuous | MetricKind::Ordinal => 1,
        MetricKind::Count | MetricKind::Ratio if is_words => 0,
        _ => return None,
    };
    let arms = 0..comparing.experiment.arms.len();
    Some(
        arms.map(|arm| comparing.all_sums(arm, place).sum(column))
            .sum(),
    )
}

pub(super) fn outcomes(comparing: &Comparing<'_>, kept: &Kept, arms: &[ArmUnits]) -> KeptOutcomes {
    let mut found = KeptOutcomes {
        analysed: 0,
        outside: 0,
        left_out: 0,
        dropped_units: arms.iter().map(|arm| arm.dropped).sum(),
        said: String::new(),
    };
    let metrics = &comparing.experiment.plan.metrics;
    let mut by_series: BTreeMap<&str, f64> = BTreeMap::new();
    let mut uncounted: BTreeSet<&str> = BTreeSet::new();
    for (place, reading) in comparing.readings.iter().enumerate() {
        let metric = &metrics[reading.metric];
        let MetricSource::Feedback(series) = &metric.source else {
            continue;
        };
        if reading.part != Part::Whole {
            continue;
        }
        // Of two metrics that read one series, one may leave out what comes late.
        match contained(comparing, place, metric) {
            Some(n) => {
                let most = by_series.entry(series).or_default();
                *most = most.max(n);
            }
            None => {
                uncounted.insert(metric.name.as_str());
            }
        }
    }
    let of =
        |counts: &BTreeMap<String, u64>, series: &str| counts.get(series).copied().unwrap_or(0);
    for (series, analysed) in &by_series {
        let analysed = analysed.round().max(0.0) as u64;
        let own = of(&kept.of_experiment, series).max(analysed);
        found.analysed += analysed;
        found.left_out += own - analysed;
        found.outside += of(&kept.of_all, series).saturating_sub(own);
    }
    let named: BTreeSet<&str> = by_series.into_keys().collect();
    let is_feedback = |metric: &Metric| matches!(metric.source, MetricSource::Feedback(_));
    let causes = causes(comparing, &found, &named);
    found.said = said(&found, &named, metrics.iter().any(is_feedback), &causes);
    if !named.is_empty() && !uncounted.is_empty() {
        let names: Vec<&str> = uncounted.into_iter().collect();
        let names = names.join(", ");
        found
            .said
            .push_str(&format!(" How many {names} contain is not counted."));
    }
    found
}

/// Why outcomes of the experiment may be in no number, as far as it happened here at all.
fn causes(comparing: &Comparing<'_>, found: &KeptOutcomes, named: &BTreeSet<&str>) -> String {
    let experiment = comparing.experiment;
    let has_window = |metric: &Metric| {
        let is_named = matches!(&metric.source, MetricSource::Feedback(s) if named.contains(&**s));
        is_named && metric.window_hours.is_some()
    };
    let is_closed = |epoch: &Epoch| epoch.weights.contains(&0);
    let mut causes = Vec::new();
    if found.dropped_units > 0 {
        causes.push("of a unit that was dropped");
    }
    if experiment.epochs.iter().skip(1).any(is_closed) {
        causes.push("of an arm that was served to nobody any more");
    }
    if experiment.plan.metrics.iter().any(has_window) {
        causes.push("too late");
    }
    match causes.is_empty() {
        true => String::new(),
        false => format!(" ({})", causes.join(", or ")),
    }
}

fn said(
    found: &KeptOutcomes,
    series: &BTreeSet<&str>,
    reads_feedback: bool,
    causes: &str,
) -> String {
    let count = |n: u64| words::count(n as f64);
    if series.is_empty() {
        return match reads_feedback {
            true => "Of ratios and totals of what is said, how many outcomes they contain is not counted.".to_owned(),
            false => "No metric reads feedback.".to_owned(),
        };
    }
    let analysed = format!("{} analysed", words::plural(found.analysed, "outcome"));
    let dropped = match found.dropped_units {
        0 => String::new(),
        n => format!("; {} dropped", words::plural(n, "unit")),
    };
    let mut reasons = Vec::new();
    if found.outside > 0 {
        reasons.push(format!(
            "{} on calls that belong to no arm",
            count(found.outside)
        ));
    }
    if found.left_out > 0 {
        reasons.push(format!(
            "{} on calls that count nowhere{causes}",
            count(found.left_out)
        ));
    }
    if reasons.is_empty() {
        return format!("{analysed}, none kept without being analysed{dropped}.");
    }
    format!(
        "{analysed}; {} kept and not analysed: {}{dropped}.",
        count(found.outside + found.left_out),
        reasons.join(", ")
    )
}
