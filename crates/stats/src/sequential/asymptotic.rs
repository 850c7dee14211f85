//! The asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024).
//!
//! For any asymptotically linear estimate with standard error SE after N units; η = Nρ².

use crate::estimate::Estimate;
use crate::special::{normal, root};
use crate::undefined::{Defined, Undefined, computed, finite, level, positive};

/// Standard errors that the two-sided sequence reaches: √((1+1/η)(ln(1+η) − 2 ln α)).
pub fn critical(units: f64, rho_squared: f64, alpha: f64) -> Defined<f64> {
    let eta = eta(units, rho_squared)?;
    level(alpha)?;
    computed(((1.0 + 1.0 / eta) * (eta.ln_1p() - 2.0 * alpha.ln())).sqrt())
}

/// ln E of z = Δ̂/SE: ½ z² η/(1+η) − ½ ln(1+η).
pub fn log_e(z: f64, units: f64, rho_squared: f64) -> Defined<f64> {
    let eta = eta(units, rho_squared)?;
    finite(z)?;
    Ok(0.5 * z * z * eta / (1.0 + eta) - 0.5 * eta.ln_1p())
}

/// The two-sided p-value at any time: min(1, √(1+η) exp(−½ z² η/(1+η))).
pub fn p_value(z: f64, units: f64, rho_squared: f64) -> Defined<f64> {
    log_e(z, units, rho_squared).map(super::p_from_log_e)
}

/// Standard errors below the estimate of the one-sided lower bound: √((1+1/η) 2 ln(1 + √(1+η)/(2α))).
///
/// Tune ρ² with 2α.
pub fn one_sided_critical(units: f64, rho_squared: f64, alpha: f64) -> Defined<f64> {
    let eta = eta(units, rho_squared)?;
    level(alpha)?;
    let inner = ((1.0 + eta).sqrt() / (2.0 * alpha)).ln_1p();
    computed(((1.0 + 1.0 / eta) * 2.0 * inner).sqrt())
}

/// The lower bound at any time of an estimate.
pub fn lower_bound(estimate: &Estimate, rho_squared: f64, alpha: f64) -> Defined<f64> {
    let critical = one_sided_critical(estimate.units, rho_squared, alpha)?;
    computed(estimate.value - critical * estimate.standard_error)
}

/// The upper bound at any time of an estimate.
pub fn upper_bound(estimate: &Estimate, rho_squared: f64, alpha: f64) -> Defined<f64> {
    let critical = one_sided_critical(estimate.units, rho_squared, alpha)?;
    computed(estimate.value + critical * estimate.standard_error)
}

/// The boundary of a normal mixture at intrinsic time `v`, tightest at `tuned_v` and `tuned_alpha` (Howard, Ramdas,
/// McAuliffe & Sekhon 2021).
///
/// Two-sided √((v+ρ)(ln((v+ρ)/ρ) − 2 ln α)); one-sided the root of the half-normal mixture. ρ = v*/(2 ln(1/α) + ln(1 + 2
/// ln(1/α))), with 2α in it for one side.
pub fn normal_mixture_bound(
    v: f64,
    alpha: f64,
    tuned_v: f64,
    tuned_alpha: f64,
    one_sided: bool,
) -> Defined<f64> {
    finite(v)?;
    level(alpha)?;
    level(tuned_alpha)?;
    positive(tuned_v)?;
    if v < 0.0 {
        return Err(Undefined::Domain("intrinsic time cannot be negative"));
    }
    let sided = if one_sided { 2.0 } else { 1.0 };
    let log = -2.0 * (sided * tuned_alpha).ln();
    if log <= 0.0 {
        return Err(Undefined::Domain("the level it is tuned to is too large"));
    }
    let rho = tuned_v / (log + log.ln_1p());
    let growth = v / rho;
    let two_sided = ((v + rho) * (growth.ln_1p() - 2.0 * alpha.ln())).sqrt();
    if !one_sided {
        return computed(two_sided);
    }
    let excess = |sum: f64| {
        0.5 * (4f64.ln() - growth.ln_1p())
            + 0.5 * sum * sum / (v + rho)
            + normal::ln_cdf(sum / (v + rho).sqrt())
            + alpha.ln()
    };
    computed(root::bisect(excess, 0.0, two_sided + (v + rho).sqrt()))
}

fn eta(units: f64, rho_squared: f64) -> Defined<f64> {
    positive(units)?;
    positive(rho_squared)?;
    positive(units * rho_squared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_multiplier_of_the_design() {
        let rho_squared = crate::sequential::rho_squared(0.05, 4000.0).unwrap();
        let found = critical(4000.0, rho_squared, 0.05).unwrap();
        assert!((found - 3.04).abs() < 5e-3, "{found}");
        let one_sided = one_sided_critical(4000.0, rho_squared, 0.05).unwrap();
        assert!(one_sided < found);
        let z = critical(4000.0, rho_squared, 0.05).unwrap();
        assert!((p_value(z, 4000.0, rho_squared).unwrap() - 0.05).abs() < 1e-12);
        assert!(critical(0.0, rho_squared, 0.05).is_err());
        assert!(p_value(f64::NAN, 1.0, 1.0).is_err());
        assert_eq!(p_value(1e200, 1e6, 1.0), Ok(0.0));
    }

    #[test]
    fn one_sided_boundaries_are_below_two_sided_ones() {
        let two = normal_mixture_bound(80.0, 0.05, 200.0, 0.05, false).unwrap();
        let one = normal_mixture_bound(80.0, 0.05, 200.0, 0.05, true).unwrap();
        assert!(one < two, "{one} {two}");
        assert!(normal_mixture_bound(-1.0, 0.05, 200.0, 0.05, true).is_err());
    }
}
