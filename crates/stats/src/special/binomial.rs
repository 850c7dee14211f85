//! The binomial and the hypergeometric distribution.

use crate::special::beta;
use crate::special::gamma::{LN_SQRT_TWO_PI, deviance, stirling_error};
use crate::undefined::{Defined, probability};

/// P(X ≤ k) of `n` trials with probability `p`; exact to about 10⁻¹¹ relative.
pub fn cdf(k: u64, n: u64, p: f64) -> Defined<f64> {
    tails(k, n, p).map(|(lower, _)| lower)
}

/// P(X > k).
pub fn sf(k: u64, n: u64, p: f64) -> Defined<f64> {
    tails(k, n, p).map(|(_, upper)| upper)
}

fn tails(k: u64, n: u64, p: f64) -> Defined<(f64, f64)> {
    probability(p)?;
    if k >= n {
        return Ok((1.0, 0.0));
    }
    let (above, at) = beta::tails(k as f64 + 1.0, (n - k) as f64, p, 1.0 - p)?;
    Ok((at, above))
}

/// ln P(X = k) for 0 ≤ k ≤ n and 0 < p < 1 (Loader 2000).
pub(crate) fn ln_pmf(k: f64, n: f64, p: f64, q: f64) -> f64 {
    if n == 0.0 {
        return 0.0;
    }
    if k == 0.0 {
        return if q < 0.5 {
            n * q.ln()
        } else {
            n * (-p).ln_1p()
        };
    }
    if k == n {
        return if p < 0.5 {
            n * p.ln()
        } else {
            n * (-q).ln_1p()
        };
    }
    let difference = k * q - (n - k) * p;
    0.5 * (n.ln() - k.ln() - (n - k).ln()) - LN_SQRT_TWO_PI + stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(k, n * p, difference)
        - deviance(n - k, n * q, -difference)
}

/// ln P(X = k) where `drawn` of `marked` + `unmarked` are taken without putting back.
pub(crate) fn ln_hypergeometric(k: f64, marked: f64, unmarked: f64, drawn: f64) -> f64 {
    let total = marked + unmarked;
    if drawn == 0.0 || drawn == total {
        return 0.0;
    }
    let (p, q) = (drawn / total, (total - drawn) / total);
    ln_pmf(k, marked, p, q) + ln_pmf(drawn - k, unmarked, p, q) - ln_pmf(drawn, total, p, q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_scipy() {
        // Reference: scipy.stats.binom.cdf 1.17.1.
        for (k, n, p, expected) in [
            (3, 10, 0.5, 0.171_875),
            (0, 5, 0.1, 0.590_49),
            (5, 5, 0.1, 1.0),
            (499_000, 1_000_000, 0.5, 0.022_804_149_932_694_8),
        ] {
            let found = cdf(k, n, p).unwrap();
            assert!((found - expected).abs() < 1e-10, "{k} {n} {p}: {found}");
        }
        assert_eq!(cdf(0, 0, 0.5), Ok(1.0));
    }

    #[test]
    fn hypergeometric_probabilities_add_up() {
        let sum: f64 = (0..=7)
            .map(|k| ln_hypergeometric(f64::from(k), 9.0, 12.0, 7.0).exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-13, "{sum}");
    }
}
