//! The predictable-mixture empirical Bernstein sequence for scores in [0, 1] (Waudby-Smith & Ramdas 2024).

use crate::Interval;
use crate::undefined::{Defined, Undefined, finite, level, open_probability};

/// The largest bet by default.
pub const TRUNCATION: f64 = 0.5;

/// The state after some scores, of a constant size. The order of scores matters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmpiricalBernstein {
    alpha: f64,
    truncation: f64,
    n: u64,
    sum: f64,
    /// ¼ plus the squared distances from the regularised running mean.
    regularised_squares: f64,
    bets: f64,
    weighted: f64,
    /// Σ (x − μ̂)² ψ(λ) with μ̂ the running mean of x before it, and of 1 − x, which differ in the first term only.
    lower_penalty: f64,
    upper_penalty: f64,
}

impl EmpiricalBernstein {
    /// No scores yet. Both sides share `alpha`; `truncation` is the largest bet, below 1.
    pub fn new(alpha: f64, truncation: f64) -> Defined<Self> {
        level(alpha)?;
        open_probability(truncation)?;
        Ok(Self {
            alpha,
            truncation,
            n: 0,
            sum: 0.0,
            regularised_squares: 0.25,
            bets: 0.0,
            weighted: 0.0,
            lower_penalty: 0.0,
            upper_penalty: 0.0,
        })
    }

    /// Adds one score.
    ///
    /// λ_t = min(√(2 ln(2/α)/(σ̂²_{t−1} t ln(1+t))), truncation), ψ(λ) = −ln(1−λ) − λ.
    pub fn push(&mut self, score: f64) -> Defined<()> {
        finite(score)?;
        if !(0.0..=1.0).contains(&score) {
            return Err(Undefined::Domain("a score must lie between 0 and 1"));
        }
        let t = (self.n + 1) as f64;
        let variance = self.regularised_squares / t;
        let log = (2.0 / self.alpha).ln();
        let bet = (2.0 * log / (variance * t * t.ln_1p()))
            .sqrt()
            .min(self.truncation);
        let weight = -(-bet).ln_1p() - bet;
        let (before, before_complement) = if self.n == 0 {
            (0.0, 0.0)
        } else {
            let mean = self.sum / self.n as f64;
            (mean, 1.0 - mean)
        };
        self.lower_penalty += (score - before).powi(2) * weight;
        self.upper_penalty += (1.0 - score - before_complement).powi(2) * weight;
        self.bets += bet;
        self.weighted += bet * score;
        self.sum += score;
        self.n += 1;
        let regularised = (0.5 + self.sum) / (t + 1.0);
        self.regularised_squares += (score - regularised).powi(2);
        Ok(())
    }

    /// How many scores.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The interval after the scores so far: Σλx/Σλ ± (ln(2/α) + penalty)/Σλ, clipped to [0, 1].
    pub fn interval(&self) -> Defined<Interval> {
        if self.n == 0 {
            return Err(Undefined::NoData);
        }
        let log = (2.0 / self.alpha).ln();
        let centre = self.weighted / self.bets;
        Ok(Interval {
            low: (centre - (log + self.lower_penalty) / self.bets).max(0.0),
            high: (centre + (log + self.upper_penalty) / self.bets).min(1.0),
        })
    }
}

/// One unit's contribution to a difference of two arms' mean scores, brought to [0, 1] by inverse probability: ZY/w −
/// (1−Z)Y/(1−w), which lies between −1/(1−w) and 1/w.
pub fn difference_score(score: f64, is_b: bool, share_b: f64) -> Defined<f64> {
    open_probability(share_b)?;
    if !(0.0..=1.0).contains(&score) {
        return Err(Undefined::Domain("a score must lie between 0 and 1"));
    }
    let (lowest, highest) = (-1.0 / (1.0 - share_b), 1.0 / share_b);
    let contribution = if is_b {
        score * highest
    } else {
        score * lowest
    };
    Ok((contribution - lowest) / (highest - lowest))
}

/// An interval of [`difference_score`]s as one of the difference B − A.
pub fn difference_interval(scores: Interval, share_b: f64) -> Defined<Interval> {
    open_probability(share_b)?;
    let (lowest, highest) = (-1.0 / (1.0 - share_b), 1.0 / share_b);
    let back = |score: f64| (lowest + score * (highest - lowest)).clamp(-1.0, 1.0);
    Ok(Interval {
        low: back(scores.low),
        high: back(scores.high),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_shrinks_to_the_mean() {
        let mut state = EmpiricalBernstein::new(0.05, TRUNCATION).unwrap();
        assert_eq!(state.interval(), Err(Undefined::NoData));
        for index in 0..20_000u32 {
            state.push(if index % 4 == 0 { 0.2 } else { 0.6 }).unwrap();
        }
        let found = state.interval().unwrap();
        assert!(found.low < 0.5 && 0.5 < found.high && found.high - found.low < 0.05);
        assert!(state.push(1.5).is_err());
        assert!(state.push(f64::NAN).is_err());
        assert!(EmpiricalBernstein::new(0.05, 1.0).is_err());
    }

    #[test]
    fn differences_come_back() {
        let low = difference_score(1.0, false, 0.25).unwrap();
        let high = difference_score(1.0, true, 0.25).unwrap();
        assert_eq!((low, high), (0.0, 1.0));
        let whole = difference_interval(
            Interval {
                low: 0.0,
                high: 1.0,
            },
            0.25,
        )
        .unwrap();
        assert_eq!((whole.low, whole.high), (-1.0, 1.0));
    }
}
