//! The hybrid: a confidence sequence while running, and one test at the planned size.

use crate::estimate::Estimate;
use crate::inference::{Inference, Mode, infer};
use crate::undefined::Defined;

/// The sequence's share of the level by default.
pub const RUNNING_ALPHA: f64 = 0.01;
/// The last test's share.
pub const FINAL_ALPHA: f64 = 0.04;

/// Inference while running, at `running_alpha`, or, at the planned number of units and only once, at `final_alpha`. The
/// total error is at most their sum.
pub fn look(
    estimate: &Estimate,
    rho_squared: f64,
    is_final: bool,
    running_alpha: f64,
    final_alpha: f64,
) -> Defined<Inference> {
    if is_final {
        infer(estimate, Mode::Fixed, final_alpha)
    } else {
        infer(estimate, Mode::Anytime { rho_squared }, running_alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_look_is_narrower() {
        let estimate = Estimate::new(0.2, 0.1, 998.0, 1000.0).unwrap();
        let running = look(&estimate, 0.01, false, RUNNING_ALPHA, FINAL_ALPHA).unwrap();
        let at_end = look(&estimate, 0.01, true, RUNNING_ALPHA, FINAL_ALPHA).unwrap();
        assert!(at_end.critical.unwrap() < running.critical.unwrap());
    }
}
