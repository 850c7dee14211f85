//! Properties that hold for all inputs: merges in any order, swapped arms, levels, and sequences under the null.
//!
//! Inputs are drawn by a small generator with fixed seeds, so that a failure repeats.

use flywheel_stats::Interval;
use flywheel_stats::accumulate::{CrossMoments, Histogram, LogHistogram, Moments};
use flywheel_stats::canary::{Canary, Circumstances, Rule, Verdict};
use flywheel_stats::detector::{Detector, HIGHEST_RATE, MULTIPLIERS};
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::proportion::Proportion;
use flywheel_stats::sequential::empirical_bernstein::EmpiricalBernstein;
use flywheel_stats::sequential::{
    bernoulli, betting, net_win, randomisation, rho_squared, t_mixture,
};
use flywheel_stats::special::{beta, student_t};
use flywheel_stats::{means, ratio, srm, two_proportions};

/// Numbers that look random (Vigna's splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.uniform() * limit as f64) as u64
    }

    /// Skewed values around a large mean, where naive sums cancel.
    fn costs(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| 1e6 + (3.0 * self.uniform()).exp()).collect()
    }
}

#[track_caller]
fn close(one: f64, other: f64, relative: f64) {
    let room = relative * one.abs().max(other.abs()).max(1e-300);
    assert!((one - other).abs() <= room, "{one} and {other}");
}

#[test]
fn moments_merge_in_any_order() {
    let mut draw = Draw(1);
    for _ in 0..200 {
        let parts: Vec<Vec<f64>> = (0..3)
            .map(|_| {
                let n = draw.below(40) as usize;
                draw.costs(n)
            })
            .collect();
        let [a, b, c] = [0, 1, 2].map(|index| Moments::of(&parts[index]));
        let merged = |one: Moments, other: &Moments| {
            let mut one = one;
            one.merge(other);
            one
        };
        let left = merged(merged(a, &b), &c);
        let right = merged(a, &merged(b, &c));
        let backwards = merged(merged(c, &b), &a);
        let whole = Moments::of(&parts.concat());
        for found in [right, backwards, whole] {
            assert_eq!(left.n(), found.n());
            if left.n() > 1 {
                close(left.mean().unwrap(), found.mean().unwrap(), 1e-14);
                close(left.variance().unwrap(), found.variance().unwrap(), 1e-8);
            }
        }
    }
}

#[test]
fn cross_moments_merge_in_any_order() {
    let mut draw = Draw(2);
    for _ in 0..100 {
        let mut pairs = |n: u64| -> Vec<[f64; 2]> {
            (0..n)
                .map(|_| {
                    let x = draw.uniform();
                    [1e4 + x + draw.uniform(), x]
                })
                .collect()
        };
        let (first, second) = (pairs(17), pairs(5));
        let mut one = CrossMoments::of(&first);
        one.merge(&CrossMoments::of(&second));
        let mut other = CrossMoments::of(&second);
        other.merge(&CrossMoments::of(&first));
        let whole = CrossMoments::of(&[first, second].concat());
        for found in [other, whole] {
            for (row, column) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let (one, found) = (one.covariance(row, column), found.covariance(row, column));
                close(one.unwrap(), found.unwrap(), 1e-9);
            }
        }
    }
}

#[test]
fn histograms_merge_to_the_same_counts() {
    let mut draw = Draw(3);
    let values: Vec<f64> = (0..500).map(|_| (8.0 * draw.uniform()).exp()).collect();
    let of = |values: &[f64]| {
        let mut histogram = LogHistogram::default();
        for value in values {
            histogram.push(*value).unwrap();
        }
        histogram
    };
    let mut merged = of(&values[200..]);
    merged.merge(&of(&values[..200]));
    assert_eq!(merged, of(&values));
    let mut ratings = Histogram::new(vec![1, 2]);
    ratings.push(4).unwrap();
    let mut other = Histogram::new(vec![0, 0, 0, 0, 1]);
    other.merge(&Histogram::new(vec![1, 2]));
    assert_eq!(ratings, other);
}

#[test]
fn swapped_arms_negate_every_estimate() {
    let mut draw = Draw(4);
    for _ in 0..200 {
        let sizes = [2 + draw.below(30) as usize, 2 + draw.below(30) as usize];
        let [a, b] = sizes.map(|n| Moments::of(&draw.costs(n)));
        negates(
            means::difference(&a, &b).unwrap(),
            means::difference(&b, &a).unwrap(),
        );
        let [a, b] = sizes.map(|n| {
            let users: Vec<[f64; 2]> = (0..n)
                .map(|_| [draw.uniform(), 1.0 + draw.below(9) as f64])
                .collect();
            CrossMoments::of(&users)
        });
        negates(
            ratio::difference(&a, &b).unwrap(),
            ratio::difference(&b, &a).unwrap(),
        );
    }
}

#[track_caller]
fn negates(one: Estimate, other: Estimate) {
    assert_eq!(one.value, -other.value);
    close(one.standard_error, other.standard_error, 1e-14);
    close(one.degrees_of_freedom, other.degrees_of_freedom, 1e-12);
}

#[test]
fn intervals_contain_their_estimate_and_widen_with_confidence() {
    let mut draw = Draw(5);
    for _ in 0..150 {
        let n_a = 1 + draw.below(300);
        let n_b = 1 + draw.below(300);
        let a = Proportion::new(draw.below(n_a + 1), n_a).unwrap();
        let b = Proportion::new(draw.below(n_b + 1), n_b).unwrap();
        let difference = b.share() - a.share();
        let scores: Vec<f64> = (0..60).map(|_| draw.uniform().powi(2)).collect();
        type Find<'a> = Box<dyn Fn(f64) -> Interval + 'a>;
        let intervals: [(f64, Find<'_>); 4] = [
            (
                difference,
                Box::new(|alpha| two_proportions::newcombe_interval(a, b, alpha).unwrap()),
            ),
            (
                difference,
                Box::new(|alpha| {
                    two_proportions::miettinen_nurminen_interval(a, b, alpha).unwrap()
                }),
            ),
            (
                a.share(),
                Box::new(|alpha| {
                    let (x, n) = (a.successes() as f64, a.n() as f64);
                    bernoulli::confidence_sequence(x, n, alpha, 200.0, 0.05).unwrap()
                }),
            ),
            (
                scores.iter().sum::<f64>() / 60.0,
                Box::new(|alpha| betting::confidence_interval(&scores, alpha, 100).unwrap()),
            ),
        ];
        for (estimate, interval) in intervals {
            let mut last = -1.0;
            for alpha in [0.3, 0.1, 0.05, 0.01, 1e-4] {
                let found = interval(alpha);
                let slack = 1e-9;
                assert!(found.low <= estimate + slack && estimate <= found.high + slack);
                // An interval at the end of its range cannot grow; rounding moves the ends by a last place.
                assert!(found.high - found.low >= last - 1e-12, "{found:?} {alpha}");
                last = found.high - found.low;
            }
        }
    }
}

#[test]
fn the_score_test_and_its_interval_agree() {
    let mut draw = Draw(6);
    for _ in 0..100 {
        let n = 20 + draw.below(200);
        let a = Proportion::new(1 + draw.below(n - 1), n).unwrap();
        let b = Proportion::new(1 + draw.below(n - 1), n).unwrap();
        let interval = two_proportions::miettinen_nurminen_interval(a, b, 0.05).unwrap();
        for margin in [0.0, 0.02, 0.1] {
            let p = two_proportions::noninferiority(a, b, margin).unwrap().p;
            assert_eq!(interval.low > -margin, p < 0.025, "{a:?} {b:?} {margin}");
        }
    }
}

#[test]
fn distributions_are_monotone_and_invert() {
    let mut draw = Draw(7);
    for _ in 0..300 {
        let df = 10f64.powf(13.0 * draw.uniform() - 1.0);
        let q = 10f64.powf(-12.0 * draw.uniform()) * 0.499;
        let t = student_t::upper_quantile(q, df).unwrap();
        close(student_t::sf(t, df).unwrap(), q, 1e-9);
        assert!(student_t::sf(t * 1.001, df).unwrap() < q);
        let (a, b) = (
            10f64.powf(11.0 * draw.uniform() - 2.0),
            10f64.powf(11.0 * draw.uniform() - 2.0),
        );
        let x = draw.uniform();
        let (lower, upper) = beta::tails(a, b, x, 1.0 - x).unwrap();
        let (mirrored, _) = beta::tails(b, a, 1.0 - x, x).unwrap();
        close(upper, mirrored, 1e-12);
        assert!((lower + upper - 1.0).abs() < 1e-15);
    }
}

/// Every sequence of arms and outcomes to length 12: no value of the evidence averages more than 1.
#[test]
fn the_randomisation_test_averages_one_over_all_assignments() {
    let share: f64 = 0.4;
    // The outcomes drift; only the arms are random.
    for outcomes in [0b1111_0000_1010u32, 0b0000_0000_0000, 0b1010_1010_1010] {
        for length in 1..=12u32 {
            let mut mean = 0.0;
            for arms in 0..1u32 << length {
                let mut counts = [[0.0; 2]; 2];
                let mut chance = 1.0;
                for index in 0..length {
                    let arm = (arms >> index & 1) as usize;
                    let failed = (outcomes >> index & 1) as usize;
                    counts[arm][failed] += 1.0;
                    chance *= if arm == 1 { share } else { 1.0 - share };
                }
                let log_e =
                    randomisation::log_e_of_counts(counts[0], counts[1], share, 5.0).unwrap();
                mean += chance * log_e.exp();
            }
            assert!((mean - 1.0).abs() < 1e-9, "{outcomes:b} {length}: {mean}");
        }
    }
}

/// Every sequence of verdicts to length 12, step by step: the evidence is a supermartingale at any history.
#[test]
fn the_net_win_evidence_never_rises_on_average() {
    let (win, loss) = (0.35, 0.25);
    let margin = win - loss;
    for wins in 0..12u64 {
        for losses in 0..12 - wins {
            for ties in 0..12 - wins - losses {
                let log_e = |wins, losses, ties| {
                    let counts = PairedCounts { wins, losses, ties };
                    net_win::log_e(counts, margin, &net_win::BETS).unwrap()
                };
                let now = log_e(wins, losses, ties).exp();
                let next = win * log_e(wins + 1, losses, ties).exp()
                    + loss * log_e(wins, losses + 1, ties).exp()
                    + (1.0 - win - loss) * log_e(wins, losses, ties + 1).exp();
                assert!(next <= now * (1.0 + 1e-12), "{wins} {losses} {ties}");
            }
        }
    }
}

/// Identical arms, looked at after every 20 users: the default sequence rejects far fewer than 5% of runs at any look.
#[test]
fn the_default_sequence_keeps_its_level_under_continuous_looks() {
    let mut draw = Draw(8);
    let rho = rho_squared(0.05, 5000.0).unwrap();
    let mut rejected = 0;
    for _ in 0..400 {
        let mut counts = [[0u64; 2]; 2];
        for user in 1..=4000u32 {
            let arm = usize::from(draw.uniform() < 0.5);
            counts[arm][usize::from(draw.uniform() < 0.6)] += 1;
            if user < 200 || user % 20 != 0 {
                continue;
            }
            let [a, b] = counts.map(|arm| Moments::of_proportion(arm[1], arm[0] + arm[1]).unwrap());
            let estimate = means::difference(&a, &b).unwrap();
            let mode = Mode::Anytime { rho_squared: rho };
            if infer(&estimate, mode, 0.05).unwrap().p.unwrap() <= 0.05 {
                rejected += 1;
                break;
            }
        }
    }
    // At a true rate of .05 more than 33 of 400 happen in one of 500 runs.
    assert!(rejected <= 20, "{rejected} of 400");
}

#[test]
fn canaries_of_equal_versions_are_left_alone_and_bad_ones_found() {
    let mut draw = Draw(9);
    let watch = |win: f64, loss: f64, pairs: u64, draw: &mut Draw| {
        let mut canary = Canary::new(Rule::default()).unwrap();
        for pair in 1..=pairs {
            let verdict = draw.uniform();
            let new = PairedCounts {
                wins: u64::from(verdict < win),
                losses: u64::from((win..win + loss).contains(&verdict)),
                ties: u64::from(verdict >= win + loss),
            };
            let circumstances = Circumstances {
                window_closes: pair == pairs,
                guardrails_pass: true,
                missing_share: 0.0,
                judge_healthy: true,
            };
            let verdict = canary.push(new, circumstances).unwrap();
            if matches!(verdict, Verdict::Alert | Verdict::Promote) {
                return Some((verdict, pair));
            }
        }
        None
    };
    let mut alerts = 0;
    let mut promotions = 0;
    for _ in 0..400 {
        match watch(0.25, 0.25, 200, &mut draw) {
            Some((Verdict::Alert, _)) => alerts += 1,
            Some(_) => promotions += 1,
            None => {}
        }
    }
    assert!(alerts <= 20 && promotions <= 10, "{alerts} {promotions}");
    let found = (0..200)
        .filter(|_| {
            watch(0.05, 0.25, 110, &mut draw).is_some_and(|(verdict, _)| verdict == Verdict::Alert)
        })
        .count();
    // Nine of ten within 110 pairs in the design's simulations.
    assert!(found >= 168, "{found} of 200");
}

#[test]
fn detectors_run_at_least_as_long_as_their_threshold() {
    let mut draw = Draw(10);
    let threshold: f64 = 300.0;
    let mut total = 0u64;
    let runs = 300;
    for _ in 0..runs {
        let mut detector = Detector::of_failures(0.1, &MULTIPLIERS, HIGHEST_RATE).unwrap();
        loop {
            total += 1;
            let evidence = detector.push_failure(draw.uniform() < 0.1).unwrap();
            if evidence >= threshold.ln() {
                break;
            }
        }
    }
    let mean = total as f64 / f64::from(runs);
    assert!(mean >= threshold, "{mean}");
}

#[test]
fn the_split_test_stays_quiet_and_finds_a_broken_split() {
    let mut draw = Draw(11);
    let mut first_alarm = |share: f64, users: u64| {
        let mut counts = [0u64; 2];
        for user in 1..=users {
            counts[usize::from(draw.uniform() < share)] += 1;
            if user % 25 == 0 && srm::is_broken(&counts, &[0.5, 0.5]).unwrap() {
                return Some(user);
            }
        }
        None
    };
    assert!((0..60).all(|_| first_alarm(0.5, 5000).is_none()));
    let found = (0..40)
        .filter(|_| first_alarm(0.45, 3200).is_some())
        .count();
    assert!(found >= 34, "{found} of 40");
}

#[test]
fn empirical_bernstein_covers_at_every_look() {
    let mut draw = Draw(12);
    let mut missed = 0;
    for _ in 0..300 {
        let mut state = EmpiricalBernstein::new(0.05, 0.5).unwrap();
        let covered = (0..500).all(|_| {
            let score = if draw.uniform() < 0.3 { 1.0 } else { 0.1 };
            state.push(score).unwrap();
            let interval = state.interval().unwrap();
            interval.low <= 0.37 && 0.37 <= interval.high
        });
        missed += u32::from(!covered);
    }
    assert!(missed <= 15, "{missed} of 300");
}

#[test]
fn t_mixtures_average_at_most_one_for_gaussian_values() {
    // ∫ E(t) f(t) dt over Student's density is 1 in theory; the sum over a fine grid of quantiles comes close.
    let (units, df, rho) = (60.0, 58.0, 0.02);
    let points = 20_000;
    let mean: f64 = (0..points)
        .map(|index| {
            let p = (f64::from(index) + 0.5) / f64::from(points);
            let t = student_t::quantile(p, df).unwrap();
            t_mixture::log_e(t, units, df, rho).unwrap().exp() / f64::from(points)
        })
        .sum();
    assert!(mean < 1.0 && mean > 0.95, "{mean}");
}
