//! Ranks: Mann-Whitney, the probability that a value from B is the greater one, and its intervals.

mod exact;

use crate::Interval;
use crate::estimate::Estimate;
use crate::special::{normal, root, student_t};
use crate::undefined::{Defined, Undefined, level};

/// How close the probability may come to 0 or 1 before its interval is taken on the logit scale. With ratings of 50 users
/// the symmetric interval holds θ in .933 of runs where θ is .15, and the other in .950 (`cargo xtask simulate`).
const NEAR_END: f64 = 0.2;
/// Products of sample sizes up to which the exact distribution is the default.
const EXACT_PRODUCT: f64 = 2500.0;
/// The same for the smaller sample, without ties, and for the product then.
const EXACT_SMALLER: u64 = 8;
const EXACT_UNTIED_PRODUCT: f64 = 1e6;

/// Two samples by their distinct values in rising order: how often each occurs in A and in B.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankedCounts {
    groups: Vec<(u64, u64)>,
    n_a: u64,
    n_b: u64,
}

/// How the p-value of Mann-Whitney is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankMethod {
    /// The normal approximation, with a continuity correction of ½ or without.
    Asymptotic {
        /// Whether U is moved ½ towards its mean.
        continuity: bool,
    },
    /// The permutation distribution, with midranks when values are tied.
    Exact,
    /// Exact for small samples, otherwise asymptotic with continuity correction.
    Automatic,
}

/// The result of Mann-Whitney.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which B is greater, ties counting half.
    pub u: f64,
    /// The two-sided p-value of equal distributions.
    pub p: f64,
}

/// P(B > A) + ½ P(B = A) with its test and interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BrunnerMunzel {
    /// The estimate θ̂.
    pub theta: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// Degrees of freedom.
    pub degrees_of_freedom: f64,
    /// The two-sided p-value of θ = ½.
    pub p: f64,
    /// θ̂ ± t SE, clipped to [0, 1].
    pub interval: Interval,
    /// The interval to show: on the logit scale within 0.2 of 0 or 1, otherwise the same.
    pub shown: Interval,
}

impl RankedCounts {
    /// From the values themselves.
    pub fn from_samples(a: &[f64], b: &[f64]) -> Defined<Self> {
        if a.iter().chain(b).any(|value| value.is_nan()) {
            return Err(Undefined::NotFinite);
        }
        let mut values: Vec<(f64, bool)> = a.iter().map(|value| (*value, false)).collect();
        values.extend(b.iter().map(|value| (*value, true)));
        values.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut groups: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        for (value, is_b) in values {
            // Compared as numbers: -0.0 and 0.0 are tied.
            if last != Some(value) {
                groups.push((0, 0));
                last = Some(value);
            }
            if let Some(group) = groups.last_mut() {
                if is_b {
                    group.1 += 1;
                } else {
                    group.0 += 1;
                }
            }
        }
        Self::from_groups(groups)
    }

    /// From the counts of each class in rising order, such as ratings from 1 to K: exact at any size.
    pub fn from_histograms(a: &[u64], b: &[u64]) -> Defined<Self> {
        let classes = a.len().max(b.len());
        let count = |counts: &[u64], class: usize| counts.get(class).copied().unwrap_or(0);
        let groups = (0..classes).map(|class| (count(a, class), count(b, class)));
        Self::from_groups(groups.filter(|group| *group != (0, 0)).collect())
    }

    fn from_groups(groups: Vec<(u64, u64)>) -> Defined<Self> {
        let total = |count: fn(&(u64, u64)) -> u64| {
            let counts = groups.iter().map(count);
            counts.fold(0, u64::saturating_add)
        };
        let (n_a, n_b) = (total(|group| group.0), total(|group| group.1));
        if n_a == 0 || n_b == 0 {
            return Err(Undefined::NoData);
        }
        Ok(Self { groups, n_a, n_b })
    }

    /// Pairs in which B is greater, ties counting half.
    #[must_use]
    pub fn u(&self) -> f64 {
        let mut below = 0.0;
        let mut u = 0.0;
        for (a, b) in &self.groups {
            u += *b as f64 * (below + 0.5 * *a as f64);
            below += *a as f64;
        }
        u
    }

    /// Whether a value occurs more than once.
    #[must_use]
    pub fn has_ties(&self) -> bool {
        self.groups.iter().any(|(a, b)| a.saturating_add(*b) > 1)
    }

    /// The test of Mann & Whitney (1947): that both samples come from one distribution. All values tied give p = 1.
    ///
    /// σ² = nA nB/12 · [(N+1) − Σ(t³−t)/(N(N−1))]. Exact by the permutation distribution of midranks, two-sided in the
    /// distance of U from its mean.
    pub fn mann_whitney(&self, method: RankMethod) -> Defined<MannWhitney> {
        let product = self.n_a as f64 * self.n_b as f64;
        let small = if self.has_ties() {
            product <= EXACT_PRODUCT
        } else {
            self.n_a.min(self.n_b) <= EXACT_SMALLER && product <= EXACT_UNTIED_PRODUCT
        };
        let p = match method {
            RankMethod::Asymptotic { continuity } => self.asymptotic_p(continuity),
            RankMethod::Exact => self.exact_p()?,
            RankMethod::Automatic if small => self.exact_p()?,
            RankMethod::Automatic => self.asymptotic_p(true),
        };
        Ok(MannWhitney { u: self.u(), p })
    }

    fn asymptotic_p(&self, continuity: bool) -> f64 {
        let (n_a, n_b) = (self.n_a as f64, self.n_b as f64);
        let total = n_a + n_b;
        let ties: f64 = self
            .groups
            .iter()
            .map(|(a, b)| {
                let tied = *a as f64 + *b as f64;
                tied * (tied * tied - 1.0)
            })
            .sum();
        if self.groups.len() < 2 {
            return 1.0;
        }
        let variance = n_a * n_b / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
        let mut distance = (self.u() - 0.5 * n_a * n_b).abs();
        if continuity {
            distance = (distance - 0.5).max(0.0);
        }
        (2.0 * normal::sf(distance / variance.sqrt())).min(1.0)
    }

    fn exact_p(&self) -> Defined<f64> {
        if self.groups.len() < 2 {
            return Ok(1.0);
        }
        if self.has_ties() {
            exact::with_ties(&self.groups, self.n_a, self.n_b)
        } else {
            exact::without_ties(self.u(), self.n_a, self.n_b)
        }
    }

    /// Brunner & Munzel (2000): inference about θ = P(B > A) + ½ P(B = A) without equal variances.
    ///
    /// S² of each arm is the variance of its values' placements in the other; Var θ̂ = S_A²/(nA nB²) + S_B²/(nB nA²).
    /// Undefined when the arms are separated completely or all values tie; then see [`RankedCounts::newcombe_interval`].
    pub fn brunner_munzel(&self, alpha: f64) -> Defined<BrunnerMunzel> {
        level(alpha)?;
        let fewest = self.n_a.min(self.n_b);
        if fewest < 2 {
            return Err(Undefined::TooFewValues {
                needed: 2,
                found: fewest,
            });
        }
        let (n_a, n_b) = (self.n_a as f64, self.n_b as f64);
        let theta = self.theta();
        let (square_a, square_b) = self.placement_variances();
        let (part_a, part_b) = (square_a / (n_a * n_b * n_b), square_b / (n_b * n_a * n_a));
        let variance = part_a + part_b;
        if variance <= 0.0 {
            return Err(Undefined::ZeroVariance);
        }
        let (share_a, share_b) = (part_a / variance, part_b / variance);
        let df = 1.0 / (share_a * share_a / (n_a - 1.0) + share_b * share_b / (n_b - 1.0));
        let standard_error = variance.sqrt();
        let estimate = Estimate::new(theta, standard_error, df, n_a + n_b)?;
        let interval = plain_interval(&estimate, alpha)?;
        Ok(BrunnerMunzel {
            theta,
            standard_error,
            degrees_of_freedom: df,
            p: student_t::two_sided((theta - 0.5) / standard_error, df)?,
            interval,
            shown: interval_of(&estimate, alpha)?,
        })
    }

    /// θ̂ = U/(nA nB).
    #[must_use]
    pub fn theta(&self) -> f64 {
        self.u() / (self.n_a as f64 * self.n_b as f64)
    }

    /// Newcombe's interval for θ, method 5 (Newcombe 2006), which also works at 0 and 1.
    ///
    /// |θ̂ − θ| = z √(θ(1−θ)[1 + n*((1−θ)/(2−θ) + θ/(1+θ))]/(nA nB)) with n* = (nA + nB)/2 − 1.
    pub fn newcombe_interval(&self, alpha: f64) -> Defined<Interval> {
        let z = normal::upper_quantile(level(alpha)? / 2.0)?;
        let (n_a, n_b) = (self.n_a as f64, self.n_b as f64);
        let star = 0.5 * (n_a + n_b) - 1.0;
        let found = self.theta();
        let reach = |theta: f64| {
            let spread = (1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta);
            z * (theta * (1.0 - theta) * (1.0 + star * spread) / (n_a * n_b)).sqrt()
        };
        Ok(Interval {
            low: root::bisect(|theta| theta + reach(theta) - found, 0.0, found),
            high: root::bisect(|theta| theta - reach(theta) - found, found, 1.0),
        })
    }

    fn placement_variances(&self) -> (f64, f64) {
        let (n_a, n_b) = (self.n_a as f64, self.n_b as f64);
        let theta = self.theta();
        let (mean_a, mean_b) = (n_b * (1.0 - theta), n_a * theta);
        let (mut below_a, mut below_b) = (0.0, 0.0);
        let (mut sum_a, mut sum_b) = (0.0, 0.0);
        for (a, b) in &self.groups {
            let (a, b) = (*a as f64, *b as f64);
            let of_a = below_b + 0.5 * b - mean_a;
            let of_b = below_a + 0.5 * a - mean_b;
            sum_a += a * of_a * of_a;
            sum_b += b * of_b * of_b;
            below_a += a;
            below_b += b;
        }
        // What is left of a placement that is constant is rounding.
        let variance = |sum: f64, n: f64, scale: f64| {
            let variance = sum / (n - 1.0);
            if variance <= 1e-24 * scale * scale {
                0.0
            } else {
                variance
            }
        };
        (variance(sum_a, n_a, n_b), variance(sum_b, n_b, n_a))
    }
}

fn plain_interval(theta: &Estimate, alpha: f64) -> Defined<Interval> {
    let t = student_t::upper_quantile(level(alpha)? / 2.0, theta.degrees_of_freedom)?;
    let reach = t * theta.standard_error;
    Ok(Interval {
        low: (theta.value - reach).max(0.0),
        high: (theta.value + reach).min(1.0),
    })
}

/// The interval of a θ by Student's t, pooled over strata or not: on the logit scale near the ends of its range.
pub fn interval_of(theta: &Estimate, alpha: f64) -> Defined<Interval> {
    let value = theta.value;
    if value.min(1.0 - value) >= NEAR_END || value <= 0.0 || value >= 1.0 {
        return plain_interval(theta, alpha);
    }
    let t = student_t::upper_quantile(level(alpha)? / 2.0, theta.degrees_of_freedom)?;
    Ok(logit_interval(value, t * theta.standard_error))
}

fn logit_interval(theta: f64, half: f64) -> Interval {
    let logit = (theta / (1.0 - theta)).ln();
    let half = half / (theta * (1.0 - theta));
    let back = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    Interval {
        low: back(logit - half),
        high: back(logit + half),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranked(a: &[f64], b: &[f64]) -> RankedCounts {
        RankedCounts::from_samples(a, b).unwrap()
    }

    #[test]
    fn histograms_and_samples_agree() {
        let samples = ranked(&[1.0, 2.0, 2.0, 5.0], &[2.0, 4.0, 5.0]);
        let histograms = RankedCounts::from_histograms(&[1, 2, 0, 0, 1], &[0, 1, 0, 1, 1]).unwrap();
        assert_eq!(samples, histograms);
    }

    #[test]
    fn swapping_the_arms_mirrors() {
        let (a, b) = ([1.0, 3.0, 3.0, 4.0, 9.0], [2.0, 3.0, 5.0, 6.0]);
        let (one, other) = (ranked(&a, &b), ranked(&b, &a));
        let (first, second) = (
            one.brunner_munzel(0.05).unwrap(),
            other.brunner_munzel(0.05).unwrap(),
        );
        assert!((first.theta + second.theta - 1.0).abs() < 1e-15);
        assert!((first.p - second.p).abs() < 1e-14);
        assert!((first.interval.low + second.interval.high - 1.0).abs() < 1e-14);
        for method in [
            RankMethod::Exact,
            RankMethod::Asymptotic { continuity: true },
        ] {
            let p = one.mann_whitney(method).unwrap().p;
            assert!((p - other.mann_whitney(method).unwrap().p).abs() < 1e-14);
        }
    }

    #[test]
    fn near_an_end_the_interval_is_not_symmetric() {
        let found = |b: [u64; 5]| {
            let ranked = RankedCounts::from_histograms(&[10, 15, 15, 7, 3], &b).unwrap();
            ranked.brunner_munzel(0.05).unwrap()
        };
        let inside = found([5, 9, 12, 14, 10]);
        assert!(inside.theta > 0.6 && inside.theta < 0.8, "{inside:?}");
        assert_eq!(inside.shown, inside.interval);
        let near = found([1, 3, 8, 15, 23]);
        assert!(near.theta > 0.8 && near.theta < 0.9, "{near:?}");
        assert!(near.shown.low < near.interval.low && near.shown.high < near.interval.high);
        assert!(near.theta - near.shown.low > near.shown.high - near.theta);
    }

    #[test]
    fn separation_has_no_brunner_munzel() {
        let apart = ranked(&[1.0, 2.0, 3.0], &[4.0, 5.0]);
        assert_eq!(apart.brunner_munzel(0.05), Err(Undefined::ZeroVariance));
        let interval = apart.newcombe_interval(0.05).unwrap();
        assert!(interval.low > 0.1 && interval.high == 1.0, "{interval:?}");
        assert_eq!(
            RankedCounts::from_samples(&[], &[1.0]),
            Err(Undefined::NoData)
        );
        assert!(RankedCounts::from_samples(&[f64::NAN], &[1.0]).is_err());
    }

    #[test]
    fn exact_matches_scipy() {
        // Reference: scipy.stats.mannwhitneyu(b, a, method="exact") 1.17.1, and all subsets for ties.
        let a: Vec<f64> = (0..9).map(|k| f64::from(k * k)).collect();
        let b: Vec<f64> = (0..10).map(|k| f64::from(3 * k * k) + 0.5).collect();
        let found = ranked(&a, &b).mann_whitney(RankMethod::Exact).unwrap();
        assert!((found.p - MANN_WHITNEY_EXACT).abs() < 1e-12, "{found:?}");
        let tied = ranked(&[1.0, 2.0, 2.0, 3.0], &[2.0, 3.0, 4.0, 4.0]);
        let found = tied.mann_whitney(RankMethod::Exact).unwrap();
        assert!((found.p - 0.2).abs() < 1e-12, "{found:?}");
    }

    const MANN_WHITNEY_EXACT: f64 = 0.112_754_118_946_069_42;
}
