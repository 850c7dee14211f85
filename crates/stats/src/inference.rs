//! From an estimate to an interval and a p-value, in the mode that the plan has fixed.

use crate::Interval;
use crate::estimate::Estimate;
use crate::sequential::{asymptotic, t_mixture};
use crate::special::{normal, student_t};
use crate::undefined::{Defined, Undefined, computed, finite, level};

/// How a result may be read. Fixed before the start; modes are never mixed after seeing data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The t-mixture confidence sequence: valid at any time, and the default.
    Anytime {
        /// The mixture's ρ², from [`crate::sequential::rho_squared`].
        rho_squared: f64,
    },
    /// The asymptotic confidence sequence: the same with a known variance.
    Asymptotic {
        /// The mixture's ρ².
        rho_squared: f64,
    },
    /// One of the planned looks, with its boundary from [`crate::sequential::group_sequential`].
    Planned {
        /// |z| at which this look rejects.
        boundary: f64,
    },
    /// One look, at the planned number of units.
    Fixed,
}

/// An interval and a p-value for a difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inference {
    /// The estimated difference.
    pub estimate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// How many standard errors the interval reaches to either side.
    pub critical: Defined<f64>,
    /// The two-sided interval; undefined while a sequence is unbounded.
    pub interval: Defined<Interval>,
    /// The two-sided p-value of no difference; of this look only in the sequential modes, where the running minimum is
    /// reported. Of planned looks the repeated p-value is not computed: they reject by their boundary.
    pub p: Defined<f64>,
}

/// The two-sided interval at level `alpha` and the p-value of no difference.
pub fn infer(estimate: &Estimate, mode: Mode, alpha: f64) -> Defined<Inference> {
    level(alpha)?;
    let Estimate {
        value,
        standard_error,
        degrees_of_freedom: df,
        units,
    } = *estimate;
    let ratio = value / standard_error;
    let (critical, p) = match mode {
        Mode::Anytime { rho_squared } => (
            t_mixture::critical(units, df, rho_squared, alpha),
            t_mixture::p_value(ratio, units, df, rho_squared),
        ),
        Mode::Asymptotic { rho_squared } => (
            asymptotic::critical(units, rho_squared, alpha),
            asymptotic::p_value(ratio, units, rho_squared),
        ),
        Mode::Planned { boundary } => (
            finite(boundary),
            Err(Undefined::Domain(
                "a planned look rejects by its boundary, not by a p-value",
            )),
        ),
        Mode::Fixed => (
            student_t::upper_quantile(alpha / 2.0, df),
            student_t::two_sided(ratio, df),
        ),
    };
    Ok(Inference {
        estimate: value,
        standard_error,
        critical,
        interval: critical.and_then(|critical| around(value, critical * standard_error)),
        p,
    })
}

/// The one-sided test of H0: difference ≤ `null` against a greater one, at a fixed sample.
pub fn fixed_greater(estimate: &Estimate, null: f64) -> Defined<f64> {
    finite(null)?;
    let ratio = (estimate.value - null) / estimate.standard_error;
    student_t::sf(ratio, estimate.degrees_of_freedom)
}

/// The z interval, for estimates whose variance counts as known.
pub fn normal_interval(value: f64, standard_error: f64, alpha: f64) -> Defined<Interval> {
    let z = normal::upper_quantile(level(alpha)? / 2.0)?;
    around(value, z * standard_error)
}

fn around(value: f64, half: f64) -> Defined<Interval> {
    Ok(Interval {
        low: computed(value - half)?,
        high: computed(value + half)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_below_alpha_and_an_interval_without_zero_are_the_same() {
        let modes = [
            Mode::Fixed,
            Mode::Anytime { rho_squared: 2e-3 },
            Mode::Asymptotic { rho_squared: 2e-3 },
        ];
        for mode in modes {
            for step in 0..200 {
                let ratio = f64::from(step) * 0.03;
                let estimate = Estimate::new(ratio * 0.7, 0.7, 35.0, 400.0).unwrap();
                let found = infer(&estimate, mode, 0.05).unwrap();
                let excludes = found.interval.is_ok_and(|interval| interval.low > 0.0);
                assert_eq!(excludes, found.p.unwrap() < 0.05, "{mode:?} {ratio}");
            }
        }
    }

    #[test]
    fn smaller_levels_give_wider_intervals_around_the_estimate() {
        let estimate = Estimate::new(0.3, 0.1, 500.0, 502.0).unwrap();
        let modes = [
            Mode::Fixed,
            Mode::Anytime { rho_squared: 0.01 },
            Mode::Asymptotic { rho_squared: 0.01 },
        ];
        for mode in modes {
            let mut last = 0.0;
            for alpha in [0.5, 0.2, 0.1, 0.05, 0.01, 1e-3, 1e-6] {
                let interval = infer(&estimate, mode, alpha).unwrap().interval.unwrap();
                assert!(interval.low < 0.3 && 0.3 < interval.high);
                assert!(interval.high - interval.low > last, "{mode:?} {alpha}");
                last = interval.high - interval.low;
            }
        }
        assert!(infer(&estimate, Mode::Fixed, 0.0).is_err());
        assert!(infer(&estimate, Mode::Fixed, f64::NAN).is_err());
    }
}
