//! What an experiment says so far: checks of the data first, then one verdict, then every metric with its uncertainty.
//!
//! A pure function of the experiment, its statistics by unit and the time, so that anybody can compute it again.

mod balance;
mod checks;
mod compare;
mod days;
mod delays;
mod epochs;
mod few;
mod hints;
mod judge;
mod kept;
mod looks;
mod notes;
mod outlook;
mod timeline;
mod told;
mod values;
mod verdict;
pub(crate) mod words;

use std::collections::BTreeMap;

use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::metric::{Direction, Metric, MetricKind};
use flywheel_core::name::{AppName, ArmName, EnvironmentName, ExperimentName, MetricName};
use flywheel_core::plan::{Part, PlanChange, Reading};
use flywheel_core::{ContentHash, ManifestId};
use flywheel_storage::statistics::{ExperimentStatistics, UnitSums};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use compare::Comparing;
pub use days::ComparedUntil;
pub use delays::{ArmDelay, DelayReadout};
pub use few::{CountedUnits, EarlierCounts, SmallCounts};
pub use kept::{Kept, KeptOutcomes};
pub(crate) use notes::circumstances;
pub use timeline::Look;

/// What an experiment says so far.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Readout {
    /// The experiment.
    pub experiment: ExperimentName,
    /// Its app.
    pub app: AppName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// Where it stands.
    pub status: ExperimentStatus,
    /// When this was read.
    #[schemars(with = "flywheel_core::schema::DateTime")]
    pub at: Timestamp,
    /// Full days since the start, until the end if it has ended.
    pub days: u32,
    /// What identified the plan at the start.
    pub plan_hash: Option<ContentHash>,
    /// Changes of the plan after the start.
    pub plan_changes: Vec<PlanChange>,
    /// What it comes to.
    pub verdict: Verdict,
    /// Whether the numbers may be used at all.
    pub checks: Vec<DataCheck>,
    /// Outcomes that are analysed, and those that were kept and are not; absent before the start.
    pub outcomes: Option<KeptOutcomes>,
    /// The arms and their units.
    pub arms: Vec<ArmUnits>,
    /// How long outcomes took in each arm, of every metric that reads feedback.
    pub delays: Vec<DelayReadout>,
    /// Every metric: the primary first, then the guardrails.
    pub metrics: Vec<MetricReadout>,
    /// The primary metric's difference at the end of each day.
    pub timeline: Vec<Look>,
    /// Whether the effect fades or grows with a unit's time in the experiment.
    pub novelty: Vec<NoveltyReadout>,
    /// The primary metric's difference by tag: hypotheses, no results.
    pub segments: Vec<SegmentReadout>,
}

/// One headline, one reason, one next step.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Verdict {
    /// What kind of verdict.
    pub state: VerdictState,
    /// The arm it is about, if it is about one.
    pub arm: Option<ArmName>,
    /// The verdict in a few words.
    pub headline: String,
    /// The figures behind it.
    pub reason: String,
    /// What to do.
    pub next: String,
    /// Whether that arm may be promoted now.
    pub may_promote: bool,
}

/// What kind of verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// It has not begun.
    Draft,
    /// Its statistics are being made again.
    Rebuilding,
    /// A check failed: no number may be used.
    Invalid,
    /// A guardrail is violated.
    Abort,
    /// An arm is better than the control.
    Better,
    /// Every arm is worse than the control.
    Worse,
    /// Differences that matter are ruled out.
    NoMeaningfulDifference,
    /// Neither is known yet.
    NoVerdict,
    /// Too few units for any verdict.
    Collecting,
    /// No primary metric was planned.
    Unplanned,
}

/// A check of the data.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DataCheck {
    /// Which.
    pub name: &'static str,
    /// How it went.
    pub state: CheckState,
    /// What was found.
    pub detail: String,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Nothing speaks against the numbers.
    Passed,
    /// Worth a look.
    Warning,
    /// The numbers may not be used.
    Failed,
    /// Too little to tell.
    Unknown,
}

/// An arm and its units.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmUnits {
    /// Its name.
    pub arm: ArmName,
    /// What it serves; nothing of its own if it follows its environment.
    pub manifest: Option<ManifestId>,
    /// Whether the others are compared with it.
    pub is_control: bool,
    /// Its weight, in basis points.
    pub weight: u32,
    /// Units that were assigned to it.
    pub units: u64,
    /// How many the plan expects of as many units in all.
    pub expected: f64,
    /// Units that were seen in another arm too, or moved there, and count in neither.
    pub dropped: u64,
    /// Units that were newly assigned, by UTC day.
    pub by_day: BTreeMap<String, u64>,
}

/// What a metric is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricRole {
    /// It decides.
    Primary,
    /// It must not become worse by more than a margin.
    Guardrail,
    /// It is shown.
    Other,
}

/// A metric in every arm.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MetricReadout {
    /// The metric as it was declared at the start.
    pub metric: Metric,
    /// What it is for.
    pub role: MetricRole,
    /// A guardrail's margin in the metric's unit, given the control's value.
    pub margin: Option<f64>,
    /// Its value in each arm.
    pub arms: Vec<ArmValue>,
    /// Each arm against the control.
    pub comparisons: Vec<Comparison>,
}

/// A metric's value in one arm, with the sums it follows from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmValue {
    /// The arm.
    pub arm: ArmName,
    /// Its value.
    pub value: Option<f64>,
    /// The lower end of its interval for one look.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// Why there is no value, or no interval.
    pub undefined: Option<String>,
    /// What it was computed from.
    pub sums: Sums,
}

/// Sums over units: x is a unit's numerator, y its denominator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, JsonSchema)]
pub struct Sums {
    /// Units with a value.
    pub n: i64,
    /// Of them, those whose total was cut to the cap.
    pub capped: i64,
    /// Of them, those with x above zero; of shares, units with an event.
    pub any: i64,
    /// Of them, those with x below y; of shares, units with a value that is no event.
    pub not_all: i64,
    /// Σx.
    pub x: f64,
    /// Σy.
    pub y: f64,
    /// Σ(x − x̄)².
    pub xx: f64,
    /// Σ(x − x̄)(y − ȳ).
    pub xy: f64,
    /// Σ(y − ȳ)².
    pub yy: f64,
}

impl Readout {
    /// The arms that violate a guardrail and are still served, with what they violate.
    #[must_use]
    pub fn violations(&self, experiment: &Experiment) -> Vec<(ArmName, String)> {
        let mut found: Vec<(ArmName, String)> = Vec::new();
        for (metric, comparison) in told::violated(experiment, &self.metrics) {
            if found.iter().all(|(arm, _)| *arm != comparison.arm) {
                let (headline, reason) = told::violation(metric, comparison);
                found.push((comparison.arm.clone(), format!("{headline} {reason}")));
            }
        }
        found
    }
}

impl From<&UnitSums> for Sums {
    fn from(sums: &UnitSums) -> Self {
        Self {
            n: sums.n,
            capped: sums.capped,
            any: sums.any,
            not_all: sums.not_all,
            x: sums.sum(0),
            y: sums.sum(1),
            xx: sums.centred(0, 0),
            xy: sums.centred(0, 1),
            yy: sums.centred(1, 1),
        }
    }
}

/// An arm against the control. Differences are the arm's value less the control's.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// The arm.
    pub arm: ArmName,
    /// One less the confidence of its intervals: the plan's, of the primary metric divided among the arms, and of that a fifth
    /// while a hybrid runs and the rest at its end.
    pub alpha: f64,
    /// The UTC day of the look that ended a plan which has one, the last or one that found something: what comes from later days
    /// changes nothing here.
    pub decided_on: Option<String>,
    /// The UTC day at whose end the numbers of a plan with a last look were so: of that look, or of the one before it while the
    /// plan goes on.
    pub as_of: Option<String>,
    /// How far an arm is compared that was served to nobody at some time.
    pub compared_until: Option<ComparedUntil>,
    /// How it was computed.
    pub method: &'static str,
    /// The difference.
    pub difference: Option<f64>,
    /// Its standard error.
    pub standard_error: Option<f64>,
    /// Degrees of freedom.
    pub degrees_of_freedom: Option<f64>,
    /// Units of both arms.
    pub units: f64,
    /// The lower end of the interval that may be looked at as often as one likes: what all looks until now have in common.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// The smallest p-value of all looks until now, which may be looked at as often as one likes; of the primary metric after
    /// Holm, where several arms are compared.
    pub p: Option<f64>,
    /// The lower end of the interval for one look at the plan's α, of the primary metric divided among the arms: to compare with.
    pub fixed_low: Option<f64>,
    /// Its upper end.
    pub fixed_high: Option<f64>,
    /// The difference as a share of the control's value of the same day, if that is more than four standard errors from zero.
    pub relative: Option<f64>,
    /// What the interval says.
    pub finding: Finding,
    /// A guardrail's state.
    pub guardrail: Option<GuardrailState>,
    /// The chance that a value from the arm exceeds one from the control, ties split; for grades.
    pub superiority: Option<Superiority>,
    /// The share of the difference's variance that the covariate took away.
    pub variance_reduction: Option<f64>,
    /// Each epoch for itself, where there are several.
    pub epochs: Vec<EpochComparison>,
    /// Whether looks contradicted each other, as an effect that changes makes them do.
    pub is_unstable: bool,
    /// Units with an event, where there are too few for an interval.
    pub small_counts: Option<SmallCounts>,
    /// The small counts of an earlier day, if `p` is of theirs.
    pub small_counts_then: Option<EarlierCounts>,
    /// Why there is no difference or no interval.
    pub undefined: Option<String>,
    /// What is to be known beside these numbers, in a few words.
    pub note: Option<String>,
}

/// What an interval says of a metric, its direction taken into account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The arm is better.
    Better,
    /// The arm is worse.
    Worse,
    /// Neither is known.
    Open,
}

/// How a guardrail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GuardrailState {
    /// The arm is not worse by more than the margin.
    Holds,
    /// The arm is worse, by more than the margin.
    Violated,
    /// Neither is known yet.
    Open,
    /// No arm has a value, so that there is nothing to guard; it stands in nobody's way.
    Unmeasured,
}

/// The chance that a value from the arm exceeds one from the control.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Superiority {
    /// The chance, ties split.
    pub probability: f64,
    /// The lower end of its interval for one look.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// A comparison within one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EpochComparison {
    /// When the epoch began.
    #[schemars(with = "flywheel_core::schema::DateTime")]
    pub since: Timestamp,
    /// Units of both arms.
    pub units: f64,
    /// The difference.
    pub difference: Option<f64>,
    /// Its standard error; none where no value varies.
    pub standard_error: Option<f64>,
    /// Why there is no standard error, or no difference.
    pub undefined: Option<String>,
}

/// The effect on newcomers against the effect later.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct NoveltyReadout {
    /// The arm.
    pub arm: ArmName,
    /// The difference in the first half of the minimum duration after a unit's first exposure.
    pub early: f64,
    /// The difference after it.
    pub late: f64,
    /// The p-value of no change.
    pub p: f64,
    /// Whether the effect changes.
    pub is_flagged: bool,
}

/// The primary metric among the units with one value of a tag.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SegmentReadout {
    /// The tag and its value, as `language=de`.
    pub segment: String,
    /// The arm.
    pub arm: ArmName,
    /// Units of both arms.
    pub units: f64,
    /// The difference.
    pub difference: f64,
    /// The lower end of its interval for one look.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// The p-value after Benjamini and Hochberg, over all segments and arms.
    pub p: f64,
}

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// Reads an experiment.
#[must_use]
pub fn read(
    experiment: &Experiment,
    statistics: &ExperimentStatistics,
    kept: Option<&Kept>,
    now: Timestamp,
) -> Readout {
    let until = experiment.stopped_at.unwrap_or(now);
    let elapsed = experiment
        .started_at
        .map_or(0, |at| until.as_microsecond() - at.as_microsecond());
    let days = u32::try_from(elapsed / MICROSECONDS_PER_DAY).unwrap_or(0);
    let comparing = Comparing::new(experiment, statistics, now);
    let metrics = metrics(&comparing);
    let timeline = comparing.timeline();
    let arms = arms(experiment, statistics);
    let mut checks = checks::checks(&comparing, &arms);
    let delays = delays::delays(&comparing);
    checks.extend(delays::check(&comparing, &delays));
    checks.extend(balance::check(&comparing));
    checks.extend(checks::unmeasured(&metrics, experiment));
    let verdict = verdict::verdict(&verdict::Evidence {
        experiment,
        statistics,
        checks: &checks,
        metrics: &metrics,
        arms: &arms,
        days,
        until,
        now,
    });
    Readout {
        experiment: experiment.name.clone(),
        app: experiment.app.clone(),
        environment: experiment.environment.clone(),
        status: experiment.status,
        at: now,
        days,
        plan_hash: experiment.plan_hash,
        plan_changes: experiment.plan_changes.clone(),
        verdict,
        checks,
        outcomes: kept.map(|kept| kept::outcomes(&comparing, kept, &arms)),
        arms,
        novelty: hints::novelty(&comparing),
        segments: hints::segments(&comparing),
        delays,
        metrics,
        timeline,
    }
}

/// The primary metric first, then the guardrails, then the others as they were declared.
fn metrics(comparing: &Comparing<'_>) -> Vec<MetricReadout> {
    let plan = &comparing.experiment.plan;
    let role = |name: &MetricName| {
        if plan.primary.as_ref() == Some(name) {
            MetricRole::Primary
        } else if plan
            .guardrails
            .iter()
            .any(|guardrail| guardrail.metric == *name)
        {
            MetricRole::Guardrail
        } else {
            MetricRole::Other
        }
    };
    let mut read: Vec<MetricReadout> = plan
        .metrics
        .iter()
        .enumerate()
        .map(|(place, metric)| comparing.metric(place, metric, role(&metric.name)))
        .collect();
    read.sort_by_key(|readout| readout.role);
    read
}

fn arms(experiment: &Experiment, statistics: &ExperimentStatistics) -> Vec<ArmUnits> {
    let assigned = |place: usize, epoch: usize| {
        let arm = statistics.arms.get(&(epoch, place));
        arm.map_or(0, |arm| arm.assigned.values().sum::<i64>())
    };
    let epochs = experiment.epochs.len().max(1);
    let weight = |place: usize, epoch: usize| {
        let weights = experiment.epochs.get(epoch).map(|epoch| &epoch.weights);
        let weight = weights.and_then(|weights| weights.get(place).copied());
        f64::from(weight.unwrap_or(experiment.arms[place].weight)) / 10_000.0
    };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    (0..experiment.arms.len())
        .map(|place| {
            let arm = &experiment.arms[place];
            let mut by_day: BTreeMap<String, i64> = BTreeMap::new();
            let mut dropped = 0;
            for ((_, _), found) in statistics.arms.iter().filter(|((_, p), _)| *p == place) {
                dropped += found.in_two_arms + found.moved;
                for (day, n) in &found.assigned {
                    *by_day.entry(words::day(*day)).or_default() += n;
                }
            }
            let all = |epoch: usize| {
                (0..experiment.arms.len())
                    .map(|p| assigned(p, epoch))
                    .sum::<i64>() as f64
            };
            ArmUnits {
                arm: arm.name.clone(),
                manifest: arm.manifest,
                is_control: arm.name == experiment.plan.control,
                weight: arm.weight,
                units: count((0..epochs).map(|epoch| assigned(place, epoch)).sum()),
                expected: (0..epochs).map(|e| all(e) * weight(place, e)).sum(),
                dropped: count(dropped),
                by_day: none_below_zero(by_day),
            }
        })
        .collect()
}

/// Units that were taken to another arm later are taken from the days on which they came.
fn none_below_zero(by_day: BTreeMap<String, i64>) -> BTreeMap<String, u64> {
    let mut missing = 0;
    let mut found = BTreeMap::new();
    for (day, n) in by_day.into_iter().rev() {
        let left = n + missing;
        missing = left.min(0);
        found.insert(day, u64::try_from(left).unwrap_or(0));
    }
    found
}

/// Whether higher values are better.
fn oriented(direction: Direction, value: f64) -> f64 {
    match direction {
        Direction::Higher => value,
        Direction::Lower => -value,
    }
}

/// The reading of a metric that decides: the capped one where there is a cap.
fn deciding(readings: &[Reading], metric: usize) -> Option<usize> {
    let of = |part: Part| {
        let is_it = move |reading: &Reading| reading.metric == metric && reading.part == part;
        readings.iter().position(is_it)
    };
    of(Part::Capped).or_else(|| of(Part::Whole))
}

fn is_quantile(metric: &Metric) -> bool {
    metric.kind == MetricKind::Quantile
}
