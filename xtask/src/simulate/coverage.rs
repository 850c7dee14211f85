//! Goal 4: how often intervals of nominally 95% hold the truth.

mod exact;
mod judged;
mod latency;
mod users;

use anyhow::Result;
use flywheel_stats::Interval;

use super::runs::Plan;
use super::table::{Bounds, Table};

/// Where the coverage of nominally 95% must lie.
const BOUNDS: Bounds = Bounds {
    low: 0.940,
    high: Some(0.990),
    known: None,
};

pub(super) fn simulate(plan: &Plan, table: &mut Table) -> Result<()> {
    exact::wilson(table)?;
    exact::newcombe(table)?;
    exact::tango(table)?;
    users::simulate(plan, table)?;
    judged::simulate(plan, table)?;
    latency::simulate(plan, table)
}

pub(super) fn holds(interval: Interval, truth: f64) -> bool {
    interval.low <= truth && truth <= interval.high
}
