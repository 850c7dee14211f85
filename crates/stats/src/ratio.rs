//! Ratios of sums over users, such as a rate per request when users are randomised.

use crate::accumulate::CrossMoments;
use crate::estimate::{ArmEstimate, Estimate};
use crate::undefined::{Defined, Undefined};

/// Users that an arm needs for a verdict from the delta method.
pub const FEWEST_USERS: u64 = 30;
/// A variance below this many units in the last place of its terms is rounding.
const ROUNDING: f64 = 16.0;
/// A standard deviation below this share of the mean is what is left of rounding values that are all alike.
const NOISE: f64 = 1e-12;

/// The ratio of one arm, from each user's numerator (column 0) and denominator (column 1).
///
/// R = Σx/Σy with the linearised variance of one user (s_xx − 2R s_xy + R² s_yy)/ȳ² (Deng, Knoblich & Lu 2018). Assumes
/// independent users, whose requests may depend on each other in any way; below 30 users it is optimistic.
pub fn arm(users: &CrossMoments<2>) -> Defined<ArmEstimate> {
    let (mean_x, mean_y) = (users.mean(0)?, users.mean(1)?);
    if mean_y == 0.0 {
        return Err(Undefined::Domain("the denominators add up to zero"));
    }
    let ratio = mean_x / mean_y;
    let own = users.covariance(0, 0)?;
    let cross = ratio * users.covariance(0, 1)?;
    let other = ratio * ratio * users.covariance(1, 1)?;
    let mut variance = own - 2.0 * cross + other;
    let least = (ROUNDING * f64::EPSILON * (own + other)).max((NOISE * mean_x).powi(2));
    if variance <= least {
        variance = 0.0;
    }
    Ok(ArmEstimate {
        value: ratio,
        unit_variance: variance / (mean_y * mean_y),
        n: users.n(),
    })
}

/// The difference of two ratios, B − A, with Welch's degrees of freedom on the linearised variances.
pub fn difference(a: &CrossMoments<2>, b: &CrossMoments<2>) -> Defined<Estimate> {
    Estimate::difference(&arm(a)?, &arm(b)?)
}

/// The relative difference of two ratios by the delta method.
pub fn relative_difference(a: &CrossMoments<2>, b: &CrossMoments<2>) -> Defined<Estimate> {
    Estimate::relative(&arm(a)?, &arm(b)?)
}

/// The design effect of clustering, 1 + (m̄(1 + cv²) − 1)·ICC: what requests count for in independent ones.
///
/// `mean_size` requests per user with coefficient of variation `size_variation`, and the intra-user correlation.
pub fn design_effect(mean_size: f64, size_variation: f64, correlation: f64) -> Defined<f64> {
    crate::undefined::positive(mean_size)?;
    crate::undefined::finite(size_variation)?;
    crate::undefined::finite(correlation)?;
    Ok(1.0 + (mean_size * (1.0 + size_variation * size_variation) - 1.0) * correlation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_each_is_a_plain_mean() {
        let values = [1.0, 0.0, 1.0, 1.0, 0.0];
        let users: Vec<[f64; 2]> = values.iter().map(|x| [*x, 1.0]).collect();
        let found = arm(&CrossMoments::of(&users)).unwrap();
        let plain = crate::means::arm(&crate::accumulate::Moments::of(&values)).unwrap();
        assert!((found.value - plain.value).abs() < 1e-15);
        assert!((found.unit_variance - plain.unit_variance).abs() < 1e-15);
    }

    #[test]
    fn a_constant_rate_does_not_vary() {
        let users = CrossMoments::of(&[[0.3, 1.0], [0.6, 2.0], [2.1, 7.0]]);
        assert_eq!(arm(&users).unwrap().unit_variance, 0.0);
        assert_eq!(difference(&users, &users), Err(Undefined::ZeroVariance));
        assert!(arm(&CrossMoments::of(&[[1.0, 0.0], [0.0, 0.0]])).is_err());
        assert!((design_effect(20.0, 0.0, 0.2).unwrap() - 4.8).abs() < 1e-12);
    }
}
