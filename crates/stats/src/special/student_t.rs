//! Student's t distribution, with any positive number of degrees of freedom.

use crate::special::gamma::{LN_SQRT_TWO_PI, stirling_error};
use crate::special::{beta, normal, root};
use crate::undefined::{Defined, Undefined, computed, open_probability};

/// Beyond this many degrees of freedom the distribution is the normal one in double precision.
const NORMAL_FROM: f64 = 1e17;
/// From this t/√ν on the tail is the density's power law in double precision.
const POWER_LAW_FROM: f64 = 1e20;
/// The largest ln t that a quantile is looked for at.
const LARGEST_LOG: f64 = 680.0;

/// P(T ≤ t).
pub fn cdf(t: f64, degrees_of_freedom: f64) -> Defined<f64> {
    sf(-t, degrees_of_freedom)
}

/// P(T > t); exact to about 10⁻¹¹ relative in both tails for degrees of freedom up to 10¹².
///
/// ½ I_x(ν/2, ½) with x = ν/(ν + t²) (Abramowitz and Stegun 26.5.27, 26.7.1).
pub fn sf(t: f64, degrees_of_freedom: f64) -> Defined<f64> {
    check(degrees_of_freedom)?;
    if t.is_nan() {
        return Err(Undefined::NotFinite);
    }
    let tail = upper_tail(t.abs(), degrees_of_freedom)?;
    Ok(if t < 0.0 { 1.0 - tail } else { tail })
}

/// P(|T| > |t|), the two-sided p-value.
pub fn two_sided(t: f64, degrees_of_freedom: f64) -> Defined<f64> {
    sf(t.abs(), degrees_of_freedom).map(|tail| (2.0 * tail).min(1.0))
}

/// The `p` quantile, 0 < p < 1.
pub fn quantile(p: f64, degrees_of_freedom: f64) -> Defined<f64> {
    open_probability(p)?;
    if p <= 0.5 {
        positive_quantile(p, 0.5 - p, degrees_of_freedom).map(|t| -t)
    } else {
        positive_quantile(1.0 - p, p - 0.5, degrees_of_freedom)
    }
}

/// t with P(T > t) = q, 0 < q < 1, exact also for the smallest q.
///
/// Newton's method on ln t, from Hill's expansion; relative error about 10⁻¹¹.
pub fn upper_quantile(q: f64, degrees_of_freedom: f64) -> Defined<f64> {
    open_probability(q)?;
    if q <= 0.5 {
        positive_quantile(q, 0.5 - q, degrees_of_freedom)
    } else {
        positive_quantile(1.0 - q, q - 0.5, degrees_of_freedom).map(|t| -t)
    }
}

fn check(degrees_of_freedom: f64) -> Defined<()> {
    if degrees_of_freedom > 0.0 {
        Ok(())
    } else {
        Err(Undefined::Domain("degrees of freedom must be positive"))
    }
}

fn upper_tail(t: f64, df: f64) -> Defined<f64> {
    if df >= NORMAL_FROM {
        return Ok(normal::sf(t));
    }
    parts(t, df).map(|(tail, _)| 0.5 * tail)
}

/// P(|T| > t) and P(|T| ≤ t) for t ≥ 0.
fn parts(t: f64, df: f64) -> Defined<(f64, f64)> {
    // By the ratio, because t² may overflow or vanish.
    let ratio = t / df.sqrt();
    let square = ratio * ratio;
    let (x, y) = if square == f64::INFINITY {
        ((1.0 / ratio) * (1.0 / ratio), 1.0)
    } else {
        (1.0 / (1.0 + square), square / (1.0 + square))
    };
    beta::tails(0.5 * df, 0.5, x, y)
}

/// ln of the density at t ≥ 0.
fn ln_density(t: f64, df: f64) -> f64 {
    if df >= NORMAL_FROM {
        return -0.5 * t * t - LN_SQRT_TWO_PI;
    }
    let (half, ratio) = (0.5 * df, t / df.sqrt());
    let ln_tail = if ratio > 1e150 {
        2.0 * ratio.ln()
    } else {
        (ratio * ratio).ln_1p()
    };
    // Γ(ν/2 + ½) / Γ(ν/2) by Stirling errors: the large parts cancel on paper.
    let ln_gamma_ratio =
        half * (0.5 / half).ln_1p() - 0.5 + 0.5 * half.ln() + stirling_error(half + 0.5)
            - stirling_error(half);
    ln_gamma_ratio - 0.5 * (std::f64::consts::PI * df).ln() - (half + 0.5) * ln_tail
}

/// t ≥ 0 with P(T > t) = q and P(0 < T ≤ t) = centre.
fn positive_quantile(q: f64, centre: f64, df: f64) -> Defined<f64> {
    check(df)?;
    if centre == 0.0 {
        return Ok(0.0);
    }
    if df >= NORMAL_FROM {
        return normal::upper_quantile(q);
    }
    if df == 1.0 {
        return computed(if q < 0.25 {
            1.0 / (std::f64::consts::PI * q).tan()
        } else {
            (std::f64::consts::PI * centre).tan()
        });
    }
    let by_tail = q < 0.25;
    let step = |log: f64| {
        let t = log.exp();
        if t / df.sqrt() > POWER_LAW_FROM {
            // The tail is f(t) t / ν there, in logarithms, because it underflows before t overflows.
            return (q.ln() - (ln_density(t, df) + log - df.ln()), df);
        }
        let Ok((tail, inside)) = parts(t, df) else {
            return (0.0, 1.0);
        };
        let slope = (ln_density(t, df) + log).exp();
        if by_tail {
            let tail = 0.5 * tail;
            (q.ln() - tail.max(f64::MIN_POSITIVE).ln(), slope / tail)
        } else {
            let inside = 0.5 * inside;
            (
                inside.max(f64::MIN_POSITIVE).ln() - centre.ln(),
                slope / inside,
            )
        }
    };
    let log = root::newton(step, -750.0, LARGEST_LOG, starting_log(q, centre, df)?);
    if log >= LARGEST_LOG - 1e-6 {
        return Err(Undefined::OutOfRange);
    }
    computed(log.exp())
}

/// ln of a first guess: the Cornish-Fisher expansion, or the power law of the tail where that is far off.
fn starting_log(q: f64, centre: f64, df: f64) -> Defined<f64> {
    if q >= 0.25 {
        return Ok(centre.ln() - ln_density(0.0, df));
    }
    let z = normal::upper_quantile(q)?;
    let z2 = z * z;
    if z2 < df {
        let first = z * (z2 + 1.0) / 4.0;
        let second = z * ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
        return Ok((z + (first + second / df) / df).ln());
    }
    // P(T > t) ≈ f(t) t / ν, with the density's leading power.
    let constant = ln_density(0.0, df) + 0.5 * (df + 1.0) * df.ln() - df.ln();
    Ok((constant - q.ln()) / df)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAILS: [(f64, f64, f64); 14] = [
        (0.001, 3.0, 0.49963244748473047),
        (2.1, 0.5, 0.217_734_637_733_006_5),
        (50.0, 2.0, 0.00019988007994404029),
        (1000.0, 1.0, 0.000_318_309_780_080_558_9),
        (6.0, 30.0, 6.971_384_383_602_371e-7),
        (12.0, 100.0, 2.197_543_857_802_189e-21),
        (1.96, 999.0, 0.025136731366905023),
        (1.96, 1001.0, 0.025136453866449253),
        (8.0, 1001.0, 1.7116671721165943e-15),
        (0.3, 5000.0, 0.38209481333472157),
        (5.0, 1000000.0, 2.866_998_935_445_371e-7),
        (2.0, 1000000000.0, 0.022750132083156624),
        (7.0, 1000000000000.0, 1.279812544685123e-12),
        (0.5, 1000000000000.0, 0.308_537_538_726_041_9),
    ];
    const QUANTILES: [(f64, f64, f64); 18] = [
        (0.025, 3.0, 3.1824463052837095),
        (1e-10, 1.0, 3_183_098_861.837_907),
        (1e-300, 3.0, 1.033_110_836_044_653e100),
        (0.4999999, 4.0, 2.666_666_666_743_388e-7),
        (0.3, 0.5, 1.0095258786071661),
        (0.0001, 0.5, 10284911.563163385),
        (0.025, 1.2195, 8.394_172_704_457_276),
        (0.0005, 12.5, 4.266_936_766_292_122),
        (1e-12, 50.0, 9.260_139_683_684_145),
        (0.025, 999.0, 1.96234146113345),
        (0.025, 1001.0, 1.962_336_705_280_88),
        (0.025, 1000000.0, 1.959966356814107),
        (0.025, 10000000.0, 1.9599642217672055),
        (0.025, 100000000.0, 1.9599640082627668),
        (1e-09, 10000000000.0, 5.997_807_020_551_713),
        (0.025, 1000000000000.0, 1.9599639845424265),
        (0.25, 7.0, 0.711_141_778_081_786_4),
        (0.2499999, 7.0, 0.711_142_121_423_725_3),
    ];

    #[test]
    fn tails_match_mpmath() {
        // Reference: mpmath, the incomplete beta function with 40 digits.
        for (t, df, expected) in TAILS {
            let found = sf(t, df).unwrap();
            assert!(
                (found - expected).abs() <= 1e-11 * expected,
                "{t} {df}: {found:e}, not {expected:e}"
            );
        }
    }

    #[test]
    fn quantiles_match_mpmath() {
        // Reference: mpmath, the root of the incomplete beta function with 40 digits.
        for (q, df, expected) in QUANTILES {
            let found = upper_quantile(q, df).unwrap();
            assert!(
                (found - expected).abs() <= 1e-10 * expected.abs(),
                "{q} {df}: {found}, not {expected}"
            );
        }
        assert_eq!(quantile(0.5, 50.0), Ok(0.0));
        for (p, df) in [
            (0.0, 5.0),
            (1.0, 5.0),
            (f64::NAN, 5.0),
            (0.6, 0.0),
            (0.6, f64::NAN),
        ] {
            assert!(quantile(p, df).is_err(), "{p} {df}");
        }
        assert_eq!(upper_quantile(1e-300, 0.01), Err(Undefined::OutOfRange));
    }

    #[test]
    fn signs_mirror() {
        let (upper, lower) = (quantile(0.975, 7.0).unwrap(), quantile(0.025, 7.0).unwrap());
        assert!((upper + lower).abs() < 1e-14, "{upper} {lower}");
        assert_eq!(cdf(-1.5, 4.0), sf(1.5, 4.0));
        assert_eq!(two_sided(0.0, 3.0), Ok(1.0));
    }
}
