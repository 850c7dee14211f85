//! A confidence sequence for one rate, exact at every sample size.

use crate::Interval;
use crate::sequential::mixture;
use crate::sequential::net_win::log_mean_exp;
use crate::special::root;
use crate::undefined::{Defined, Undefined, finite, level, positive};

/// The smallest concentration of the mixture.
const SMALLEST_CONCENTRATION: f64 = 1e-3;

/// The rates p that a beta mixture centred on them does not reject: {p: M(p) < 1/α} (Howard, Ramdas, McAuliffe & Sekhon
/// 2021).
///
/// M(p) = B(cp+S, c(1−p)+n−S)/[B(cp, c(1−p)) p^S (1−p)^(n−S)], c = max(t*/K − 1, 10⁻³),
/// K = 2 ln(1/α*) + ln(1 + 2 ln(1/α*)). `tuned_n` t* and `tuned_alpha` α* say where the sequence is tightest.
pub fn confidence_sequence(
    successes: f64,
    n: f64,
    alpha: f64,
    tuned_n: f64,
    tuned_alpha: f64,
) -> Defined<Interval> {
    let concentration = concentration(tuned_n, tuned_alpha)?;
    sequence(successes, n, alpha, &[concentration])
}

/// The same with the mean of three mixtures, which are tightest at `tuned_n`, and at about a tenth and a hundredth of it: for
/// rates that are judged long before a plan has its units.
pub fn confidence_sequence_from_early_on(
    successes: f64,
    n: f64,
    alpha: f64,
    tuned_n: f64,
    tuned_alpha: f64,
) -> Defined<Interval> {
    let most = concentration(tuned_n, tuned_alpha)?;
    let earlier = [1.0, 0.1, 0.01].map(|part| (most * part).max(SMALLEST_CONCENTRATION));
    sequence(successes, n, alpha, &earlier)
}

/// c = max(t*/K − 1, 10⁻³).
fn concentration(tuned_n: f64, tuned_alpha: f64) -> Defined<f64> {
    positive(tuned_n)?;
    level(tuned_alpha)?;
    let log = -2.0 * tuned_alpha.ln();
    Ok((tuned_n / (log + log.ln_1p()) - 1.0).max(SMALLEST_CONCENTRATION))
}

fn sequence(successes: f64, n: f64, alpha: f64, concentrations: &[f64]) -> Defined<Interval> {
    finite(successes)?;
    finite(n)?;
    level(alpha)?;
    if successes < 0.0 || n < 0.0 || successes > n {
        return Err(Undefined::Domain(
            "successes must lie between 0 and the number of trials",
        ));
    }
    if n == 0.0 {
        return Ok(Interval {
            low: 0.0,
            high: 1.0,
        });
    }
    let counts = [successes, n - successes];
    let evidence = |p: f64| {
        let of = |concentration: &f64| mixture::log_e(&counts, &[p, 1.0 - p], *concentration);
        log_mean_exp(concentrations.iter().map(of)) + alpha.ln()
    };
    let share = successes / n;
    let low = if successes == 0.0 {
        0.0
    } else {
        root::bisect(|p| -evidence(p), 0.0, share)
    };
    let high = if successes == n {
        1.0
    } else {
        root::bisect(evidence, share, 1.0)
    };
    Ok(Interval { low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_mirror_and_hold_the_rate() {
        for (successes, n) in [(0.0, 5.0), (3.0, 5.0), (60.0, 100.0), (1.0, 1e9)] {
            let one = confidence_sequence(successes, n, 0.05, 100.0, 0.05).unwrap();
            let other = confidence_sequence(n - successes, n, 0.05, 100.0, 0.05).unwrap();
            assert!(
                (one.low + other.high - 1.0).abs() < 1e-9,
                "{one:?} {other:?}"
            );
            assert!(one.low <= successes / n && successes / n <= one.high);
        }
        // Long before the plan has its units, and when it has them.
        for (successes, n, tuned, early) in [
            (1.0, 679.0, 19_203.0, 0.02),
            (9.0, 19_203.0, 19_203.0, 0.0014),
        ] {
            let found = confidence_sequence_from_early_on(successes, n, 0.05, tuned, 0.05).unwrap();
            assert!(found.high < early, "{successes} of {n}: {found:?}");
        }
        let nothing = confidence_sequence(0.0, 0.0, 0.05, 100.0, 0.05).unwrap();
        assert_eq!((nothing.low, nothing.high), (0.0, 1.0));
        assert!(confidence_sequence(2.0, 1.0, 0.05, 100.0, 0.05).is_err());
    }
}
