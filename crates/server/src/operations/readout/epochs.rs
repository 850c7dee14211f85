//! Differences within epochs, and what those of several come to: arms are never compared across a change of their weights.

use std::collections::BTreeMap;

use flywheel_core::metric::Metric;
use flywheel_stats::estimate::{ArmEstimate, Constant, Estimate};
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{clustered, cuped, quantile, ratio};
use flywheel_storage::statistics::UnitSums;

use super::super::moments;
use super::compare::Comparing;
use super::days::FEWEST_IN_EPOCH;
use super::{EpochComparison, is_quantile};

const NOT_BOTH_IN: Undefined =
    Undefined::Domain("nobody was in one of the two, so that there is nothing to compare");

/// What arm and control differ by within an epoch.
enum Within {
    /// By so much; with a covariate also without it.
    Estimate(Estimate, Option<Estimate>),
    /// In neither does any value vary.
    Constant(Constant),
}

/// The differences of several epochs.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) varying: Vec<Estimate>,
    pub(super) constant: Vec<Constant>,
    /// Why there is none of an epoch that has values.
    problem: Option<Undefined>,
}

impl Parts {
    /// Averaged by their units.
    pub(super) fn pool(&self) -> Defined<Estimate> {
        match (self.varying.as_slice(), self.constant.as_slice()) {
            ([only], []) => Ok(*only),
            ([], []) => Err(self.problem.unwrap_or(Undefined::NoData)),
            (varying, constant) => Estimate::pool_with_constant(varying, constant),
        }
    }
}

/// The difference of two ratios of sums.
pub(super) fn difference(control: &UnitSums, own: &UnitSums) -> Defined<Estimate> {
    let arm = |sums| moments::pair(sums).and_then(|pair| ratio::arm(&pair));
    Estimate::cautious_difference(&arm(control)?, &arm(own)?)
}

/// The difference of two ratios of sums, if there is one: where no value varies it has no standard error.
pub(super) fn constant(control: &UnitSums, own: &UnitSums) -> Option<Constant> {
    let value = own.sum(0) / own.sum(1) - control.sum(0) / control.sum(1);
    let is_there = control.n.min(own.n) >= FEWEST_IN_EPOCH && value.is_finite();
    is_there.then_some(Constant {
        value,
        units: (control.n + own.n) as f64,
    })
}

impl Comparing<'_> {
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
        let (parts, plain) = self.parts(reading, arm, until);
        let estimate = parts.pool()?;
        let plain = plain.and_then(|plain| plain.pool().ok());
        let explained =
            plain.map(|plain| 1.0 - (estimate.standard_error / plain.standard_error).powi(2));
        Ok((estimate, explained))
    }

    /// The difference now where no value varies.
    pub(super) fn constant_difference(&self, reading: usize, arm: usize) -> Option<Constant> {
        let (parts, _) = self.parts(reading, arm, None);
        let units: f64 = parts.constant.iter().map(|part| part.units).sum();
        let sum: f64 = parts
            .constant
            .iter()
            .map(|part| part.units * part.value)
            .sum();
        (parts.varying.is_empty() && units > 0.0).then(|| Constant {
            value: sum / units,
            units,
        })
    }

    /// The epochs' differences at the end of a day, and where a covariate is used those without it.
    fn parts(&self, reading: usize, arm: usize, until: Option<i64>) -> (Parts, Option<Parts>) {
        let (mut parts, mut plain) = (Parts::default(), Parts::default());
        let mut is_adjusted = false;
        for epoch in 0..self.epochs() {
            let until = self.compared_until(epoch, reading, arm, until);
            match self.within(epoch, reading, arm, until) {
                Ok(Within::Estimate(estimate, unadjusted)) => {
                    is_adjusted |= unadjusted.is_some();
                    plain.varying.push(unadjusted.unwrap_or(estimate));
                    parts.varying.push(estimate);
                }
                // Without it the others would say too much.
                Ok(Within::Constant(constant)) => {
                    plain.constant.push(constant);
                    parts.constant.push(constant);
                }
                // An epoch that nobody entered has nothing to say.
                Err(Undefined::NoData) => {}
                Err(undefined) => parts.problem = Some(undefined),
            }
        }
        (parts, is_adjusted.then_some(plain))
    }

    /// The difference within an epoch.
    fn within(
        &self,
        epoch: usize,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Defined<Within> {
        let metric = self.metric_of(reading);
        let control = self.source(epoch, self.control, reading);
        let treatment = self.source(epoch, arm, reading);
        // Of a quantile only the present is kept, of its calls and of who made them.
        let until = until.filter(|_| !is_quantile(metric));
        let (a, b) = (control.sums(until), treatment.sums(until));
        if a.n == 0 || b.n == 0 || !self.are_both_in(epoch, arm) {
            return Err(Undefined::NoData);
        }
        if is_quantile(metric) {
            let a = self.quantile(metric, &a, &control.classes())?;
            let b = self.quantile(metric, &b, &treatment.classes())?;
            return match Estimate::cautious_difference(&a, &b) {
                Err(Undefined::ZeroVariance) => Ok(Within::Constant(Constant {
                    value: b.value - a.value,
                    units: (a.n + b.n) as f64,
                })),
                found => Ok(Within::Estimate(found?, None)),
            };
        }
        let plain = match difference(&a, &b) {
            Err(Undefined::ZeroVariance) => {
                let constant = constant(&a, &b).ok_or(Undefined::ZeroVariance)?;
                return Ok(Within::Constant(constant));
            }
            found => found?,
        };
        if metric.covariate {
            let arms = cuped::ratio_arms(&moments::quadruple(&a)?, &moments::quadruple(&b)?);
            if let Ok(adjusted) = arms.and_then(|(a, b)| Estimate::cautious_difference(&a, &b)) {
                return Ok(Within::Estimate(adjusted, Some(plain)));
            }
        }
        Ok(Within::Estimate(plain, None))
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

    /// The difference of the shares, which needs no spread: of epochs in which both have units, by their units.
    pub(super) fn plain_difference(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Option<Constant> {
        let (mut sum, mut units) = (0.0, 0.0);
        for epoch in self.compared_epochs(arm) {
            let until = self.compared_until(epoch, reading, arm, until);
            let of = |place: usize| self.source(epoch, place, reading).sums(until);
            let (control, own) = (of(self.control), of(arm));
            if let Some(part) = constant(&control, &own) {
                sum += part.units * part.value;
                units += part.units;
            }
        }
        (units > 0.0).then(|| Constant {
            value: sum / units,
            units,
        })
    }

    /// Each epoch for itself at the end of a day, where there are several.
    pub(super) fn by_epoch(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Vec<EpochComparison> {
        if self.experiment.epochs.len() < 2 {
            return Vec::new();
        }
        let of_epoch = |(place, epoch): (usize, &flywheel_core::experiment::Epoch)| {
            let until = self.compared_until(place, reading, arm, until);
            let (estimate, constant, why) = match self.within(place, reading, arm, until) {
                Ok(Within::Estimate(estimate, _)) => (Some(estimate), None, None),
                Ok(Within::Constant(found)) => (None, Some(found), Some(Undefined::ZeroVariance)),
                Err(_) if !self.are_both_in(place, arm) => (None, None, Some(NOT_BOTH_IN)),
                Err(undefined) => (None, None, Some(undefined)),
            };
            let units = estimate.map(|found| found.units);
            let value = estimate.map(|found| found.value);
            EpochComparison {
                since: epoch.since,
                units: units.or(constant.map(|found| found.units)).unwrap_or(0.0),
                difference: value.or(constant.map(|found| found.value)),
                standard_error: estimate.map(|found| found.standard_error),
                undefined: why.map(|why| why.to_string()),
            }
        };
        self.experiment
            .epochs
            .iter()
            .enumerate()
            .map(of_epoch)
            .collect()
    }
}
