//! The noncentral t distribution, which the power of t tests needs.

use crate::special::gamma::{LN_SQRT_TWO_PI, ln_1p_less, stirling_error};
use crate::special::{normal, quadrature, root};
use crate::undefined::{Defined, computed, finite, positive};

/// How far from the mode, in ln of the scale, the integrand is looked at.
const WIDEST: f64 = 700.0;
/// The width of a panel in ln of the scale, on which nothing changes faster than e^2v.
const WIDEST_PANEL: f64 = 1.0;
/// ln of a scale whose square vanishes beside 1.
const VANISHING: f64 = -42.0;

/// P(T ≤ t) with `degrees_of_freedom` ν > 0 and noncentrality δ.
///
/// ∫ Φ(t s − δ) f(s) ds with ν s² ~ χ²_ν, over ln s, by Gauss-Legendre panels outwards from the mode of the integrand;
/// about 10⁻¹¹ relative in the smaller tail.
pub fn cdf(t: f64, degrees_of_freedom: f64, noncentrality: f64) -> Defined<f64> {
    check(t, degrees_of_freedom, noncentrality)?;
    // The larger tail is one less the smaller, so that it cannot exceed 1.
    if t < noncentrality {
        computed(lower(t, degrees_of_freedom, noncentrality)).map(|tail| tail.min(1.0))
    } else {
        computed(lower(-t, degrees_of_freedom, -noncentrality)).map(|tail| 1.0 - tail.min(1.0))
    }
}

/// P(T > t).
pub fn sf(t: f64, degrees_of_freedom: f64, noncentrality: f64) -> Defined<f64> {
    cdf(-t, degrees_of_freedom, -noncentrality)
}

fn check(t: f64, df: f64, noncentrality: f64) -> Defined<()> {
    positive(df)?;
    finite(t)?;
    finite(noncentrality)?;
    Ok(())
}

fn lower(t: f64, df: f64, delta: f64) -> f64 {
    // The derivative of the log integrand in v = ln s changes its sign once, from plus to minus.
    let slope = |v: f64| {
        let s = v.exp();
        -df * (2.0 * v).exp_m1() + normal::inverse_mills_below(t * s - delta) * t * s
    };
    let mode = root::bisect(|v| -slope(v), -WIDEST, 300.0);
    let log_value = |v: f64| {
        // ν (v − (e^2v − 1)/2), without cancellation around v = 0.
        let growth = (2.0 * v).exp_m1();
        let chi = -0.5 * df * (growth - 2.0 * v);
        let chi = if v.abs() < 0.1 {
            0.5 * df * ln_1p_less(growth)
        } else {
            chi
        };
        chi + normal::ln_cdf(t * v.exp() - delta)
    };
    let top = log_value(mode);
    if top == f64::NEG_INFINITY {
        return 0.0;
    }
    // The width from the second difference of the slope, bounded by that of the χ part alone.
    let step = 0.1 / (2.0 * df + 1.0).sqrt();
    let curvature = (slope(mode - step) - slope(mode + step)) / (2.0 * step);
    let width = (1.5 / curvature.max(0.0).sqrt()).min(WIDEST_PANEL);
    let above = |u: f64| (log_value(mode + u) - top).exp();
    let below = |u: f64| (log_value(mode - u) - top).exp();
    // Far below the mode nothing is left but e^(ν v), whose integral is known.
    let flat = (VANISHING - t.abs().max(1.0).ln()).min(mode - width);
    let sum = quadrature::decaying(&above, width, WIDEST)
        + quadrature::decaying(&below, width, mode - flat)
        + (log_value(flat) - top).exp() / df;
    // ln of f(s) s at s = 1: 2 (ν/2)^(ν/2) e^(−ν/2) / Γ(ν/2).
    let half = 0.5 * df;
    let scale = std::f64::consts::LN_2 + 0.5 * half.ln() - LN_SQRT_TWO_PI - stirling_error(half);
    (scale + top).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: [(f64, f64, f64, f64); 20] = [
        (2.1, 48.0, 2.8, 0.24343894982323628),
        (0.0, 5.0, 1.0, 0.15865525393145705),
        (-2.0, 5.0, 1.0, 0.0058964622898421618),
        (-2.0, 2.0, 3.0, 4.673_970_824_211_311e-5),
        (1.96, 100000.0, 2.8, 0.200_455_081_185_489_5),
        (3.0, 1.0, 2.0, 0.524_857_161_733_687_9),
        (1.0, 0.5, 0.5, 0.537_213_229_192_856_1),
        (2.0, 2.0, 2.0, 0.420_475_480_863_718_7),
        (30.0, 10.0, 20.0, 0.922_318_616_706_945_1),
        (5.0, 300.0, 12.0, 3.436772384586721e-12),
        (1.96, 10000000.0, 5.5, 0.00020006373659102593),
        (2.0, 1000.0, -3.0, 0.999_999_705_084_410_4),
        (1.5, 1000000000.0, 2.8, 0.096_800_484_646_660_44),
        (2.0, 0.1, 1.0, 0.30638229024281066),
        (1.0, 0.1, -2.0, 0.9825833530368769),
        (-3.0, 0.3, 0.5, 0.14380809712153625),
        (5.0, 0.02, 2.0, 0.08070281292942495),
        (0.5, 0.9, 4.0, 0.0003511182097822232),
        (2.0, 1.5, -1.0, 0.9788561371404567),
        (-4.0, 0.1, 3.0, 0.0008741022607797214),
    ];

    #[test]
    fn matches_mpmath() {
        // Reference: mpmath, adaptive quadrature with 30 digits.
        for (t, df, delta, expected) in REFERENCE {
            let found = cdf(t, df, delta).unwrap();
            assert!(
                (found - expected).abs() <= 1e-10 * expected,
                "{t} {df} {delta}: {found:e}, not {expected:e}"
            );
        }
        assert!(cdf(1.0, 0.0, 0.0).is_err());
        assert!(cdf(f64::NAN, 2.0, 0.0).is_err());
    }
}
