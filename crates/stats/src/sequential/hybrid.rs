//! The hybrid: a confidence sequence while running, and one test at the planned size.

use crate::estimate::Estimate;
use crate::inference::{Inference, Mode, infer};
use crate::undefined::Defined;

/// The sequence's share of the level: .01 of .05.
pub const RUNNING_SHARE: f64 = 0.2;

/// Inference while running, at a fifth of the level, or, at the planned number of units and only once, at the rest of it. The
/// total error is at most their sum, `alpha`.
pub fn look(
    estimate: &Estimate,
    rho_squared: f64,
    is_final: bool,
    alpha: f64,
) -> Defined<Inference> {
    if is_final {
        infer(estimate, Mode::Fixed, alpha * (1.0 - RUNNING_SHARE))
    } else {
        infer(
            estimate,
            Mode::Anytime { rho_squared },
            alpha * RUNNING_SHARE,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_look_is_narrower() {
        let estimate = Estimate::new(0.2, 0.1, 998.0, 1000.0).unwrap();
        let running = look(&estimate, 0.01, false, 0.05).unwrap();
        let at_end = look(&estimate, 0.01, true, 0.05).unwrap();
        assert!(at_end.critical.unwrap() < running.critical.unwrap());
    }

    #[test]
    fn the_level_is_divided_whatever_it_is() {
        let estimate = Estimate::new(0.2, 0.1, 998.0, 1000.0).unwrap();
        for alpha in [0.01, 0.05, 0.1] {
            let mode = Mode::Anytime { rho_squared: 0.01 };
            let running = infer(&estimate, mode, 0.2 * alpha);
            assert_eq!(look(&estimate, 0.01, false, alpha), running);
            let at_end = infer(&estimate, Mode::Fixed, 0.8 * alpha);
            assert_eq!(look(&estimate, 0.01, true, alpha), at_end);
        }
    }
}
