//! One metric, arm against control: estimates by epoch, pooled; looks at the end of each day, and what they have in common.

use std::collections::BTreeMap;

use flywheel_core::experiment::Experiment;
use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::name::ArmName;
use flywheel_core::plan::{Reading, ReadingMode};
use flywheel_stats::estimate::{ArmEstimate, Estimate};
use flywheel_stats::inference::{Inference, Mode, infer};
use flywheel_stats::sequential::hybrid::RUNNING_SHARE;
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{clustered, cuped, quantile, ratio};
use flywheel_storage::statistics::{ArmStatistics, ExperimentStatistics, UnitSums};
use jiff::Timestamp;

use super::super::moments;
use super::few;
use super::judge::{correct, finding};
use super::{
    ArmValue, Comparison, EpochComparison, Finding, GuardrailState, MICROSECONDS_PER_DAY,
    MetricReadout, MetricRole, deciding, is_quantile, oriented, words,
};

/// Sums and histogram of one arm in one epoch.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) arm: Option<&'a ArmStatistics>,
    pub(super) reading: usize,
}

impl Source<'_> {
    /// What was known at the end of a day, or is known now.
    pub(super) fn sums(&self, until: Option<i64>) -> UnitSums {
        let mut sums = UnitSums::default();
        let days = self.arm.and_then(|arm| arm.readings.get(&self.reading));
        for (day, part) in days.into_iter().flatten() {
            if until.is_none_or(|until| *day <= until) {
                sums.add(part);
            }
        }
        sums
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
    /// The control's place among the arms.
    pub(super) control: usize,
    pub(super) rho_squared: Defined<f64>,
    /// The UTC day that is not over yet, counted from 1970.
    pub(super) open_day: i64,
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

    pub(super) fn source(&self, epoch: usize, arm: usize, reading: usize) -> Source<'a> {
        Source {
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

    /// The difference now, over all epochs.
    pub(super) fn total(&self, reading: usize, arm: usize) -> Defined<Estimate> {
        self.pooled(reading, arm, None)
            .map(|(estimate, _)| estimate)
    }

    /// The difference at the end of a day, pooled over epochs, and which share of its variance the covariate took away.
    pub(super) fn pooled(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<(Estimate, Option<f64>)> {
        let (mut parts, mut plain) = (Vec::new(), Vec::new());
        let mut is_adjusted = false;
        let mut problem = Undefined::NoData;
        for epoch in 0..self.epochs() {
            let until = self.compared_until(epoch, reading, arm, until);
            match self.within(epoch, reading, arm, until) {
                Ok((estimate, unadjusted)) => {
                    is_adjusted |= unadjusted.is_some();
                    plain.push(unadjusted.unwrap_or(estimate));
                    parts.push(estimate);
                }
                // An epoch that nobody entered has nothing to say.
                Err(Undefined::NoData) => {}
                // One in which nobody differed says that they did not: without it the others would say too much.
                Err(Undefined::ZeroVariance) => {
                    problem = Undefined::ZeroVariance;
                    let constant = self.constant(epoch, reading, arm, until);
                    plain.extend(constant);
                    parts.extend(constant);
                }
                Err(undefined) => problem = undefined,
            }
        }
        let pool = |parts: &[Estimate]| match parts {
            [] => Err(problem),
            [only] if only.standard_error > 0.0 => Ok(*only),
            several => Estimate::pool(several),
        };
        let estimate = pool(&parts)?;
        let plain = is_adjusted.then(|| pool(&plain)).and_then(Result::ok);
        let explained =
            plain.map(|plain| 1.0 - (estimate.standard_error / plain.standard_error).powi(2));
        Ok((estimate, explained))
    }

    /// The difference within an epoch in which no value of either arm varies.
    fn constant(
        &self,
        epoch: usize,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Option<Estimate> {
        let ratio = |arm: usize| {
            let sums = self.source(epoch, arm, reading).sums(until);
            let pair = moments::pair(&sums).ok()?;
            let ratio = pair.mean(0).ok()? / pair.mean(1).ok()?;
            (ratio.is_finite() && sums.n > 1).then_some((ratio, sums.n as f64))
        };
        let (control, own) = (ratio(self.control)?, ratio(arm)?);
        Some(Estimate {
            value: own.0 - control.0,
            standard_error: 0.0,
            degrees_of_freedom: f64::INFINITY,
            units: control.1 + own.1,
        })
    }

    /// The difference within an epoch; with a covariate also the one without it.
    fn within(
        &self,
        epoch: usize,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<(Estimate, Option<Estimate>)> {
        let metric = self.metric_of(reading);
        let control = self.source(epoch, self.control, reading);
        let treatment = self.source(epoch, arm, reading);
        let (a, b) = (control.sums(until), treatment.sums(until));
        if a.n == 0 || b.n == 0 {
            return Err(Undefined::NoData);
        }
        if is_quantile(metric) {
            let a = self.quantile(metric, &a, &control.classes())?;
            let b = self.quantile(metric, &b, &treatment.classes())?;
            return Ok((quantile::difference(&a, &b)?, None));
        }
        let plain = ratio::difference(&moments::pair(&a)?, &moments::pair(&b)?)?;
        if metric.covariate {
            let adjusted =
                cuped::ratio_difference(&moments::quadruple(&a)?, &moments::quadruple(&b)?);
            if let Ok(adjusted) = adjusted {
                return Ok((adjusted.estimate, Some(plain)));
            }
        }
        Ok((plain, None))
    }

    /// A quantile with the variance that its interval implies, for so many units. Calls of one unit count for less than as
    /// many independent ones, by the design effect of the share beyond the quantile before the start.
    fn quantile(
        &self,
        metric: &Metric,
        sums: &UnitSums,
        classes: &BTreeMap<i32, i64>,
    ) -> Defined<ArmEstimate> {
        let histogram = moments::histogram(classes);
        let p = metric.quantile();
        if !quantile::enough_for_difference(histogram.n(), p) {
            return Err(Undefined::TooFewValues {
                needed: (10.0 / (1.0 - p).min(p)).ceil() as u64,
                found: histogram.n(),
            });
        }
        let interval = quantile::interval_of_histogram(&histogram, p, self.experiment.plan.alpha)?;
        let units = u64::try_from(sums.n).unwrap_or(0);
        let arm = quantile::arm(&interval, units, self.experiment.plan.alpha)?;
        // Where nothing was known before the start, or nothing lies beyond it, a unit's calls may be all alike.
        let pair = moments::pair(sums)?;
        let beyond = pair.mean(0)? / pair.mean(1)?;
        let effect = match quantile::design_effect(&pair, beyond) {
            Ok(effect) => effect.max(1.0),
            Err(_) => clustered::largest_design_effect(&pair)?,
        };
        Ok(ArmEstimate {
            unit_variance: arm.unit_variance * effect,
            ..arm
        })
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
        let base = arms
            .get(self.control)
            .and_then(|control| self.base(reading, control, metric));
        let mut comparisons: Vec<Comparison> = self
            .treatments()
            .map(|arm| self.comparison(reading, arm, (metric, role, margin, base)))
            .collect();
        if role == MetricRole::Primary {
            correct(&mut comparisons, self.experiment.plan.alpha);
        }
        for found in &mut comparisons {
            few::say(metric, found);
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
        (metric, role, margin, base): (&Metric, MetricRole, Option<f64>, Option<f64>),
    ) -> Comparison {
        let alpha = self.level(role == MetricRole::Primary);
        let series = self.series(reading, arm, alpha);
        let few = self.few(reading, arm);
        if let Some(few) = few.filter(|few| few.comes_before(series.decided.map(|(day, _)| day))) {
            return self.comparison_of_few(few, reading, arm, (metric, role, margin, base));
        }
        let mode = self.mode(reading);
        let decided = series.decided;
        let has_all = decided.is_some_and(|(day, _)| Some(day) == series.end);
        let estimate = decided
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
                .p_while_few(reading, arm)
                .filter(|_| series.p.is_some()),
            _ => None,
        };
        let interval = match mode {
            ReadingMode::Anytime => series.running.interval,
            // While it runs it is a sequence.
            ReadingMode::Hybrid if decided.is_none() => series.running.interval,
            _ => series.last.ok().and_then(|look| look.interval.ok()),
        }
        .filter(|_| !series.looks.is_empty());
        let undefined = match (&series.estimate, &series.last) {
            (Err(undefined), _) | (_, Err(undefined)) => Some(undefined.to_string()),
            (Ok(_), Ok(look)) => look.interval.err().map(|undefined| undefined.to_string()),
        };
        // Guardrails are looked at at any time, whatever may be read of them.
        let now = self
            .may_look(reading, arm, None)
            .ok()
            .and(series.estimate.ok());
        Comparison {
            arm: self.name(arm),
            alpha: match mode {
                ReadingMode::Hybrid if has_all => alpha * (1.0 - RUNNING_SHARE),
                ReadingMode::Hybrid => alpha * RUNNING_SHARE,
                _ => alpha,
            },
            decided_on: decided.map(|(day, _)| words::day(day)),
            method: method(metric, series.variance_reduction.is_some()),
            difference: estimate.map(|estimate| estimate.value),
            standard_error: estimate.map(|estimate| estimate.standard_error),
            degrees_of_freedom: estimate
                .map(|estimate| estimate.degrees_of_freedom)
                .filter(|df| df.is_finite()),
            units: estimate.map_or(0.0, |estimate| estimate.units),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            p: (few_then.map(|(p, _)| p).into_iter())
                .chain(series.p)
                .reduce(f64::min),
            fixed_low: fixed.map(|interval| interval.low),
            fixed_high: fixed.map(|interval| interval.high),
            // The control's value is of now.
            relative: estimate
                .filter(|_| decided.is_none())
                .zip(base)
                .map(|(estimate, base)| estimate.value / base.abs()),
            finding: match finding(metric, interval) {
                // What was found while events were few stays found.
                Finding::Open => found_while_few(metric, few_then, estimate, alpha),
                found => found,
            },
            guardrail: (role == MetricRole::Guardrail).then(|| match (now, margin) {
                _ if self.is_unmeasured(reading) => GuardrailState::Unmeasured,
                (Some(now), Some(margin)) => self.guardrail(metric, now, margin),
                (None, _) | (_, None) => GuardrailState::Open,
            }),
            superiority: self.superiority(reading, arm, metric),
            variance_reduction: series.variance_reduction.filter(|_| decided.is_none()),
            epochs: self.by_epoch(reading, arm),
            is_unstable: series.running.nonstationary
                || estimate.zip(interval).is_some_and(|(estimate, interval)| {
                    !(interval.low..=interval.high).contains(&estimate.value)
                }),
            small_counts: None,
            undefined,
        }
    }

    pub(super) fn by_epoch(&self, reading: usize, arm: usize) -> Vec<EpochComparison> {
        if self.experiment.epochs.len() < 2 {
            return Vec::new();
        }
        self.experiment
            .epochs
            .iter()
            .enumerate()
            .map(|(place, epoch)| {
                let until = self.compared_until(place, reading, arm, None);
                let found = self.within(place, reading, arm, until).ok();
                let estimate = found.map(|(estimate, _)| estimate);
                EpochComparison {
                    since: epoch.since,
                    units: estimate.map_or(0.0, |estimate| estimate.units),
                    difference: estimate.map(|estimate| estimate.value),
                    standard_error: estimate.map(|estimate| estimate.standard_error),
                }
            })
            .collect()
    }
}

/// What was found while events were few.
fn found_while_few(
    metric: &Metric,
    few: Option<(f64, f64)>,
    now: Option<Estimate>,
    alpha: f64,
) -> Finding {
    let (Some((p, then)), Some(now)) = (few, now) else {
        return Finding::Open;
    };
    // What turned round since is not known any more.
    match oriented(metric.direction, then) {
        _ if p > alpha || then * now.value <= 0.0 => Finding::Open,
        better if better > 0.0 => Finding::Better,
        _ => Finding::Worse,
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
