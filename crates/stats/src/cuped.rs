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

/// CUPED for a ratio metric, from each unit's numerator, denominator, and both before exposure (columns 0 to 3).
///
/// Both ratios are linearised (Deng, Knoblich & Lu 2018): y = (N − R D)/D̄ and x likewise before exposure; then one θ from
/// the covariances within the arms, and Δ = (R_B − θ P_B) − (R_A − θ P_A) with P the earlier ratio.
pub fn ratio_difference(a: &CrossMoments<4>, b: &CrossMoments<4>) -> Defined<Adjusted> {
    let (first, second) = (Linearised::of(a)?, Linearised::of(b)?);
    let theta = shared_slope(&first, &second);
    let estimate = Estimate::difference(&first.adjusted(theta), &second.adjusted(theta))?;
    let plain = first.outcome / first.n as f64 + second.outcome / second.n as f64;
    reduction(theta, estimate, plain)
}

/// Both arms' adjusted ratios, of which [`ratio_difference`] is the difference.
pub fn ratio_arms(a: &CrossMoments<4>, b: &CrossMoments<4>) -> Defined<(ArmEstimate, ArmEstimate)> {
    let (first, second) = (Linearised::of(a)?, Linearised::of(b)?);
    let theta = shared_slope(&first, &second);
    Ok((first.adjusted(theta), second.adjusted(theta)))
}

/// θ from the covariances within the arms; 0 when the covariate does not vary.
fn shared_slope(first: &Linearised, second: &Linearised) -> f64 {
    let weight = |arm: &Linearised| arm.n.saturating_sub(1) as f64;
    let (weight_a, weight_b) = (weight(first), weight(second));
    let spread = weight_a * first.covariate + weight_b * second.covariate;
    let shared = weight_a * first.cross + weight_b * second.cross;
    if spread > 0.0 { shared / spread } else { 0.0 }
}

/// A ratio and its earlier value, with the variances of their linearised forms.
struct Linearised {
    n: u64,
    ratio: f64,
    earlier: f64,
    outcome: f64,
    covariate: f64,
    cross: f64,
}

impl Linearised {
    fn of(users: &CrossMoments<4>) -> Defined<Self> {
        let (denominator, earlier_denominator) = (users.mean(1)?, users.mean(3)?);
        if denominator == 0.0 || earlier_denominator == 0.0 {
            return Err(Undefined::Domain("the denominators add up to zero"));
        }
        let ratio = users.mean(0)? / denominator;
        let earlier = users.mean(2)? / earlier_denominator;
        let outcome = [1.0 / denominator, -ratio / denominator, 0.0, 0.0];
        let before = [
            0.0,
            0.0,
            1.0 / earlier_denominator,
            -earlier / earlier_denominator,
        ];
        Ok(Self {
            n: users.n(),
            ratio,
            earlier,
            outcome: quadratic(users, &outcome, &outcome)?,
            covariate: quadratic(users, &before, &before)?,
            cross: quadratic(users, &outcome, &before)?,
        })
    }

    fn adjusted(&self, theta: f64) -> ArmEstimate {
        let covariate = theta * theta * self.covariate;
        let variance = self.outcome + covariate - 2.0 * theta * self.cross;
        let rounding = ROUNDING * f64::EPSILON * (self.outcome + covariate);
        ArmEstimate {
            value: self.ratio - theta * self.earlier,
            unit_variance: if variance <= rounding { 0.0 } else { variance },
            n: self.n,
        }
    }
}

/// The covariance of two weighted sums of columns, with rounding below zero cut off.
fn quadratic<const K: usize>(
    units: &CrossMoments<K>,
    first: &[f64; K],
    second: &[f64; K],
) -> Defined<f64> {
    let mut sum = 0.0;
    let mut size = 0.0;
    for (row, left) in first.iter().enumerate() {
        for (column, right) in second.iter().enumerate() {
            let term = left * right * units.covariance(row, column)?;
            sum += term;
            size += term.abs();
        }
    }
    Ok(if sum.abs() <= ROUNDING * f64::EPSILON * size {
        0.0
    } else {
        sum
    })
}

/// CUPED where some units have no history: outcome, covariate (0 without history) and 1 for a missing history (columns 0
/// to 2). Both covariates get a slope, from the least squares within the arms; no unit is dropped.
pub fn difference_with_missing(a: &CrossMoments<3>, b: &CrossMoments<3>) -> Defined<Adjusted> {
    let pooled = |row: usize, column: usize| -> Defined<f64> {
        let part = |arm: &CrossMoments<3>| {
            let weight = arm.n().saturating_sub(1) as f64;
            arm.covariance(row, column).map(|value| value * weight)
        };
        Ok(part(a)? + part(b)?)
    };
    let (xx, mm, xm) = (pooled(1, 1)?, pooled(2, 2)?, pooled(1, 2)?);
    let (yx, ym) = (pooled(0, 1)?, pooled(0, 2)?);
    let determinant = xx * mm - xm * xm;
    let (theta, theta_missing) = if determinant > 1e-12 * xx * mm {
        (
            (yx * mm - ym * xm) / determinant,
            (ym * xx - yx * xm) / determinant,
        )
    } else if xx > 0.0 {
        (yx / xx, 0.0)
    } else if mm > 0.0 {
        (0.0, ym / mm)
    } else {
        (0.0, 0.0)
    };
    let weights = [1.0, -theta, -theta_missing];
    let arm = |units: &CrossMoments<3>| -> Defined<ArmEstimate> {
        let adjusted = units.mean(0)? - theta * units.mean(1)? - theta_missing * units.mean(2)?;
        Ok(ArmEstimate {
            value: adjusted,
            unit_variance: quadratic(units, &weights, &weights)?,
            n: units.n(),
        })
    };
    let estimate = Estimate::difference(&arm(a)?, &arm(b)?)?;
    let plain = a.covariance(0, 0)? / a.n() as f64 + b.covariance(0, 0)? / b.n() as f64;
    reduction(theta, estimate, plain)
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

/// The difference of a ratio before exposure, from the columns of [`ratio_difference`], which randomisation keeps small; beyond
/// [`LARGEST_IMBALANCE`] standard errors treat it as a broken split.
pub fn ratio_imbalance(a: &CrossMoments<4>, b: &CrossMoments<4>) -> Defined<Estimate> {
    let arm = |arm: &CrossMoments<4>| -> Defined<ArmEstimate> {
        let found = Linearised::of(arm)?;
        Ok(ArmEstimate {
            value: found.earlier,
            unit_variance: found.covariate,
            n: found.n,
        })
    };
    Estimate::cautious_difference(&arm(a)?, &arm(b)?)
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
    reduction(theta, estimate, plain)
}

fn reduction(theta: f64, estimate: Estimate, plain: f64) -> Defined<Adjusted> {
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

    #[test]
    fn ratios_with_one_request_each_are_plain_means() {
        let columns = |shift: f64| -> Vec<[f64; 4]> {
            (0..50)
                .map(|index| {
                    let x = f64::from(index % 7);
                    let noise = f64::from((index * 5) % 11) * 0.2;
                    [x + noise + shift, 1.0, x, 1.0]
                })
                .collect()
        };
        let pairs = |rows: &[[f64; 4]]| -> CrossMoments<2> {
            CrossMoments::of(&rows.iter().map(|row| [row[0], row[2]]).collect::<Vec<_>>())
        };
        let (a, b) = (columns(0.0), columns(0.4));
        let found = ratio_difference(&CrossMoments::of(&a), &CrossMoments::of(&b)).unwrap();
        let plain = difference(&pairs(&a), &pairs(&b)).unwrap();
        // The covariate's means are equal, so the union's slope is that within the arms.
        assert!((found.theta - plain.theta).abs() < 1e-12);
        assert!((found.estimate.value - plain.estimate.value).abs() < 1e-12);
        assert!((found.estimate.standard_error - plain.estimate.standard_error).abs() < 1e-12);
        assert!(found.variance_reduction > 0.5);
        let shifted = columns(0.0)
            .iter()
            .map(|row| [row[0], row[1], row[2] + 1.0, 1.0])
            .collect::<Vec<_>>();
        let before = ratio_imbalance(&CrossMoments::of(&a), &CrossMoments::of(&shifted)).unwrap();
        let z = before.value / before.standard_error;
        let plain = pairs(&shifted);
        assert!((z - covariate_imbalance(&pairs(&a), &plain).unwrap()).abs() < 1e-9);
        assert!(z > 2.0);
    }

    #[test]
    fn units_without_history_stay_in() {
        let columns = |shift: f64| -> CrossMoments<3> {
            let rows: Vec<[f64; 3]> = (0..60)
                .map(|index| {
                    let missing = index % 5 == 0;
                    let x = f64::from(index % 9);
                    let y = x + f64::from(index % 4) * 0.1 + shift;
                    [
                        y,
                        if missing { 0.0 } else { x },
                        f64::from(u8::from(missing)),
                    ]
                })
                .collect();
            CrossMoments::of(&rows)
        };
        let found = difference_with_missing(&columns(0.0), &columns(0.5)).unwrap();
        assert!((found.estimate.value - 0.5).abs() < 1e-12);
        assert_eq!(found.estimate.units, 120.0);
        assert!(found.variance_reduction > 0.5);
        let constant = CrossMoments::of(&[[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [2.5, 2.0, 0.0]]);
        assert_eq!(
            difference_with_missing(&constant, &constant).unwrap().theta,
            0.0
        );
    }
}
