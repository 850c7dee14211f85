//! Sums from which values can be taken away again without a trace.
//!
//! A plain sum of squares loses the small values beside a large one, for good. Here every sum is the unevaluated sum of two
//! numbers, after Dekker, *A floating-point technique for extending the available precision* (1971), which is about 32
//! decimal digits, and values are taken as differences from one of them.

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

/// Moments of values, in which one can be added or taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) n: i64,
    pub(super) anchor: f64,
    pub(super) sum: Double,
    pub(super) squares: Double,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        if self.n == 0 {
            *self = Self {
                anchor: value,
                ..Self::default()
            };
        }
        self.n += 1;
        self.put(value, |part| part);
    }

    pub(super) fn take_away(&mut self, value: f64) {
        self.n -= 1;
        self.put(value, Double::negated);
    }

    fn put(&mut self, value: f64, sign: impl Fn(Double) -> Double) {
        let (high, low) = two_sum(value, -self.anchor);
        self.sum = self.sum.add(sign(Double { high, low }));
        self.squares = self.squares.add(sign(Double::square_of(high)));
    }

    /// The sum of the values.
    pub(super) fn total(&self) -> f64 {
        self.n as f64 * self.anchor + self.sum.high
    }

    /// The sum of the squared differences from their mean.
    pub(super) fn squared_deviations(&self) -> f64 {
        if self.n < 2 {
            return 0.0;
        }
        // (Σd)²/n, with the part that a plain square would lose.
        let square = Double::square_of(self.sum.high);
        let n = self.n as f64;
        let high = square.high / n;
        let low =
            (high.mul_add(-n, square.high) + square.low + 2.0 * self.sum.high * self.sum.low) / n;
        let rest = self.squares.add(Double { high, low }.negated());
        // Squares of very large values are beyond what a number holds.
        if rest.high.is_nan() {
            return f64::INFINITY;
        }
        rest.high.max(0.0)
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

    #[test]
    fn small_differences_between_large_values_are_kept() {
        let moments = of(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        assert_eq!(moments.squared_deviations(), 2.0);
        assert_eq!(moments.total(), 3e9 + 6.0);
    }

    #[test]
    fn what_was_taken_away_leaves_nothing_behind() {
        let mut moments = of(&[1e12, 0.25, 0.5, 0.75]);
        moments.take_away(1e12);
        assert!(
            (moments.squared_deviations() - 0.125).abs() < 1e-6,
            "{moments:?}"
        );
        let mut moments = of(&[0.25, 0.5, 0.75]);
        moments.add(1e12);
        moments.take_away(1e12);
        assert_eq!(moments, of(&[0.25, 0.5, 0.75]));
        moments.take_away(0.25);
        moments.take_away(0.5);
        moments.take_away(0.75);
        assert_eq!((moments.n, moments.sum), (0, Double::default()));
    }
}
