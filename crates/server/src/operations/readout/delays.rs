//! How long outcomes took, by arm. What is known of an arm whose outcomes come later is older, so that comparisons of it with
//! the others are of different times and of different units.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_core::metric::MetricSource;
use flywheel_core::name::{ArmName, MetricName};
use flywheel_core::plan::{Part, Reading};
use flywheel_stats::estimate::Estimate;
use flywheel_stats::rank::RankedCounts;
use flywheel_stats::sequential::t_mixture::{self, FIRST_LOOK};
use flywheel_stats::undefined::{Defined, Undefined};
use schemars::JsonSchema;
use serde::Serialize;

use super::super::moments;
use super::compare::Comparing;
use super::{CheckState, DataCheck, words};

/// How long the outcomes that a metric reads took after their calls.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DelayReadout {
    /// The metric.
    pub metric: MetricName,
    /// Whether a verdict rests on it: it is the primary metric or a guardrail.
    pub decides: bool,
    /// Whether they take longer in one arm than in the control, at a level of .001 and however often one looks.
    pub differs: bool,
    /// Each arm.
    pub arms: Vec<ArmDelay>,
}

/// How long outcomes took in one arm. Each unit counts once, by the mean of its own.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmDelay {
    /// The arm.
    pub arm: ArmName,
    /// Units with an outcome.
    pub units: u64,
    /// The median, in seconds.
    pub median_seconds: Option<f64>,
    /// What nine of ten units are below, in seconds.
    pub p90_seconds: Option<f64>,
    /// The chance that it takes longer in the arm than in the control, ties split.
    pub later: Option<f64>,
    /// The p-value of one half, of Brunner and Munzel's test as a t-mixture, which may be looked at as often as one likes.
    pub p: Option<f64>,
    /// Why they are not compared.
    pub undefined: Option<String>,
}

/// The level at which delays count as different, however often one looks; all comparisons of an experiment share it.
const ALPHA: f64 = 0.001;

/// The delays of every metric that reads feedback.
pub(super) fn delays(comparing: &Comparing<'_>) -> Vec<DelayReadout> {
    let is_delay = |(_, reading): &(usize, &Reading)| reading.part == Part::Delay;
    let places: Vec<usize> = comparing
        .readings
        .iter()
        .enumerate()
        .filter(is_delay)
        .map(|(place, _)| place)
        .collect();
    let decide = |place: &&usize| is_judged(comparing, **place);
    let judged = places.iter().filter(decide).count().max(1) * comparing.treatments().count();
    let level = ALPHA / judged.max(1) as f64;
    places
        .into_iter()
        .map(|place| {
            let arms: Vec<ArmDelay> = (0..comparing.experiment.arms.len())
                .map(|arm| of_arm(comparing, place, arm))
                .collect();
            DelayReadout {
                metric: comparing.metric_of(place).name.clone(),
                decides: is_judged(comparing, place),
                differs: arms.iter().any(|arm| arm.p.is_some_and(|p| p <= level)),
                arms,
            }
        })
        .filter(|found| found.arms.iter().any(|arm| arm.units > 0))
        .collect()
}

/// Whether a verdict rests on the metric.
fn is_judged(comparing: &Comparing<'_>, reading: usize) -> bool {
    let plan = &comparing.experiment.plan;
    let name = &comparing.metric_of(reading).name;
    let mut guarded = plan.guardrails.iter();
    plan.primary.as_ref() == Some(name) || guarded.any(|guardrail| guardrail.metric == *name)
}

fn of_arm(comparing: &Comparing<'_>, reading: usize, arm: usize) -> ArmDelay {
    let histogram = moments::histogram(&comparing.all_classes(arm, reading));
    let units = histogram.n();
    // Classes are of microseconds.
    let quantile = |p: f64| {
        let (low, high) = histogram.bucket_of_rank((units as f64 * p).ceil() as u64)?;
        Some((low + high) / 2e6)
    };
    let compared = (arm != comparing.control).then(|| later(comparing, reading, arm));
    let found = compared.and_then(Result::ok);
    ArmDelay {
        arm: comparing.name(arm),
        units,
        median_seconds: quantile(0.5),
        p90_seconds: quantile(0.9),
        later: found.map(|(chance, _)| chance),
        p: found.map(|(_, p)| p),
        undefined: compared
            .and_then(Result::err)
            .map(|undefined| undefined.to_string()),
    }
}

/// The chance that an outcome of the arm takes longer than one of the control, and the p-value of one half, which may be
/// looked at as often as one likes. Within epochs, because the arms' shares and the habits of users change with time.
fn later(comparing: &Comparing<'_>, reading: usize, arm: usize) -> Defined<(f64, f64)> {
    let mut parts = Vec::new();
    let mut problem = Undefined::NoData;
    for epoch in comparing.compared_epochs(arm) {
        let of = |place: usize| comparing.source(epoch, place, reading).classes();
        match within(&of(comparing.control), &of(arm)) {
            Ok(estimate) => parts.push(estimate),
            // Of several epochs the fullest says what is missing.
            Err(undefined) => problem = fuller(problem, undefined),
        }
    }
    let pooled = match parts.as_slice() {
        [] => return Err(problem),
        [only] => *only,
        several => Estimate::pool(several)?,
    };
    let ratio = pooled.value / pooled.standard_error;
    let df = pooled.degrees_of_freedom;
    let p = t_mixture::p_value(ratio, pooled.units, df, comparing.rho_squared?)?;
    Ok((pooled.value + 0.5, p))
}

fn fuller(one: Undefined, other: Undefined) -> Undefined {
    match (one, other) {
        (Undefined::TooFewValues { found, .. }, Undefined::TooFewValues { found: more, .. })
            if found >= more =>
        {
            one
        }
        _ => other,
    }
}

/// P(later) − ½ (Brunner & Munzel), of units by the mean delay of their outcomes.
fn within(control: &BTreeMap<i32, i64>, arm: &BTreeMap<i32, i64>) -> Defined<Estimate> {
    let classes: BTreeSet<i32> = control.keys().chain(arm.keys()).copied().collect();
    let counts = |found: &BTreeMap<i32, i64>| -> Vec<u64> {
        let count = |class: &i32| u64::try_from(found.get(class).copied().unwrap_or(0));
        classes.iter().map(|c| count(c).unwrap_or(0)).collect()
    };
    let (a, b) = (counts(control), counts(arm));
    let (n_a, n_b) = (a.iter().sum::<u64>(), b.iter().sum::<u64>());
    if n_a.min(n_b) < FIRST_LOOK {
        return Err(Undefined::TooFewValues {
            needed: FIRST_LOOK,
            found: n_a.min(n_b),
        });
    }
    let ranked = RankedCounts::from_histograms(&a, &b)?;
    let units = (n_a + n_b) as f64;
    match ranked.brunner_munzel(0.05) {
        Ok(found) => Estimate::new(
            found.theta - 0.5,
            found.standard_error,
            found.degrees_of_freedom,
            units,
        ),
        // Arms that lie apart altogether have no spread of their own; that of equal arms is larger than none.
        Err(Undefined::ZeroVariance) => {
            let variance = (units + 1.0) / (12.0 * n_a as f64 * n_b as f64);
            Estimate::new(ranked.theta() - 0.5, variance.sqrt(), units - 2.0, units)
        }
        Err(undefined) => Err(undefined),
    }
}

/// What comes within this many seconds is in the numbers of its day, whichever arm it is of.
const PROMPT: f64 = 3600.0;

/// Whether outcomes of an arm come so late that on any day some are still missing.
fn is_slow(found: &DelayReadout) -> bool {
    let mut arms = found.arms.iter();
    arms.any(|arm| arm.p90_seconds.is_some_and(|seconds| seconds > PROMPT))
}

/// Whether outcomes that a verdict rests on come later in one arm. Nothing where none of them is feedback.
pub(super) fn check(comparing: &Comparing<'_>, delays: &[DelayReadout]) -> Option<DataCheck> {
    let of_feedback = |reading: &Reading| {
        let metric = &comparing.experiment.plan.metrics[reading.metric];
        matches!(metric.source, MetricSource::Feedback(_))
    };
    let places = 0..comparing.readings.len();
    let mut judged = places.filter(|place| of_feedback(&comparing.readings[*place]));
    if !judged.any(|place| is_judged(comparing, place)) {
        return None;
    }
    let said = |state, detail| {
        Some(DataCheck {
            name: "delay of outcomes",
            state,
            detail,
        })
    };
    let decisive = || delays.iter().filter(|found| found.decides);
    let differing: Vec<String> = decisive()
        .filter(|found| found.differs && is_slow(found))
        .map(|found| format!("{} {}", found.metric, in_words(found)))
        .collect();
    if !differing.is_empty() {
        return said(
            CheckState::Warning,
            format!(
                "outcomes come later in one arm than in another, so that what is known of it is older and of other units: {}. Judge when outcomes of all arms are in, or give the metric `window_hours` in which they must come",
                differing.join("; ")
            ),
        );
    }
    let compared = |found: &&DelayReadout| found.arms.iter().any(|arm| arm.p.is_some());
    match decisive().find(compared) {
        Some(found) => {
            let why = match found.differs {
                true => "it depends on the arm and is too short to matter",
                false => "no sign that it depends on the arm",
            };
            let words = in_words(found);
            said(
                CheckState::Passed,
                format!("{why}: {} {words}", found.metric),
            )
        }
        None => said(
            CheckState::Unknown,
            format!("fewer than {FIRST_LOOK} units with an outcome in an arm"),
        ),
    }
}

/// `in half of the units within 2 min (a), 9 min (b), in nine of ten within …`.
fn in_words(found: &DelayReadout) -> String {
    let list = |of: fn(&ArmDelay) -> Option<f64>| {
        let shown = found.arms.iter().filter_map(|arm| {
            let seconds = of(arm)?;
            Some(format!("{} ({})", words::duration(seconds), arm.arm))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    format!(
        "in half of the units within {}, in nine of ten within {}",
        list(|arm| arm.median_seconds),
        list(|arm| arm.p90_seconds)
    )
}
