//! What simulated users do: numbers of the distributions that the simulations need.

use crate::random::Random;

/// The random numbers of one run.
pub(super) struct Draw {
    random: Random,
    /// Normal numbers come in pairs.
    spare: Option<f64>,
}

impl Draw {
    pub(super) fn of_run(seed: u64, name: &str, run: u64) -> Self {
        Self {
            random: Random::of_run(seed, name, run),
            spare: None,
        }
    }

    /// A number from 0 on, below 1.
    pub(super) fn uniform(&mut self) -> f64 {
        self.random.uniform()
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.uniform() < probability
    }

    /// 1 with this probability, otherwise 0.
    pub(super) fn outcome(&mut self, probability: f64) -> f64 {
        f64::from(u8::from(self.chance(probability)))
    }

    /// One of two arms, by an even coin.
    pub(super) fn arm(&mut self) -> usize {
        usize::from(self.chance(0.5))
    }

    /// How many of `trials` succeed.
    pub(super) fn successes(&mut self, trials: u64, probability: f64) -> u64 {
        (0..trials)
            .map(|_| u64::from(self.chance(probability)))
            .sum()
    }

    /// The index of one of several classes.
    pub(super) fn class(&mut self, probabilities: &[f64]) -> usize {
        let mut left = self.random.uniform();
        for (index, probability) in probabilities.iter().enumerate() {
            if left < *probability {
                return index;
            }
            left -= probability;
        }
        // Probabilities sum to 1 up to rounding.
        probabilities.len() - 1
    }

    /// A standard normal number (Marsaglia's polar method, 1964).
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.random.uniform() - 1.0;
            let y = 2.0 * self.random.uniform() - 1.0;
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// e^(σz) with a standard normal z: median 1.
    pub(super) fn lognormal(&mut self, sigma: f64) -> f64 {
        (sigma * self.normal()).exp()
    }

    /// One or more with this mean, each further one as likely as the one before: how many requests a user sends.
    pub(super) fn requests(&mut self, mean: f64) -> u64 {
        let further = (mean - 1.0) / mean;
        // 1 − u lies above 0, so that its logarithm exists.
        let tail = 1.0 - self.random.uniform();
        1 + (tail.ln() / further.ln()) as u64
    }

    /// How many of a user's `requests` succeed when any two of them have this correlation: each takes the user's usual
    /// outcome with probability √correlation, and one of its own otherwise.
    pub(super) fn alike_successes(&mut self, requests: u64, rate: f64, correlation: f64) -> u64 {
        let usual = self.chance(rate);
        let share = correlation.sqrt();
        let one = |draw: &mut Self| match draw.chance(share) {
            true => usual,
            false => draw.chance(rate),
        };
        (0..requests).map(|_| u64::from(one(self))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_stats::accumulate::{CrossMoments, Moments};

    const MANY: u64 = 40_000;

    fn moments(value: impl Fn(&mut Draw) -> f64) -> (f64, f64) {
        let mut draw = Draw::of_run(1, "draw", 0);
        let mut moments = Moments::default();
        for _ in 0..MANY {
            moments.push(value(&mut draw));
        }
        (moments.mean().unwrap(), moments.variance().unwrap())
    }

    #[test]
    fn distributions_have_their_moments() {
        type Value = fn(&mut Draw) -> f64;
        let cases: [(Value, f64, f64); 5] = [
            (|draw| draw.outcome(0.3), 0.3, 0.21),
            (|draw| draw.normal(), 0.0, 1.0),
            (|draw| draw.class(&[0.2, 0.5, 0.3]) as f64, 1.1, 0.49),
            (|draw| draw.requests(10.0) as f64, 10.0, 90.0),
            (|draw| draw.successes(5, 0.5) as f64, 2.5, 1.25),
        ];
        for (value, mean, variance) in cases {
            let (found_mean, found_variance) = moments(value);
            let error = (variance / MANY as f64).sqrt();
            assert!((found_mean - mean).abs() < 4.0 * error, "{found_mean}");
            assert!(
                (found_variance / variance - 1.0).abs() < 0.08,
                "{found_variance}"
            );
        }
    }

    #[test]
    fn requests_of_one_user_are_alike() {
        let mut draw = Draw::of_run(1, "alike", 0);
        let mut pairs = CrossMoments::<2>::default();
        for _ in 0..MANY {
            let both = draw.alike_successes(2, 0.4, 0.2);
            // Whether the first of two equals one is a coin's throw away when one of them does.
            let first = match both {
                1 => draw.outcome(0.5),
                both => both as f64 / 2.0,
            };
            pairs.push(&[first, both as f64 - first]);
        }
        let correlation = pairs.covariance(0, 1).unwrap() / pairs.covariance(0, 0).unwrap();
        assert!((correlation - 0.2).abs() < 0.03, "{correlation}");
        assert!((pairs.mean(0).unwrap() - 0.4).abs() < 0.01);
    }

    #[test]
    fn runs_differ_and_repeat() {
        let first = |seed, name, run| Draw::of_run(seed, name, run).normal();
        assert_eq!(first(1, "a", 0), first(1, "a", 0));
        for other in [first(2, "a", 0), first(1, "b", 0), first(1, "a", 1)] {
            assert_ne!(first(1, "a", 0), other);
        }
    }
}
