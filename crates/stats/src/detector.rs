//! Change detectors for live streams: e-detectors whose average run length to a false alarm is at least their threshold
//! (Shin, Ramdas & Rinaldo 2024).

use crate::proportion::wilson_upper_bound;
use crate::sequential::net_win::log_mean_exp;
use crate::special::binomial;
use crate::undefined::{Defined, Undefined, open_probability, positive};

/// By what the failure rate may have risen, by default.
pub const MULTIPLIERS: [f64; 4] = [1.5, 2.0, 3.0, 5.0];
/// The highest rate that is bet on.
pub const HIGHEST_RATE: f64 = 0.95;
/// Bets on a falling mean of scores, as shares of the largest.
pub const SCORE_BETS: [f64; 4] = [0.8, 0.4, 0.2, 0.1];
/// Observations that a baseline needs; below it the detector is still learning.
pub const BASELINE: u64 = 1000;

/// ln of the threshold with at most one false alarm in `days`, over all `streams` watched: requests per day × days ×
/// streams.
pub fn log_threshold(requests_per_day: f64, days: f64, streams: f64) -> Defined<f64> {
    positive(requests_per_day * days * streams).map(f64::ln)
}

/// The baseline failure rate to detect rises from: the upper 95% Wilson bound.
pub fn baseline_rate(failures: u64, n: u64) -> Defined<f64> {
    if n < BASELINE {
        return Err(Undefined::TooFewValues {
            needed: BASELINE,
            found: n,
        });
    }
    wilson_upper_bound(failures, n, 0.05)
}

/// One bet: its evidence, and when the evidence began.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bet {
    /// ln of the factor of a failure, or the share of a score bet.
    on_failure: f64,
    on_success: f64,
    /// ln M, the sum over all possible starts.
    log_sum: f64,
    /// ln of the largest product over starts, and its start.
    log_best: f64,
    since: u64,
}

impl Bet {
    fn new(on_failure: f64, on_success: f64) -> Self {
        Self {
            on_failure,
            on_success,
            log_sum: f64::NEG_INFINITY,
            log_best: f64::NEG_INFINITY,
            since: 0,
        }
    }

    /// M ← (M + 1) L, in logarithms.
    fn push(&mut self, log_factor: f64, at: u64) {
        self.log_sum = log_factor
            + if self.log_sum > 0.0 {
                self.log_sum + (-self.log_sum).exp().ln_1p()
            } else {
                self.log_sum.exp().ln_1p()
            };
        if self.log_best < 0.0 {
            self.log_best = 0.0;
            self.since = at;
        }
        self.log_best += log_factor;
    }
}

/// Watches for a rate of failures above a baseline, or for a mean of scores below one.
#[derive(Debug, Clone, PartialEq)]
pub struct Detector {
    bets: Vec<Bet>,
    observed: u64,
    /// The baseline mean of scores; none for failures.
    score_mean: Option<f64>,
}

impl Detector {
    /// For failures with a baseline rate of at most `p0`: bets on p1 = min(`highest_rate`, k p0) for each multiplier k, with
    /// L = p1/p0 for a failure and (1−p1)/(1−p0) otherwise. The evidence is the mean over bets.
    pub fn of_failures(p0: f64, multipliers: &[f64], highest_rate: f64) -> Defined<Self> {
        open_probability(p0)?;
        open_probability(highest_rate)?;
        if p0 >= highest_rate {
            return Err(Undefined::Domain(
                "the baseline is at or above the highest rate that can be bet on",
            ));
        }
        if multipliers.is_empty() || multipliers.iter().any(|k| k.is_nan() || *k <= 1.0) {
            return Err(Undefined::Domain("a multiplier must exceed 1"));
        }
        let bet = |multiplier: &f64| {
            let p1 = (multiplier * p0).min(highest_rate);
            Bet::new((p1 / p0).ln(), (-p1).ln_1p() - (-p0).ln_1p())
        };
        Ok(Self {
            bets: multipliers.iter().map(bet).collect(),
            observed: 0,
            score_mean: None,
        })
    }

    /// For scores in [0, 1] with a baseline mean of at least `m0`: M ← (M + 1)(1 + λ(m0 − x)), λ = share/(1 − m0). For a
    /// rise watch 1 − x; for both directions double the threshold.
    pub fn of_scores(m0: f64) -> Defined<Self> {
        open_probability(m0)?;
        Ok(Self {
            bets: SCORE_BETS
                .iter()
                .map(|share| Bet::new(share / (1.0 - m0), 0.0))
                .collect(),
            observed: 0,
            score_mean: Some(m0),
        })
    }

    /// Adds one outcome: whether it failed.
    pub fn push_failure(&mut self, failed: bool) -> Defined<f64> {
        if self.score_mean.is_some() {
            return Err(Undefined::Domain("this detector takes scores"));
        }
        for bet in &mut self.bets {
            let factor = if failed {
                bet.on_failure
            } else {
                bet.on_success
            };
            bet.push(factor, self.observed);
        }
        self.observed += 1;
        Ok(self.log_evidence())
    }

    /// Adds one score.
    pub fn push_score(&mut self, score: f64) -> Defined<f64> {
        let Some(mean) = self.score_mean else {
            return Err(Undefined::Domain("this detector takes failures"));
        };
        if !(0.0..=1.0).contains(&score) {
            return Err(Undefined::Domain("a score must lie between 0 and 1"));
        }
        for bet in &mut self.bets {
            bet.push((bet.on_failure * (mean - score)).ln_1p(), self.observed);
        }
        self.observed += 1;
        Ok(self.log_evidence())
    }

    /// ln of the mean of M over bets; −∞ before the first observation. An alarm is due at [`log_threshold`].
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        log_mean_exp(self.bets.iter().map(|bet| bet.log_sum))
    }

    /// The observation, counted from 0, since which the change is most likely, by the strongest bet.
    #[must_use]
    pub fn likely_since(&self) -> Option<u64> {
        if self.observed == 0 {
            return None;
        }
        self.bets
            .iter()
            .max_by(|one, other| one.log_best.total_cmp(&other.log_best))
            .map(|bet| bet.since)
    }

    /// Starts again, after an alarm was acknowledged.
    pub fn reset(&mut self) {
        for bet in &mut self.bets {
            *bet = Bet::new(bet.on_failure, bet.on_success);
        }
        self.observed = 0;
    }
}

/// False alarms per day of the plain rule "the last hour's rate exceeds `multiple` times the baseline", to print beside
/// it: 24 P(Bin(n, p0) > multiple p0 n) with n requests an hour.
pub fn plain_rule_false_alarms(p0: f64, requests_per_hour: u64, multiple: f64) -> Defined<f64> {
    open_probability(p0)?;
    positive(multiple)?;
    let most = (multiple * p0 * requests_per_hour as f64).floor();
    if most >= requests_per_hour as f64 {
        return Ok(0.0);
    }
    binomial::sf(most as u64, requests_per_hour, p0).map(|p| 24.0 * p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_is_found_and_dated() {
        let mut detector = Detector::of_failures(0.02, &MULTIPLIERS, HIGHEST_RATE).unwrap();
        assert_eq!(detector.likely_since(), None);
        let threshold = log_threshold(10_000.0, 30.0, 1.0).unwrap();
        for index in 0..3000u32 {
            assert!(detector.push_failure(index % 50 == 0).unwrap() < threshold);
        }
        let mut alarm = None;
        for index in 0..2000u32 {
            if detector.push_failure(index % 10 == 0).unwrap() >= threshold {
                alarm = Some(index);
                break;
            }
        }
        assert!(alarm.is_some_and(|index| index < 300), "{alarm:?}");
        let since = detector.likely_since().unwrap();
        assert!((2900..=3010).contains(&since), "{since}");
        detector.reset();
        assert_eq!(detector.log_evidence(), f64::NEG_INFINITY);
    }

    #[test]
    fn evidence_does_not_overflow() {
        let mut detector = Detector::of_failures(1e-6, &MULTIPLIERS, HIGHEST_RATE).unwrap();
        for _ in 0..10_000 {
            assert!(detector.push_failure(true).unwrap().is_finite());
        }
        let mut scores = Detector::of_scores(0.5).unwrap();
        for _ in 0..5000 {
            assert!(scores.push_score(0.0).unwrap().is_finite());
        }
        assert!(scores.push_score(1.1).is_err());
        assert!(scores.push_failure(true).is_err());
    }

    #[test]
    fn baselines_and_rules() {
        assert!(baseline_rate(5, 999).is_err());
        assert!(baseline_rate(20, 1000).unwrap() > 0.02);
        assert!(Detector::of_failures(0.0, &MULTIPLIERS, 0.95).is_err());
        assert!(Detector::of_failures(0.96, &MULTIPLIERS, 0.95).is_err());
        assert!(Detector::of_failures(0.1, &[], 0.95).is_err());
        let alarms = plain_rule_false_alarms(0.02, 417, 2.0).unwrap();
        assert!(alarms > 0.02 && alarms < 0.2, "{alarms}");
    }

    /// Every stream of failures to length 12 at the baseline rate: the sum of evidence averages at most its length, which
    /// makes the mean time to a false alarm at least the threshold.
    #[test]
    fn averages_at_most_the_number_of_observations() {
        let p0: f64 = 0.2;
        for length in 1..=12u32 {
            let mut mean = 0.0;
            for stream in 0..1u32 << length {
                let mut detector = Detector::of_failures(p0, &MULTIPLIERS, HIGHEST_RATE).unwrap();
                let mut chance = 1.0;
                for index in 0..length {
                    let failed = stream >> index & 1 == 1;
                    chance *= if failed { p0 } else { 1.0 - p0 };
                    detector.push_failure(failed).unwrap();
                }
                mean += chance * detector.log_evidence().exp();
            }
            assert!(mean <= f64::from(length) + 1e-9, "{length}: {mean}");
        }
    }
}
