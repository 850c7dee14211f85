//! Sample sizes for Mann-Whitney.

use super::ErrorRates;
use crate::undefined::{Defined, Undefined, computed, open_probability, probability};

/// How far shares that were rounded may be from 1 together.
const LARGEST_SLIP: f64 = 1e-3;

/// Units of both arms together (Noether 1987, with Zhao, Rahardja & Qu's factor for ties).
///
/// N = (z_α + z_β)² (1 − Σπ³) / (12 c(1−c)(θ−½)²), θ = P(B>A) + ½P(tie), `fraction` c of one arm, and `tie_shares` the
/// pooled shares π of the categories; without any the values are continuous.
pub fn sample_size(
    theta: f64,
    fraction: f64,
    tie_shares: &[f64],
    rates: ErrorRates,
) -> Defined<f64> {
    probability(theta)?;
    open_probability(fraction)?;
    let (z_level, z_power) = rates.quantiles()?;
    let (mut cubes, mut all) = (0.0, 0.0);
    for share in tie_shares {
        cubes += probability(*share)?.powi(3);
        all += share;
    }
    if !tie_shares.is_empty() && (all - 1.0).abs() > LARGEST_SLIP {
        return Err(Undefined::Domain(
            "shares of all categories must add up to 1",
        ));
    }
    if cubes >= 1.0 {
        return Err(Undefined::ZeroVariance);
    }
    if theta == 0.5 {
        return Err(Undefined::NoDifference);
    }
    let root = (z_level + z_power) / (theta - 0.5);
    computed(root * root * (1.0 - cubes) / (12.0 * fraction * (1.0 - fraction)))
}
