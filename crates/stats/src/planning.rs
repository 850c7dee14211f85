//! How many units a comparison needs, and how long it takes.
//!
//! Sizes are real numbers; plans round them up per arm and show both.

pub mod duration;
pub mod means;
pub mod paired;
pub mod proportions;
pub mod ranks;

use crate::special::normal;
use crate::undefined::{Defined, Undefined, level};

/// What a test may get wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRates {
    /// The level α.
    pub alpha: f64,
    /// The power 1 − β at the planned difference.
    pub power: f64,
    /// Whether the level is shared by both sides.
    pub two_sided: bool,
}

impl ErrorRates {
    /// z of the level and of the power. The power must exceed the level of one side.
    pub(crate) fn quantiles(self) -> Defined<(f64, f64)> {
        let side = self.side()?;
        level(self.power)?;
        if self.power <= side {
            return Err(Undefined::PowerNotAboveLevel);
        }
        Ok((normal::upper_quantile(side)?, normal::quantile(self.power)?))
    }

    /// The level of one side.
    pub(crate) fn side(self) -> Defined<f64> {
        let alpha = level(self.alpha)?;
        Ok(if self.two_sided { alpha / 2.0 } else { alpha })
    }
}

/// Units of both arms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmSizes {
    /// Units of the control, as a real number.
    pub first: f64,
    /// Units of the other arm: `first` times the ratio.
    pub second: f64,
}

impl ArmSizes {
    /// The control's units, rounded up.
    #[must_use]
    pub fn first_rounded(&self) -> f64 {
        self.first.ceil()
    }

    /// The other arm's units, rounded up.
    #[must_use]
    pub fn second_rounded(&self) -> f64 {
        self.second.ceil()
    }
}

pub(crate) fn planned_ratio(ratio: f64) -> Defined<f64> {
    if ratio > 0.0 && ratio.is_finite() {
        Ok(ratio)
    } else {
        Err(Undefined::Domain(
            "the ratio of the arms must be positive and finite",
        ))
    }
}
