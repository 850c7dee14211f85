//! Prediction-powered intervals: few human labels, many verdicts of a judge.

use anyhow::Result;
use flywheel_stats::accumulate::{CrossMoments, Moments};
use flywheel_stats::ppi::{self, SmallSamples, Weight};
use flywheel_stats::undefined::{Defined, Undefined};

use super::holds;
use crate::simulate::draw::Draw;
use crate::simulate::level::ALPHA;
use crate::simulate::runs::{Count, Plan};
use crate::simulate::streams::verdicts;
use crate::simulate::table::{Bounds, Cell, Coverage, Table};

/// Answers that only the judge has seen.
const OTHERS: u64 = 1000;

/// Below the goal with the fewest labels, because few of them contradict a good judge.
const FEW: Bounds = Bounds {
    low: LEAST,
    high: None,
    known: Some((
        0.918,
        "a judge who is right in 85% contradicts four labels of 25, on which the interval rests",
    )),
};
const MANY: Bounds = Bounds {
    low: LEAST,
    high: None,
    known: None,
};
const LEAST: f64 = 0.94;

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    of_labels(plan, table, "25 labels", &[25], &FEW)?;
    of_labels(plan, table, "50 to 200 labels", &[50, 100, 200], &MANY)
}

fn of_labels(
    plan: &Plan,
    table: &mut Table,
    labels: &str,
    numbers: &[u64],
    bounds: &Bounds,
) -> Result<()> {
    let mut cells = Vec::new();
    for labels in numbers {
        for rate in [0.3, 0.5, 0.6] {
            for accuracy in [0.5, 0.7, 0.85] {
                let at = format!("{labels} labels, rate {rate}, judge right in {accuracy}");
                let name = format!("PPI++ {at}");
                let found = plan.each(&name, plan.runs(20_000, 1000), |draw| {
                    covers(draw, *labels, rate, accuracy)
                })?;
                let held: Vec<bool> = found.into_iter().flatten().collect();
                cells.push(Cell {
                    at,
                    coverage: Coverage::Simulated(Count::of(&held)),
                });
            }
        }
    }
    let what = format!("PPI++ (t), rates of .3 to .6, {labels}");
    table.coverage(&what, &cells, bounds)
}

/// Whether the interval holds the rate; none when all labels are alike, so that there is no interval.
fn covers(draw: &mut Draw, labels: u64, rate: f64, accuracy: f64) -> Defined<Option<bool>> {
    let mut labelled = CrossMoments::<2>::default();
    for _ in 0..labels {
        labelled.push(&verdicts(draw, rate, accuracy));
    }
    let judged_good = rate * accuracy + (1.0 - rate) * (1.0 - accuracy);
    let others = Moments::of_proportion(draw.successes(OTHERS, judged_good), OTHERS)?;
    let small = SmallSamples::Corrected;
    match ppi::mean(&labelled, &others, Weight::Tuned, small, ALPHA) {
        Ok(found) => Ok(Some(holds(found.interval, rate))),
        Err(Undefined::ZeroVariance) => Ok(None),
        Err(reason) => Err(reason),
    }
}
