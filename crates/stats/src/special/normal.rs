//! The standard normal distribution.

use crate::special::gamma::LN_SQRT_TWO_PI;
use crate::undefined::{Defined, open_probability};

/// 1 / √(2π).
const INVERSE_SQRT_TWO_PI: f64 = 0.398_942_280_401_432_7;
/// From here on the tail is a continued fraction, below a series.
const FRACTION_FROM: f64 = 3.0;
/// Probabilities below this are refined in logarithms.
const FAR_TAIL: f64 = 1e-8;
const MOST_TERMS: usize = 400;

/// The density at `z`.
#[must_use]
pub fn density(z: f64) -> f64 {
    let square = z * z;
    // What rounding took from the square matters in the tails, where it is multiplied by the density.
    let lost = z.mul_add(z, -square);
    if square == f64::INFINITY {
        return 0.0;
    }
    INVERSE_SQRT_TWO_PI * (-0.5 * square).exp() * (1.0 - 0.5 * lost)
}

/// P(Z ≤ z); relative error below 10⁻¹² in both tails.
#[must_use]
pub fn cdf(z: f64) -> f64 {
    sf(-z)
}

/// P(Z > z); relative error below 10⁻¹² in both tails.
///
/// Below |z| = 3 the series φ(z)(z + z³/3 + z⁵/15 + …), from there on Laplace's continued fraction (Abramowitz and Stegun
/// 26.2.11, 26.2.14).
#[must_use]
pub fn sf(z: f64) -> f64 {
    if z.is_nan() {
        return z;
    }
    if z >= FRACTION_FROM {
        density(z) * mills_ratio(z)
    } else if z <= -FRACTION_FROM {
        1.0 - density(z) * mills_ratio(-z)
    } else {
        0.5 - centre(z)
    }
}

/// ln P(Z ≤ z), finite also where the probability underflows.
#[must_use]
pub fn ln_cdf(z: f64) -> f64 {
    if z <= -FRACTION_FROM {
        mills_ratio(-z).ln() - 0.5 * z * z - LN_SQRT_TWO_PI
    } else if z < 0.0 {
        cdf(z).ln()
    } else {
        (-sf(z)).ln_1p()
    }
}

/// φ(z) / Φ(z), also where both underflow.
pub(crate) fn inverse_mills_below(z: f64) -> f64 {
    if z <= -FRACTION_FROM {
        1.0 / mills_ratio(-z)
    } else {
        density(z) / cdf(z)
    }
}

/// P(0 < Z ≤ z) for |z| < 3.
fn centre(z: f64) -> f64 {
    let square = z * z;
    let mut term = z;
    let mut sum = z;
    for n in 1..MOST_TERMS {
        term *= square / (2 * n + 1) as f64;
        sum += term;
        if term.abs() <= sum.abs() * f64::EPSILON * 0.1 {
            break;
        }
    }
    density(z) * sum
}

/// P(Z > z) / φ(z) for z ≥ 3, by Lentz's method for 1/(z + 1/(z + 2/(z + …))).
fn mills_ratio(z: f64) -> f64 {
    if z > 1e8 {
        return 1.0 / z;
    }
    let mut c = z;
    let mut d = 0.0;
    let mut fraction = z;
    for n in 1..MOST_TERMS {
        let numerator = n as f64;
        d = 1.0 / (z + numerator * d);
        c = z + numerator / c;
        let factor = c * d;
        fraction *= factor;
        if (factor - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    1.0 / fraction
}

/// The `p` quantile, 0 < p < 1; relative error below 10⁻¹².
///
/// Acklam's rational approximation, refined twice by Halley's method.
pub fn quantile(p: f64) -> Defined<f64> {
    open_probability(p)?;
    Ok(if p <= 0.5 {
        -upper_of_half(p)
    } else {
        upper_of_half(1.0 - p)
    })
}

/// z with P(Z > z) = q, 0 < q < 1, exact also for the smallest q.
pub fn upper_quantile(q: f64) -> Defined<f64> {
    open_probability(q)?;
    Ok(if q <= 0.5 {
        upper_of_half(q)
    } else {
        -upper_of_half(1.0 - q)
    })
}

fn upper_of_half(q: f64) -> f64 {
    if q == 0.5 {
        return 0.0;
    }
    let mut z = acklam(q);
    for _ in 0..2 {
        z += if q < FAR_TAIL {
            // In logarithms, because the density underflows.
            (ln_cdf(-z) - q.ln()) / inverse_mills_below(-z)
        } else {
            let step = (sf(z) - q) / density(z);
            step / (1.0 - 0.5 * z * step)
        };
    }
    z
}

/// Acklam's approximation to the upper quantile for q ≤ ½; relative error 10⁻⁹.
fn acklam(q: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |s, c| s * x + c);
    if q < 0.024_25 {
        let t = (-2.0 * q.ln()).sqrt();
        -polynomial(&C, t) / polynomial(&D, t)
    } else {
        let t = 0.5 - q;
        let square = t * t;
        t * polynomial(&A, square) / polynomial(&B, square)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_match_scipy() {
        // Reference: mpmath.erfc(z / sqrt(2)) / 2 with 30 digits.
        for (z, expected) in NORMAL_TAILS {
            let found = sf(z);
            assert!(
                (found - expected).abs() <= 1e-12 * expected,
                "{z}: {found}, not {expected}"
            );
            let back = upper_quantile(expected).unwrap();
            // Near 1 the probability itself has lost the digits of its tail.
            assert!(
                z < -3.0 || (back - z).abs() <= 1e-11 * z.abs().max(1e-2),
                "{z}: {back}"
            );
        }
        assert_eq!(quantile(0.5), Ok(0.0));
        assert!(quantile(0.0).is_err());
        assert!(quantile(f64::NAN).is_err());
        let far = upper_quantile(1e-305).unwrap();
        assert!((far - 37.356_346).abs() < 1e-3, "{far}");
        assert!((ln_cdf(-50.0) + 1_254.831_361_139_42).abs() < 1e-9);
    }

    const NORMAL_TAILS: [(f64, f64); 9] = [
        (-5.5, 0.999_999_981_010_437_5),
        (-1.0, 0.841_344_746_068_542_9),
        (0.001, 0.49960105778608894),
        (0.7, 0.24196365222307303),
        (2.9, 0.0018658133003840385),
        (3.1, 0.0009676032132183566),
        (8.0, 6.220_960_574_271_784e-16),
        (20.0, 2.7536241186062337e-89),
        (37.0, 5.725_571_222_524_577e-300),
    ];
}
