//! Moments from which values can be taken away again, with a trace of the 32nd digit at most.

use flywheel_core::feedback::LARGEST_OUTCOME;
use flywheel_storage::exact::Double;

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
        if value.abs() > LARGEST_OUTCOME {
            self.beyond += sign;
            return;
        }
        let signed = |part: Double| if sign < 0 { -part } else { part };
        self.sum += signed(value.into());
        self.squares += signed(Double::product(value, value));
    }

    /// The sum of the values; infinite where one is beyond what can be summed.
    pub(super) fn total(&self) -> f64 {
        match self.beyond {
            0 => self.sum.value(),
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
        // Σx² − (Σx)²/n, to the precision of the sums.
        let square = self.sum.times(self.sum).over(n as f64);
        (self.squares + -square).high.max(0.0)
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
