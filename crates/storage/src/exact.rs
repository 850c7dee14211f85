//! Numbers of twice the precision, for sums from which values can be taken away again.
//!
//! A plain sum of squares loses the small values beside a large one, for good. Here every sum is the unevaluated sum of two
//! numbers, after Dekker, *A floating-point technique for extending the available precision* (1971), which is about 32
//! decimal digits: a product of two numbers of sixteen digits is in there whole.

use std::ops::{Add, AddAssign, Neg};

use serde::{Deserialize, Serialize};

/// A number of twice the precision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Double {
    /// The number, rounded.
    pub high: f64,
    /// What rounding took from it.
    pub low: f64,
}

impl Double {
    /// The product of two numbers, whole.
    #[must_use]
    pub fn product(left: f64, right: f64) -> Self {
        let high = left * right;
        Self {
            high,
            low: left.mul_add(right, -high),
        }
    }

    /// The product of two of them.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let Self { high, low } = Self::product(self.high, other.high);
        let rest = self.high.mul_add(other.low, self.low * other.high);
        let (high, low) = two_sum(high, low + rest);
        Self { high, low }
    }

    /// Divided by a number.
    #[must_use]
    pub fn over(self, divisor: f64) -> Self {
        let share = self.high / divisor;
        let rest = (share.mul_add(-divisor, self.high) + self.low) / divisor;
        let (high, low) = two_sum(share, rest);
        Self { high, low }
    }

    /// As a plain number.
    #[must_use]
    pub fn value(self) -> f64 {
        self.high + self.low
    }
}

impl From<f64> for Double {
    fn from(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Add for Double {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (high, rest) = two_sum(self.high, other.high);
        let (high, low) = two_sum(high, rest + self.low + other.low);
        Self { high, low }
    }
}

impl AddAssign for Double {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Neg for Double {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            high: -self.high,
            low: -self.low,
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
