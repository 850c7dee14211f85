//! Intervals of counts. All counts that can come out are few, so that coverage is a sum and not an estimate.

use anyhow::Result;
use flywheel_stats::paired::PairedCounts;
use flywheel_stats::proportion::{Proportion, wilson_interval};
use flywheel_stats::two_proportions::newcombe_interval;

use super::BOUNDS;
use crate::simulate::level::ALPHA;
use crate::simulate::table::{Bounds, Cell, Coverage, Table};

/// Below this a number is a rounded zero.
const ROUNDING: f64 = 1e-12;

/// The average over rates of the coverage of a single rate.
const WILSON_AVERAGE: f64 = 0.945;

pub(super) fn wilson(table: &mut Table) -> Result<()> {
    let mut cells = Vec::new();
    for n in [10, 25, 50, 100, 200, 1000] {
        let intervals = (0..=n)
            .map(|successes| wilson_interval(successes, n, ALPHA))
            .collect::<Result<Vec<_>, _>>()?;
        let rates: Vec<f64> = (10..=190).map(|step| f64::from(step) / 200.0).collect();
        let sum: f64 = rates
            .iter()
            .map(|rate| {
                let held = intervals.iter().zip(binomial(n, *rate));
                held.filter(|(interval, _)| interval.low <= *rate && *rate <= interval.high)
                    .map(|(_, mass)| mass)
                    .sum::<f64>()
            })
            .sum();
        cells.push(Cell {
            at: format!("n {n}"),
            coverage: Coverage::Exact(sum / rates.len() as f64),
        });
    }
    let bounds = Bounds {
        low: WILSON_AVERAGE,
        high: None,
        known: None,
    };
    let what = "Wilson, averaged over rates of .05 to .95";
    table.coverage(what, &cells, &bounds)
}

/// .05 to .95 in steps of .05.
fn rates() -> impl Iterator<Item = f64> + Clone {
    (1..20).map(|step| f64::from(step) / 20.0)
}

pub(super) fn newcombe(table: &mut Table) -> Result<()> {
    let mut cells = Vec::new();
    for (n_a, n_b) in [(50, 50), (50, 200), (200, 200), (50, 1000)] {
        let mut intervals = Vec::new();
        for a in 0..=n_a {
            for b in 0..=n_b {
                let arms = [Proportion::new(a, n_a)?, Proportion::new(b, n_b)?];
                intervals.push(newcombe_interval(arms[0], arms[1], ALPHA)?);
            }
        }
        let of_b: Vec<Vec<f64>> = rates().map(|rate| binomial(n_b, rate)).collect();
        for rate_a in rates() {
            let of_a = binomial(n_a, rate_a);
            for (rate_b, of_b) in rates().zip(&of_b) {
                let truth = rate_b - rate_a;
                let masses = of_a.iter().flat_map(|a| of_b.iter().map(move |b| a * b));
                let held = intervals.iter().zip(masses).filter(|(interval, _)| {
                    interval.low <= truth + ROUNDING && truth <= interval.high + ROUNDING
                });
                cells.push(Cell {
                    at: format!("{rate_a} of {n_a} and {rate_b} of {n_b}"),
                    coverage: Coverage::Exact(held.map(|(_, mass)| mass).sum()),
                });
            }
        }
    }
    let known = "few counts come out of 50 at .05 and at .95, so that coverage moves in steps";
    let bounds = Bounds {
        known: Some((0.936, known)),
        ..BOUNDS
    };
    let what = "Newcombe, rates of .05 to .95, 50 to 1000 per arm";
    table.coverage(what, &cells, &bounds)
}

pub(super) fn tango(table: &mut Table) -> Result<()> {
    let mut cells = Vec::new();
    for n in [50, 100, 200] {
        let mut outcomes = Vec::new();
        for wins in 0..=n {
            for losses in 0..=n - wins {
                let counts = PairedCounts {
                    wins,
                    losses,
                    ties: n - wins - losses,
                };
                outcomes.push((wins, losses, counts.tango_interval(ALPHA)?));
            }
        }
        for win in rates() {
            // Wins are binomial, and so are losses among the pairs without a win.
            let of_wins = binomial(n, win);
            for loss in rates().filter(|loss| win + loss < 1.0 + ROUNDING) {
                let truth = win - loss;
                let of_losses: Vec<Vec<f64>> = (0..=n)
                    .map(|wins| binomial(n - wins, (loss / (1.0 - win)).min(1.0)))
                    .collect();
                let held = outcomes.iter().filter(|(_, _, interval)| {
                    interval.low <= truth + ROUNDING && truth <= interval.high + ROUNDING
                });
                let coverage = held
                    .map(|(wins, losses, _)| {
                        let wins = *wins as usize;
                        of_wins[wins] * of_losses[wins][*losses as usize]
                    })
                    .sum();
                cells.push(Cell {
                    at: format!("{win} won and {loss} lost of {n}"),
                    coverage: Coverage::Exact(coverage),
                });
            }
        }
    }
    let known =
        "without any tie it is Wilson's interval of one rate, whose coverage moves in steps";
    let bounds = Bounds {
        known: Some((0.933, known)),
        ..BOUNDS
    };
    let what = "Tango, .05 to .95 won and lost, 50 to 200 pairs";
    table.coverage(what, &cells, &bounds)
}

/// The probabilities of 0 to `n` successes, by ratios of neighbours from the likeliest on.
fn binomial(n: u64, p: f64) -> Vec<f64> {
    let mut masses = vec![0.0; n as usize + 1];
    let mode = (((n + 1) as f64 * p) as usize).min(n as usize);
    masses[mode] = 1.0;
    for k in mode + 1..masses.len() {
        let ratio = (n as usize - k + 1) as f64 / k as f64 * p / (1.0 - p);
        masses[k] = if p < 1.0 { masses[k - 1] * ratio } else { 0.0 };
    }
    for k in (0..mode).rev() {
        let ratio = (k + 1) as f64 / (n as usize - k) as f64 * (1.0 - p) / p;
        masses[k] = masses[k + 1] * ratio;
    }
    let sum: f64 = masses.iter().sum();
    masses.iter().map(|mass| mass / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_stats::special;

    #[test]
    fn masses_add_up_to_the_distribution() {
        for (n, p) in [(1, 0.5), (50, 0.05), (1000, 0.95), (7, 1.0), (0, 0.3)] {
            let mut sum = 0.0;
            for (k, mass) in binomial(n, p).into_iter().enumerate() {
                sum += mass;
                let expected = match p {
                    1.0 => f64::from(u8::from(k as u64 == n)),
                    p => special::binomial::cdf(k as u64, n, p).unwrap(),
                };
                assert!((sum - expected).abs() < 1e-12, "{k} of {n}, {p}");
            }
        }
    }
}
