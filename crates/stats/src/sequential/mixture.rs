//! The Dirichlet mixture over multinomial counts that three of the exact e-values share.

use crate::special::gamma::{deviance, stirling_error};

/// ln of the mixture's likelihood over the null's: counts n_k under shares π_k against Dirichlet(cπ).
///
/// lnΓ(c) − lnΓ(c+n) + Σ[lnΓ(cπ_k+n_k) − lnΓ(cπ_k)] − Σ n_k ln π_k (Lindon & Malek 2022), rewritten with x_k = cπ_k + n_k
/// and X = c + n as the deviance Σ x_k ln(x_k/(Xπ_k)) plus Stirling's corrections, because the terms of the plain form
/// grow like n ln n and cancel. Shares must be positive and sum to 1.
pub(crate) fn log_e(counts: &[f64], shares: &[f64], concentration: f64) -> f64 {
    let total: f64 = counts.iter().sum::<f64>() + concentration;
    let n = total - concentration;
    if n == 0.0 {
        return 0.0;
    }
    let mut sum = half_log_and_error(total, concentration);
    for (count, share) in counts.iter().zip(shares) {
        let prior = concentration * share;
        // x_k − Xπ_k is n_k − nπ_k.
        sum += deviance(prior + count, total * share, count - n * share);
        sum -= half_log_and_error(prior + count, prior);
    }
    sum
}

/// [½ ln x − Δ(x)] − [½ ln y − Δ(y)].
fn half_log_and_error(x: f64, y: f64) -> f64 {
    0.5 * (x / y).ln() - (stirling_error(x) - stirling_error(y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::special::gamma::ln_gamma;

    #[test]
    fn agrees_with_the_plain_form() {
        for (counts, shares, c) in [
            ([530.0, 470.0], [0.5, 0.5], 100.0),
            ([3.0, 0.0], [0.2, 0.8], 1.0),
            ([0.0, 12.0], [0.001, 0.999], 0.01),
        ] {
            let ln = |x: f64| ln_gamma(x).unwrap();
            let n: f64 = counts.iter().sum();
            let mut plain = ln(c) - ln(c + n);
            for (count, share) in counts.iter().zip(&shares) {
                plain += ln(c * share + count) - ln(c * share) - count * share.ln();
            }
            let found = log_e(&counts, &shares, c);
            assert!((found - plain).abs() < 1e-10, "{found} {plain}");
        }
        let balanced = log_e(&[5e11, 5e11], &[0.5, 0.5], 100.0);
        assert!(
            (balanced + 0.5 * (1e12f64 / 100.0).ln()).abs() < 0.01,
            "{balanced}"
        );
    }
}
