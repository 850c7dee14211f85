//! Shares with too few events, or too few values without one, for a normal interval: units are counted and compared exactly.

mod said;

use flywheel_core::metric::{Direction, Metric, MetricKind};
use flywheel_core::plan::ReadingMode;
use flywheel_stats::clustered;
use flywheel_stats::decision::{ABORT_ALPHA, GUARDRAIL_ALPHA};
use flywheel_stats::sequential::hybrid::RUNNING_SHARE;
use flywheel_stats::sequential::randomisation::{self, UnitCounts};
use flywheel_stats::sequential::{bernoulli, p_from_log_e};
use flywheel_stats::two_proportions::FEWEST_EVENTS;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_storage::statistics::UnitSums;
use schemars::JsonSchema;
use serde::Serialize;

pub(super) use said::say;

use super::compare::Comparing;
use super::days::FEWEST_IN_EPOCH;
use super::looks::Seen;
use super::{ArmValue, Comparison, Finding, GuardrailState, MetricRole, oriented, words};
use crate::operations::moments;

/// Counts of units, where an arm has fewer than ten events or fewer than ten values without one: too few for a normal
/// interval. `p` of the comparison is then that of the randomisation e-test, which needs no minimum.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SmallCounts {
    /// What is counted.
    pub counted: CountedUnits,
    /// How many units of the control have it.
    pub control: u64,
    /// Of how many.
    pub control_units: u64,
    /// How many units of the arm have it.
    pub arm: u64,
    /// Of how many.
    pub arm_units: u64,
    /// Of a guardrail: the highest share that is possible of what is counted, one-sided at .05 and at any time: of the arm, where
    /// that is a failure, otherwise of the control, which the arm can lose.
    pub highest: Option<f64>,
    /// The same in a few words.
    pub brief: String,
    /// All of that in a sentence.
    pub said: String,
}

/// Which units are counted: whichever are the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountedUnits {
    /// Those with an event.
    WithEvent,
    /// Those with a value that is no event.
    WithNone,
}

/// Why there is no normal interval.
pub(super) const TOO_FEW: Undefined = Undefined::Domain(
    "an arm has fewer than ten events, or fewer than ten values without one: too few for an interval",
);
const EARLIER: Undefined = Undefined::Domain(
    "units with an event were not counted when these statistics were kept; make them again with `flywheel stats rebuild`",
);

const NOT_BEFORE_THE_END: &str = "an arm has too few events for an interval, and this plan reads counts once, when it has its units";

const METHOD: &str = "randomisation e-test of units (small counts)";

/// Whether there are too few for a normal interval.
pub(super) fn are_few(metric: &Metric, sums: &UnitSums) -> bool {
    let (events, all) = (sums.sum(0), sums.sum(1));
    metric.kind == MetricKind::Binary && events.min(all - events) < FEWEST_EVENTS as f64
}

/// What small counts say at the end of a day.
#[derive(Clone, Copy)]
pub(super) struct FewLook {
    pub(super) day: i64,
    /// 1/E of that day.
    pub(super) p: f64,
    pub(super) difference: f64,
}

/// The small counts of an earlier day, where there are enough for an interval now.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EarlierCounts {
    /// The UTC day.
    pub day: String,
    /// 1/E of that day, before several arms are corrected for.
    pub p: f64,
    /// The difference then.
    pub difference: f64,
}

impl From<FewLook> for EarlierCounts {
    fn from(look: FewLook) -> Self {
        Self {
            day: words::day(look.day),
            p: look.p,
            difference: look.difference,
        }
    }
}

/// An arm beside the control, of which one has few.
pub(super) struct Few {
    control: UnitSums,
    arm: UnitSums,
    /// Pooled over epochs by their units.
    difference: f64,
    /// The smallest 1/E of all days' ends, and the difference at that one.
    smallest: Defined<(f64, f64)>,
    /// Which part of a level it takes to decide now; none if a plan with a last look keeps all of it for that.
    part: Option<f64>,
    /// The day of a plan's last look.
    decided: Option<i64>,
}

impl Few {
    /// Whether the share of the arm is the worse one.
    fn is_worse(&self, metric: &Metric) -> bool {
        oriented(metric.direction, self.difference) < 0.0
    }

    /// The smallest p of all days' ends, which may be held against the whole level.
    fn p(&self) -> Defined<Option<f64>> {
        self.smallest
            .map(|(p, _)| self.part.map(|part| (p / part).min(1.0)))
    }

    /// Whether they are what is to be read, where something else is decided on a day: what came first stays.
    pub(super) fn comes_before(&self, other: Option<i64>) -> bool {
        match (self.decided, other) {
            (_, None) => true,
            (Some(own), Some(other)) => own <= other,
            (None, Some(_)) => false,
        }
    }

    fn is_below(&self, level: f64) -> bool {
        let agrees = |then: f64| then * self.difference > 0.0;
        self.smallest
            .is_ok_and(|(p, then)| p <= level && agrees(then))
    }

    /// Whether the arm is worse at a level.
    pub(super) fn is_worse_at(&self, metric: &Metric, level: f64) -> bool {
        self.is_worse(metric) && self.is_below(level)
    }

    /// What was found while there were more stays found.
    pub(super) fn consider(&mut self, looks: &[Seen]) {
        let Ok(least) = &mut self.smallest else {
            return;
        };
        for seen in looks {
            if let Some(p) = seen.p.filter(|p| *p < least.0) {
                *least = (p, seen.estimate.value);
            }
        }
    }

    fn units(&self) -> f64 {
        (self.control.n + self.arm.n) as f64
    }

    /// The last look of a plan that has one: p of its level.
    pub(super) fn last_look(&self) -> Option<FewLook> {
        Some(FewLook {
            day: self.decided?,
            p: self.p().ok().flatten()?,
            difference: self.difference,
        })
    }
}

impl SmallCounts {
    /// Those of control and arm, with a guardrail's highest share.
    pub(super) fn new(control: &UnitSums, arm: &UnitSums, highest: Option<f64>) -> Self {
        let all = |of: fn(&UnitSums) -> i64| of(control) + of(arm);
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let (counted, of): (_, fn(&UnitSums) -> i64) =
            if all(|sums| sums.any) <= all(|sums| sums.not_all) {
                (CountedUnits::WithEvent, |sums| sums.any)
            } else {
                (CountedUnits::WithNone, |sums| sums.not_all)
            };
        let [own, beside] = [arm, control].map(|sums| {
            let shown = |n: i64| words::count(n as f64);
            format!("{} of {}", shown(of(sums)), shown(sums.n))
        });
        Self {
            counted,
            control: count(of(control)),
            control_units: count(control.n),
            arm: count(of(arm)),
            arm_units: count(arm.n),
            highest,
            brief: format!("{own} against {beside}"),
            said: String::new(),
        }
    }
}

fn unit_counts(sums: &UnitSums) -> Defined<UnitCounts> {
    // Every unit with a value has one that is an event, or one that is none.
    if sums.any + sums.not_all < sums.n {
        return Err(EARLIER);
    }
    Ok(UnitCounts {
        n: sums.n as f64,
        any: sums.any as f64,
        not_all: sums.not_all as f64,
    })
}

impl Comparing<'_> {
    /// Counts, and what they say, where one of the arms has too few events for anything else.
    pub(super) fn few(&self, reading: usize, arm: usize) -> Option<Few> {
        let metric = self.metric_of(reading);
        let (mode, end) = (self.mode(reading), self.end_day(reading, arm));
        let both = self.both_until(reading, arm, end);
        let are_there = both.iter().all(|sums| sums.n > 0);
        let is_few = are_there && both.iter().any(|sums| are_few(metric, sums));
        is_few.then_some(())?;
        let smallest = self.looks_at_few(reading, arm, end).map(|looks| {
            let found = looks.iter().map(|look| (look.p, look.difference));
            found.fold(
                (1.0, 0.0),
                |least, look| if look.0 < least.0 { look } else { least },
            )
        });
        let [control, own] = both;
        Some(Few {
            difference: self.plain_difference(reading, arm, end)?.value,
            control,
            arm: own,
            smallest,
            part: match mode {
                ReadingMode::Anytime => Some(1.0),
                // Its level while it runs is for looks at more.
                ReadingMode::Hybrid => end.map(|_| 1.0 - RUNNING_SHARE),
                ReadingMode::Planned | ReadingMode::Fixed => end.map(|_| 1.0),
            },
            decided: end,
        })
    }

    /// The days, up to one, at whose end there were few.
    pub(super) fn looks_at_few(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<Vec<FewLook>> {
        let metric = self.metric_of(reading);
        let is_until = |day: &i64| until.is_none_or(|until| *day <= until);
        let mut found = Vec::new();
        for day in self.days(reading, arm).into_iter().filter(is_until) {
            let both = self.both_until(reading, arm, Some(day));
            if both.iter().any(|sums| are_few(metric, sums)) {
                found.extend(self.look_at_few(reading, arm, day)?);
            }
        }
        Ok(found)
    }

    /// The one of them with the smallest p.
    pub(super) fn smallest_of_few(&self, reading: usize, arm: usize) -> Option<FewLook> {
        let looks = self.looks_at_few(reading, arm, None).ok()?;
        looks
            .into_iter()
            .min_by(|one, other| one.p.total_cmp(&other.p))
    }

    /// Nothing while one of the arms has no values.
    fn look_at_few(&self, reading: usize, arm: usize, day: i64) -> Defined<Option<FewLook>> {
        let p = self.evidence_of_few(reading, arm, day).map(p_from_log_e)?;
        let difference = self.plain_difference(reading, arm, Some(day));
        Ok(difference.map(|difference| FewLook {
            day,
            p,
            difference: difference.value,
        }))
    }

    /// ln E at the end of a day: that of all epochs together, because each has its own shares.
    fn evidence_of_few(&self, reading: usize, arm: usize, day: i64) -> Defined<f64> {
        let mut log_e = 0.0;
        for epoch in 0..self.epochs() {
            let until = self.compared_until(epoch, reading, arm, Some(day));
            let weight = |place: usize| self.kept_share(place, epoch, until.unwrap_or(day));
            let of = |place: usize| unit_counts(&self.source(epoch, place, reading).sums(until));
            let (a, b) = (of(self.control)?, of(arm)?);
            let both = weight(self.control) + weight(arm);
            // Where one of them got hardly anybody there is nothing to compare.
            if a.n.min(b.n) >= FEWEST_IN_EPOCH as f64 && weight(self.control).min(weight(arm)) > 0.0
            {
                let share = weight(arm) / both;
                log_e += randomisation::log_e_of_few(a, b, share)?;
            }
        }
        Ok(log_e)
    }

    pub(super) fn comparison_of_few(
        &self,
        few: Few,
        reading: usize,
        arm: usize,
        (metric, role, margin, control): (&Metric, MetricRole, Option<f64>, Option<&ArmValue>),
    ) -> Comparison {
        let level = self.level(role == MetricRole::Primary);
        let is_guardrail = role == MetricRole::Guardrail;
        let highest =
            largest_loss(metric, &few, self.experiment.plan.tuned_for).filter(|_| is_guardrail);
        let is_beyond = |margin: f64| few.difference.abs() > margin && few.is_worse(metric);
        let is_found = few.part.is_some_and(|part| few.is_below(level * part));
        Comparison {
            arm: self.name(arm),
            alpha: level * few.part.unwrap_or(1.0),
            decided_on: few.decided.map(words::day),
            as_of: few.decided.map(words::day),
            method: METHOD,
            compared_until: self
                .was_compared_until(reading, arm)
                .filter(|_| few.decided.is_none()),
            difference: Some(few.difference),
            standard_error: None,
            degrees_of_freedom: None,
            units: few.units(),
            low: None,
            high: None,
            p: few.p().ok().flatten(),
            fixed_low: None,
            fixed_high: None,
            relative: self
                .base(reading, arm, control, few.decided)
                .map(|base| few.difference / base.abs()),
            finding: if few.difference == 0.0 || !is_found {
                Finding::Open
            } else if few.is_worse(metric) {
                Finding::Worse
            } else {
                Finding::Better
            },
            guardrail: is_guardrail.then(|| match (margin, highest) {
                // The test has two sides, so that the harmful one alone is as strict again.
                (Some(margin), _) if few.is_below(ABORT_ALPHA) && is_beyond(margin) => {
                    GuardrailState::Violated
                }
                (Some(margin), Some(highest)) if highest < margin => GuardrailState::Holds,
                _ => GuardrailState::Open,
            }),
            superiority: None,
            variance_reduction: None,
            epochs: self.by_epoch(reading, arm, few.decided),
            is_unstable: false,
            small_counts: Some(SmallCounts::new(&few.control, &few.arm, highest)),
            small_counts_then: None,
            note: None,
            undefined: Some(match few.p() {
                Ok(None) => NOT_BEFORE_THE_END.to_owned(),
                Err(undefined) => undefined.to_string(),
                _ => TOO_FEW.to_string(),
            }),
        }
    }
}

/// A guardrail with small counts holds when what is counted is a share below the margin: the arm's, where that is a failure, or the
/// control's, where it is what the arm may lack. Exact at any time, and counted as if every unit had made one call, which makes
/// the share no smaller.
fn largest_loss(metric: &Metric, few: &Few, tuned_for: f64) -> Option<f64> {
    let counted = SmallCounts::new(&few.control, &few.arm, None).counted;
    let sums = match is_failure(metric, counted) {
        true => &few.arm,
        false => &few.control,
    };
    let found = match counted {
        CountedUnits::WithEvent => sums.sum(0),
        CountedUnits::WithNone => sums.sum(1) - sums.sum(0),
    };
    // Calls of one unit may be alike: they count for as many independent ones as if all of a unit's calls were.
    let alike = clustered::largest_design_effect(&moments::pair(sums).ok()?).ok()?;
    bernoulli::confidence_sequence_from_early_on(
        found.max(0.0) / alike,
        sums.sum(1) / alike,
        GUARDRAIL_ALPHA,
        tuned_for,
        GUARDRAIL_ALPHA,
    )
    .ok()
    .map(|interval| interval.high)
}

/// Whether it is worse to have what is counted.
fn is_failure(metric: &Metric, counted: CountedUnits) -> bool {
    match counted {
        CountedUnits::WithEvent => metric.direction == Direction::Lower,
        CountedUnits::WithNone => metric.direction == Direction::Higher,
    }
}
