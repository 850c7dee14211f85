//! One metric, arm against control: estimates by epoch, pooled; looks at the end of each day, and what they have in common.

use std::collections::{BTreeMap, BTreeSet};

use flywheel_core::assignment::ALL_BASIS_POINTS;
use flywheel_core::experiment::Experiment;
use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::name::ArmName;
use flywheel_core::plan::{Reading, ReadingMode};
use flywheel_stats::estimate::{ArmEstimate, Estimate};
use flywheel_stats::inference::{Inference, Mode, infer};
use flywheel_stats::sequential::group_sequential::{self, SPENDING_EXPONENT};
use flywheel_stats::sequential::hybrid;
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::sequential::running::Running;
use flywheel_stats::sequential::t_mixture::FIRST_LOOK;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{clustered, cuped, quantile, ratio};
use flywheel_storage::statistics::{ArmStatistics, ExperimentStatistics, UnitSums};

use super::super::moments;
use super::few;
use super::judge::{correct, finding};
use super::{
    ArmValue, Comparison, EpochComparison, GuardrailState, Look, MetricReadout, MetricRole,
    deciding, is_quantile, words,
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
}

/// Inference for one look at a fixed sample.
pub(super) fn one_look(estimate: &Estimate, alpha: f64) -> Defined<Inference> {
    infer(estimate, Mode::Fixed, alpha)
}

/// A difference, and what was said of it at each look.
struct Series {
    estimate: Defined<Estimate>,
    looks: Vec<(i64, Estimate, Inference)>,
    running: Running,
    /// At the last look that was allowed.
    last: Defined<Inference>,
    variance_reduction: Option<f64>,
    /// What the last look of a plan that has one saw: that and its interval stay.
    decided: Option<Estimate>,
}

impl<'a> Comparing<'a> {
    pub(super) fn new(experiment: &'a Experiment, statistics: &'a ExperimentStatistics) -> Self {
        let plan = &experiment.plan;
        let is_control = |arm: &flywheel_core::experiment::Arm| arm.name == plan.control;
        Self {
            experiment,
            statistics,
            readings: plan.readings(),
            control: experiment.arms.iter().position(is_control).unwrap_or(0),
            rho_squared: rho_squared(plan.alpha, plan.tuned_for),
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

    /// The difference at the end of a day, pooled over epochs, and what the covariate explains.
    fn pooled(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<(Estimate, Option<f64>)> {
        let mut parts = Vec::new();
        let mut reduction = None;
        let mut problem = Undefined::NoData;
        for epoch in 0..self.epochs() {
            match self.within(epoch, reading, arm, until) {
                Ok((estimate, explained)) => {
                    parts.push(estimate);
                    reduction = explained.or(reduction);
                }
                // An epoch that nobody entered has nothing to say.
                Err(Undefined::NoData) => {}
                // One in which nobody differed says that they did not: without it the others would say too much.
                Err(Undefined::ZeroVariance) => {
                    problem = Undefined::ZeroVariance;
                    parts.extend(self.constant(epoch, reading, arm, until));
                }
                Err(undefined) => problem = undefined,
            }
        }
        match parts.as_slice() {
            [] => Err(problem),
            [only] if only.standard_error > 0.0 => Ok((*only, reduction)),
            several => Ok((Estimate::pool(several)?, reduction)),
        }
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

    fn within(
        &self,
        epoch: usize,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<(Estimate, Option<f64>)> {
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
        if metric.covariate {
            let adjusted =
                cuped::ratio_difference(&moments::quadruple(&a)?, &moments::quadruple(&b)?);
            if let Ok(adjusted) = adjusted {
                return Ok((adjusted.estimate, Some(adjusted.variance_reduction)));
            }
        }
        let estimate = ratio::difference(&moments::pair(&a)?, &moments::pair(&b)?)?;
        Ok((estimate, None))
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

    /// Whether an arm has enough for a look.
    pub(super) fn may_look(&self, reading: usize, arm: usize, until: Option<i64>) -> Defined<()> {
        let metric = self.metric_of(reading);
        for place in [self.control, arm] {
            let mut sums = UnitSums::default();
            for epoch in 0..self.epochs() {
                sums.add(&self.source(epoch, place, reading).sums(until));
            }
            let units = u64::try_from(sums.n).unwrap_or(0);
            if units < FIRST_LOOK {
                return Err(Undefined::TooFewValues {
                    needed: FIRST_LOOK,
                    found: units,
                });
            }
            if few::are_few(metric, &sums) {
                return Err(few::TOO_FEW);
            }
        }
        Ok(())
    }

    /// The days at whose end something was different.
    pub(super) fn days(&self, reading: usize, arm: usize) -> BTreeSet<i64> {
        let mut days = BTreeSet::new();
        for epoch in 0..self.epochs() {
            for place in [self.control, arm] {
                let source = self.source(epoch, place, reading);
                let found = source.arm.and_then(|arm| arm.readings.get(&reading));
                days.extend(found.into_iter().flat_map(|days| days.keys().copied()));
            }
        }
        days
    }

    fn series(&self, reading: usize, arm: usize, alpha: f64) -> Series {
        let now = self.pooled(reading, arm, None);
        let mut series = Series {
            estimate: now.map(|(estimate, _)| estimate),
            variance_reduction: now.ok().and_then(|(_, explained)| explained),
            looks: Vec::new(),
            running: Running::default(),
            last: Err(Undefined::NoData),
            decided: None,
        };
        // Of a quantile only its present is kept.
        let moments: Vec<i64> = match is_quantile(self.metric_of(reading)) {
            true => self
                .days(reading, arm)
                .last()
                .copied()
                .into_iter()
                .collect(),
            false => self.days(reading, arm).into_iter().collect(),
        };
        let mut estimates = Vec::new();
        for day in moments {
            let until = Some(day);
            if let Err(undefined) = self.may_look(reading, arm, until) {
                series.last = Err(undefined);
                continue;
            }
            match self.pooled(reading, arm, until) {
                Ok((estimate, _)) => estimates.push((day, estimate)),
                Err(undefined) => series.last = Err(undefined),
            }
        }
        if self.experiment.plan.mode == ReadingMode::Planned {
            // There is another look when there are more units.
            let mut seen = 0.0;
            estimates.retain(|(_, estimate): &(i64, Estimate)| {
                let has_more = estimate.units > seen;
                seen = estimate.units.max(seen);
                has_more
            });
        }
        let planned = self.planned_units(arm);
        let boundaries = self.boundaries(&estimates, planned, alpha);
        // The last look of a plan that has one is the first at which the units are there; looking again would be peeking.
        let mut is_final_over = false;
        for (place, (day, estimate)) in estimates.into_iter().enumerate() {
            let is_final = !is_final_over && estimate.units >= planned;
            if is_final_over && self.experiment.plan.mode == ReadingMode::Fixed {
                break;
            }
            is_final_over |= is_final;
            let boundary = boundaries.get(place).copied();
            let look = self.look(&estimate, boundary, is_final, alpha);
            if let Ok(inference) = &look {
                series.running.push(inference);
                series.looks.push((day, estimate, *inference));
            }
            if series.decided.is_none() {
                series.last = look;
            }
            if is_final && self.has_final_look() {
                series.decided = Some(estimate);
            }
        }
        series
    }

    /// |z| at each look of a plan with looks.
    fn boundaries(&self, looks: &[(i64, Estimate)], planned: f64, alpha: f64) -> Vec<f64> {
        if self.experiment.plan.mode != ReadingMode::Planned || looks.is_empty() {
            return Vec::new();
        }
        let information: Vec<f64> = looks.iter().map(|(_, e)| e.units / planned).collect();
        group_sequential::boundaries(&information, alpha, SPENDING_EXPONENT, 2).unwrap_or_default()
    }

    /// Units of the control and an arm at which a plan has its last look: their part of those of all arms.
    pub(super) fn planned_units(&self, arm: usize) -> f64 {
        let plan = &self.experiment.plan;
        let all = plan.size.map_or(plan.tuned_for, |size| size.largest);
        let weights = [self.control, arm].map(|place| self.experiment.planned_weight(place));
        all * f64::from(weights[0] + weights[1]) / f64::from(ALL_BASIS_POINTS)
    }

    fn has_final_look(&self) -> bool {
        let mode = self.experiment.plan.mode;
        matches!(mode, ReadingMode::Fixed | ReadingMode::Hybrid)
    }

    fn look(
        &self,
        estimate: &Estimate,
        boundary: Option<f64>,
        is_final: bool,
        alpha: f64,
    ) -> Defined<Inference> {
        let plan = &self.experiment.plan;
        let rho_squared = self.rho_squared?;
        match plan.mode {
            ReadingMode::Anytime => infer(estimate, Mode::Anytime { rho_squared }, alpha),
            ReadingMode::Planned => {
                let boundary = boundary.ok_or(Undefined::NoData)?;
                infer(estimate, Mode::Planned { boundary }, alpha)
            }
            ReadingMode::Hybrid => hybrid::look(estimate, rho_squared, is_final, alpha),
            ReadingMode::Fixed if !is_final => Err(Undefined::Domain(
                "this plan is read once, when it has its units",
            )),
            ReadingMode::Fixed => infer(estimate, Mode::Fixed, alpha),
        }
    }

    /// The primary metric at the end of each day.
    pub(super) fn timeline(&self) -> Vec<Look> {
        let plan = &self.experiment.plan;
        let place = plan
            .metrics
            .iter()
            .position(|metric| Some(&metric.name) == plan.primary.as_ref());
        let Some(reading) = place.and_then(|place| deciding(&self.readings, place)) else {
            return Vec::new();
        };
        let mut timeline = Vec::new();
        for arm in self.treatments() {
            let mut smallest: f64 = 1.0;
            for (day, estimate, look) in self.series(reading, arm, self.level(true)).looks {
                smallest = smallest.min(look.p.unwrap_or(1.0));
                let fixed = one_look(&estimate, self.level(true)).and_then(|look| look.interval);
                timeline.push(Look {
                    day: words::day(day),
                    arm: self.name(arm),
                    units: estimate.units,
                    difference: estimate.value,
                    low: look.interval.ok().map(|interval| interval.low),
                    high: look.interval.ok().map(|interval| interval.high),
                    fixed_low: fixed.ok().map(|interval| interval.low),
                    fixed_high: fixed.ok().map(|interval| interval.high),
                    p: smallest,
                });
            }
        }
        timeline
    }

    /// The level of one interval: several arms share that of the primary metric.
    pub(super) fn level(&self, is_primary: bool) -> f64 {
        let comparisons = if is_primary {
            self.experiment.arms.len().saturating_sub(1).max(1)
        } else {
            1
        };
        self.experiment.plan.alpha / comparisons as f64
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
        if let Some(few) = self.few(reading, arm) {
            return self.comparison_of_few(&few, reading, arm, (metric, role, margin, base));
        }
        let series = self.series(reading, arm, alpha);
        let estimate = series.decided.or_else(|| series.estimate.ok());
        let fixed = estimate
            .and_then(|estimate| one_look(&estimate, alpha).ok())
            .and_then(|look| look.interval.ok());
        // The running intersection of sequences; the repeated interval of planned looks; the one of the last look.
        let interval = match self.experiment.plan.mode {
            ReadingMode::Anytime => series.running.interval,
            _ => series.last.ok().and_then(|look| look.interval.ok()),
        }
        .filter(|_| !series.looks.is_empty());
        let undefined = match (&series.estimate, &series.last) {
            (Err(undefined), _) | (_, Err(undefined)) => Some(undefined.to_string()),
            (Ok(_), Ok(look)) => look.interval.err().map(|undefined| undefined.to_string()),
        };
        let looked = estimate.filter(|_| !series.looks.is_empty());
        Comparison {
            arm: self.name(arm),
            alpha: self.level(role == MetricRole::Primary),
            method: method(metric, series.variance_reduction.is_some()),
            difference: estimate.map(|estimate| estimate.value),
            standard_error: estimate.map(|estimate| estimate.standard_error),
            degrees_of_freedom: estimate
                .map(|estimate| estimate.degrees_of_freedom)
                .filter(|df| df.is_finite()),
            units: estimate.map_or(0.0, |estimate| estimate.units),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            p: (!series.looks.is_empty() && self.experiment.plan.mode != ReadingMode::Planned)
                .then_some(series.running.p),
            fixed_low: fixed.map(|interval| interval.low),
            fixed_high: fixed.map(|interval| interval.high),
            relative: estimate
                .zip(base)
                .map(|(estimate, base)| estimate.value / base.abs()),
            finding: finding(metric, interval),
            guardrail: (role == MetricRole::Guardrail).then(|| match (looked, margin) {
                _ if self.is_unmeasured(reading) => GuardrailState::Unmeasured,
                (Some(looked), Some(margin)) => self.guardrail(metric, looked, margin),
                (None, _) | (_, None) => GuardrailState::Open,
            }),
            superiority: self.superiority(reading, arm, metric),
            variance_reduction: series.variance_reduction,
            epochs: self.by_epoch(reading, arm),
            is_unstable: series.running.nonstationary,
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
                let found = self.within(place, reading, arm, None).ok();
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

fn method(metric: &Metric, is_adjusted: bool) -> &'static str {
    match metric.kind {
        MetricKind::Quantile => "quantiles by order statistics",
        MetricKind::Count => "means over units (Welch)",
        _ if is_adjusted => "ratio of sums over units, adjusted for the time before (CUPED)",
        _ => "ratio of sums over units (delta method)",
    }
}
