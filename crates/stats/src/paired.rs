//! Paired verdicts: how often B won, lost or tied against A on the same input.

use crate::Interval;
use crate::accumulate::CrossMoments;
use crate::estimate::Estimate;
use crate::proportion::wilson_interval;
use crate::special::{binomial, normal, root};
use crate::undefined::{Defined, Undefined, level};

/// Pairs by their verdict, from B's side. A merge is an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PairedCounts {
    /// Pairs that B won.
    pub wins: u64,
    /// Pairs that B lost.
    pub losses: u64,
    /// Pairs without a winner, also those whose verdict followed the order of the answers.
    pub ties: u64,
}

impl PairedCounts {
    /// Adds the pairs of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.wins = self.wins.saturating_add(other.wins);
        self.losses = self.losses.saturating_add(other.losses);
        self.ties = self.ties.saturating_add(other.ties);
    }

    /// The same pairs from A's side.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self {
            wins: self.losses,
            losses: self.wins,
            ties: self.ties,
        }
    }

    /// Pairs with a winner.
    #[must_use]
    pub fn decisive(self) -> u64 {
        self.wins.saturating_add(self.losses)
    }

    /// All pairs.
    #[must_use]
    pub fn pairs(self) -> u64 {
        self.decisive().saturating_add(self.ties)
    }

    /// The net win (W − L)/N.
    pub fn net_win(self) -> Defined<f64> {
        if self.pairs() == 0 {
            return Err(Undefined::NoData);
        }
        Ok((self.wins as f64 - self.losses as f64) / self.pairs() as f64)
    }

    /// The share of losses, L/N.
    pub fn loss_rate(self) -> Defined<f64> {
        if self.pairs() == 0 {
            return Err(Undefined::NoData);
        }
        Ok(self.losses as f64 / self.pairs() as f64)
    }

    /// The exact sign test: the two-sided binomial p-value of W among W + L at ½. No decisive pair gives p = 1.
    pub fn sign_test(self) -> Defined<f64> {
        let decisive = self.decisive();
        if decisive == 0 {
            return Ok(1.0);
        }
        let tail = binomial::cdf(self.wins.min(self.losses), decisive, 0.5)?;
        Ok((2.0 * tail).min(1.0))
    }

    /// Tango's score interval for the net win (Tango 1998).
    ///
    /// The δ with (W−L−Nδ)² / [N(2q̃ + δ(1−δ))] = z², q̃ = (√(b²−4ac) − b)/(2a), a = 2N,
    /// b = −W−L+(2N−W+L)δ, c = −Lδ(1−δ).
    pub fn tango_interval(self, alpha: f64) -> Defined<Interval> {
        let net = self.net_win()?;
        let z = normal::upper_quantile(level(alpha)? / 2.0)?;
        Ok(Interval {
            low: root::bisect(|delta| z - self.score(delta), -1.0, net),
            high: root::bisect(|delta| -z - self.score(delta), net, 1.0),
        })
    }

    /// Tango's statistic at `delta`, which decreases in it.
    fn score(self, delta: f64) -> f64 {
        let (wins, losses, n) = (self.wins as f64, self.losses as f64, self.pairs() as f64);
        let distance = wins - losses - n * delta;
        if distance == 0.0 {
            return 0.0;
        }
        let b = -wins - losses + (2.0 * n - wins + losses) * delta;
        let c = -losses * delta * (1.0 - delta);
        let root = (b * b - 8.0 * n * c).max(0.0).sqrt();
        // Of the two forms of the root the one without cancellation.
        let loss_rate = if b > 0.0 {
            -2.0 * c / (b + root)
        } else {
            (root - b) / (4.0 * n)
        };
        let variance = n * (2.0 * loss_rate + delta * (1.0 - delta));
        distance / variance.max(0.0).sqrt()
    }

    /// The share of wins among decisive pairs, with Wilson's interval.
    pub fn decisive_win_rate(self, alpha: f64) -> Defined<(f64, Interval)> {
        let decisive = self.decisive();
        let interval = wilson_interval(self.wins, decisive, alpha)?;
        Ok((self.wins as f64 / decisive as f64, interval))
    }
}

/// The net win that is left when both answers are equally long: the intercept of the scores regressed on the difference
/// of log tokens, from each pair's score (column 0) and difference (column 1).
///
/// A check on verbosity bias; SE² = s²(1/n + x̄²/Σ(x−x̄)²). Without any spread in lengths it is the plain mean.
pub fn length_adjusted(pairs: &CrossMoments<2>) -> Defined<Estimate> {
    let n = pairs.n();
    if n < 3 {
        return Err(Undefined::TooFewValues {
            needed: 3,
            found: n,
        });
    }
    let count = n as f64;
    let (mean, spread) = (pairs.mean(1)?, pairs.covariance(1, 1)?);
    if spread == 0.0 {
        let error = (pairs.covariance(0, 0)? / count).sqrt();
        return Estimate::new(pairs.mean(0)?, error, count - 1.0, count);
    }
    let slope = pairs.covariance(0, 1)? / spread;
    let residual = (pairs.covariance(0, 0)? - slope * slope * spread).max(0.0);
    let variance = residual * (count - 1.0) / (count - 2.0);
    let error = (variance * (1.0 / count + mean * mean / (spread * (count - 1.0)))).sqrt();
    Estimate::new(pairs.mean(0)? - slope * mean, error, count - 2.0, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(wins: u64, losses: u64, ties: u64) -> PairedCounts {
        PairedCounts { wins, losses, ties }
    }

    #[test]
    fn length_adjustment_matches_least_squares() {
        // Reference: numpy.polyfit and its covariance, statsmodels OLS(...).fit().bse[0].
        let pairs = [[1.0, 0.5], [0.0, 0.1], [1.0, 0.4], [-1.0, -0.3], [0.0, 0.2]];
        let found = length_adjusted(&CrossMoments::of(&pairs)).unwrap();
        assert!((found.value - LENGTH_ADJUSTED.0).abs() < 1e-12, "{found:?}");
        assert!(
            (found.standard_error - LENGTH_ADJUSTED.1).abs() < 1e-12,
            "{found:?}"
        );
        assert!(length_adjusted(&CrossMoments::of(&pairs[..2])).is_err());
    }

    const LENGTH_ADJUSTED: (f64, f64) = (-0.2731958762886598, 0.10584806069595491);

    #[test]
    fn intervals_hold_the_net_win_and_mirror() {
        for found in [
            counts(61, 38, 101),
            counts(0, 0, 20),
            counts(7, 0, 0),
            counts(0, 1, 0),
            counts(0, 9, 3),
            counts(1_000_000, 999_000, 5),
        ] {
            let net = found.net_win().unwrap();
            let mut last = 0.0;
            for alpha in [0.5, 0.05, 1e-4] {
                let one = found.tango_interval(alpha).unwrap();
                let other = found.swapped().tango_interval(alpha).unwrap();
                assert!(
                    (one.low + other.high).abs() < 1e-9,
                    "{found:?}: {one:?} {other:?}"
                );
                assert!(one.low <= net && net <= one.high, "{found:?}: {one:?}");
                assert!(one.high - one.low > last, "{found:?} {alpha}");
                last = one.high - one.low;
            }
            assert_eq!(found.sign_test(), found.swapped().sign_test());
        }
        assert_eq!(counts(0, 0, 0).tango_interval(0.05), Err(Undefined::NoData));
        assert_eq!(counts(0, 0, 0).sign_test(), Ok(1.0));
        assert_eq!(counts(3, 3, 0).sign_test(), Ok(1.0));
    }
}
