//! One metric, arm against control: estimates by epoch, pooled; looks at the end of each day, and what they have in common.

use std::collections::BTreeMap;

use flywheel_core::experiment::Experiment;
use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::name::ArmName;
use flywheel_core::plan::{Reading, ReadingMode};
use flywheel_stats::Interval;
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Inference, Mode, infer};
use flywheel_stats::sequential::hybrid::RUNNING_SHARE;
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::undefined::Defined;
use flywheel_storage::statistics::{ArmStatistics, ExperimentStatistics, UnitSums};
use jiff::Timestamp;

use super::few::{EarlierCounts, FewLook};
use super::judge::{correct, finding};
use super::notes;
use super::{
    ArmValue, Comparison, Finding, MICROSECONDS_PER_DAY, MetricReadout, MetricRole, deciding,
    oriented, words,
};

/// Sums and histogram of one arm in one epoch.
#[derive(Clone, Copy)]
pub(super) struct Source<'s> {
    pub(super) arm: Option<&'s ArmStatistics>,
    pub(super) reading: usize,
    /// What was known at the end of each day on which something was different.
    pub(super) days: &'s [(i64, UnitSums)],
}

impl Source<'_> {
    /// What was known at the end of a day, or is known now.
    pub(super) fn sums(&self, until: Option<i64>) -> UnitSums {
        let over = match until {
            Some(until) => self.days.partition_point(|(day, _)| *day <= until),
            None => self.days.len(),
        };
        let last = over.checked_sub(1).and_then(|last| self.days.get(last));
        last.map(|(_, sums)| *sums).unwrap_or_default()
    }

    pub(super) fn classes(&self) -> BTreeMap<i32, i64> {
        let classes = self.arm.and_then(|arm| arm.histograms.get(&self.reading));
        classes.cloned().unwrap_or_default()
    }
}

/// The comparisons of one experiment.
pub(super) struct Comparing<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) statistics: &'a ExperimentStatistics,
    pub(super) readings: Vec<Reading>,
    /// By epoch, arm and reading, what was known at the end of each day.
    known: BTreeMap<(usize, usize, usize), Vec<(i64, UnitSums)>>,
    /// The control's place among the arms.
    pub(super) control: usize,
    pub(super) rho_squared: Defined<f64>,
    /// The UTC day that is not over yet, counted from 1970.
    pub(super) open_day: i64,
}

/// Days added up, once: each of many looks takes what was known at the end of one.
fn known(
    statistics: &ExperimentStatistics,
) -> BTreeMap<(usize, usize, usize), Vec<(i64, UnitSums)>> {
    let mut known = BTreeMap::new();
    for ((epoch, arm), found) in &statistics.arms {
        for (reading, days) in &found.readings {
            let mut sums = UnitSums::default();
            let until_then = days.iter().map(|(day, part)| {
                sums.add(part);
                (*day, sums)
            });
            known.insert((*epoch, *arm, *reading), until_then.collect());
        }
    }
    known
}

/// Inference for one look at a fixed sample.
pub(super) fn one_look(estimate: &Estimate, alpha: f64) -> Defined<Inference> {
    infer(estimate, Mode::Fixed, alpha)
}

impl<'a> Comparing<'a> {
    pub(super) fn new(
        experiment: &'a Experiment,
        statistics: &'a ExperimentStatistics,
        now: Timestamp,
    ) -> Self {
        let plan = &experiment.plan;
        let is_control = |arm: &flywheel_core::experiment::Arm| arm.name == plan.control;
        Self {
            experiment,
            statistics,
            readings: plan.readings(),
            known: known(statistics),
            control: experiment.arms.iter().position(is_control).unwrap_or(0),
            rho_squared: rho_squared(plan.alpha, plan.tuned_for),
            open_day: now.as_microsecond().div_euclid(MICROSECONDS_PER_DAY),
        }
    }

    pub(super) fn treatments(&self) -> impl Iterator<Item = usize> + use<'a> {
        let control = self.control;
        (0..self.experiment.arms.len()).filter(move |place| *place != control)
    }

    pub(super) fn name(&self, arm: usize) -> ArmName {
        self.experiment.arms[arm].name.clone()
    }

    pub(super) fn epochs(&self) -> usize {
        self.experiment.epochs.len().max(1)
    }

    pub(super) fn source(&self, epoch: usize, arm: usize, reading: usize) -> Source<'_> {
        let days = self.known.get(&(epoch, arm, reading));
        Source {
            days: days.map_or(&[], Vec::as_slice),
            arm: self.statistics.arms.get(&(epoch, arm)),
            reading,
        }
    }

    /// Sums over all epochs, which describe an arm but are no basis for a comparison.
    pub(super) fn all_sums(&self, arm: usize, reading: usize) -> UnitSums {
        let mut sums = UnitSums::default();
        for epoch in 0..self.epochs() {
            sums.add(&self.source(epoch, arm, reading).sums(None));
        }
        sums
    }

    pub(super) fn all_classes(&self, arm: usize, reading: usize) -> BTreeMap<i32, i64> {
        let mut classes: BTreeMap<i32, i64> = BTreeMap::new();
        for epoch in 0..self.epochs() {
            for (class, n) in self.source(epoch, arm, reading).classes() {
                *classes.entry(class).or_default() += n;
            }
        }
        classes
    }

    pub(super) fn metric_of(&self, reading: usize) -> &'a Metric {
        &self.experiment.plan.metrics[self.readings[reading].metric]
    }

    /// Everything about one metric.
    pub(super) fn metric(&self, place: usize, metric: &Metric, role: MetricRole) -> MetricReadout {
        let Some(reading) = deciding(&self.readings, place) else {
            return MetricReadout {
                metric: metric.clone(),
                role,
                margin: None,
                arms: Vec::new(),
                comparisons: Vec::new(),
            };
        };
        let arms: Vec<ArmValue> = (0..self.experiment.arms.len())
            .map(|arm| self.value(reading, arm, metric))
            .collect();
        let base = arms.get(self.control).and_then(|arm| arm.value);
        let guardrail = |rule: &&flywheel_core::plan::Guardrail| rule.metric == metric.name;
        let rule = self.experiment.plan.guardrails.iter().find(guardrail);
        let margin = rule
            .zip(base)
            .map(|(rule, base)| rule.margin.absolute(base));
        let control = arms.get(self.control);
        let mut comparisons: Vec<Comparison> = self
            .treatments()
            .map(|arm| self.comparison(reading, arm, (metric, role, margin, control)))
            .collect();
        if role == MetricRole::Primary {
            correct(&mut comparisons, self.experiment.plan.alpha);
        }
        for found in &mut comparisons {
            notes::say(metric, found);
        }
        MetricReadout {
            metric: metric.clone(),
            role,
            margin,
            arms,
            comparisons,
        }
    }

    fn comparison(
        &self,
        reading: usize,
        arm: usize,
        (metric, role, margin, control): (&Metric, MetricRole, Option<f64>, Option<&ArmValue>),
    ) -> Comparison {
        let alpha = self.level(role == MetricRole::Primary);
        let series = self.series(reading, arm, alpha);
        let mut few = self.few(reading, arm);
        if let Some(few) = few
            .as_mut()
            .filter(|_| self.mode(reading) == ReadingMode::Anytime)
        {
            few.consider(&series.looks);
        }
        if let Some(few) = few.filter(|few| few.comes_before(series.decided.map(|(day, _)| day))) {
            return self.comparison_of_few(few, reading, arm, (metric, role, margin, control));
        }
        let mode = self.mode(reading);
        let decided = series.decided;
        let has_all = decided.is_some_and(|(day, _)| Some(day) == series.end);
        // What is looked at on some days only is of the last such day.
        let looked = series.looks.last().map(|seen| (seen.day, seen.estimate));
        let looked = decided.or(looked.filter(|_| mode == ReadingMode::Planned));
        let as_of = looked.map(|(day, _)| day);
        let estimate = looked
            .map(|(_, estimate)| estimate)
            .or(series.estimate.ok());
        // Of a plan that is read once there is no interval before, not even to look at.
        let fixed = estimate
            .filter(|_| mode != ReadingMode::Fixed || decided.is_some())
            .and_then(|estimate| one_look(&estimate, alpha).ok())
            .and_then(|look| look.interval.ok());
        // The running intersection of sequences; the repeated interval of planned looks; the one of the last look.
        let few_then = match mode {
            ReadingMode::Anytime => self
                .smallest_of_few(reading, arm)
                .filter(|_| series.p.is_some()),
            _ => None,
        };
        let interval = match mode {
            // Units that were left out since may have left too few.
            ReadingMode::Anytime | ReadingMode::Hybrid if series.too_few.is_some() => None,
            ReadingMode::Anytime => series.running.interval,
            // While it runs it is a sequence.
            ReadingMode::Hybrid if decided.is_none() => series.running.interval,
            _ => series.last.ok().and_then(|look| look.interval.ok()),
        }
        .filter(|_| !series.looks.is_empty());
        let undefined = match (&series.estimate, series.too_few, &series.last) {
            (Err(undefined), ..) | (_, _, Err(undefined)) => Some(undefined.to_string()),
            (Ok(_), Some(undefined), _) => Some(undefined.to_string()),
            (Ok(_), None, Ok(look)) => look.interval.err().map(|undefined| undefined.to_string()),
        };
        // Where nothing varies it is known what the arms differ by, and not how far that may be off.
        let constant = match estimate {
            None => self.constant_difference(reading, arm),
            Some(_) => None,
        };
        let is_of_few = |few: &FewLook| series.p.is_some_and(|p| few.p < p);
        // Guardrails are looked at at any time, whatever may be read of them.
        let now = self
            .may_look(reading, arm, None)
            .ok()
            .and(series.estimate.ok());
        Comparison {
            arm: self.name(arm),
            alpha: alpha * part_of_level(mode, has_all),
            decided_on: decided.map(|(day, _)| words::day(day)),
            as_of: as_of.map(words::day),
            method: method(metric, series.variance_reduction.is_some()),
            compared_until: self
                .was_compared_until(reading, arm)
                .filter(|_| as_of.is_none()),
            difference: (estimate.map(|estimate| estimate.value))
                .or(constant.map(|constant| constant.value)),
            standard_error: estimate.map(|estimate| estimate.standard_error),
            degrees_of_freedom: estimate
                .map(|estimate| estimate.degrees_of_freedom)
                .filter(|df| df.is_finite()),
            units: (estimate.map(|estimate| estimate.units))
                .or(constant.map(|constant| constant.units))
                .unwrap_or(0.0),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            p: (few_then.map(|few| few.p).into_iter())
                .chain(series.p)
                .reduce(f64::min),
            fixed_low: fixed.map(|interval| interval.low),
            fixed_high: fixed.map(|interval| interval.high),
            relative: estimate
                .zip(self.base(reading, arm, control, as_of))
                .map(|(estimate, base)| estimate.value / base.abs()),
            finding: match finding(metric, interval) {
                // What was found while events were few stays found.
                Finding::Open => found_while_few(metric, few_then, fixed, alpha),
                found => found,
            },
            guardrail: (role == MetricRole::Guardrail).then(|| {
                let control = self.control_value(reading, arm, control, None);
                self.guardrail(reading, now, margin, control)
            }),
            superiority: self.superiority(reading, arm, metric),
            variance_reduction: series.variance_reduction.filter(|_| as_of.is_none()),
            epochs: self.by_epoch(reading, arm, as_of),
            is_unstable: series.running.nonstationary
                || estimate.zip(interval).is_some_and(|(estimate, interval)| {
                    !(interval.low..=interval.high).contains(&estimate.value)
                }),
            small_counts: None,
            small_counts_then: few_then.filter(is_of_few).map(EarlierCounts::from),
            undefined,
            note: None,
        }
    }
}

/// Which part of a level an interval is at.
fn part_of_level(mode: ReadingMode, has_all: bool) -> f64 {
    match mode {
        ReadingMode::Hybrid if has_all => 1.0 - RUNNING_SHARE,
        ReadingMode::Hybrid => RUNNING_SHARE,
        _ => 1.0,
    }
}

/// What was found while events were few, as long as one look at what is known now says the same.
fn found_while_few(
    metric: &Metric,
    few: Option<FewLook>,
    one_look: Option<Interval>,
    alpha: f64,
) -> Finding {
    let now = finding(metric, one_look);
    let is_so = |few: FewLook| {
        let then = match oriented(metric.direction, few.difference) {
            better if better > 0.0 => Finding::Better,
            _ => Finding::Worse,
        };
        few.p <= alpha && then == now
    };
    if few.is_some_and(is_so) {
        now
    } else {
        Finding::Open
    }
}

fn method(metric: &Metric, is_adjusted: bool) -> &'static str {
    match metric.kind {
        MetricKind::Quantile => "quantiles by order statistics",
        MetricKind::Count => "means over units (Welch)",
        _ if is_adjusted => "ratio of sums over units, adjusted for the time before (CUPED)",
        _ => "ratio of sums over units (delta method)",
    }
}
