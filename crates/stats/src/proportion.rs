//! Intervals for one proportion.

use crate::{Interval, quantile};

/// Wilson's score interval for `successes` out of `n` (Wilson 1927).
///
/// `None` when `n` is 0, `successes` exceeds it, or `confidence` does not lie between 0 and 1.
#[must_use]
pub fn wilson_interval(successes: u64, n: u64, confidence: f64) -> Option<Interval> {
    if n == 0 || successes > n {
        return None;
    }
    let z = quantile::normal(0.5 + confidence / 2.0).filter(|z| *z > 0.0)?;
    let (n, z2) = (n as f64, z * z);
    let share = successes as f64 / n;
    let scale = 1.0 + z2 / n;
    let centre = (share + z2 / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_values() {
        // Reference: statsmodels proportion_confint(x, n, 0.05, "wilson").
        for (x, n, low, high) in [
            (0, 10, 0.0, 0.277_532_799_862_889),
            (10, 10, 0.722_467_200_137_111, 1.0),
            (5, 10, 0.236_593_090_512_564, 0.763_406_909_487_436),
            (50, 100, 0.403_831_530_365_996, 0.596_168_469_634_004),
        ] {
            let found = wilson_interval(x, n, 0.95).unwrap();
            assert!((found.low - low).abs() < 1e-9, "{x}/{n}: {found:?}");
            assert!((found.high - high).abs() < 1e-9, "{x}/{n}: {found:?}");
        }
        assert_eq!(wilson_interval(0, 0, 0.95), None);
        assert_eq!(wilson_interval(2, 1, 0.95), None);
        assert_eq!(wilson_interval(1, 2, 1.0), None);
    }
}
