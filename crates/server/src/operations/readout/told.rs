//! Comparisons as verdicts tell them: a difference with its interval, the look it is of, the guardrails that are violated.

use flywheel_core::experiment::Experiment;
use flywheel_core::metric::Metric;

use super::{Comparison, GuardrailState, MetricReadout, MetricRole, notes, words};

/// A difference with its interval.
pub(super) fn amount(metric: &Metric, found: &Comparison) -> String {
    let Some(difference) = found.difference else {
        return "unknown".to_owned();
    };
    let shown = words::difference(metric, difference);
    match (found.low.zip(found.high), &found.small_counts) {
        (Some((low, high)), _) => {
            let rests_on = notes::of_earlier_counts(found);
            let rests_on = rests_on.map_or_else(String::new, |on| format!("; {on}"));
            let interval = words::interval(metric, low, high);
            format!("{shown} ({interval}{rests_on})")
        }
        (None, Some(counts)) => format!("{shown} ({})", counts.said),
        (None, None) => shown,
    }
}

/// The units of a comparison that is of a day's look.
pub(super) fn units_of_look(found: &Comparison) -> Option<String> {
    let day = found.as_of.as_ref()?;
    let which = match found.decided_on {
        Some(_) => "the last look",
        None => "the look",
    };
    Some(format!(
        "{} units at {which}, of {day}",
        words::count(found.units)
    ))
}

pub(super) fn guardrails(
    metrics: &[MetricReadout],
) -> impl Iterator<Item = (&MetricReadout, &Comparison)> {
    metrics
        .iter()
        .filter(|metric| metric.role == MetricRole::Guardrail)
        .flat_map(|metric| metric.comparisons.iter().map(move |found| (metric, found)))
}

/// The guardrails that arms violate which none has stopped yet.
pub(super) fn violated<'r>(
    experiment: &'r Experiment,
    metrics: &'r [MetricReadout],
) -> impl Iterator<Item = (&'r MetricReadout, &'r Comparison)> {
    guardrails(metrics).filter(|(_, found)| {
        found.guardrail == Some(GuardrailState::Violated) && !experiment.is_stopped(&found.arm)
    })
}

/// A violated guardrail in a headline and its figures.
pub(super) fn violation(metric: &MetricReadout, found: &Comparison) -> (String, String) {
    let margin = metric.margin.unwrap_or(0.0);
    let margin = words::difference(&metric.metric, margin);
    // The bound that tells is one-sided: the interval that is shown may hold 0.
    let amount = match (found.difference, &found.small_counts) {
        (Some(difference), None) => words::difference(&metric.metric, difference),
        _ => amount(&metric.metric, found),
    };
    (
        format!(
            "Guardrail violated: {} of {}.",
            metric.metric.name, found.arm
        ),
        format!(
            "{amount}: worse beyond chance (one-sided .05), and the difference is beyond the margin of {}.",
            margin.trim_start_matches('+')
        ),
    )
}

/// Whether a guardrail stands in nobody's way.
pub(super) fn holds(found: &Comparison) -> bool {
    matches!(
        found.guardrail,
        Some(GuardrailState::Holds | GuardrailState::Unmeasured)
    )
}
