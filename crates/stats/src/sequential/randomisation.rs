//! The randomisation e-test of two rates, for small counts and for audits.
//!
//! If the arm never matters, the arm of a unit with a known outcome is a coin with the planned share, whatever the rate
//! does over time. Exact at every look; it needs a constant share, so epochs of different shares are added.

use crate::proportion::Proportion;
use crate::sequential::mixture;
use crate::sequential::net_win::log_mean_exp;
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

/// Units of an arm that gave one or more yes-or-no values each.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct UnitCounts {
    /// How many.
    pub n: f64,
    /// With a yes.
    pub any: f64,
    /// With a no.
    pub not_all: f64,
}

/// ln E where units give several values: the mean of the evidence of who has a yes and of who has a no, which of units with
/// one value each are the same. What a unit says goes together, so that units are counted and not values.
pub fn log_e_of_units(
    a: UnitCounts,
    b: UnitCounts,
    share_b: f64,
    concentration: f64,
) -> Defined<f64> {
    let has_yes = |arm: UnitCounts| [arm.any, arm.n - arm.any];
    let has_no = |arm: UnitCounts| [arm.not_all, arm.n - arm.not_all];
    let of_yes = log_e_of_counts(has_yes(a), has_yes(b), share_b, concentration)?;
    let of_no = log_e_of_counts(has_no(a), has_no(b), share_b, concentration)?;
    computed(log_mean_exp([of_yes, of_no].into_iter()))
}

/// The concentrations of the mixture for few events: every share of the arm as likely, and shares about the planned one.
pub const CONCENTRATIONS_OF_FEW: [f64; 2] = [2.0, 20.0];

/// ln E where few units have a yes, or few have a no: of whichever are the fewer in both arms together, the mean E by both of
/// [`CONCENTRATIONS_OF_FEW`].
///
/// [`CONCENTRATION`] is for hundreds of events: of 21 against none it makes E = 2. The many say nothing of a rare event, and
/// how many of them an arm has depends on who answers at all. Units are compared with the planned share, so that where having a
/// value depends on the arm, the rare event per unit assigned is what is compared. Who has one stays among them, so that the
/// evidence of all days is one sequence.
pub fn log_e_of_few(a: UnitCounts, b: UnitCounts, share_b: f64) -> Defined<f64> {
    open_probability(share_b)?;
    for arm in [a, b] {
        let counts = [arm.any, arm.not_all, arm.n - arm.any, arm.n - arm.not_all];
        if counts
            .iter()
            .any(|count| !count.is_finite() || *count < 0.0)
        {
            return Err(crate::Undefined::Domain("a count cannot be negative"));
        }
    }
    let counts = if a.any + b.any <= a.not_all + b.not_all {
        [b.any, a.any]
    } else {
        [b.not_all, a.not_all]
    };
    let shares = [share_b, 1.0 - share_b];
    let of = |concentration| mixture::log_e(&counts, &shares, concentration);
    computed(log_mean_exp(CONCENTRATIONS_OF_FEW.into_iter().map(of)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_with_one_value_each_are_the_plain_test() {
        let of = |n: f64, any: f64, not_all: f64| UnitCounts { n, any, not_all };
        let found = log_e_of_units(of(500.0, 300.0, 200.0), of(500.0, 350.0, 150.0), 0.5, 100.0);
        let plain = log_e_of_counts([300.0, 200.0], [350.0, 150.0], 0.5, 100.0);
        assert!((found.unwrap() - plain.unwrap()).abs() < 1e-12);
        // Everybody has a yes: only who has a no tells.
        let found = log_e_of_units(of(90.0, 90.0, 2.0), of(90.0, 90.0, 40.0), 0.5, 100.0).unwrap();
        let told = log_e_of_counts([2.0, 88.0], [40.0, 50.0], 0.5, 100.0).unwrap();
        let silent = log_e_of_counts([90.0, 0.0], [90.0, 0.0], 0.5, 100.0).unwrap();
        let mean = 0.5 * (told.exp() + silent.exp());
        assert!((found - mean.ln()).abs() < 1e-12 && found > 3.0, "{found}");
        assert!(log_e_of_units(of(1.0, 2.0, 0.0), of(1.0, 0.0, 1.0), 0.5, 100.0).is_err());
    }

    #[test]
    fn few_events_tell_when_they_are_all_on_one_side() {
        let of = |n: f64, any: f64| UnitCounts {
            n,
            any,
            not_all: n - any,
        };
        let p = |a: UnitCounts, b: UnitCounts| (-log_e_of_few(a, b, 0.5).unwrap()).exp();
        // 2²¹/22 by the flat mixture, half of the two.
        let found = p(of(447.0, 0.0), of(454.0, 21.0));
        assert!(found < 1e-4, "{found}");
        assert!(p(of(447.0, 30.0), of(447.0, 0.0)) < 1e-6);
        // Of rare events that are none it is the same.
        let mirrored = p(of(447.0, 447.0), of(454.0, 433.0));
        assert!((mirrored / found - 1.0).abs() < 1e-9);
        assert!(p(of(447.0, 5.0), of(454.0, 6.0)) > 1.0);
        assert_eq!(log_e_of_few(of(0.0, 0.0), of(0.0, 0.0), 0.5), Ok(0.0));
        assert!(log_e_of_few(of(1.0, 2.0), of(1.0, 0.0), 0.5).is_err());
    }

    /// Averaged over all assignments of units to arms E is 1, whatever their outcomes.
    #[test]
    fn few_events_average_one_over_all_assignments() {
        for share in [0.5, 0.2] {
            for yes in 0..=10_u32 {
                let mut mean = 0.0;
                for assigned in 0..(1_u32 << 10) {
                    let in_b = assigned.count_ones();
                    let yes_in_b = (assigned & ((1 << yes) - 1)).count_ones();
                    let of = |n: u32, any: u32| UnitCounts {
                        n: f64::from(n),
                        any: f64::from(any),
                        not_all: f64::from(n - any),
                    };
                    let (a, b) = (of(10 - in_b, yes - yes_in_b), of(in_b, yes_in_b));
                    let chance = share_of(share, in_b, 10 - in_b);
                    mean += chance * log_e_of_few(a, b, share).unwrap().exp();
                }
                assert!((mean - 1.0).abs() < 1e-9, "{share} {yes}: {mean}");
            }
        }
    }

    fn share_of(share: f64, in_b: u32, in_a: u32) -> f64 {
        share.powi(in_b as i32) * (1.0 - share).powi(in_a as i32)
    }

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
