//! The χ² distribution.

use crate::special::gamma::incomplete_gamma;
use crate::undefined::{Defined, Undefined, positive};

/// P(X > x) with `degrees_of_freedom` > 0, exact to about 10⁻¹² relative also for the smallest tails.
pub fn sf(x: f64, degrees_of_freedom: f64) -> Defined<f64> {
    tails(x, degrees_of_freedom).map(|(_, upper)| upper)
}

/// P(X ≤ x).
pub fn cdf(x: f64, degrees_of_freedom: f64) -> Defined<f64> {
    tails(x, degrees_of_freedom).map(|(lower, _)| lower)
}

fn tails(x: f64, degrees_of_freedom: f64) -> Defined<(f64, f64)> {
    positive(degrees_of_freedom)?;
    if x.is_nan() {
        return Err(Undefined::NotFinite);
    }
    incomplete_gamma(0.5 * degrees_of_freedom, 0.5 * x.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_match_scipy() {
        // Reference: scipy.stats.chi2.sf 1.17.1.
        for (x, df, expected) in [
            (3.841_458_820_694_124, 1.0, 0.05),
            (8.587_903_324_745, 1.0, 0.003_384_034_135_664_4),
            (0.0, 3.0, 1.0),
            (10.0, 2.0, 0.006_737_946_999_085_467),
        ] {
            let found = sf(x, df).unwrap();
            assert!((found - expected).abs() < 1e-12, "{x} {df}: {found}");
        }
        assert!(sf(1.0, 0.0).is_err());
        assert!(sf(f64::NAN, 1.0).is_err());
    }
}
