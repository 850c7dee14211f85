//! CUPED: less variance from a covariate that was measured before exposure (Deng, Xu, Kohavi & Walker 2013).

use crate::accumulate::CrossMoments;
use crate::estimate::{ArmEstimate, Estimate};
use crate::undefined::{Defined, Undefined};

/// |z| of the covariate's difference beyond which the split is suspect.
pub const LARGEST_IMBALANCE: f64 = 4.0;
/// A variance below this many units in the last place of its terms is rounding.
const ROUNDING: f64 = 16.0;

/// A difference adjusted for a covariate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adjusted {
    /// The slope θ; 0 when the covariate does not vary.
    pub theta: f64,
    /// The adjusted difference.
    pub estimate: Estimate,
    /// 1 − Var'/Var of the difference: what the covariate explains.
    pub variance_reduction: f64,
}

impl Adjusted {
    /// How many more users, in shares, the adjustment is worth.
    #[must_use]
    pub fn equivalent_users(&self) -> f64 {
        self.variance_reduction / (1.0 - self.variance_reduction)
    }
}

/// The adjusted difference B − A from each unit's outcome (column 0) and covariate (column 1), with one θ over both arms.
///
/// θ = Cov(y, x)/Var(x) over the union of the arms; y' = y − θx; Var' = s_yy + θ² s_xx − 2θ s_xy per arm, then Welch. The
/// covariate must predate exposure; units without history keep x = 0 and are never dropped.
pub fn difference(a: &CrossMoments<2>, b: &CrossMoments<2>) -> Defined<Adjusted> {
    let mut both = *a;
    both.merge(b);
    let theta = slope(&both)?;
    let estimate = Estimate::difference(&adjusted(a, theta, 0.0)?, &adjusted(b, theta, 0.0)?)?;
    with_reduction(theta, estimate, a, b)
}

/// The same with a slope per arm and a common mean of the covariate, for unequal shares or different slopes (Lin 2013).
///
/// Δ = (ȳB − θB(x̄B − x̄)) − (ȳA − θA(x̄A − x̄)). `theta` of the result is the mean of both, weighted by units.
pub fn difference_by_arm(a: &CrossMoments<2>, b: &CrossMoments<2>) -> Defined<Adjusted> {
    let (theta_a, theta_b) = (slope(a)?, slope(b)?);
    let (n_a, n_b) = (a.n() as f64, b.n() as f64);
    let centre = (n_a * a.mean(1)? + n_b * b.mean(1)?) / (n_a + n_b);
    let estimate = Estimate::difference(
        &adjusted(a, theta_a, centre)?,
        &adjusted(b, theta_b, centre)?,
    )?;
    let theta = (n_a * theta_a + n_b * theta_b) / (n_a + n_b);
    with_reduction(theta, estimate, a, b)
}

/// z of the covariate's own difference, which randomisation keeps small; beyond 4 treat it as a broken split.
pub fn covariate_imbalance(a: &CrossMoments<2>, b: &CrossMoments<2>) -> Defined<f64> {
    let arm = |arm: &CrossMoments<2>| {
        Ok(ArmEstimate {
            value: arm.mean(1)?,
            unit_variance: arm.covariance(1, 1)?,
            n: arm.n(),
        })
    };
    let estimate = Estimate::difference(&arm(a)?, &arm(b)?)?;
    Ok(estimate.value / estimate.standard_error)
}

fn slope(units: &CrossMoments<2>) -> Defined<f64> {
    let variance = units.covariance(1, 1)?;
    if variance == 0.0 {
        return Ok(0.0);
    }
    Ok(units.covariance(0, 1)? / variance)
}

fn adjusted(arm: &CrossMoments<2>, theta: f64, centre: f64) -> Defined<ArmEstimate> {
    let own = arm.covariance(0, 0)?;
    let covariate = theta * theta * arm.covariance(1, 1)?;
    let mut variance = own + covariate - 2.0 * theta * arm.covariance(0, 1)?;
    if variance <= ROUNDING * f64::EPSILON * (own + covariate) {
        variance = 0.0;
    }
    Ok(ArmEstimate {
        value: arm.mean(0)? - theta * (arm.mean(1)? - centre),
        unit_variance: variance,
        n: arm.n(),
    })
}

fn with_reduction(
    theta: f64,
    estimate: Estimate,
    a: &CrossMoments<2>,
    b: &CrossMoments<2>,
) -> Defined<Adjusted> {
    let plain = a.covariance(0, 0)? / a.n() as f64 + b.covariance(0, 0)? / b.n() as f64;
    if plain <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    Ok(Adjusted {
        theta,
        estimate,
        variance_reduction: 1.0 - estimate.standard_error.powi(2) / plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_agree_on_parallel_slopes() {
        let arm = |shift: f64| {
            let units: Vec<[f64; 2]> = (0..60)
                .map(|index| {
                    let x = f64::from(index % 10);
                    let noise = f64::from((index * 7) % 6) * 0.1;
                    [2.0 * x + noise + shift, x]
                })
                .collect();
            CrossMoments::of(&units)
        };
        let (a, b) = (arm(0.0), arm(0.3));
        let one = difference(&a, &b).unwrap();
        let other = difference_by_arm(&a, &b).unwrap();
        assert!((one.estimate.value - 0.3).abs() < 1e-12);
        assert!((one.estimate.value - other.estimate.value).abs() < 1e-12);
        assert!(one.variance_reduction > 0.99 && one.equivalent_users() > 99.0);
        assert!(covariate_imbalance(&a, &b).unwrap().abs() < 1e-12);
        let swapped = difference(&b, &a).unwrap();
        assert!((swapped.estimate.value + one.estimate.value).abs() < 1e-12);
    }
}
