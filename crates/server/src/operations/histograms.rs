//! How the values of an experiment's metrics are distributed in each arm: what quantiles, ranks and delays are computed from.

use std::collections::BTreeMap;

use flywheel_core::experiment::Experiment;
use flywheel_core::metric::{BUCKET_WIDTH, GRADES, Metric, MetricKind};
use flywheel_core::name::{ArmName, ExperimentName, MetricName};
use flywheel_core::plan::{Part, Reading};
use flywheel_storage::statistics::ExperimentStatistics;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Caller;
use crate::context::Context;
use crate::operations::experiments;
use crate::problem::ApiResult;

/// How values are distributed among the units of one arm that were first exposed in one epoch.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ArmHistogram {
    /// The metric.
    pub metric: MetricName,
    /// What is counted.
    pub of: Distributed,
    /// The arm.
    pub arm: ArmName,
    /// The epoch, from 0.
    pub epoch: usize,
    /// The unit of the bounds; none for counts.
    pub unit: String,
    /// Those with a value, in rising order.
    pub buckets: Vec<Bucket>,
}

/// What a histogram counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distributed {
    /// Calls, by their value: of quantiles.
    Calls,
    /// Units, by the mean of their values: of grades.
    UnitMeans,
    /// Units, by their total: of counts.
    UnitTotals,
    /// Units, by the mean time from their calls to the outcomes, in seconds.
    UnitDelays,
}

/// Values from a lower bound on, up to but without an upper one; both are the same where it is one value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Bucket {
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
    /// How many.
    pub count: u64,
}

/// The bounds of a class, as they were chosen when values were classed.
fn bounds(metric: &Metric, of: Distributed, class: i32) -> (f64, f64) {
    if of == Distributed::UnitMeans {
        let scale = metric.rating_scale();
        let share = f64::from(class) / f64::from(GRADES);
        let grade = scale.min + share * (scale.max - scale.min);
        return (grade, grade);
    }
    if class == i32::MIN {
        return (0.0, 0.0);
    }
    let edge = |class: i32| (f64::from(class) * BUCKET_WIDTH.ln_1p()).exp();
    let (low, high) = (edge(class), edge(class + 1));
    match of {
        // Delays are classed by microseconds.
        Distributed::UnitDelays => (low / 1e6, high / 1e6),
        _ => (low, high),
    }
}

fn distributed(metric: &Metric, reading: &Reading) -> Option<Distributed> {
    match (reading.part, metric.kind) {
        (Part::Delay, _) => Some(Distributed::UnitDelays),
        (Part::Whole, MetricKind::Quantile) => Some(Distributed::Calls),
        (Part::Whole, MetricKind::Ordinal) => Some(Distributed::UnitMeans),
        (Part::Whole, MetricKind::Count) => Some(Distributed::UnitTotals),
        _ => None,
    }
}

/// All that have a value, in the order of the plan's metrics, then by epoch and arm.
#[must_use]
pub fn of_statistics(
    experiment: &Experiment,
    statistics: &ExperimentStatistics,
) -> Vec<ArmHistogram> {
    let mut found = Vec::new();
    for (place, reading) in experiment.plan.readings().iter().enumerate() {
        let Some(metric) = experiment.plan.metrics.get(reading.metric) else {
            continue;
        };
        let Some(of) = distributed(metric, reading) else {
            continue;
        };
        let unit = match of {
            Distributed::UnitDelays => "s",
            _ => metric.unit.as_str(),
        };
        for ((epoch, arm), kept) in &statistics.arms {
            let classes = kept.histograms.get(&place);
            let buckets: Vec<Bucket> = classes
                .into_iter()
                .flatten()
                .filter_map(|(class, n)| {
                    let count = u64::try_from(*n).ok().filter(|n| *n > 0)?;
                    let (low, high) = bounds(metric, of, *class);
                    Some(Bucket { low, high, count })
                })
                .collect();
            let Some(arm) = experiment.arms.get(*arm).filter(|_| !buckets.is_empty()) else {
                continue;
            };
            found.push(ArmHistogram {
                metric: metric.name.clone(),
                of,
                arm: arm.name.clone(),
                epoch: *epoch,
                unit: unit.to_owned(),
                buckets,
            });
        }
    }
    found
}

/// How the values of an experiment are distributed.
///
/// # Errors
/// When there is none of that name, or its statistics are being made again or cannot be read.
pub async fn read(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<Vec<ArmHistogram>> {
    let mut session = context.state.read().await?;
    let experiment = experiments::find(&mut *session, caller, name).await?;
    drop(session);
    let statistics = experiments::whole_statistics(context, name).await?;
    Ok(of_statistics(&experiment, &statistics))
}

/// All epochs of a metric together, by arm: to look at, no basis for a comparison.
#[must_use]
pub fn by_arm<'a>(
    histograms: &'a [ArmHistogram],
    metric: &MetricName,
    of: Distributed,
) -> BTreeMap<&'a ArmName, Vec<Bucket>> {
    let mut found: BTreeMap<&ArmName, Vec<Bucket>> = BTreeMap::new();
    let is_it = |one: &&ArmHistogram| one.metric == *metric && one.of == of;
    for one in histograms.iter().filter(is_it) {
        found.entry(&one.arm).or_default().extend(&one.buckets);
    }
    found
}
