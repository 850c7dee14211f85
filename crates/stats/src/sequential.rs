//! Inference that holds however often one looks.
//!
//! If there is no difference, the chance that a sequence ever rejects is at most its level. E-values are kept as natural
//! logarithms, so that no evidence overflows.

pub mod asymptotic;
pub mod bernoulli;
pub mod betting;
pub mod empirical_bernstein;
pub mod group_sequential;
pub mod hybrid;
pub(crate) mod mixture;
pub mod net_win;
pub mod randomisation;
pub mod running;
pub mod t_mixture;

use crate::special::lambert;
use crate::undefined::{Defined, level, positive};

/// ρ² of the normal mixture that is tightest at `planned_units`: (−W₋₁(−α²/e) − 1)/n* (Waudby-Smith et al. 2024).
///
/// Fixed before the start. For a one-sided sequence give twice its level.
pub fn rho_squared(alpha: f64, planned_units: f64) -> Defined<f64> {
    positive(planned_units)?;
    let excess = lambert::excess_of_lower_branch(-2.0 * level(alpha)?.ln())?;
    crate::undefined::computed(excess / planned_units)
}

/// The p-value at any time of evidence e: min(1, 1/e).
#[must_use]
pub fn p_from_log_e(log_e: f64) -> f64 {
    (-log_e).exp().min(1.0)
}
