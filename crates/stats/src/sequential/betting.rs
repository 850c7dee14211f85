//! The hedged betting sequence for scores in [0, 1]: tighter than empirical Bernstein, at the cost of a grid
//! (Waudby-Smith & Ramdas 2024).

use crate::Interval;
use crate::special::root;
use crate::undefined::{Defined, Undefined, level};

/// The share of the largest bet that a mean allows.
const TRUNCATION: f64 = 0.5;
/// The number of steps from which a grid takes too long.
const FINEST_GRID: u32 = 100_000;

/// The means that the hedged capital process does not reject, after all of `scores`.
///
/// Capital max(½ Π(1 + λ⁺(x−m)), ½ Π(1 − λ⁻(x−m))) with predictable plug-in bets, cut at ½/m and ½/(1−m); a mean is kept
/// while the capital is at most 1/α. The ends are found on a grid of `grid` steps and refined by halving.
pub fn confidence_interval(scores: &[f64], alpha: f64, grid: u32) -> Defined<Interval> {
    level(alpha)?;
    if scores.is_empty() {
        return Err(Undefined::NoData);
    }
    if scores.iter().any(|score| !(0.0..=1.0).contains(score)) {
        return Err(Undefined::Domain("a score must lie between 0 and 1"));
    }
    if grid == 0 || grid > FINEST_GRID {
        return Err(Undefined::Domain(
            "a grid needs between one step and 100000",
        ));
    }
    let bets = predictable_bets(scores, alpha);
    let evidence = |mean: f64| log_capital(scores, &bets, mean) + alpha.ln();
    let point = |index: u32| f64::from(index) / f64::from(grid);
    let kept = |index: &u32| evidence(point(*index)) <= 0.0;
    let (Some(first), Some(last)) = ((0..=grid).find(kept), (0..=grid).rev().find(kept)) else {
        // The kept means lie between two points of the grid: the step around the scores' mean is all that is known.
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let step = 1.0 / f64::from(grid);
        return Ok(Interval {
            low: (mean - step).max(0.0),
            high: (mean + step).min(1.0),
        });
    };
    let low = if first == 0 {
        0.0
    } else {
        root::bisect(|mean| -evidence(mean), point(first - 1), point(first))
    };
    let high = if last == grid {
        1.0
    } else {
        root::bisect(evidence, point(last), point(last + 1))
    };
    Ok(Interval { low, high })
}

/// λ_t = √(2 ln(2/α)/(σ̂²_{t−1} t ln(1+t))), from the scores before t.
fn predictable_bets(scores: &[f64], alpha: f64) -> Vec<f64> {
    let mut squares = 0.25;
    let mut sum = 0.0;
    let mut bets = Vec::with_capacity(scores.len());
    for (index, score) in scores.iter().enumerate() {
        let t = index as f64 + 1.0;
        let variance = squares / t;
        bets.push((2.0 * (2.0 / alpha).ln() / (variance * t * t.ln_1p())).sqrt());
        sum += score;
        let mean = (0.5 + sum) / (t + 1.0);
        squares += (score - mean).powi(2);
    }
    bets
}

fn log_capital(scores: &[f64], bets: &[f64], mean: f64) -> f64 {
    let mut up = 0.0;
    let mut down = 0.0;
    for (score, bet) in scores.iter().zip(bets) {
        up += (bet.min(TRUNCATION / mean) * (score - mean)).ln_1p();
        down += (-bet.min(TRUNCATION / (1.0 - mean)) * (score - mean)).ln_1p();
    }
    f64::max(up, down) - std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        let half = vec![0.5; 200];
        let found = confidence_interval(&half, 0.05, 1000).unwrap();
        assert!(found.low < 0.5 && 0.5 < found.high);
        assert!(found.high - found.low < 0.2);
        assert_eq!(confidence_interval(&[], 0.05, 1000), Err(Undefined::NoData));
        assert!(confidence_interval(&[2.0], 0.05, 1000).is_err());
        let ones = confidence_interval(&[1.0; 50], 0.05, 100).unwrap();
        assert!(ones.high == 1.0 && ones.low > 0.5, "{ones:?}");
    }
}
