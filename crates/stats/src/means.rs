//! Means: of one sample, and of two that are compared.

use crate::Interval;
use crate::accumulate::Moments;
use crate::estimate::{ArmEstimate, Estimate};
use crate::special::student_t;
use crate::undefined::{Defined, Undefined, finite, level};

/// What Kohavi, Deng, Longbotham & Xu (2014) multiply the squared skewness by: below that many units per arm the
/// interval of a mean is optimistic.
const SKEWNESS_FACTOR: f64 = 355.0;

/// Student's interval for a mean, from the number of values, their sum and the sum of squared deviations from the mean.
///
/// Assumes independent values; with few values and a skewed distribution it is optimistic.
pub fn student_interval(
    n: u64,
    sum: f64,
    squared_deviations: f64,
    alpha: f64,
) -> Defined<Interval> {
    level(alpha)?;
    finite(sum)?;
    if n < 2 {
        return Err(Undefined::TooFewValues {
            needed: 2,
            found: n,
        });
    }
    let count = n as f64;
    let moments = Moments::new(n, sum / count, squared_deviations.max(0.0))?;
    finite(squared_deviations)?;
    let half =
        student_t::upper_quantile(alpha / 2.0, count - 1.0)? * (moments.variance()? / count).sqrt();
    let mean = moments.mean()?;
    Ok(Interval {
        low: finite(mean - half)?,
        high: finite(mean + half)?,
    })
}

/// A mean as an arm of a comparison.
pub fn arm(moments: &Moments) -> Defined<ArmEstimate> {
    Ok(ArmEstimate {
        value: moments.mean()?,
        unit_variance: moments.variance()?,
        n: moments.n(),
    })
}

/// The difference of two means, B − A, for Welch's test.
///
/// Assumes independent units; undefined with fewer than two in an arm or when neither varies. With skewed values and
/// unequal arms coverage falls: compare equal slices, cap the values, and see [`units_for_skewness`].
pub fn difference(a: &Moments, b: &Moments) -> Defined<Estimate> {
    Estimate::difference(&arm(a)?, &arm(b)?)
}

/// The relative lift (B − A) / |A| of two means, by the delta method.
pub fn relative_difference(a: &Moments, b: &Moments) -> Defined<Estimate> {
    Estimate::relative(&arm(a)?, &arm(b)?)
}

/// Units that each arm needs before a mean with this skewness has an honest interval: 355 times its square.
pub fn units_for_skewness(skewness: f64) -> Defined<f64> {
    finite(skewness).map(|skewness| (SKEWNESS_FACTOR * skewness * skewness).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        // Values 1 to 5: scipy.stats.t.interval(0.95, 4, 3, sem) = (1.0367568385, 4.9632431615).
        let found = student_interval(5, 15.0, 10.0, 0.05).unwrap();
        assert!((found.low - 1.036_756_838_5).abs() < 1e-9, "{found:?}");
        assert!((found.high - 4.963_243_161_5).abs() < 1e-9, "{found:?}");
        assert!(student_interval(1, 3.0, 0.0, 0.05).is_err());
        assert!(student_interval(5, 3.0, f64::NAN, 0.05).is_err());
    }

    #[test]
    fn swapping_the_arms_negates() {
        let a = Moments::of(&[1.0, 2.5, 3.0, 8.0]);
        let b = Moments::of(&[2.0, 2.0, 9.0]);
        let (one, other) = (difference(&a, &b).unwrap(), difference(&b, &a).unwrap());
        assert_eq!(one.value, -other.value);
        assert_eq!(one.standard_error, other.standard_error);
        assert!((one.degrees_of_freedom - other.degrees_of_freedom).abs() < 1e-12);
    }
}
