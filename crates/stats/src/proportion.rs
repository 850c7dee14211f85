//! Intervals for one proportion.

use crate::Interval;
use crate::special::{beta, normal};
use crate::undefined::{Defined, Undefined, level};

/// Successes out of a number of trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proportion {
    successes: u64,
    n: u64,
}

impl Proportion {
    /// At least one trial, and no more successes than trials.
    pub fn new(successes: u64, n: u64) -> Defined<Self> {
        if n == 0 {
            return Err(Undefined::NoData);
        }
        if successes > n {
            return Err(Undefined::Domain("there are more successes than trials"));
        }
        Ok(Self { successes, n })
    }

    /// How many succeeded.
    #[must_use]
    pub fn successes(self) -> u64 {
        self.successes
    }

    /// How many did not.
    #[must_use]
    pub fn failures(self) -> u64 {
        self.n - self.successes
    }

    /// How many there were.
    #[must_use]
    pub fn n(self) -> u64 {
        self.n
    }

    /// The share of successes.
    #[must_use]
    pub fn share(self) -> f64 {
        self.successes as f64 / self.n as f64
    }
}

/// Wilson's score interval for `successes` out of `n` (Wilson 1927).
///
/// Centre (p + z²/2n)/(1 + z²/n), half width z/(1 + z²/n) √(p(1−p)/n + z²/4n²).
pub fn wilson_interval(successes: u64, n: u64, alpha: f64) -> Defined<Interval> {
    let proportion = Proportion::new(successes, n)?;
    let z = normal::upper_quantile(level(alpha)? / 2.0)?;
    let (lower, upper) = wilson_bounds(proportion, z);
    Ok(Interval {
        low: lower,
        high: upper,
    })
}

/// The one-sided upper bound of Wilson's interval at level `alpha`, such as a baseline rate needs.
pub fn wilson_upper_bound(successes: u64, n: u64, alpha: f64) -> Defined<f64> {
    let proportion = Proportion::new(successes, n)?;
    let z = normal::upper_quantile(level(alpha)?)?;
    Ok(wilson_bounds(proportion, z).1)
}

/// Both bounds at a given z.
pub(crate) fn wilson_bounds(proportion: Proportion, z: f64) -> (f64, f64) {
    let (n, square) = (proportion.n as f64, z * z);
    let share = proportion.share();
    let scale = 1.0 + square / n;
    let centre = (share + square / (2.0 * n)) / scale;
    let half = z / scale * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    // At the ends the bound is exact, which rounding would hide.
    let lower = if proportion.successes == 0 {
        0.0
    } else {
        (centre - half).max(0.0)
    };
    let upper = if proportion.successes == proportion.n {
        1.0
    } else {
        (centre + half).min(1.0)
    };
    (lower, upper)
}

/// The exact interval of Clopper & Pearson (1934): each tail is at most `alpha`/2 at every rate.
///
/// Conservative; for single rates where safety matters.
pub fn clopper_pearson_interval(successes: u64, n: u64, alpha: f64) -> Defined<Interval> {
    let proportion = Proportion::new(successes, n)?;
    let tail = level(alpha)? / 2.0;
    let (x, rest) = (proportion.successes as f64, proportion.failures() as f64);
    let low = if successes == 0 {
        0.0
    } else {
        beta::quantile(tail, x, rest + 1.0)?
    };
    let high = if successes == n {
        1.0
    } else {
        beta::upper_quantile(tail, x + 1.0, rest)?
    };
    Ok(Interval { low, high })
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
            let found = wilson_interval(x, n, 0.05).unwrap();
            assert!((found.low - low).abs() < 1e-9, "{x}/{n}: {found:?}");
            assert!((found.high - high).abs() < 1e-9, "{x}/{n}: {found:?}");
        }
        assert_eq!(wilson_interval(0, 0, 0.05), Err(Undefined::NoData));
        assert!(wilson_interval(2, 1, 0.05).is_err());
        assert!(wilson_interval(1, 2, 0.0).is_err());
    }

    #[test]
    fn intervals_hold_their_rate_and_widen() {
        for n in [1, 2, 7, 50, 1_000_000_000] {
            for successes in [0, 1, n / 2, n - 1, n] {
                let mut last = 0.0;
                for alpha in [0.5, 0.1, 0.05, 0.001, 1e-9] {
                    for interval in [wilson_interval, clopper_pearson_interval] {
                        let found = interval(successes, n, alpha).unwrap();
                        let share = successes as f64 / n as f64;
                        let slack = 1e-15;
                        assert!(
                            found.low <= share + slack && share <= found.high + slack,
                            "{successes}/{n} at {alpha}: {found:?}"
                        );
                    }
                    let exact = clopper_pearson_interval(successes, n, alpha).unwrap();
                    assert!(exact.high - exact.low > last, "{successes}/{n} at {alpha}");
                    last = exact.high - exact.low;
                }
            }
        }
    }
}
