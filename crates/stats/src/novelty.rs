//! Whether an effect changes with the days since a user's first exposure, and whether A/A tests behave.

use crate::Interval;
use crate::estimate::Estimate;
use crate::inference;
use crate::special::student_t;
use crate::undefined::{Defined, Undefined, computed, probability};

/// The p-value below which a change of the effect is flagged.
pub const FLAG_BELOW: f64 = 0.01;

/// How an effect differs between two stretches of exposure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Later less earlier effect.
    pub difference: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The two-sided p-value of no change.
    pub p: f64,
    /// The interval of the change.
    pub interval: Interval,
}

/// The effect in the second half of exposure against that in the first, by days since first exposure, not by calendar.
///
/// The halves count as independent, which a user with days in both makes slightly conservative for positive correlation.
pub fn halves(first: &Estimate, second: &Estimate, alpha: f64) -> Defined<Change> {
    let standard_error = first.standard_error.hypot(second.standard_error);
    let part = |estimate: &Estimate| {
        (estimate.standard_error / standard_error).powi(4) / estimate.degrees_of_freedom
    };
    let df = 1.0 / (part(first) + part(second));
    let difference = computed(second.value - first.value)?;
    let estimate = Estimate::new(difference, standard_error, df, first.units + second.units)?;
    let inference = inference::infer(&estimate, inference::Mode::Fixed, alpha)?;
    Ok(Change {
        difference,
        standard_error,
        p: inference.p?,
        interval: inference.interval?,
    })
}

/// The slope of the effect over days, by least squares with weights 1/SE²: value per day, SE, and p.
pub fn slope(days: &[(f64, Estimate)], alpha: f64) -> Defined<Change> {
    if days.len() < 3 {
        return Err(Undefined::TooFewValues {
            needed: 3,
            found: days.len() as u64,
        });
    }
    let weight = |estimate: &Estimate| estimate.standard_error.powi(-2);
    let total: f64 = days.iter().map(|(_, effect)| weight(effect)).sum();
    let centre = days
        .iter()
        .map(|(day, effect)| day * weight(effect))
        .sum::<f64>()
        / total;
    let spread: f64 = days
        .iter()
        .map(|(day, effect)| (day - centre).powi(2) * weight(effect))
        .sum();
    if spread.is_nan() || spread <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let difference = days
        .iter()
        .map(|(day, effect)| (day - centre) * effect.value * weight(effect))
        .sum::<f64>()
        / spread;
    let standard_error = spread.powf(-0.5);
    Ok(Change {
        difference: computed(difference)?,
        standard_error,
        p: student_t::two_sided(difference / standard_error, f64::INFINITY)?,
        interval: inference::normal_interval(difference, standard_error, alpha)?,
    })
}

/// The Kolmogorov-Smirnov p-value that p-values are uniform, as those of A/A tests must be; flagged below .001.
///
/// Kolmogorov's limiting distribution at (√n + 0.12 + 0.11/√n) D (Stephens 1970).
pub fn uniformity(p_values: &[f64]) -> Defined<f64> {
    if p_values.is_empty() {
        return Err(Undefined::NoData);
    }
    for p in p_values {
        probability(*p)?;
    }
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(index, p)| {
            let index = index as f64;
            f64::max(p - index / n, (index + 1.0) / n - p)
        })
        .fold(0.0, f64::max);
    let scaled = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    if scaled < 0.2 {
        return Ok(1.0);
    }
    let sum: f64 = (1..=100)
        .map(|k| {
            let k = f64::from(k);
            let sign = if k % 2.0 == 1.0 { 1.0 } else { -1.0 };
            sign * (-2.0 * k * k * scaled * scaled).exp()
        })
        .sum();
    Ok((2.0 * sum).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(value: f64) -> Estimate {
        Estimate::new(value, 0.1, 500.0, 502.0).unwrap()
    }

    #[test]
    fn a_fading_effect_is_flagged() {
        let change = halves(&effect(1.0), &effect(0.2), 0.05).unwrap();
        assert!(change.p < FLAG_BELOW && change.interval.high < 0.0);
        let days: Vec<_> = (0..10)
            .map(|day| (f64::from(day), effect(1.0 - 0.1 * f64::from(day))))
            .collect();
        let slope = slope(&days, 0.05).unwrap();
        assert!((slope.difference + 0.1).abs() < 1e-12 && slope.p < FLAG_BELOW);
        assert!(super::slope(&days[..2], 0.05).is_err());
    }

    #[test]
    fn uniform_p_values_pass() {
        let uniform: Vec<f64> = (0..200).map(|k| (f64::from(k) + 0.5) / 200.0).collect();
        assert!(uniformity(&uniform).unwrap() > 0.99);
        let small: Vec<f64> = uniform.iter().map(|p| p * p).collect();
        assert!(uniformity(&small).unwrap() < 0.001);
        assert_eq!(uniformity(&[]), Err(Undefined::NoData));
    }
}
