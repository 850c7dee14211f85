//! Intervals for one mean.

use crate::{Interval, quantile};

/// Student's interval for a mean, from the number of values, their sum and the sum of squared deviations from the mean.
///
/// Assumes independent values; with few values and a skewed distribution it is optimistic. `None` for fewer than two
/// values, or when `confidence` does not lie between 0 and 1.
#[must_use]
pub fn student_interval(
    n: u64,
    sum: f64,
    squared_deviations: f64,
    confidence: f64,
) -> Option<Interval> {
    if n < 2 || squared_deviations.is_nan() {
        return None;
    }
    let count = n as f64;
    let t = quantile::student_t(0.5 + confidence / 2.0, count - 1.0).filter(|t| *t > 0.0)?;
    let mean = sum / count;
    let half = t * (squared_deviations.max(0.0) / (count - 1.0) / count).sqrt();
    Some(Interval {
        low: mean - half,
        high: mean + half,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        // Values 1 to 5: scipy.stats.t.interval(0.95, 4, 3, sem) = (1.0367568385, 4.9632431615).
        let found = student_interval(5, 15.0, 10.0, 0.95).unwrap();
        assert!((found.low - 1.036_756_838_5).abs() < 1e-9, "{found:?}");
        assert!((found.high - 4.963_243_161_5).abs() < 1e-9, "{found:?}");
        assert_eq!(student_interval(1, 3.0, 0.0, 0.95), None);
    }
}
