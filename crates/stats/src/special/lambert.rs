//! The lower branch of Lambert's function, as the tuning of mixtures needs it.

use crate::special::gamma::ln_1p_less;
use crate::undefined::{Defined, Undefined};

/// u > 0 with u − ln(1 + u) = c, for c > 0: −W₋₁(−e^(−1−c)) − 1.
///
/// Newton's method from above on a convex function; relative error below 10⁻¹⁴.
pub fn excess_of_lower_branch(c: f64) -> Defined<f64> {
    if c.is_nan() || c <= 0.0 || c == f64::INFINITY {
        return Err(Undefined::Domain("the excess must be positive and finite"));
    }
    // Above the root: u − ln(1 + u) ≥ c at both.
    let mut u = c + (2.0 * c).sqrt();
    for _ in 0..60 {
        let step = (-ln_1p_less(u) - c) * (1.0 + u) / u;
        let next = u - step;
        if next <= 0.0 || step.abs() <= 2.0 * f64::EPSILON * u {
            break;
        }
        u = next;
    }
    Ok(u)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_equation_holds() {
        for c in [1e-12, 1e-3, 1.0, 5.991_464_547_107_98, 50.0, 1e6] {
            let u = excess_of_lower_branch(c).unwrap();
            assert!((-ln_1p_less(u) - c).abs() <= 1e-13 * c, "{c}: {u}");
        }
        // Reference: −scipy.special.lambertw(−0.05² / e, −1) − 1.
        let u = excess_of_lower_branch(-2.0 * 0.05f64.ln()).unwrap();
        assert!((u - 8.211_968_062_07).abs() < 1e-10, "{u}");
        assert!(excess_of_lower_branch(0.0).is_err());
    }
}
