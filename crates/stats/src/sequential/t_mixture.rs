//! The t-mixture confidence sequence: the default (Lindon, Ham, Tingley & Bojinov 2022).
//!
//! Exact for Gaussian values with one variance, otherwise asymptotic. It tends to the asymptotic sequence as the degrees of
//! freedom grow, and is unbounded on a handful of units.

use crate::undefined::{Defined, Undefined, computed, finite, level, positive};

/// Units per arm before the first look.
pub const FIRST_LOOK: u64 = 100;

/// ln E of the statistic t = Δ̂/SE after `units` N: ½ ln k + ½(ν+1)[ln(1+t²/ν) − ln(1+k t²/ν)], k = 1/(1+Nρ²).
pub fn log_e(t: f64, units: f64, degrees_of_freedom: f64, rho_squared: f64) -> Defined<f64> {
    let shrinkage = shrinkage(units, rho_squared)?;
    check(degrees_of_freedom)?;
    if t.is_nan() {
        return Err(Undefined::NotFinite);
    }
    // ln k by the growth, which keeps its digits while k is near 1.
    let ln_shrinkage = -(units * rho_squared).ln_1p();
    computed(log_bayes_factor(
        t.abs(),
        degrees_of_freedom,
        shrinkage,
        ln_shrinkage,
    ))
}

/// ln E from t², with the prior said as g = 1/ρ²: k = g/(g + n).
pub fn log_e_of_square(t_squared: f64, degrees_of_freedom: f64, g: f64, n: f64) -> Defined<f64> {
    if t_squared.is_nan() || t_squared < 0.0 {
        return Err(Undefined::Domain("a square cannot be negative"));
    }
    log_e(t_squared.sqrt(), n, degrees_of_freedom, 1.0 / positive(g)?)
}

/// The p-value at any time, min(1, 1/E).
pub fn p_value(t: f64, units: f64, degrees_of_freedom: f64, rho_squared: f64) -> Defined<f64> {
    log_e(t, units, degrees_of_freedom, rho_squared).map(super::p_from_log_e)
}

/// Standard errors that the two-sided sequence reaches to either side: √(ν(1−r)/(r−k)) with r = (α²k)^(1/(ν+1)).
///
/// Unbounded, hence undefined, while r ≤ k.
pub fn critical(units: f64, degrees_of_freedom: f64, rho_squared: f64, alpha: f64) -> Defined<f64> {
    let shrinkage = shrinkage(units, rho_squared)?;
    level(alpha)?;
    check(degrees_of_freedom)?;
    let growth = units * rho_squared;
    let exponent = 2.0 * alpha.ln() - growth.ln_1p();
    if degrees_of_freedom == f64::INFINITY {
        return computed((-exponent * (1.0 + growth) / growth).sqrt());
    }
    let rest = -(exponent / (degrees_of_freedom + 1.0)).exp_m1();
    // r − k as (1 − k) − (1 − r).
    let room = growth * shrinkage - rest;
    if room <= 0.0 {
        return Err(Undefined::Unbounded);
    }
    computed((degrees_of_freedom * rest / room).sqrt())
}

fn log_bayes_factor(t: f64, df: f64, shrinkage: f64, ln_shrinkage: f64) -> f64 {
    if df == f64::INFINITY {
        return 0.5 * ln_shrinkage + 0.5 * t * t * (1.0 - shrinkage);
    }
    let square = (t / df.sqrt()).powi(2);
    let gain = if square == f64::INFINITY {
        -ln_shrinkage
    } else {
        // ln of (1 + s)/(1 + k s), without cancellation while s is small.
        (square * (1.0 - shrinkage) / (1.0 + shrinkage * square)).ln_1p()
    };
    0.5 * ln_shrinkage + 0.5 * (df + 1.0) * gain
}

fn shrinkage(units: f64, rho_squared: f64) -> Defined<f64> {
    positive(units)?;
    positive(rho_squared)?;
    Ok(1.0 / (1.0 + finite(units * rho_squared)?))
}

fn check(df: f64) -> Defined<()> {
    if df > 0.0 {
        Ok(())
    } else {
        Err(Undefined::Domain("degrees of freedom must be positive"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequential::asymptotic;

    #[test]
    fn large_samples_tend_to_the_asymptotic_sequence() {
        let rho_squared = 1e-3;
        for df in [1e12, f64::INFINITY] {
            let found = critical(5000.0, df, rho_squared, 0.05).unwrap();
            let limit = asymptotic::critical(5000.0, rho_squared, 0.05).unwrap();
            assert!((found - limit).abs() < 1e-9, "{found} {limit}");
            let found = p_value(3.2, 5000.0, df, rho_squared).unwrap();
            let limit = asymptotic::p_value(3.2, 5000.0, rho_squared).unwrap();
            assert!((found - limit).abs() < 1e-9, "{found} {limit}");
        }
    }

    #[test]
    fn a_handful_of_units_decides_nothing() {
        assert_eq!(critical(8.0, 3.0, 1e-3, 0.05), Err(Undefined::Unbounded));
        assert!(p_value(1e9, 8.0, 3.0, 1e-3).unwrap() > 0.05);
        assert!(critical(8.0, 0.0, 1e-3, 0.05).is_err());
        assert!(log_e(f64::INFINITY, 1e6, 1e6, 1e-3).unwrap() > 1e3);
    }

    #[test]
    fn at_the_critical_value_the_evidence_is_one_over_alpha() {
        let bound = critical(600.0, 480.0, 2e-3, 0.05).unwrap();
        let found = log_e(bound, 600.0, 480.0, 2e-3).unwrap();
        assert!((found - 20f64.ln()).abs() < 1e-10, "{found}");
    }
}
