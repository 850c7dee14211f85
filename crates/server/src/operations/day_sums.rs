//! The sums of an experiment at the end of each day: what the intervals that hold at any time are computed from.

use flywheel_core::experiment::Experiment;
use flywheel_core::name::{ArmName, ExperimentName, MetricName};
use flywheel_core::plan::Part;
use flywheel_storage::statistics::{ExperimentStatistics, UnitSums};
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Caller;
use crate::context::Context;
use crate::operations::experiments;
use crate::operations::readout::words;
use crate::problem::ApiResult;

/// Sums over the units of one arm that were first exposed in one epoch, as they were at the end of a day. x is a unit's
/// numerator, y its denominator; `before` is the same metric before the unit's first exposure.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DaySums {
    /// The metric.
    pub metric: MetricName,
    /// Which calls of a unit are in it.
    pub part: SummedPart,
    /// The arm.
    pub arm: ArmName,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The UTC day.
    pub day: String,
    /// Units with a value.
    pub n: i64,
    /// Of them, those whose total was cut to the cap.
    pub capped: i64,
    /// Of them, those with x above zero.
    pub any: i64,
    /// Of them, those with x below y.
    pub not_all: i64,
    /// Σx, Σy, Σx_before, Σy_before.
    pub sums: [f64; 4],
    /// Sums of the products of differences from the means, in the same order: xx; xy, yy; then those of x_before with x, y and
    /// itself; then those of y_before.
    pub products: [f64; 10],
}

/// Which calls of a unit are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SummedPart {
    /// All of them.
    Whole,
    /// All of them, and x is cut to the metric's cap.
    Capped,
    /// Those of the first half of the minimum days after the first exposure.
    Early,
    /// Those after that.
    Late,
}

/// All sums, in the order of the plan's metrics, then by epoch, arm and day.
#[must_use]
pub fn of_statistics(experiment: &Experiment, statistics: &ExperimentStatistics) -> Vec<DaySums> {
    let mut found = Vec::new();
    for (place, reading) in experiment.plan.readings().iter().enumerate() {
        let metric = experiment.plan.metrics.get(reading.metric);
        let part = match reading.part {
            Part::Whole => SummedPart::Whole,
            Part::Capped => SummedPart::Capped,
            Part::Early => SummedPart::Early,
            Part::Late => SummedPart::Late,
            Part::Delay => continue,
        };
        for ((epoch, arm), kept) in &statistics.arms {
            let (Some(metric), Some(arm)) = (metric, experiment.arms.get(*arm)) else {
                continue;
            };
            let mut until_then = UnitSums::default();
            for (day, sums) in kept.readings.get(&place).into_iter().flatten() {
                until_then.add(sums);
                let centred = |left, right| until_then.centred(left, right);
                found.push(DaySums {
                    metric: metric.name.clone(),
                    part,
                    arm: arm.name.clone(),
                    epoch: *epoch,
                    day: words::day(*day),
                    n: until_then.n,
                    capped: until_then.capped,
                    any: until_then.any,
                    not_all: until_then.not_all,
                    sums: [0, 1, 2, 3].map(|column| until_then.sum(column)),
                    products: [
                        (0, 0),
                        (0, 1),
                        (1, 1),
                        (0, 2),
                        (1, 2),
                        (2, 2),
                        (0, 3),
                        (1, 3),
                        (2, 3),
                        (3, 3),
                    ]
                    .map(|(left, right)| centred(left, right)),
                });
            }
        }
    }
    found
}

/// The sums of an experiment at the end of each day.
///
/// # Errors
/// When there is none of that name, or its statistics are being made again or cannot be read.
pub async fn read(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<Vec<DaySums>> {
    let mut session = context.state.read().await?;
    let experiment = experiments::find(&mut *session, caller, name).await?;
    drop(session);
    let now = context.sources.clock.now();
    experiments::close_days(context, &experiment, now).await?;
    let statistics = experiments::whole_statistics(context, name).await?;
    Ok(of_statistics(&experiment, &statistics))
}
