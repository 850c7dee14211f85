//! Sums from which values can be taken away again, with a trace of the 32nd digit at most.
//!
//! A plain sum of squares loses the small values beside a large one, for good. Here every sum is the unevaluated sum of two
//! numbers, after Dekker, *A floating-point technique for extending the available precision* (1971), which is about 32
//! decimal digits: a square of sixteen digits is in there whole.

/// A number of twice the precision.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Double {
    pub(super) high: f64,
    pub(super) low: f64,
}

impl Double {
    fn add(self, other: Self) -> Self {
        let (high, rest) = two_sum(self.high, other.high);
        let (high, low) = two_sum(high, rest + self.low + other.low);
        Self { high, low }
    }

    fn negated(self) -> Self {
        Self {
            high: -self.high,
            low: -self.low,
        }
    }

    fn square_of(value: f64) -> Self {
        let high = value * value;
        Self {
            high,
            low: value.mul_add(value, -high),
        }
    }
}

/// The sum and what rounding took from it (Knuth).
fn two_sum(left: f64, right: f64) -> (f64, f64) {
    let sum = left + right;
    let right_part = sum - left;
    let left_part = sum - right_part;
    (sum, (left - left_part) + (right - right_part))
}

/// Beyond this the square of a value is more than a number holds.
const LARGEST: f64 = 1e150;

/// Moments of values, in which one can be added or taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) sum: Double,
    pub(super) squares: Double,
    /// How many values are beyond what can be summed.
    pub(super) beyond: i64,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        self.put(value, 1);
    }

    pub(super) fn take_away(&mut self, value: f64) {
        self.put(value, -1);
    }

    fn put(&mut self, value: f64, sign: i64) {
        if value.abs() > LARGEST {
            self.beyond += sign;
            return;
        }
        let signed = |part: Double| if sign < 0 { part.negated() } else { part };
        let (high, low) = (value, 0.0);
        self.sum = self.sum.add(signed(Double { high, low }));
        self.squares = self.squares.add(signed(Double::square_of(value)));
    }

    /// The sum of the values; infinite where one is beyond what can be summed.
    pub(super) fn total(&self) -> f64 {
        match self.beyond {
            0 => self.sum.high + self.sum.low,
            _ => f64::INFINITY,
        }
    }

    /// The sum of the squared differences of `n` values from their mean.
    pub(super) fn squared_deviations(&self, n: u64) -> f64 {
        if self.beyond != 0 {
            return f64::INFINITY;
        }
        if n < 2 {
            return 0.0;
        }
        let n = n as f64;
        // (Σx)²/n, to the precision of the sums.
        let Double { high, low } = self.sum;
        let square = Double::square_of(high).add(Double {
            high: 2.0 * high * low,
            low: low * low,
        });
        let share = square.high / n;
        let rest = (share.mul_add(-n, square.high) + square.low) / n;
        let share = Double {
            high: share,
            low: rest,
        };
        self.squares.add(share.negated()).high.max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.add(*value));
        moments
    }

    fn assert_near(found: f64, expected: f64, tolerance: f64) {
        assert!(
            (found - expected).abs() <= tolerance * expected.abs(),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn small_differences_between_large_values_are_kept() {
        let moments = of(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        assert_eq!(moments.squared_deviations(3), 2.0);
        assert_eq!(moments.total(), 3e9 + 6.0);
    }

    /// None of these is a number that binary fractions hold exactly.
    #[test]
    fn what_was_taken_away_leaves_nothing_behind() {
        for (mistake, tolerance) in [(1e9, 1e-12), (-1e12, 1e-9), (1.7e15, 1e-5)] {
            let mut moments = of(&[mistake, 300.1, 412.9, 350.7]);
            moments.take_away(mistake);
            assert_near(moments.total(), 1063.7, 1e-15);
            assert_near(
                moments.squared_deviations(3),
                6_384.346_666_666_667,
                tolerance,
            );
        }
    }

    #[test]
    fn what_is_beyond_numbers_goes_again_too() {
        let mut moments = of(&[1.0, 1e200, -1e308, 3.0]);
        assert_eq!(moments.squared_deviations(4), f64::INFINITY);
        moments.take_away(1e200);
        moments.take_away(-1e308);
        assert_eq!((moments.total(), moments.squared_deviations(2)), (4.0, 2.0));
    }
}
