//! Power and sample sizes for two means.

use super::{ArmSizes, ErrorRates, planned_ratio};
use crate::special::{noncentral_t, root, student_t};
use crate::undefined::{Defined, Undefined, computed, finite};

/// ln of the largest number of units that is looked for.
const LARGEST_LOG: f64 = 70.0;

/// The power of the t test with `n1` and `n2` units against a difference of `d` standard deviations.
///
/// Two-sided 1 − F(t_c; ν, δ) + F(−t_c; ν, δ), one-sided its first part, with ν = n1+n2−2 and δ = d √(n1n2/(n1+n2)).
pub fn power(d: f64, n1: f64, n2: f64, alpha: f64, two_sided: bool) -> Defined<f64> {
    finite(d)?;
    let df = n1 + n2 - 2.0;
    if !(n1 > 0.0 && n2 > 0.0 && df > 0.0 && df.is_finite()) {
        return Err(Undefined::Domain(
            "the arms need more than two units together",
        ));
    }
    let rates = ErrorRates {
        alpha,
        power: 0.5,
        two_sided,
    };
    let critical = student_t::upper_quantile(rates.side()?, df)?;
    let shift = d * (n1 * n2 / (n1 + n2)).sqrt();
    let upper = noncentral_t::sf(critical, df, shift)?;
    if two_sided {
        Ok((upper + noncentral_t::cdf(-critical, df, shift)?).min(1.0))
    } else {
        Ok(upper)
    }
}

/// Units for the t test to detect `d` = Δ/σ standard deviations; `ratio` is n2/n1.
///
/// Solves the power for n1, which need not be an integer. σ comes from two to four weeks of the metric at the same unit;
/// for a metric per request it is the linearised one of a user ([`crate::ratio::arm`]).
pub fn sample_size(d: f64, ratio: f64, rates: ErrorRates) -> Defined<ArmSizes> {
    finite(d)?;
    let ratio = planned_ratio(ratio)?;
    let (z_level, z_power) = rates.quantiles()?;
    if rates.power <= rates.alpha {
        return Err(Undefined::PowerNotAboveLevel);
    }
    // One-sided tests look for an increase.
    if d == 0.0 || (d < 0.0 && !rates.two_sided) {
        return Err(Undefined::NoDifference);
    }
    let normal = (1.0 + 1.0 / ratio) * ((z_level + z_power) / d).powi(2);
    let start = normal + z_level * z_level / 4.0;
    // Over ln of the degrees of freedom, which must be positive.
    let units = |log: f64| (log.exp() + 2.0) / (1.0 + ratio);
    let excess = |log: f64| {
        let n1 = units(log);
        power(d.abs(), n1, n1 * ratio, rates.alpha, rates.two_sided)
            .map_or(f64::NAN, |power| power - rates.power)
    };
    let first_guess = (start * (1.0 + ratio) - 2.0).max(1e-3).ln();
    let step = |log: f64| {
        let value = excess(log);
        let width = 1e-4;
        (value, (excess(log + width) - value) / width)
    };
    let log = root::newton(step, -12.0, LARGEST_LOG, first_guess);
    if log <= -11.9 || log >= LARGEST_LOG - 0.1 {
        return Err(Undefined::OutOfRange);
    }
    let first = computed(units(log))?;
    Ok(ArmSizes {
        first,
        second: first * ratio,
    })
}

/// The difference in standard deviations that `n1` and `n2` units detect: what has been reached so far.
pub fn detectable_effect(n1: f64, n2: f64, rates: ErrorRates) -> Defined<f64> {
    rates.quantiles()?;
    if rates.power <= rates.alpha {
        return Err(Undefined::PowerNotAboveLevel);
    }
    power(0.0, n1, n2, rates.alpha, rates.two_sided)?;
    let excess = |log: f64| {
        power(log.exp(), n1, n2, rates.alpha, rates.two_sided)
            .map_or(f64::NAN, |power| power - rates.power)
    };
    // Over ln d: by halving, because far from the root the power is flat.
    Ok(root::bisect(excess, -60.0, 12.0).exp())
}

/// Sample sizes plan each guardrail of G at power 1 − β/(G+1), because all must pass (Schultzberg, Ankargren & Frånberg
/// 2024).
pub fn power_with_guardrails(power: f64, guardrails: u32) -> Defined<f64> {
    crate::undefined::level(power)?;
    Ok(1.0 - (1.0 - power) / (f64::from(guardrails) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_matches_statsmodels() {
        // Reference: statsmodels 0.15 TTestIndPower().power and solve_power.
        for (d, n1, n2, two_sided, expected) in POWERS {
            let found = power(d, n1, n2, 0.05, two_sided).unwrap();
            assert!((found - expected).abs() < 1e-9, "{d} {n1}: {found}");
        }
        for (d, ratio, target, two_sided, expected) in SIZES {
            let rates = ErrorRates {
                alpha: 0.05,
                power: target,
                two_sided,
            };
            let found = sample_size(d, ratio, rates).unwrap().first;
            assert!((found - expected).abs() < 1e-6 * expected, "{d}: {found}");
        }
    }

    const POWERS: [(f64, f64, f64, bool, f64); 4] = [
        (0.3, 50.0, 60.0, true, 0.3421556538618306),
        (0.3, 50.0, 60.0, false, 0.46494757716147783),
        (2.0, 3.0, 3.0, true, 0.46264081189130635),
        (0.01, 100000.0, 100000.0, true, 0.6087753619146367),
    ];
    const SIZES: [(f64, f64, f64, bool, f64); 7] = [
        (0.28, 1.0, 0.8, true, 201.1909113902554),
        (0.05, 0.5, 0.9, true, 12610.183915228252),
        (0.5, 2.0, 0.8, false, 37.554522788133966),
        (2.5, 1.0, 0.95, true, 5.343537908213557),
        (0.001, 1.0, 0.8, true, 15697721.979017166),
        (-0.3, 1.0, 0.8, true, 175.38466947047482),
        (0.0001, 1.0, 0.9, true, 2101483882.8985136),
    ];

    #[test]
    fn the_floor_of_the_design() {
        let rates = ErrorRates {
            alpha: 0.05,
            power: 0.8,
            two_sided: true,
        };
        let found = detectable_effect(200.0, 200.0, rates).unwrap();
        assert!((found - 0.281).abs() < 5e-4, "{found}");
        let units = sample_size(found, 1.0, rates).unwrap().first;
        assert!((units - 200.0).abs() < 1e-6, "{units}");
        assert!(detectable_effect(1.0, 1.0, rates).is_err());
    }

    #[test]
    fn no_difference_has_no_size() {
        let rates = ErrorRates {
            alpha: 0.05,
            power: 0.8,
            two_sided: true,
        };
        assert_eq!(sample_size(0.0, 1.0, rates), Err(Undefined::NoDifference));
        assert!(sample_size(f64::NAN, 1.0, rates).is_err());
        assert!(power(0.2, 1.0, 1.0, 0.05, true).is_err());
        assert!((power_with_guardrails(0.8, 4).unwrap() - 0.96).abs() < 1e-15);
    }
}
