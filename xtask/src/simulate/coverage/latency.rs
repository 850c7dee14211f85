//! Intervals of quantiles and of their differences, from values and from histograms.

use anyhow::Result;
use flywheel_stats::accumulate::LogHistogram;
use flywheel_stats::quantile::{
    QuantileInterval, enough_for_difference, interval, interval_of_histogram, mover_difference,
};
use flywheel_stats::special::normal;
use flywheel_stats::undefined::Defined;

use crate::simulate::draw::Draw;
use crate::simulate::level::ALPHA;
use crate::simulate::runs::{Count, Plan};
use crate::simulate::table::{Bounds, Cell, Coverage, Table};

const LEAST: Bounds = Bounds {
    low: 0.945,
    high: None,
    known: None,
};
const SIGMA: f64 = 0.8;
const MEDIAN: f64 = 900.0;
/// The treatment's latency, against the control's.
const SLOWER: f64 = 1.2;

/// Quantiles with the fewest values that a difference is shown for, and with more.
const SETTINGS: [(f64, u64); 7] = [
    (0.5, 20),
    (0.5, 200),
    (0.9, 100),
    (0.95, 200),
    (0.95, 1000),
    (0.99, 1000),
    (0.99, 4000),
];

type Find = fn(&[f64], f64) -> Defined<QuantileInterval>;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    let of_values: Find = |values, p| interval(values, p, ALPHA);
    let of_histogram: Find = |values, p| {
        let mut histogram = LogHistogram::default();
        for value in values {
            histogram.push(*value)?;
        }
        interval_of_histogram(&histogram, p, ALPHA)
    };
    for (source, find) in [("values", of_values), ("a histogram", of_histogram)] {
        let (mut single, mut differences) = (Vec::new(), Vec::new());
        for (p, n) in SETTINGS
            .into_iter()
            .filter(|(p, n)| enough_for_difference(*n, *p))
        {
            let at = format!("p{} of {n}", 100.0 * p);
            let truth = MEDIAN * (SIGMA * normal::quantile(p)?).exp();
            let name = format!("quantile {at}");
            let found = plan.each(&name, plan.runs(20_000, 400), |draw| {
                let a = find(&latencies(draw, n, MEDIAN), p)?;
                let b = find(&latencies(draw, n, SLOWER * MEDIAN), p)?;
                let difference = mover_difference(&a, &b)?;
                let apart = (SLOWER - 1.0) * truth;
                let one = a.lower.is_none_or(|lower| lower <= truth)
                    && a.upper.is_none_or(|upper| truth <= upper);
                Ok((one, difference.low <= apart && apart <= difference.high))
            })?;
            let (one, both): (Vec<bool>, Vec<bool>) = found.into_iter().unzip();
            for (cells, held) in [(&mut single, one), (&mut differences, both)] {
                cells.push(Cell {
                    at: at.clone(),
                    coverage: Coverage::Simulated(Count::of(&held)),
                });
            }
        }
        let what = format!("quantile p50 to p99 of latencies, from {source}");
        table.coverage(&what, &single, &LEAST)?;
        let what = format!("difference of quantiles (MOVER), from {source}");
        table.coverage(&what, &differences, &LEAST)?;
    }
    Ok(())
}

fn latencies(draw: &mut Draw, n: u64, median: f64) -> Vec<f64> {
    (0..n).map(|_| median * draw.lognormal(SIGMA)).collect()
}
