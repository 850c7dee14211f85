//! What an estimate means: better, worse, within a margin.

use flywheel_core::metric::{GRADES, Metric, MetricKind};
use flywheel_stats::decision;
use flywheel_stats::estimate::{Constant, Estimate};
use flywheel_stats::rank::{self, RankedCounts};
use flywheel_stats::undefined::Undefined;
use flywheel_stats::{Interval, multiplicity};

use super::compare::Comparing;
use super::epochs::Parts;
use super::{Comparison, Finding, GuardrailState, Superiority, deciding, oriented};

impl Comparing<'_> {
    /// Whether an arm is worse by no more than a margin, which is uncertain itself where it is a share of the control's value.
    pub(super) fn guardrail(
        &self,
        reading: usize,
        estimate: Option<Estimate>,
        margin: Option<f64>,
        control: Option<(f64, f64)>,
    ) -> GuardrailState {
        if self.is_unmeasured(reading) {
            return GuardrailState::Unmeasured;
        }
        let (Some(estimate), Some(margin)) = (estimate, margin) else {
            return GuardrailState::Open;
        };
        let metric = self.metric_of(reading);
        let rules = &self.experiment.plan.guardrails;
        let rule = rules.iter().find(|rule| rule.metric == metric.name);
        let added = rule.zip(control).map_or(0.0, |(rule, (value, error))| {
            let factor = rule.control_factor(metric.direction, value);
            (factor * factor - 1.0) * error * error
        });
        let state = |added: f64| {
            let estimate = Estimate {
                standard_error: (estimate.standard_error.powi(2) + added).sqrt(),
                ..orient(metric, estimate)
            };
            self.rho_squared
                .and_then(|rho| decision::guardrail(&estimate, margin, rho, false))
        };
        match (state(added), state(0.0)) {
            (Ok(decision::Guardrail::NonInferior), _) => GuardrailState::Holds,
            (_, Ok(decision::Guardrail::Violated)) => GuardrailState::Violated,
            _ => GuardrailState::Open,
        }
    }

    fn is_unmeasured(&self, reading: usize) -> bool {
        (0..self.experiment.arms.len()).all(|arm| self.all_sums(arm, reading).n == 0)
    }

    /// Whether an arm is worse at this level, at any time.
    pub(super) fn has_deteriorated(&self, place: usize, arm: usize, alpha: f64) -> bool {
        let is_worse = || {
            let reading = deciding(&self.readings, place)?;
            if let Some(few) = self.few(reading, arm) {
                return Some(few.is_worse_at(self.metric_of(reading), alpha));
            }
            self.may_look(reading, arm, None).ok()?;
            let estimate = self.total(reading, arm).ok()?;
            let oriented = orient(self.metric_of(reading), estimate);
            decision::has_deteriorated(&oriented, self.rho_squared.ok()?, alpha).ok()
        };
        is_worse().unwrap_or(false)
    }

    pub(super) fn superiority(
        &self,
        reading: usize,
        arm: usize,
        metric: &Metric,
    ) -> Option<Superiority> {
        // Histograms have no days, and what the others do after nobody is in an arm any more is of another time.
        if metric.kind != MetricKind::Ordinal || self.was_out(arm) {
            return None;
        }
        let counts = |epoch: usize, place: usize| {
            let mut counts = vec![0_u64; GRADES as usize + 1];
            for (class, n) in self.source(epoch, place, reading).classes() {
                if let Some(count) = usize::try_from(class).ok().and_then(|c| counts.get_mut(c)) {
                    *count = u64::try_from(n).unwrap_or(0);
                }
            }
            counts
        };
        let mut parts = Parts::default();
        for epoch in self.compared_epochs(arm) {
            let (control, own) = (counts(epoch, self.control), counts(epoch, arm));
            let units = (control.iter().sum::<u64>() + own.iter().sum::<u64>()) as f64;
            let Ok(ranked) = RankedCounts::from_histograms(&control, &own) else {
                continue;
            };
            match ranked.brunner_munzel(self.experiment.plan.alpha) {
                Ok(found) => parts.varying.push(Estimate {
                    value: found.theta,
                    standard_error: found.standard_error,
                    degrees_of_freedom: found.degrees_of_freedom,
                    units,
                }),
                // Arms that lie apart altogether, or tie throughout, have no spread.
                Err(Undefined::ZeroVariance) => parts.constant.push(Constant {
                    value: ranked.theta(),
                    units,
                }),
                Err(_) => {}
            }
        }
        let pooled = parts.pool().ok()?;
        let found = rank::interval_of(&pooled, self.experiment.plan.alpha).ok()?;
        Some(Superiority {
            probability: pooled.value,
            low: found.low,
            high: found.high,
        })
    }
}

/// The estimate with a sign that makes higher better.
fn orient(metric: &Metric, estimate: Estimate) -> Estimate {
    Estimate {
        value: oriented(metric.direction, estimate.value),
        ..estimate
    }
}

/// What an interval says of a metric.
pub(super) fn finding(metric: &Metric, interval: Option<Interval>) -> Finding {
    let Some(interval) = interval else {
        return Finding::Open;
    };
    let (low, high) = (
        oriented(metric.direction, interval.low),
        oriented(metric.direction, interval.high),
    );
    if low.min(high) > 0.0 {
        Finding::Better
    } else if low.max(high) < 0.0 {
        Finding::Worse
    } else {
        Finding::Open
    }
}

/// Holm over the arms, so that the verdicts of all of them together are wrong in at most α of all experiments.
pub(super) fn correct(comparisons: &mut [Comparison], alpha: f64) {
    let p_values: Vec<f64> = comparisons.iter().map(|c| c.p.unwrap_or(1.0)).collect();
    let Ok(adjusted) = multiplicity::holm(&p_values) else {
        return;
    };
    for (comparison, p) in comparisons.iter_mut().zip(adjusted) {
        if comparison.p.is_some() {
            comparison.p = Some(p);
            if p > alpha {
                comparison.finding = Finding::Open;
            }
        }
    }
}
