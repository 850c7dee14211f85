//! How many units a plan still takes, and how long at the pace of the last days.

use flywheel_core::assignment::ALL_BASIS_POINTS;
use flywheel_core::experiment::{Arm, Experiment};
use flywheel_core::metric::MetricKind;
use flywheel_core::plan::{Plan, Size};
use flywheel_storage::statistics::ExperimentStatistics;
use jiff::Timestamp;

use super::{MetricReadout, deciding, words};

/// Days whose units tell the pace.
const PACE_DAYS: i64 = 7;
/// Beyond this nobody waits.
const LONGEST_DAYS: f64 = 3650.0;
const SECONDS_PER_DAY: i64 = 86_400;

/// What a plan that has not begun expects.
pub(super) fn of_draft(plan: &Plan) -> String {
    let Some(size) = plan.size else {
        return no_size(plan);
    };
    let days = match (size.days, size.days_are_guessed) {
        (Some(days), false) => format!("{days} days at today's traffic"),
        (Some(days), true) => format!("about {days} days, a guess from little history"),
        (None, _) => "which today's traffic does not reach".to_owned(),
    };
    format!("{}, {days}.{}", needs(&size), slow(plan))
}

/// What a promotion may have to wait for beyond the plan.
fn slow(plan: &Plan) -> String {
    let slow = words::slow_guardrails(plan);
    slow.map_or_else(String::new, |slow| format!(" To be settled, {slow} takes."))
}

/// What the plan still takes, with the units that came in the last days as the pace.
pub(super) fn outlook(
    experiment: &Experiment,
    statistics: &ExperimentStatistics,
    primary: &MetricReadout,
    until: Timestamp,
) -> String {
    let plan = &experiment.plan;
    let Some(size) = plan.size else {
        return no_size(plan);
    };
    // An arm that nobody is in any more gets no more units, and needs none.
    let is_going_on = |arm: &Arm| arm.weight > 0 && !experiment.is_stopped(&arm.name);
    let arms: Vec<usize> = (0..experiment.arms.len())
        .filter(|place| is_going_on(&experiment.arms[*place]))
        .collect();
    let share: f64 = arms
        .iter()
        .map(|place| f64::from(experiment.planned_weight(*place)) / f64::from(ALL_BASIS_POINTS))
        .sum();
    let size = Size {
        largest: size.largest * share,
        expected: size.expected * share,
        ..size
    };
    let values = arms.iter().filter_map(|place| primary.arms.get(*place));
    let have: f64 = values.map(|arm| arm.sums.n as f64).sum();
    if have >= size.largest {
        return format!(
            "The {} units that the plan needs in all arms together are there.",
            words::count(size.largest)
        );
    }
    let Some(started) = experiment
        .started_at
        .filter(|_| experiment.stopped_at.is_none())
    else {
        return format!("{}.", needs(&size));
    };
    let Some(pace) = pace(experiment, statistics, &arms, started, until) else {
        return of_draft(plan);
    };
    let elapsed = (until.as_second() - started.as_second()) as f64 / SECONDS_PER_DAY as f64;
    let more = |units: f64| {
        let days = elapsed + (units - have).max(0.0) / pace;
        let days = days.max(f64::from(plan.minimum_days));
        ((days / 7.0).ceil() * 7.0 - elapsed).ceil()
    };
    let (expected, largest) = (more(size.expected), more(size.largest));
    let when = match (expected, largest) {
        (_, largest) if largest > LONGEST_DAYS => {
            "which this week's pace does not reach".to_owned()
        }
        (expected, largest) if expected < 1.0 => {
            let days = words::plural(largest as u64, "more day");
            format!("at this week's pace up to {days}, ending on a full week")
        }
        (expected, largest) if expected < largest => {
            format!("at this week's pace {expected} to {largest} more days, ending on a full week")
        }
        (_, largest) => {
            let days = words::plural(largest as u64, "more day");
            format!("at this week's pace {days}, ending on a full week")
        }
    };
    format!("{}; {when}.", needs(&size))
}

fn needs(size: &Size) -> String {
    format!(
        "The plan needs up to {} units ({} expected)",
        words::count(size.largest),
        words::count(size.expected)
    )
}

fn no_size(plan: &Plan) -> String {
    let primary = plan.primary.as_ref().and_then(|name| plan.metric(name));
    if primary.is_some_and(|metric| metric.kind == MetricKind::Quantile) {
        return "How many units it takes is not estimated for a quantile.".to_owned();
    }
    "The app's traffic until now does not tell how many units it takes.".to_owned()
}

/// Units with an outcome that came per day, over the last whole UTC days, if there is one since shares last changed over those
/// after that; nothing before there was one.
fn pace(
    experiment: &Experiment,
    statistics: &ExperimentStatistics,
    arms: &[usize],
    started: Timestamp,
    until: Timestamp,
) -> Option<f64> {
    let plan = &experiment.plan;
    let is_primary = |name| plan.primary.as_ref() == Some(name);
    let place = plan
        .metrics
        .iter()
        .position(|metric| is_primary(&metric.name))?;
    let reading = deciding(&plan.readings(), place)?;
    let day = |at: Timestamp| at.as_second().div_euclid(SECONDS_PER_DAY);
    let today = day(until);
    let mut first = (day(started) + 1).max(today - PACE_DAYS);
    let changed = experiment.epochs.last().map(|epoch| day(epoch.since) + 1);
    if let Some(changed) = changed.filter(|changed| *changed < today) {
        first = first.max(changed);
    }
    let days = today - first;
    if days < 1 {
        return None;
    }
    let came: i64 = statistics
        .arms
        .iter()
        .filter(|((_, place), _)| arms.contains(place))
        .filter_map(|(_, arm)| arm.readings.get(&reading))
        .flat_map(|days| days.range(first..today))
        .map(|(_, sums)| sums.n)
        .sum();
    Some(came.max(0) as f64 / days as f64).filter(|pace| *pace > 0.0)
}
