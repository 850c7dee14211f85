//! Sample sizes for two proportions.

use super::{ArmSizes, ErrorRates, planned_ratio};
use crate::special::{normal, root};
use crate::undefined::{Defined, Undefined, computed, finite, positive, probability};

/// The smallest difference worth detecting, which people must say in one of two ways: "5% on 60%" is 65% or 63%.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DetectableEffect {
    /// In points: 0.05 on 0.60 is 0.65.
    Absolute(f64),
    /// In shares of the base rate: 0.05 on 0.60 is 0.63.
    Relative(f64),
}

impl DetectableEffect {
    /// The rate that must be detected against `base`.
    pub fn rate(self, base: f64) -> Defined<f64> {
        probability(base)?;
        let rate = match self {
            Self::Absolute(points) => base + points,
            Self::Relative(share) => base * (1.0 + share),
        };
        finite(rate).and_then(probability)
    }
}

/// Units for the z test with pooled null variance (Fleiss 1981); `ratio` is n2/n1.
///
/// n1 = [z_α √((1+1/r) p̄(1−p̄)) + z_β √(p1(1−p1) + p2(1−p2)/r)]² / (p1−p2)² with p̄ = (p1 + r p2)/(1+r).
pub fn sample_size(p1: f64, p2: f64, ratio: f64, rates: ErrorRates) -> Defined<ArmSizes> {
    let difference = rates_differ(p1, p2)?;
    let ratio = planned_ratio(ratio)?;
    let (z_level, z_power) = rates.quantiles()?;
    let pooled = (p1 + ratio * p2) / (1.0 + ratio);
    let null = ((1.0 + 1.0 / ratio) * pooled * (1.0 - pooled)).sqrt();
    let alternative = (p1 * (1.0 - p1) + p2 * (1.0 - p2) / ratio).sqrt();
    let root = (z_level * null + z_power * alternative) / difference;
    sizes(root * root, ratio)
}

/// The same for a test with continuity correction: n1 ¼ (1 + √(1 + 2(r+1)/(n1 r |p1−p2|)))².
pub fn sample_size_with_continuity(
    p1: f64,
    p2: f64,
    ratio: f64,
    rates: ErrorRates,
) -> Defined<ArmSizes> {
    let plain = sample_size(p1, p2, ratio, rates)?.first;
    let difference = (p1 - p2).abs();
    let inner = 1.0 + 2.0 * (ratio + 1.0) / (plain * ratio * difference);
    let factor = 0.5 * (1.0 + inner.sqrt());
    sizes(plain * factor * factor, ratio)
}

/// Units by the arcsine transformation (Cohen 1988), a cross-check of [`sample_size`].
///
/// Solves Φ(δ − z_α) + Φ(−δ − z_α) = power, one-sided its first part, for δ = |h| √(n1/(1 + 1/r)) with
/// h = 2 asin √p2 − 2 asin √p1. Leaving out the second part, the chance to reject in the wrong direction, gives the usual
/// n1 = (1 + 1/r)((z_α + z_β)/h)².
pub fn sample_size_arcsine(p1: f64, p2: f64, ratio: f64, rates: ErrorRates) -> Defined<ArmSizes> {
    rates_differ(p1, p2)?;
    let ratio = planned_ratio(ratio)?;
    let (z_level, z_power) = rates.quantiles()?;
    if rates.power <= rates.alpha {
        return Err(Undefined::PowerNotAboveLevel);
    }
    let effect = 2.0 * (p2.sqrt().asin() - p1.sqrt().asin());
    let mut shift = z_level + z_power;
    if rates.two_sided {
        let step = |shift: f64| {
            let excess = normal::cdf(shift - z_level) + normal::sf(shift + z_level) - rates.power;
            let slope = normal::density(shift - z_level) - normal::density(shift + z_level);
            (excess, slope)
        };
        shift = root::newton(step, 0.0, shift.max(0.0) + 1.0, shift);
    }
    sizes((1.0 + 1.0 / ratio) * (shift / effect).powi(2), ratio)
}

/// The rates above and below `base` that `n1` and `ratio` times as many units detect; none where even 1 or 0 is not.
pub fn detectable_rates(
    base: f64,
    n1: f64,
    ratio: f64,
    rates: ErrorRates,
) -> Defined<(Option<f64>, Option<f64>)> {
    probability(base)?;
    positive(n1)?;
    planned_ratio(ratio)?;
    rates.quantiles()?;
    let find = |end: f64| {
        let needed = |rate: f64| {
            sample_size(base, rate, ratio, rates).map_or(f64::INFINITY, |sizes| sizes.first)
        };
        if needed(end) > n1 {
            return None;
        }
        // Farther rates need fewer units.
        Some(root::bisect(|rate| n1 - needed(rate), base, end))
    };
    Ok((find(1.0), find(0.0)))
}

fn rates_differ(p1: f64, p2: f64) -> Defined<f64> {
    probability(p1)?;
    probability(p2)?;
    let difference = (p1 - p2).abs();
    if difference == 0.0 {
        return Err(Undefined::NoDifference);
    }
    Ok(difference)
}

fn sizes(first: f64, ratio: f64) -> Defined<ArmSizes> {
    Ok(ArmSizes {
        first: computed(first)?,
        second: computed(first * ratio)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: ErrorRates = ErrorRates {
        alpha: 0.05,
        power: 0.8,
        two_sided: true,
    };

    #[test]
    fn five_per_cent_in_both_meanings() {
        for (effect, plain, corrected) in [
            (DetectableEffect::Absolute(0.05), 1471.0, 1511.0),
            (DetectableEffect::Relative(0.05), 4129.0, 4196.0),
        ] {
            let rate = effect.rate(0.6).unwrap();
            let found = sample_size(0.6, rate, 1.0, RATES).unwrap();
            assert_eq!(found.first_rounded(), plain);
            let found = sample_size_with_continuity(0.6, rate, 1.0, RATES).unwrap();
            assert_eq!(found.first_rounded(), corrected);
        }
    }

    #[test]
    fn the_floors_of_the_design() {
        // 500 per arm: +8.5/−8.8 points at 60%, +4.7/−5.9 at 90%, +3.2/−4.6 at 95%.
        for (base, up, down) in [
            (0.6, 0.085, 0.088),
            (0.9, 0.047, 0.059),
            (0.95, 0.032, 0.046),
        ] {
            let (above, below) = detectable_rates(base, 500.0, 1.0, RATES).unwrap();
            assert!((above.unwrap() - base - up).abs() < 6e-4, "{above:?}");
            assert!((base - below.unwrap() - down).abs() < 6e-4, "{below:?}");
        }
        assert_eq!(detectable_rates(0.9, 20.0, 1.0, RATES).unwrap().0, None);
    }

    #[test]
    fn impossible_plans_are_named() {
        assert_eq!(
            sample_size(0.3, 0.3, 1.0, RATES),
            Err(Undefined::NoDifference)
        );
        assert!(sample_size(0.3, 0.4, 0.0, RATES).is_err());
        assert!(sample_size(0.3, 1.4, 1.0, RATES).is_err());
        let weak = ErrorRates {
            power: 0.01,
            ..RATES
        };
        assert_eq!(
            sample_size(0.3, 0.4, 1.0, weak),
            Err(Undefined::PowerNotAboveLevel)
        );
        assert!(DetectableEffect::Absolute(0.5).rate(0.6).is_err());
    }
}
