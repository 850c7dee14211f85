//! A judge's rate corrected for its sensitivity and specificity.
//!
//! Assumes that both are the same in every arm, which a judge that likes long answers breaks: a second opinion beside
//! prediction-powered inference ([`crate::ppi`]).

use crate::Interval;
use crate::special::normal;
use crate::undefined::{Defined, Undefined, finite, level, probability};

/// z of the interval of Se + Sp − 1 that must lie above zero.
const INFORMATIVE_Z: f64 = 1.959_963_984_540_054;

/// What the judge said, and how it did on items with a known answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JudgedRate {
    /// The share that the judge called positive.
    pub observed: f64,
    /// Of how many.
    pub n: f64,
    /// The share of known positives that it called positive.
    pub sensitivity: f64,
    /// Of how many known positives.
    pub positives: f64,
    /// The share of known negatives that it called negative.
    pub specificity: f64,
    /// Of how many known negatives.
    pub negatives: f64,
}

/// A corrected rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CorrectedRate {
    /// The rate, clipped to [0, 1].
    pub rate: f64,
    /// Its standard error by the delta method, before clipping.
    pub standard_error: f64,
}

impl JudgedRate {
    /// π̂ = (p̂ + Sp − 1)/(Se + Sp − 1), with SE² = [p̂(1−p̂)/n + π̂² Se(1−Se)/m₁ + (1−π̂)² Sp(1−Sp)/m₀]/(Se+Sp−1)² (Rogan &
    /// Gladen 1978).
    ///
    /// Undefined unless the 95% lower bound of Se + Sp − 1 is above zero.
    pub fn rogan_gladen(&self) -> Defined<CorrectedRate> {
        self.check()?;
        let judge = self.sensitivity + self.specificity - 1.0;
        let rate = (self.observed + self.specificity - 1.0) / judge;
        let variance = binomial(self.observed, self.n)
            + rate * rate * binomial(self.sensitivity, self.positives)
            + (1.0 - rate) * (1.0 - rate) * binomial(self.specificity, self.negatives);
        Ok(CorrectedRate {
            rate: rate.clamp(0.0, 1.0),
            standard_error: finite(variance.sqrt() / judge)?,
        })
    }

    /// The interval of Lang & Reiczigel (2014), which keeps its coverage where the delta method loses it.
    ///
    /// ñ = n+z², p̃ = (x+z²/2)/ñ, S̃e = (a+1)/(m₁+2), S̃p = (b+1)/(m₀+2), the shift
    /// δ = 2z²[π̃ S̃e(1−S̃e)/(m₁+2) − (1−π̃) S̃p(1−S̃p)/(m₀+2)] and π̃ + δ ± z SE with ñ and m+2.
    pub fn lang_reiczigel_interval(&self, alpha: f64) -> Defined<Interval> {
        self.check()?;
        let z = normal::upper_quantile(level(alpha)? / 2.0)?;
        let square = z * z;
        let adjusted = Self {
            observed: (self.observed * self.n + 0.5 * square) / (self.n + square),
            n: self.n + square,
            sensitivity: (self.sensitivity * self.positives + 1.0) / (self.positives + 2.0),
            positives: self.positives + 2.0,
            specificity: (self.specificity * self.negatives + 1.0) / (self.negatives + 2.0),
            negatives: self.negatives + 2.0,
        };
        let judge = adjusted.sensitivity + adjusted.specificity - 1.0;
        if judge <= 0.0 {
            return Err(Undefined::UninformativeJudge);
        }
        let rate = (adjusted.observed + adjusted.specificity - 1.0) / judge;
        let (missed, raised) = (
            binomial(adjusted.sensitivity, adjusted.positives),
            binomial(adjusted.specificity, adjusted.negatives),
        );
        let shift = 2.0 * square * (rate * missed - (1.0 - rate) * raised);
        let variance = binomial(adjusted.observed, adjusted.n)
            + rate * rate * missed
            + (1.0 - rate) * (1.0 - rate) * raised;
        let half = z * variance.sqrt() / judge;
        Ok(Interval {
            low: finite(rate + shift - half)?.clamp(0.0, 1.0),
            high: finite(rate + shift + half)?.clamp(0.0, 1.0),
        })
    }

    fn check(&self) -> Defined<()> {
        probability(self.observed)?;
        probability(self.sensitivity)?;
        probability(self.specificity)?;
        for count in [self.n, self.positives, self.negatives] {
            if finite(count)? <= 0.0 {
                return Err(Undefined::NoData);
            }
        }
        let judge = self.sensitivity + self.specificity - 1.0;
        let error = (binomial(self.sensitivity, self.positives)
            + binomial(self.specificity, self.negatives))
        .sqrt();
        if judge - INFORMATIVE_Z * error <= 0.0 {
            return Err(Undefined::UninformativeJudge);
        }
        Ok(())
    }
}

fn binomial(share: f64, n: f64) -> f64 {
    share * (1.0 - share) / n
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUDGED: JudgedRate = JudgedRate {
        observed: 0.62,
        n: 1000.0,
        sensitivity: 0.9,
        positives: 60.0,
        specificity: 0.85,
        negatives: 40.0,
    };

    #[test]
    fn the_interval_holds_the_rate() {
        let rate = JUDGED.rogan_gladen().unwrap().rate;
        let interval = JUDGED.lang_reiczigel_interval(0.05).unwrap();
        assert!(interval.low < rate && rate < interval.high, "{interval:?}");
        let wider = JUDGED.lang_reiczigel_interval(0.01).unwrap();
        assert!(wider.low < interval.low && wider.high > interval.high);
    }

    #[test]
    fn useless_judges_and_clipped_rates() {
        let coin = JudgedRate {
            sensitivity: 0.5,
            specificity: 0.5,
            ..JUDGED
        };
        assert_eq!(coin.rogan_gladen(), Err(Undefined::UninformativeJudge));
        let low = JudgedRate {
            observed: 0.01,
            ..JUDGED
        };
        assert_eq!(low.rogan_gladen().unwrap().rate, 0.0);
        let empty = JudgedRate { n: 0.0, ..JUDGED };
        assert_eq!(empty.rogan_gladen(), Err(Undefined::NoData));
    }
}
