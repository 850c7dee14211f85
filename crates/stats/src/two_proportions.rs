//! Two proportions: tests, intervals for their difference, and the choice between them.

use crate::Interval;
use crate::proportion::{Proportion, wilson_bounds};
use crate::special::{binomial, chi_squared as chi, normal, root};
use crate::undefined::{Defined, Undefined, finite, level};

/// The smallest expected count with which Pearson's test is used.
const SMALLEST_EXPECTED: f64 = 5.0;
/// Tables count as no more likely than the observed one within this relative difference.
const TIE_TOLERANCE: f64 = 1e-7;
/// The standard deviation of a count beyond which its exact distribution takes too long to add up.
const WIDEST_EXACT: f64 = 1e6;
/// Events and non-events that each arm needs for a normal approximation.
pub const FEWEST_EVENTS: u64 = 10;

/// Pearson's test of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquaredTest {
    /// The statistic.
    pub statistic: f64,
    /// Degrees of freedom, (rows − 1)(columns − 1).
    pub degrees_of_freedom: u64,
    /// The p-value.
    pub p: f64,
    /// The smallest expected count; below 5 the approximation is poor.
    pub smallest_expected: f64,
}

/// Which test of two proportions was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestKind {
    /// Pearson's χ² without continuity correction.
    ChiSquared,
    /// Fisher's exact test.
    FisherExact,
}

/// Pearson's χ² test of any table of counts; with `continuity`, Yates's correction of a 2×2 table.
///
/// Undefined when a row or a column is empty. Assumes independent observations.
pub fn chi_squared(table: &[Vec<u64>], continuity: bool) -> Defined<ChiSquaredTest> {
    let columns = table.first().map_or(0, Vec::len);
    if table.len() < 2 || columns < 2 || table.iter().any(|row| row.len() != columns) {
        return Err(Undefined::Domain(
            "a table needs two rows and two columns, and rows of one length",
        ));
    }
    let row_sums: Vec<f64> = table.iter().map(|row| sum(row)).collect();
    let column_sums: Vec<f64> = (0..columns)
        .map(|column| table.iter().map(|row| row[column] as f64).sum())
        .collect();
    let total: f64 = row_sums.iter().sum();
    if row_sums.iter().chain(&column_sums).any(|sum| *sum == 0.0) {
        return Err(Undefined::NoEvents);
    }
    let degrees_of_freedom = (table.len() as u64 - 1) * (columns as u64 - 1);
    let mut statistic = 0.0;
    let mut smallest_expected = f64::INFINITY;
    for (row, row_sum) in table.iter().zip(&row_sums) {
        for (count, column_sum) in row.iter().zip(&column_sums) {
            let expected = row_sum * column_sum / total;
            let mut distance = (*count as f64 - expected).abs();
            if continuity && degrees_of_freedom == 1 {
                distance -= distance.min(0.5);
            }
            statistic += distance * distance / expected;
            smallest_expected = smallest_expected.min(expected);
        }
    }
    Ok(ChiSquaredTest {
        statistic,
        degrees_of_freedom,
        p: chi::sf(statistic, degrees_of_freedom as f64)?,
        smallest_expected,
    })
}

fn sum(row: &[u64]) -> f64 {
    row.iter().map(|count| *count as f64).sum()
}

/// Fisher's exact test, two-sided: the probability of all tables with the same margins that are no more likely than the
/// observed one, within a relative tolerance of 10⁻⁷.
pub fn fisher_exact(table: [[u64; 2]; 2]) -> Defined<f64> {
    let [[a, b], [c, d]] = table;
    let (top, bottom) = (a as f64 + b as f64, c as f64 + d as f64);
    let (left, right) = (a as f64 + c as f64, b as f64 + d as f64);
    if [top, bottom, left, right].contains(&0.0) {
        return Err(Undefined::NoEvents);
    }
    let spread = (top / (top + bottom)) * (bottom / (top + bottom)) * left * right;
    if spread.sqrt() > WIDEST_EXACT * (top + bottom).sqrt() {
        return Err(Undefined::TooLargeForExact);
    }
    let tables = Tables {
        top,
        bottom,
        left,
        lowest: (left - bottom).max(0.0),
        highest: top.min(left),
    };
    let observed = tables.ln_probability(a as f64);
    let threshold = observed + TIE_TOLERANCE.ln_1p();
    let mode = tables.mode();
    if tables.ln_probability(mode) <= threshold {
        return Ok(1.0);
    }
    let lower = tables.outermost(threshold, mode, tables.lowest);
    let upper = tables.outermost(threshold, mode, tables.highest);
    let p = lower.map_or(0.0, |k| tables.tail(k, tables.lowest))
        + upper.map_or(0.0, |k| tables.tail(k, tables.highest));
    Ok(p.min(1.0))
}

/// The 2×2 tables with given margins, by their upper left count.
struct Tables {
    top: f64,
    bottom: f64,
    left: f64,
    lowest: f64,
    highest: f64,
}

impl Tables {
    fn ln_probability(&self, k: f64) -> f64 {
        binomial::ln_hypergeometric(k, self.top, self.bottom, self.left)
    }

    fn mode(&self) -> f64 {
        let mode = ((self.left + 1.0) * (self.top + 1.0) / (self.top + self.bottom + 2.0)).floor();
        mode.clamp(self.lowest, self.highest)
    }

    /// The count nearest to the mode, on the way to `end`, whose table is no more likely than the threshold.
    fn outermost(&self, threshold: f64, mode: f64, end: f64) -> Option<f64> {
        if self.ln_probability(end) > threshold {
            return None;
        }
        let (mut likely, mut unlikely) = (mode, end);
        while (likely - unlikely).abs() > 1.0 {
            let middle = (0.5 * (likely + unlikely)).floor();
            if self.ln_probability(middle) <= threshold {
                unlikely = middle;
            } else {
                likely = middle;
            }
        }
        Some(unlikely)
    }

    /// The probability of all counts from `k` outwards to `end`.
    fn tail(&self, k: f64, end: f64) -> f64 {
        let upwards = end >= k && end == self.highest;
        let rest = self.bottom - self.left;
        let mut term = self.ln_probability(k).exp();
        let mut sum = term;
        let mut at = k;
        while at != end && term > sum * 1e-18 {
            if upwards {
                term *= (self.top - at) * (self.left - at) / ((at + 1.0) * (rest + at + 1.0));
                at += 1.0;
            } else {
                term *= at * (rest + at) / ((self.top - at + 1.0) * (self.left - at + 1.0));
                at -= 1.0;
            }
            sum += term;
        }
        sum
    }
}

/// The default test: Pearson's when every expected count is at least 5, else Fisher's.
pub fn test(a: Proportion, b: Proportion) -> Defined<(TestKind, f64)> {
    let rows = [a, b].map(|arm| [arm.successes(), arm.failures()]);
    let pearson = chi_squared(&rows.map(Vec::from), false)?;
    if pearson.smallest_expected >= SMALLEST_EXPECTED {
        return Ok((TestKind::ChiSquared, pearson.p));
    }
    fisher_exact(rows).map(|p| (TestKind::FisherExact, p))
}

/// Whether both arms have the ten events and ten non-events that a normal approximation needs; below, the randomisation
/// e-test decides.
#[must_use]
pub fn enough_for_normal(a: Proportion, b: Proportion) -> bool {
    [a.successes(), a.failures(), b.successes(), b.failures()]
        .iter()
        .all(|count| *count >= FEWEST_EVENTS)
}

/// Newcombe's hybrid score interval for B − A (Newcombe 1998, method 10): Wilson's intervals combined. It works at 0/n.
pub fn newcombe_interval(a: Proportion, b: Proportion, alpha: f64) -> Defined<Interval> {
    let z = normal::upper_quantile(level(alpha)? / 2.0)?;
    let (lower_a, upper_a) = wilson_bounds(a, z);
    let (lower_b, upper_b) = wilson_bounds(b, z);
    let (share_a, share_b) = (a.share(), b.share());
    let difference = share_b - share_a;
    Ok(Interval {
        low: (difference - (share_b - lower_b).hypot(upper_a - share_a)).max(-1.0),
        high: (difference + (upper_b - share_b).hypot(share_a - lower_a)).min(1.0),
    })
}

/// The score interval for B − A that agrees with the score test (Miettinen & Nurminen 1985), with the variance factor
/// N/(N−1).
pub fn miettinen_nurminen_interval(a: Proportion, b: Proportion, alpha: f64) -> Defined<Interval> {
    let z = normal::upper_quantile(level(alpha)? / 2.0)?;
    let difference = b.share() - a.share();
    Ok(Interval {
        low: root::bisect(|delta| z - score(a, b, delta), -1.0, difference),
        high: root::bisect(|delta| -z - score(a, b, delta), difference, 1.0),
    })
}

/// The one-sided score test of H0: B − A ≤ −`margin`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScoreTest {
    /// The statistic, standard normal at the edge of the null hypothesis.
    pub z: f64,
    /// P(Z > z).
    pub p: f64,
}

/// Whether B is worse than A by less than `margin` (Miettinen & Nurminen 1985; Farrington & Manning 1990). `margin` is
/// absolute, and higher is better.
pub fn noninferiority(a: Proportion, b: Proportion, margin: f64) -> Defined<ScoreTest> {
    finite(margin)?;
    if !(0.0..1.0).contains(&margin.abs()) {
        return Err(Undefined::Domain(
            "a margin must lie strictly between -1 and 1",
        ));
    }
    let z = score(a, b, -margin);
    let are_alike = a.successes() + b.successes() == 0 || a.failures() + b.failures() == 0;
    if !z.is_finite() || (margin == 0.0 && are_alike) {
        return Err(Undefined::NoEvents);
    }
    Ok(ScoreTest {
        z,
        p: normal::sf(z),
    })
}

/// The score statistic of the difference `delta`; decreasing in it.
fn score(a: Proportion, b: Proportion, delta: f64) -> f64 {
    let distance = b.share() - a.share() - delta;
    if distance == 0.0 {
        return 0.0;
    }
    distance / variance(a, b, delta).sqrt()
}

fn variance(a: Proportion, b: Proportion, delta: f64) -> f64 {
    let rate = constrained_rate(a, b, delta);
    let other = (rate + delta).clamp(0.0, 1.0);
    let (n_a, n_b) = (a.n() as f64, b.n() as f64);
    let total = n_a + n_b;
    (rate * (1.0 - rate) / n_a + other * (1.0 - other) / n_b) * total / (total - 1.0)
}

/// The most likely rate of A when B's is `delta` higher: the root of a decreasing derivative.
fn constrained_rate(a: Proportion, b: Proportion, delta: f64) -> f64 {
    let part = |count: u64, rate: f64| {
        if count == 0 { 0.0 } else { count as f64 / rate }
    };
    let negated_derivative = |rate: f64| {
        let other = rate + delta;
        part(a.failures(), 1.0 - rate) + part(b.failures(), 1.0 - other)
            - part(a.successes(), rate)
            - part(b.successes(), other)
    };
    root::bisect(
        negated_derivative,
        (-delta).max(0.0),
        (1.0 - delta).min(1.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(successes: u64, n: u64) -> Proportion {
        Proportion::new(successes, n).unwrap()
    }

    #[test]
    fn fisher_matches_scipy() {
        // Reference: scipy.stats.fisher_exact 1.17.1.
        for (table, expected) in FISHER {
            let found = fisher_exact(table).unwrap();
            assert!(
                (found - expected).abs() <= 1e-9 * expected,
                "{table:?}: {found:e}, not {expected:e}"
            );
        }
        assert_eq!(fisher_exact([[0, 4], [0, 5]]), Err(Undefined::NoEvents));
    }

    const FISHER: [([[u64; 2]; 2], f64); 8] = [
        ([[8, 2], [1, 5]], 0.034965034965034975),
        ([[0, 10], [4, 6]], 0.08668730650154799),
        ([[3, 7], [7, 3]], 0.1788954079975752),
        ([[1, 999], [15, 985]], 0.0004953565700322256),
        ([[500, 500], [500, 500]], 1.0),
        ([[100000, 200000], [100900, 200100]], 0.12236041203628989),
        ([[1, 0], [0, 1]], 1.0),
        ([[2, 1000000], [30, 900000]], 2.7988374158660354e-08),
    ];

    #[test]
    fn swapping_the_arms_negates() {
        for (a, b) in [
            (arm(0, 30), arm(5, 30)),
            (arm(12, 40), arm(90, 100)),
            (arm(0, 9), arm(0, 4)),
            (arm(9, 9), arm(0, 4)),
        ] {
            for interval in [newcombe_interval, miettinen_nurminen_interval] {
                let one = interval(a, b, 0.05).unwrap();
                let other = interval(b, a, 0.05).unwrap();
                assert!((one.low + other.high).abs() < 1e-12, "{one:?} {other:?}");
                assert!((one.high + other.low).abs() < 1e-12, "{one:?} {other:?}");
                let difference = b.share() - a.share();
                assert!(one.low <= difference && difference <= one.high, "{one:?}");
                assert!(one.low >= -1.0 && one.high <= 1.0);
            }
        }
    }

    #[test]
    fn the_score_test_agrees_with_its_interval() {
        let (a, b) = (arm(50, 90), arm(70, 95));
        let interval = miettinen_nurminen_interval(a, b, 0.05).unwrap();
        let at_edge = noninferiority(a, b, -interval.low).unwrap();
        assert!((at_edge.p - 0.025).abs() < 1e-9, "{at_edge:?}");
    }

    #[test]
    fn small_counts_are_tested_exactly() {
        assert_eq!(test(arm(1, 9), arm(5, 9)).unwrap().0, TestKind::FisherExact);
        assert_eq!(
            test(arm(30, 90), arm(50, 90)).unwrap().0,
            TestKind::ChiSquared
        );
        assert!(enough_for_normal(arm(10, 20), arm(11, 30)));
        assert!(!enough_for_normal(arm(9, 20), arm(11, 30)));
    }
}
