//! What every estimator ends in: a difference, its standard error, the degrees of freedom and the number of units.

use crate::undefined::{Defined, Undefined, computed, finite};

/// An estimated difference (B − A) that any kind of inference can take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The difference, in the metric's units.
    pub value: f64,
    /// Its standard error, above zero.
    pub standard_error: f64,
    /// Welch-Satterthwaite degrees of freedom; infinite where the variance is known.
    pub degrees_of_freedom: f64,
    /// Independent units in all arms together: users, never requests.
    pub units: f64,
}

/// One arm's part of an estimate: its value and the variance of one unit's contribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmEstimate {
    /// The arm's mean, rate or ratio.
    pub value: f64,
    /// The sample variance of one unit (divisor n − 1), linearised where the value is no plain mean.
    pub unit_variance: f64,
    /// Independent units.
    pub n: u64,
}

/// A difference without a standard error: in neither arm does any value vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constant {
    /// The difference, in the metric's units.
    pub value: f64,
    /// Independent units in all arms together.
    pub units: f64,
}

impl ArmEstimate {
    /// The squared standard error of the arm's value.
    #[must_use]
    pub fn squared_error(&self) -> f64 {
        self.unit_variance / self.n as f64
    }
}

impl Estimate {
    /// `standard_error` must be positive and finite, `degrees_of_freedom` positive.
    pub fn new(
        value: f64,
        standard_error: f64,
        degrees_of_freedom: f64,
        units: f64,
    ) -> Defined<Self> {
        finite(value)?;
        finite(standard_error)?;
        if standard_error < 0.0 {
            return Err(Undefined::Domain("a standard error cannot be negative"));
        }
        if standard_error == 0.0 {
            return Err(Undefined::ZeroVariance);
        }
        if degrees_of_freedom.is_nan() || degrees_of_freedom <= 0.0 {
            return Err(Undefined::Domain("degrees of freedom must be positive"));
        }
        Ok(Self {
            value,
            standard_error,
            degrees_of_freedom,
            units,
        })
    }

    /// B − A with Welch's standard error and degrees of freedom (Welch 1947).
    ///
    /// SE² = vA/nA + vB/nB, ν = SE⁴ / [(vA/nA)²/(nA−1) + (vB/nB)²/(nB−1)]. One variance may be zero, not both.
    pub fn difference(a: &ArmEstimate, b: &ArmEstimate) -> Defined<Self> {
        let (value, error, df) = welch(a, b)?;
        Self::new(value, error, df, a.n as f64 + b.n as f64)
    }

    /// The same, where a much smaller arm's variance is not taken for less than the mean of both by their units.
    ///
    /// The smaller arm's variance s² is raised by (1 − n_small/n_large)·max(0, v̄ − s²), v̄ = (n_A s_A² + n_B s_B²)/(n_A + n_B).
    /// By chance a small arm may have none of the rare or large values that the other has: its mean is low then and its variance
    /// with it, so that under unequal shares equal arms are told apart too often (at 1 to 9 a total that one unit in a hundred
    /// has, 15 to 20% of the time at a level of .05; so .3%). Of arms of one size both deviate alike, and nothing is raised.
    pub fn cautious_difference(a: &ArmEstimate, b: &ArmEstimate) -> Defined<Self> {
        let (n_a, n_b) = (a.n as f64, b.n as f64);
        let mean = (n_a * a.unit_variance + n_b * b.unit_variance) / (n_a + n_b);
        let inequality = 1.0 - n_a.min(n_b) / n_a.max(n_b);
        let raised = |arm: &ArmEstimate, other: &ArmEstimate| {
            let missing = (mean - arm.unit_variance).max(0.0);
            let share = if arm.n < other.n { inequality } else { 0.0 };
            ArmEstimate {
                unit_variance: arm.unit_variance + share * missing,
                ..*arm
            }
        };
        Self::difference(&raised(a, b), &raised(b, a))
    }

    /// (B − A) / |A| by the delta method: SE² = SE_B²/A² + B² SE_A²/A⁴.
    ///
    /// Undefined while |A| ≤ 4 standard errors; see [`fieller`]. A verdict comes from the difference, not from this.
    pub fn relative(a: &ArmEstimate, b: &ArmEstimate) -> Defined<Self> {
        let (difference, _, df) = welch(a, b)?;
        let (error_a, error_b) = (a.squared_error(), b.squared_error());
        if a.value == 0.0 || a.value.abs() <= NEAR_ZERO * error_a.sqrt() {
            return Err(Undefined::ControlNearZero);
        }
        let ratio = b.value / a.value;
        let squared = (error_b + ratio * ratio * error_a) / (a.value * a.value);
        Self::new(
            difference / a.value.abs(),
            squared.sqrt(),
            df,
            a.n as f64 + b.n as f64,
        )
    }

    /// The estimates of several epochs as one: Σ (N_e/N) Δ̂_e.
    ///
    /// Arms are never pooled across changes of allocation (Simpson's paradox). Degrees of freedom by Satterthwaite.
    pub fn pool(epochs: &[Self]) -> Defined<Self> {
        let units: f64 = epochs.iter().map(|epoch| epoch.units).sum();
        if epochs.is_empty() || units <= 0.0 {
            return Err(Undefined::NoData);
        }
        let mut value = 0.0;
        let mut squared = 0.0;
        let mut spread = 0.0;
        for epoch in epochs {
            let weight = epoch.units / units;
            let part = (weight * epoch.standard_error).powi(2);
            value += weight * epoch.value;
            squared += part;
            spread += part * part / epoch.degrees_of_freedom;
        }
        Self::new(value, squared.sqrt(), squared * squared / spread, units)
    }

    /// The same where in some epochs no value varies, which says nothing of how far their differences may be off: they are
    /// averaged with the others, and count as if they were as certain as these are, unit for unit.
    ///
    /// With N_v units in epochs that vary, of N in all, SE = SE_v √(N_v/N), with the degrees of freedom of SE_v.
    ///
    /// # Errors
    /// [`Undefined::ZeroVariance`] where no epoch varies, [`Undefined::NoData`] without any.
    pub fn pool_with_constant(varying: &[Self], constant: &[Constant]) -> Defined<Self> {
        if varying.is_empty() && !constant.is_empty() {
            return Err(Undefined::ZeroVariance);
        }
        let pooled = Self::pool(varying)?;
        let units = pooled.units + constant.iter().map(|epoch| epoch.units).sum::<f64>();
        let sum: f64 = constant.iter().map(|epoch| epoch.units * epoch.value).sum();
        Self::new(
            (pooled.units * pooled.value + sum) / units,
            pooled.standard_error * (pooled.units / units).sqrt(),
            pooled.degrees_of_freedom,
            units,
        )
    }
}

/// Standard errors within which a control's value counts as near zero.
const NEAR_ZERO: f64 = 4.0;

fn welch(a: &ArmEstimate, b: &ArmEstimate) -> Defined<(f64, f64, f64)> {
    let fewest = a.n.min(b.n);
    if fewest < 2 {
        return Err(Undefined::TooFewValues {
            needed: 2,
            found: fewest,
        });
    }
    let (part_a, part_b) = (a.squared_error(), b.squared_error());
    let squared = finite(part_a + part_b)?;
    if squared <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    // By shares, because the squares of very small variances vanish.
    let (share_a, share_b) = (part_a / squared, part_b / squared);
    let df = 1.0 / (share_a * share_a / (a.n - 1) as f64 + share_b * share_b / (b.n - 1) as f64);
    Ok((finite(b.value - a.value)?, squared.sqrt(), computed(df)?))
}

/// Fieller's interval for (B − A)/A with independent arms, at the critical value of t or of a sequence (Fieller 1954).
///
/// Unbounded, hence undefined, while A differs from zero by less than the critical value.
pub fn fieller(a: &ArmEstimate, b: &ArmEstimate, critical: f64) -> Defined<crate::Interval> {
    welch(a, b)?;
    finite(critical)?;
    let square = critical * critical;
    let (error_a, error_b) = (a.squared_error(), b.squared_error());
    let leading = a.value * a.value - square * error_a;
    if leading <= 0.0 {
        return Err(Undefined::ControlNearZero);
    }
    let product = a.value * b.value;
    let inner = product * product - leading * (b.value * b.value - square * error_b);
    let half = inner.max(0.0).sqrt() / leading;
    let centre = product / leading;
    // The sign of A turns the ratio B/A − 1 into a change relative to |A|.
    let sign = a.value.signum();
    let ends = (sign * (centre - half - 1.0), sign * (centre + half - 1.0));
    Ok(crate::Interval {
        low: computed(ends.0.min(ends.1))?,
        high: computed(ends.0.max(ends.1))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(value: f64, unit_variance: f64, n: u64) -> ArmEstimate {
        ArmEstimate {
            value,
            unit_variance,
            n,
        }
    }

    #[test]
    fn undefined_states_have_names() {
        let (a, b) = (arm(1.0, 0.0, 5), arm(2.0, 0.0, 5));
        assert_eq!(Estimate::difference(&a, &b), Err(Undefined::ZeroVariance));
        let one = arm(1.0, 1.0, 1);
        assert_eq!(
            Estimate::difference(&one, &b),
            Err(Undefined::TooFewValues {
                needed: 2,
                found: 1
            })
        );
        let vague = arm(0.1, 1.0, 100);
        assert_eq!(
            Estimate::relative(&vague, &arm(0.3, 1.0, 100)),
            Err(Undefined::ControlNearZero)
        );
    }

    #[test]
    fn fieller_tends_to_the_delta_method() {
        let (a, b) = (arm(3.1, 1.9, 60_000), arm(3.4, 2.2, 58_000));
        let delta = Estimate::relative(&a, &b).unwrap();
        let found = fieller(&a, &b, 1.96).unwrap();
        assert!((found.low - (delta.value - 1.96 * delta.standard_error)).abs() < 2e-5);
        assert!((found.high - (delta.value + 1.96 * delta.standard_error)).abs() < 2e-5);
        assert!(fieller(&arm(0.1, 1.0, 100), &b, 1.96).is_err());
    }

    #[test]
    fn an_arm_without_rare_values_is_no_certain_one() {
        let arm = |value: f64, unit_variance: f64, n: u64| ArmEstimate {
            value,
            unit_variance,
            n,
        };
        // 25 of 1,952 against none of 248, which chance makes in .9^25 = 7% of all cases on one side alone.
        let (control, small) = (arm(25.0 / 1952.0, 0.01265, 1952), arm(0.0, 0.0, 248));
        let t = |found: Estimate| found.value / found.standard_error;
        assert!(t(Estimate::difference(&control, &small).unwrap()) < -5.0);
        let cautious = Estimate::cautious_difference(&control, &small).unwrap();
        assert!(t(cautious) > -2.0, "{cautious:?}");
        // Where variances or sizes are equal nothing is different.
        let (one, two) = (arm(1.0, 0.2, 300), arm(1.1, 0.2, 500));
        let plain = Estimate::difference(&one, &two).unwrap();
        assert_eq!(Estimate::cautious_difference(&one, &two), Ok(plain));
        let (narrow, wide) = (arm(1.0, 0.1, 500), arm(1.0, 0.3, 500));
        let plain = Estimate::difference(&narrow, &wide).unwrap();
        assert_eq!(Estimate::cautious_difference(&narrow, &wide), Ok(plain));
        let narrow = arm(1.0, 0.1, 300);
        let raised = Estimate::cautious_difference(&narrow, &two).unwrap();
        let mean = (300.0 * 0.1 + 500.0 * 0.2) / 800.0;
        let own = 0.1 + (1.0 - 300.0 / 500.0) * (mean - 0.1);
        let squared = own / 300.0 + 0.2 / 500.0;
        assert!((raised.standard_error.powi(2) - squared).abs() < 1e-15);
        let swapped = Estimate::cautious_difference(&two, &narrow).unwrap();
        assert_eq!(swapped.standard_error, raised.standard_error);
        assert_eq!(swapped.value, -raised.value);
    }

    #[test]
    fn epochs_that_do_not_vary_count_as_the_others() {
        let varying = Estimate::new(2.0, 0.5, 40.0, 300.0).unwrap();
        let constant = |value: f64, units: f64| Constant { value, units };
        let pooled =
            Estimate::pool_with_constant(&[varying], &[constant(0.0, 80.0), constant(5.0, 20.0)]);
        let pooled = pooled.unwrap();
        assert!((pooled.value - (300.0 * 2.0 + 20.0 * 5.0) / 400.0).abs() < 1e-12);
        // What is averaged, with a variance per unit that is the same in all of them.
        let part = |units: f64| (units / 400.0 * 0.5 * (300.0 / units).sqrt()).powi(2);
        let squared = part(300.0) + part(80.0) + part(20.0);
        assert!((pooled.standard_error - squared.sqrt()).abs() < 1e-12);
        assert!((pooled.degrees_of_freedom - 40.0).abs() < 1e-9);
        assert_eq!(pooled.units, 400.0);
        let none = Estimate::pool_with_constant(&[], &[constant(5.0, 20.0)]);
        assert_eq!(none, Err(Undefined::ZeroVariance));
        assert_eq!(
            Estimate::pool_with_constant(&[], &[]),
            Err(Undefined::NoData)
        );
    }

    #[test]
    fn epochs_pool_by_their_units() {
        let first = Estimate::new(0.2, 0.1, 50.0, 100.0).unwrap();
        let second = Estimate::new(0.4, 0.1, 50.0, 300.0).unwrap();
        let pooled = Estimate::pool(&[first, second]).unwrap();
        assert!((pooled.value - 0.35).abs() < 1e-15);
        assert!((pooled.standard_error - 0.1 * 0.625f64.sqrt()).abs() < 1e-15);
        assert_eq!(Estimate::pool(&[]), Err(Undefined::NoData));
    }
}
