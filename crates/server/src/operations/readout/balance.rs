//! Whether the arms were alike before anybody was exposed, by the metrics that read what units did before (S9.2).

use flywheel_core::metric::{Metric, MetricSource};
use flywheel_stats::estimate::Estimate;
use flywheel_stats::sequential::t_mixture;
use flywheel_stats::sequential::t_mixture::FIRST_LOOK;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{cuped, srm};

use super::super::moments;
use super::compare::Comparing;
use super::{CheckState, DataCheck, deciding};

/// A difference before the first exposure.
struct Imbalance<'a> {
    metric: &'a Metric,
    arm: usize,
    estimate: Estimate,
}

impl Imbalance<'_> {
    fn z(&self) -> f64 {
        (self.estimate.value / self.estimate.standard_error).abs()
    }
}

/// The check, where a covariate has values to compare.
pub(super) fn check(comparing: &Comparing<'_>) -> Option<DataCheck> {
    let found = imbalances(comparing);
    let worst = found
        .iter()
        .max_by(|one, other| one.z().total_cmp(&other.z()))?;
    let what = format!("{} of {}", worst.metric.name, comparing.name(worst.arm));
    let z = worst.z();
    let is_beyond = is_beyond_chance(comparing, worst, found.len());
    let (state, detail) = match is_beyond {
        false => (
            CheckState::Passed,
            format!(
                "{what} differed by {z:.1} standard errors before the first exposure, no other by more"
            ),
        ),
        // Sums are of units with an outcome, and who gives feedback may depend on the arm.
        true if matches!(worst.metric.source, MetricSource::Feedback(_)) => (
            CheckState::Warning,
            format!(
                "{what} differed before the first exposure already, by {z:.1} standard errors: the arms were not filled by chance, or who gives feedback depends on the arm"
            ),
        ),
        true => (
            CheckState::Failed,
            format!(
                "{what} differed before the first exposure already, by {z:.1} standard errors: the arms were not filled by chance"
            ),
        ),
    };
    Some(DataCheck {
        name: "covariate balance",
        state,
        detail,
    })
}

/// Beyond four standard errors, and beyond what chance makes of all comparisons however often one looks.
fn is_beyond_chance(comparing: &Comparing<'_>, worst: &Imbalance<'_>, comparisons: usize) -> bool {
    let estimate = &worst.estimate;
    let t = estimate.value / estimate.standard_error;
    let p = comparing.rho_squared.and_then(|rho_squared| {
        t_mixture::p_value(t, estimate.units, estimate.degrees_of_freedom, rho_squared)
    });
    worst.z() > cuped::LARGEST_IMBALANCE
        && p.is_ok_and(|p| p <= srm::ALPHA / comparisons.max(1) as f64)
}

fn imbalances<'a>(comparing: &Comparing<'a>) -> Vec<Imbalance<'a>> {
    let mut found = Vec::new();
    let metrics = comparing.experiment.plan.metrics.iter().enumerate();
    for (place, metric) in metrics.filter(|(_, metric)| metric.covariate) {
        let Some(reading) = deciding(&comparing.readings, place) else {
            continue;
        };
        for arm in comparing.treatments() {
            if let Ok(estimate) = before(comparing, reading, arm) {
                found.push(Imbalance {
                    metric,
                    arm,
                    estimate,
                });
            }
        }
    }
    found
}

/// The difference before, within epochs. One from which a change of the weights took units is left out: those who came back are
/// gone from it, and those who did not are others.
fn before(comparing: &Comparing<'_>, reading: usize, arm: usize) -> Defined<Estimate> {
    let mut parts = Vec::new();
    for epoch in 0..comparing.epochs() {
        let sources = [comparing.control, arm].map(|place| comparing.source(epoch, place, reading));
        let moved = sources.iter().filter_map(|source| source.arm);
        if moved.map(|arm| arm.moved).sum::<i64>() > 0 {
            continue;
        }
        let [control, own] = sources.map(|source| source.sums(None));
        if u64::try_from(control.n.min(own.n)).is_ok_and(|units| units >= FIRST_LOOK) {
            let (control, own) = (moments::quadruple(&control)?, moments::quadruple(&own)?);
            parts.extend(cuped::ratio_imbalance(&control, &own).ok());
        }
    }
    if parts.is_empty() {
        return Err(Undefined::NoData);
    }
    Estimate::pool(&parts)
}
