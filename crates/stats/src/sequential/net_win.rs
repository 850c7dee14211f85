//! The net-win e-process: evidence from paired verdicts that is valid at every look.
//!
//! Only wins, losses and ties are needed, in any order. It tests that the conditional mean of the score is at most the
//! margin at every time, with nothing assumed about how pairs depend on each other beyond that.

use crate::Interval;
use crate::paired::PairedCounts;
use crate::special::root;
use crate::undefined::{Defined, Undefined, finite, level};

/// The bets by default, as shares of the largest possible one.
pub const BETS: [f64; 6] = [0.8, 0.4, 0.2, 0.1, 0.05, 0.025];

/// How far from ±1 the confidence sequence stays.
const OUTERMOST: f64 = 0.99;

/// ln E against H0: net win ≤ `margin`.
///
/// ln of the mean over bets λ = g/(1+m) of exp(W ln(1+λ(1−m)) + L ln(1−λ(1+m)) + T ln(1−λm)). A nonnegative supermartingale
/// under H0, so that it ever reaches 1/α with probability at most α (Ville 1939). For harm swap the counts.
pub fn log_e(counts: PairedCounts, margin: f64, bets: &[f64]) -> Defined<f64> {
    finite(margin)?;
    if margin <= -1.0 || margin >= 1.0 {
        return Err(Undefined::Domain(
            "a margin must lie strictly between -1 and 1",
        ));
    }
    if bets.is_empty() {
        return Err(Undefined::Domain("there are no bets"));
    }
    if bets.iter().any(|bet| !(*bet > 0.0 && *bet < 1.0)) {
        return Err(Undefined::Domain("a bet must lie strictly between 0 and 1"));
    }
    let (wins, losses, ties) = (counts.wins as f64, counts.losses as f64, counts.ties as f64);
    let terms = bets.iter().map(|bet| {
        let stake = bet / (1.0 + margin);
        wins * (stake * (1.0 - margin)).ln_1p()
            + losses * (-bet).ln_1p()
            + ties * (-stake * margin).ln_1p()
    });
    Ok(log_mean_exp(terms))
}

/// The confidence sequence of the net win: every margin that neither direction rejects at α/2.
pub fn confidence_sequence(counts: PairedCounts, alpha: f64, bets: &[f64]) -> Defined<Interval> {
    let threshold = -(level(alpha)? / 2.0).ln();
    log_e(counts, 0.0, bets)?;
    // Evidence against "at most m" falls as m rises. An error cannot occur here, the arguments having been checked.
    let evidence = |counts: PairedCounts, margin: f64| {
        log_e(counts, margin, bets).unwrap_or(f64::NEG_INFINITY) - threshold
    };
    let lower_end = |counts: PairedCounts| {
        if evidence(counts, -OUTERMOST) < 0.0 {
            return -1.0;
        }
        root::bisect(|margin| -evidence(counts, margin), -OUTERMOST, OUTERMOST)
    };
    Ok(Interval {
        low: lower_end(counts),
        high: -lower_end(counts.swapped()),
    })
}

/// ln of the mean of e^x.
pub(crate) fn log_mean_exp(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    let (count, sum) = terms.fold((0.0, 0.0), |(count, sum), term| {
        (count + 1.0, sum + (term - largest).exp())
    });
    largest + (sum / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(wins: u64, losses: u64, ties: u64) -> PairedCounts {
        PairedCounts { wins, losses, ties }
    }

    #[test]
    fn the_sequence_of_the_design() {
        let found = confidence_sequence(counts(300, 200, 500), 0.05, &BETS).unwrap();
        assert!((found.low - 0.028).abs() < 1e-3, "{found:?}");
        assert!((found.high - 0.172).abs() < 1e-3, "{found:?}");
    }

    #[test]
    fn swapped_counts_mirror_the_sequence_and_nothing_overflows() {
        for found in [counts(0, 0, 0), counts(9, 0, 0), counts(400, 10, 7)] {
            let one = confidence_sequence(found, 0.05, &BETS).unwrap();
            let other = confidence_sequence(found.swapped(), 0.05, &BETS).unwrap();
            assert!((one.low + other.high).abs() < 1e-12);
            assert!(found.net_win().is_err() || one.low < found.net_win().unwrap());
        }
        let most = log_e(counts(1_000_000_000, 0, 0), 0.0, &BETS).unwrap();
        assert!(most > 5e8 && most.is_finite());
        assert!(log_e(counts(1, 0, 0), 1.0, &BETS).is_err());
        assert!(log_e(counts(1, 0, 0), 0.0, &[]).is_err());
    }

    /// Every sequence of wins, losses and ties to length 12, under the worst of the null: the mean is at most 1.
    #[test]
    fn averages_at_most_one_under_the_null() {
        for (margin, win, loss) in [(0.0, 0.3, 0.3), (0.1, 0.4, 0.3), (-0.2, 0.1, 0.3)] {
            let tie = 1.0 - win - loss;
            for length in 0..=12u64 {
                let mut mean = 0.0;
                // Sequences with the same counts have the same evidence, so they are counted instead of listed.
                for wins in 0..=length {
                    for losses in 0..=length - wins {
                        let ties = length - wins - losses;
                        let ways = choose(length, wins) * choose(length - wins, losses);
                        let chance = f64::powi(win, wins as i32)
                            * f64::powi(loss, losses as i32)
                            * f64::powi(tie, ties as i32);
                        let log_e = log_e(counts(wins, losses, ties), margin, &BETS).unwrap();
                        mean += ways * chance * log_e.exp();
                    }
                }
                assert!(mean <= 1.0 + 1e-12, "{margin} {length}: {mean}");
            }
        }
    }

    fn choose(n: u64, k: u64) -> f64 {
        (1..=k).fold(1.0, |ways, i| ways * (n - k + i) as f64 / i as f64)
    }
}
