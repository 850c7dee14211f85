//! Values and differences of a metric in its own unit, as the verdict writes them too.

use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::plan::Effect;

use super::super::show;
use crate::operations::readout::words;

/// What stands where there is no number.
pub(in crate::console) const NONE: &str = "–";

/// A value.
pub(in crate::console) fn value(metric: &Metric, value: f64) -> String {
    if metric.kind == MetricKind::Binary {
        return format!("{:.1}%", value * 100.0);
    }
    let text = number(value);
    match metric.unit.as_str() {
        "" => text,
        "USD" => show::dollars((value * 1e9).round() as i64),
        unit => format!("{text} {unit}"),
    }
}

/// Basis points in per cent, exactly.
pub(in crate::console) fn percent(basis_points: u32) -> String {
    let text = format!("{}.{:02}", basis_points / 100, basis_points % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A number with the digits that matter.
pub(in crate::console) fn number(value: f64) -> String {
    words::trimmed(value).replacen('-', "−", 1)
}

/// An interval of differences with its unit.
pub(in crate::console) fn interval(metric: &Metric, ends: Option<(f64, f64)>) -> String {
    match ends {
        Some((low, high)) => words::interval(metric, low, high),
        None => NONE.to_owned(),
    }
}

/// What differences are measured in, for an axis.
pub(in crate::console) fn unit_of_differences(metric: &Metric) -> String {
    match (metric.kind, metric.unit.as_str()) {
        (MetricKind::Binary, _) => "points".to_owned(),
        (MetricKind::Ordinal, "") => "grades".to_owned(),
        (_, "") => "its own unit".to_owned(),
        (_, unit) => unit.to_owned(),
    }
}

/// A difference in the scale that it is shown in: points for shares.
pub(in crate::console) fn scaled(metric: &Metric, value: f64) -> f64 {
    match metric.kind {
        MetricKind::Binary => value * 100.0,
        _ => value,
    }
}

/// An effect or a margin both ways, because `5%` is the most common misreading: as it was given, and what that is of the
/// base.
pub(in crate::console) fn effect(
    metric: Option<&Metric>,
    effect: Effect,
    base: Option<f64>,
) -> String {
    let Some(metric) = metric else {
        return effect.number().to_string();
    };
    let absolute = |value: f64| {
        words::difference(metric, value)
            .trim_start_matches('+')
            .to_owned()
    };
    let relative = |share: f64| format!("{}%", number(share * 100.0));
    match (effect, base.filter(|base| *base != 0.0)) {
        (Effect::Absolute(size), Some(base)) => format!(
            "{} absolute, {} of {}",
            absolute(size),
            relative(size / base.abs()),
            value(metric, base)
        ),
        (Effect::Absolute(size), None) => format!("{} absolute", absolute(size)),
        (Effect::Relative(share), Some(base)) => format!(
            "{} relative, {} on {}",
            relative(share),
            absolute(share * base.abs()),
            value(metric, base)
        ),
        (Effect::Relative(share), None) => format!("{} relative", relative(share)),
    }
}

/// A p-value.
pub(in crate::console) fn p_value(p: Option<f64>) -> String {
    p.map_or_else(|| NONE.to_owned(), words::p_value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_core::metric::starter_set;

    #[test]
    fn effects_are_shown_both_ways() {
        let metrics = starter_set();
        let metric = |name: &str| metrics.iter().find(|metric| metric.name.as_str() == name);
        for (name, given, base, shown) in [
            (
                "task_completed",
                Effect::Absolute(0.05),
                Some(0.6),
                "5 points absolute, 8.33% of 60.0%",
            ),
            (
                "task_completed",
                Effect::Relative(0.05),
                Some(0.6),
                "5% relative, 3 points on 60.0%",
            ),
            (
                "task_completed",
                Effect::Relative(0.05),
                None,
                "5% relative",
            ),
            (
                "latency_p95",
                Effect::Relative(0.1),
                Some(500.0),
                "10% relative, 50 ms on 500 ms",
            ),
            (
                "rating",
                Effect::Absolute(0.2),
                Some(4.0),
                "0.2 absolute, 5% of 4",
            ),
        ] {
            assert_eq!(effect(metric(name), given, base), shown);
        }
        assert_eq!(value(metric("cost_per_call").unwrap(), 0.0012), "$0.0012");
        assert_eq!(p_value(Some(0.00001)), "< 0.0001");
    }
}
