//! The randomisation e-test of two rates, for small counts and for audits.
//!
//! If the arm never matters, the arm of a unit with a known outcome is a coin with the planned share, whatever the rate
//! does over time. Exact at every look; it needs a constant share, so epochs of different shares are added.

use crate::proportion::Proportion;
use crate::sequential::mixture;
use crate::undefined::{Defined, computed, open_probability, positive};

/// The concentration of the mixture by default.
pub const CONCENTRATION: f64 = 100.0;

/// ln E against "no effect at any time", given B's planned share of the units (Lindon & Malek 2022, both outcomes used).
///
/// ℓ(s_B, s_A) + ℓ(f_B, f_A) with ℓ(b, a) = ln B(cw+b, c(1−w)+a) − ln B(cw, c(1−w)) − b ln w − a ln(1−w). An imbalance of
/// the split moves it too: check the sample ratio first. Add the values of epochs with different shares.
pub fn log_e(a: Proportion, b: Proportion, share_b: f64, concentration: f64) -> Defined<f64> {
    log_e_of_counts(
        [a.successes() as f64, a.failures() as f64],
        [b.successes() as f64, b.failures() as f64],
        share_b,
        concentration,
    )
}

/// The same from successes and failures, of which an arm may have none at all.
pub fn log_e_of_counts(a: [f64; 2], b: [f64; 2], share_b: f64, concentration: f64) -> Defined<f64> {
    open_probability(share_b)?;
    positive(concentration)?;
    for count in a.iter().chain(&b) {
        if count.is_nan() || *count < 0.0 || count.is_infinite() {
            return Err(crate::Undefined::Domain("a count cannot be negative"));
        }
    }
    let shares = [share_b, 1.0 - share_b];
    let outcomes = a.iter().zip(&b);
    computed(
        outcomes
            .map(|(a, b)| mixture::log_e(&[*b, *a], &shares, concentration))
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_the_arms_changes_nothing() {
        let a = Proportion::new(300, 500).unwrap();
        let b = Proportion::new(350, 500).unwrap();
        let one = log_e(a, b, 0.5, CONCENTRATION).unwrap();
        let other = log_e(b, a, 0.5, CONCENTRATION).unwrap();
        assert!((one - other).abs() < 1e-12);
        assert_eq!(log_e_of_counts([0.0; 2], [0.0; 2], 0.5, 100.0), Ok(0.0));
        assert!(log_e(a, b, 1.0, CONCENTRATION).is_err());
    }
}
