//! Sample ratio mismatch: whether the arms hold as many units as the plan says.

use crate::sequential::mixture;
use crate::sequential::net_win::log_mean_exp;
use crate::special::chi_squared;
use crate::undefined::{Defined, Undefined, computed, positive};

/// Concentrations over which the evidence is averaged by default.
pub const CONCENTRATIONS: [f64; 3] = [100.0, 1000.0, 10_000.0];
/// The level at which the split counts as broken: E ≥ 1000 at any time.
pub const ALPHA: f64 = 0.001;
/// The expected count that Pearson's test needs in every arm.
const SMALLEST_EXPECTED: f64 = 5.0;

/// Pearson's test of the split, for one look at a fixed time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitTest {
    /// The statistic, with one degree of freedom fewer than arms.
    pub statistic: f64,
    /// The p-value.
    pub p: f64,
    /// The smallest expected count; the p-value is to be trusted from 5 on.
    pub smallest_expected: f64,
}

impl SplitTest {
    /// Whether every arm is expected to hold at least five units.
    #[must_use]
    pub fn is_reliable(&self) -> bool {
        self.smallest_expected >= SMALLEST_EXPECTED
    }
}

/// ln E of the counts under the planned `weights`, for one concentration (Lindon & Malek 2022). Valid at every look.
pub fn log_e(counts: &[u64], weights: &[f64], concentration: f64) -> Defined<f64> {
    positive(concentration)?;
    let (counts, shares) = checked(counts, weights)?;
    computed(mixture::log_e(&counts, &shares, concentration))
}

/// ln E averaged over [`CONCENTRATIONS`]: the default. At ln 1000 the experiment is invalid.
pub fn averaged_log_e(counts: &[u64], weights: &[f64]) -> Defined<f64> {
    let (counts, shares) = checked(counts, weights)?;
    let terms = CONCENTRATIONS
        .iter()
        .map(|concentration| mixture::log_e(&counts, &shares, *concentration));
    computed(log_mean_exp(terms))
}

/// Whether the evidence says that the split is broken.
pub fn is_broken(counts: &[u64], weights: &[f64]) -> Defined<bool> {
    averaged_log_e(counts, weights).map(|log_e| log_e >= -ALPHA.ln())
}

/// Pearson's χ² test of the counts against the planned `weights`.
pub fn chi_squared(counts: &[u64], weights: &[f64]) -> Defined<SplitTest> {
    let (counts, shares) = checked(counts, weights)?;
    let total: f64 = counts.iter().sum();
    if total == 0.0 {
        return Err(Undefined::NoData);
    }
    let mut statistic = 0.0;
    let mut smallest_expected = f64::INFINITY;
    for (count, share) in counts.iter().zip(&shares) {
        let expected = total * share;
        statistic += (count - expected).powi(2) / expected;
        smallest_expected = smallest_expected.min(expected);
    }
    Ok(SplitTest {
        statistic,
        p: chi_squared::sf(statistic, counts.len() as f64 - 1.0)?,
        smallest_expected,
    })
}

/// Counts as numbers, and weights that sum to 1.
fn checked(counts: &[u64], weights: &[f64]) -> Defined<(Vec<f64>, Vec<f64>)> {
    if counts.len() != weights.len() {
        return Err(Undefined::Domain(
            "every arm needs one count and one weight",
        ));
    }
    if counts.len() < 2 {
        return Err(Undefined::Domain("a split has at least two arms"));
    }
    for weight in weights {
        positive(*weight)?;
    }
    let sum = positive(weights.iter().sum())?;
    Ok((
        counts.iter().map(|count| *count as f64).collect(),
        weights.iter().map(|weight| weight / sum).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_split_is_found_and_a_fair_one_is_not() {
        assert_eq!(is_broken(&[50_500, 49_500], &[1.0, 1.0]), Ok(false));
        assert_eq!(is_broken(&[52_000, 48_000], &[1.0, 1.0]), Ok(true));
        assert_eq!(averaged_log_e(&[0, 0], &[1.0, 1.0]), Ok(0.0));
        assert_eq!(chi_squared(&[0, 0], &[1.0, 1.0]), Err(Undefined::NoData));
        assert!(chi_squared(&[1, 2], &[1.0]).is_err());
        assert!(log_e(&[1, 2], &[0.0, 1.0], 100.0).is_err());
        assert!(!chi_squared(&[3, 2], &[0.5, 0.5]).unwrap().is_reliable());
    }

    /// Every sequence of assignments to length 12: the evidence averages exactly 1.
    #[test]
    fn averages_one_under_the_plan() {
        for length in 0..=12u64 {
            let mean: f64 = (0..=length)
                .map(|k| {
                    let ways = (1..=k).fold(1.0, |w, i| w * (length - k + i) as f64 / i as f64);
                    let chance = 0.3f64.powi(k as i32) * 0.7f64.powi((length - k) as i32);
                    ways * chance * averaged_log_e(&[k, length - k], &[0.3, 0.7]).unwrap().exp()
                })
                .sum();
            assert!((mean - 1.0).abs() < 1e-10, "{length}: {mean}");
        }
    }
}
