//! Checks of the data before any number is read: merged units, delays, and a judge's bias.

use crate::agreement::{Rate, rate};
use crate::undefined::{Defined, Undefined};

/// The share of units seen in two arms above which an experiment is invalid.
pub const MOST_IN_TWO_ARMS: f64 = 0.01;
/// The share of verdicts that follow the order of the answers above which a judge is unreliable on the task.
pub const MOST_FLIPS: f64 = 0.30;

/// Whether too many units were seen in two arms and dropped from both.
pub fn too_many_in_two_arms(in_two_arms: u64, units: u64) -> Defined<bool> {
    if units == 0 {
        return Err(Undefined::NoData);
    }
    Ok(in_two_arms as f64 > MOST_IN_TWO_ARMS * units as f64)
}

/// Verdicts of a judge that saw each pair in both orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PositionCounts {
    /// Pairs judged in both orders.
    pub pairs: u64,
    /// Pairs whose verdicts contradicted each other.
    pub flips: u64,
    /// Single verdicts for the answer shown first.
    pub first_wins: u64,
    /// Single verdicts for either answer.
    pub decisive: u64,
}

/// A judge's position bias.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositionBias {
    /// The share of pairs whose verdicts follow the order.
    pub flips: Rate,
    /// The share of decisive verdicts for the answer shown first.
    pub first_wins: Rate,
    /// Whether automatic promotion must be off.
    pub unreliable: bool,
}

/// Shares with Wilson's intervals, and whether flips exceed 30%.
pub fn position_bias(counts: PositionCounts, alpha: f64) -> Defined<PositionBias> {
    let flips = rate(counts.flips, counts.pairs, alpha)?;
    Ok(PositionBias {
        flips,
        first_wins: rate(counts.first_wins, counts.decisive, alpha)?,
        unreliable: flips.value > MOST_FLIPS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds() {
        assert_eq!(too_many_in_two_arms(10, 1000), Ok(false));
        assert_eq!(too_many_in_two_arms(11, 1000), Ok(true));
        assert_eq!(too_many_in_two_arms(0, 0), Err(Undefined::NoData));
        let counts = PositionCounts {
            pairs: 100,
            flips: 31,
            first_wins: 80,
            decisive: 150,
        };
        assert!(position_bias(counts, 0.05).unwrap().unreliable);
    }
}
