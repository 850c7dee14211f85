//! Quantiles, such as the median and the 95th percentile of latency, and their differences.

use crate::Interval;
use crate::accumulate::{CrossMoments, LogHistogram};
use crate::estimate::{ArmEstimate, Estimate};
use crate::ratio;
use crate::special::{binomial, normal};
use crate::undefined::{Defined, Undefined, computed, finite, level, open_probability};

/// Values that must lie above a quantile before differences of it are shown.
const FEWEST_BEYOND: f64 = 10.0;

/// Which order statistics, counted from 1, bound a quantile; none where the sample is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    /// The rank of the lower bound.
    pub lower: Option<u64>,
    /// The rank of the upper bound.
    pub upper: Option<u64>,
}

/// A quantile with its bounds, in the units of the values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantileInterval {
    /// The sample quantile: the order statistic of rank ⌈np⌉.
    pub estimate: f64,
    /// The lower bound; none means that it is infinite.
    pub lower: Option<f64>,
    /// The upper bound; none means that it is infinite.
    pub upper: Option<f64>,
}

/// The ranks of the distribution-free interval for the `p` quantile of `n` values (David & Nagaraja 2003).
///
/// l = max{k: P(Bin(n,p) ≤ k−1) ≤ α/2} and u = min{k: P(Bin(n,p) ≤ k−1) ≥ 1 − α/2}; each tail is at most α/2.
pub fn ranks(n: u64, p: f64, alpha: f64) -> Defined<Ranks> {
    open_probability(p)?;
    let tail = level(alpha)? / 2.0;
    if n == 0 {
        return Err(Undefined::NoData);
    }
    // Said with whichever tail is the smaller, so that 1 − α/2 is never formed.
    let lower = first_rank(n, |k| Ok(binomial::cdf(k - 1, n, p)? > tail))?;
    let upper = first_rank(n, |k| Ok(binomial::sf(k - 1, n, p)? <= tail))?;
    Ok(Ranks {
        lower: match lower {
            None => Some(n),
            Some(rank) if rank > 1 => Some(rank - 1),
            Some(_) => None,
        },
        upper,
    })
}

/// The smallest rank from 1 to n that a monotone condition holds for.
fn first_rank(n: u64, holds: impl Fn(u64) -> Defined<bool>) -> Defined<Option<u64>> {
    if !holds(n)? {
        return Ok(None);
    }
    let (mut fails, mut meets) = (0, n);
    while meets - fails > 1 {
        let middle = fails + (meets - fails) / 2;
        if holds(middle)? {
            meets = middle;
        } else {
            fails = middle;
        }
    }
    Ok(Some(meets))
}

/// The ranks when values come in clusters: those of n/deff independent values, spread over the sample.
///
/// `design_effect` is the variance of the clustered mean of 1{x ≤ q̂} over p(1−p)/n, at least 1.
pub fn clustered_ranks(n: u64, p: f64, alpha: f64, design_effect: f64) -> Defined<Ranks> {
    finite(design_effect)?;
    let effect = design_effect.max(1.0);
    let independent = (n as f64 / effect).floor();
    if independent < 1.0 {
        return Err(Undefined::NoData);
    }
    let few = ranks(independent as u64, p, alpha)?;
    let spread = n as f64 / independent;
    Ok(Ranks {
        lower: few
            .lower
            .map(|rank| ((rank as f64 * spread).floor() as u64).max(1)),
        upper: few
            .upper
            .map(|rank| ((rank as f64 * spread).ceil() as u64).min(n)),
    })
}

/// The design effect of clustered values at their `p` quantile q̂, from each user's number of values up to q̂ (column 0)
/// and of all values (column 1): Var of the delta-method mean of 1{x ≤ q̂} over p(1−p)/n.
pub fn design_effect(users: &CrossMoments<2>, p: f64) -> Defined<f64> {
    open_probability(p)?;
    let arm = ratio::arm(users)?;
    let values = users.mean(1)? * users.n() as f64;
    computed(arm.squared_error() * values / (p * (1.0 - p)))
}

/// The `p` quantile of a sample with its distribution-free interval.
pub fn interval(values: &[f64], p: f64, alpha: f64) -> Defined<QuantileInterval> {
    for value in values {
        finite(*value)?;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as u64;
    let ranks = ranks(n, p, alpha)?;
    let at = |rank: u64| sorted.get(rank as usize - 1).copied();
    Ok(QuantileInterval {
        estimate: at(sample_rank(n, p)).ok_or(Undefined::NoData)?,
        lower: ranks.lower.and_then(at),
        upper: ranks.upper.and_then(at),
    })
}

/// The same from a histogram: each bound is widened to the edge of its bucket, the estimate is the middle of its own.
pub fn interval_of_histogram(
    histogram: &LogHistogram,
    p: f64,
    alpha: f64,
) -> Defined<QuantileInterval> {
    clustered_interval_of_histogram(histogram, p, alpha, 1.0)
}

/// The same where values come in clusters: they count for as many independent ones as `design_effect` leaves.
pub fn clustered_interval_of_histogram(
    histogram: &LogHistogram,
    p: f64,
    alpha: f64,
    design_effect: f64,
) -> Defined<QuantileInterval> {
    let n = histogram.n();
    let ranks = clustered_ranks(n, p, alpha, design_effect)?;
    let bucket = |rank| histogram.bucket_of_rank(rank);
    let (low, high) = bucket(sample_rank(n, p)).ok_or(Undefined::NoData)?;
    Ok(QuantileInterval {
        estimate: 0.5 * (low + high),
        lower: ranks.lower.and_then(bucket).map(|(low, _)| low),
        upper: ranks.upper.and_then(bucket).map(|(_, high)| high),
    })
}

fn sample_rank(n: u64, p: f64) -> u64 {
    ((n as f64 * p).ceil() as u64).clamp(1, n.max(1))
}

/// Whether a sample of this size has the ten values beyond the quantile that a difference needs.
#[must_use]
pub fn enough_for_difference(n: u64, p: f64) -> bool {
    // A tenth of 100 values is ten of them, also where its double falls just below.
    let fewest = FEWEST_BEYOND - 1e-9;
    n as f64 * (1.0 - p) >= fewest && n as f64 * p >= fewest
}

/// The interval for a difference of quantiles, B − A, from those of the arms (MOVER; Zou & Donner 2008).
///
/// L = d − √((q_B−l_B)² + (u_A−q_A)²), and U alike.
pub fn mover_difference(a: &QuantileInterval, b: &QuantileInterval) -> Defined<Interval> {
    let bounds = [a.lower, a.upper, b.lower, b.upper];
    let [Some(lower_a), Some(upper_a), Some(lower_b), Some(upper_b)] = bounds else {
        return Err(Undefined::Unbounded);
    };
    let difference = b.estimate - a.estimate;
    Ok(Interval {
        low: computed(difference - (b.estimate - lower_b).hypot(upper_a - a.estimate))?,
        high: computed(difference + (upper_b - b.estimate).hypot(a.estimate - lower_a))?,
    })
}

/// An arm's quantile with the variance that its interval at level `alpha` implies: (n−1)((u−l)/(2 z))² for one unit
/// (Deng, Knoblich & Lu 2018).
pub fn arm(interval: &QuantileInterval, n: u64, alpha: f64) -> Defined<ArmEstimate> {
    let z = normal::upper_quantile(level(alpha)? / 2.0)?;
    let (Some(lower), Some(upper)) = (interval.lower, interval.upper) else {
        return Err(Undefined::Unbounded);
    };
    if n < 2 {
        return Err(Undefined::TooFewValues {
            needed: 2,
            found: n,
        });
    }
    if upper < lower {
        return Err(Undefined::Domain("the bounds are in the wrong order"));
    }
    let half = finite(0.5 * (upper - lower))? / z;
    Ok(ArmEstimate {
        value: finite(interval.estimate)?,
        unit_variance: (n - 1) as f64 * half * half,
        n,
    })
}

/// The difference of two quantiles, B − A, as an estimate that any inference takes.
pub fn difference(a: &ArmEstimate, b: &ArmEstimate) -> Defined<Estimate> {
    Estimate::difference(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_samples_of_the_design() {
        // 368 values for a two-sided 95% interval at p99, 72 at p95.
        for (p, n) in [(0.99, 368), (0.95, 72)] {
            let enough = ranks(n, p, 0.05).unwrap();
            assert!(
                enough.lower.is_some() && enough.upper.is_some(),
                "{p}: {enough:?}"
            );
            assert_eq!(ranks(n - 1, p, 0.05).unwrap().upper, None);
        }
        assert_eq!(ranks(0, 0.5, 0.05), Err(Undefined::NoData));
        let one = ranks(1, 0.5, 0.05).unwrap();
        assert_eq!(
            one,
            Ranks {
                lower: None,
                upper: None
            }
        );
    }

    #[test]
    fn ranks_match_the_binomial_distribution() {
        // Reference: scipy.stats.binom: P(X ≤ 21) = 0.0284 > 0.025 ≥ P(X ≤ 20), n = 60.
        assert_eq!(
            ranks(60, 0.5, 0.05).unwrap(),
            Ranks {
                lower: Some(22),
                upper: Some(39)
            }
        );
        let clustered = clustered_ranks(600, 0.5, 0.05, 10.0).unwrap();
        assert_eq!(
            clustered,
            Ranks {
                lower: Some(220),
                upper: Some(390)
            }
        );
    }

    #[test]
    fn independent_values_have_no_design_effect() {
        let users: Vec<[f64; 2]> = (0..4000)
            .map(|user| [f64::from(u8::from(user % 2 == 0)), 1.0])
            .collect();
        let found = design_effect(&CrossMoments::of(&users), 0.5).unwrap();
        assert!((found - 1.0).abs() < 1e-3, "{found}");
        let alike: Vec<[f64; 2]> = users.iter().map(|[x, y]| [x * 10.0, y * 10.0]).collect();
        let found = design_effect(&CrossMoments::of(&alike), 0.5).unwrap();
        assert!((found - 10.0).abs() < 1e-2, "{found}");
    }

    #[test]
    fn histograms_widen_to_their_buckets() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        let mut histogram = LogHistogram::default();
        for value in &values {
            histogram.push(*value).unwrap();
        }
        let exact = interval(&values, 0.5, 0.05).unwrap();
        let found = interval_of_histogram(&histogram, 0.5, 0.05).unwrap();
        assert!(found.lower.unwrap() <= exact.lower.unwrap());
        assert!(found.upper.unwrap() >= exact.upper.unwrap());
        assert!((found.estimate - exact.estimate).abs() < 0.01 * exact.estimate);
        let swapped = mover_difference(&found, &exact).unwrap();
        let direct = mover_difference(&exact, &found).unwrap();
        assert!((swapped.low + direct.high).abs() < 1e-12);
        assert!(enough_for_difference(200, 0.95) && !enough_for_difference(199, 0.95));
        assert!(enough_for_difference(100, 0.9) && !enough_for_difference(99, 0.9));
    }
}
