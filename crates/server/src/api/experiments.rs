//! Experiments: their life, and what they say.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::name::{ArmName, ExperimentName};
use flywheel_core::plan::Part;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployments::{DescribedMove, describe_move};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams, QueryParams};
use crate::operations::day_sums::{self, DaySums};
use crate::operations::deploy::Move;
use crate::operations::experiments::{self, ExperimentChange, NewExperiment};
use crate::operations::histograms::{self, ArmHistogram};
use crate::operations::readout::Readout;
use crate::operations::served::{self, Served};
use crate::operations::summary::{Summary, summarize};
use crate::problem::{ApiResult, Problem};
use crate::respond::{Created, List, list};

/// Which experiments are listed.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ExperimentFilter {
    /// Those alone that stand there; all that are not archived if absent.
    status: Option<ExperimentStatus>,
}

/// `GET /api/v1/experiments`
pub async fn list_experiments(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(filter): QueryParams<ExperimentFilter>,
) -> ApiResult<Json<List<Experiment>>> {
    let mut experiments = context.state.read().await?.experiments().list().await?;
    experiments.retain(|experiment| {
        let is_asked_for = match filter.status {
            Some(status) => experiment.status == status,
            None => experiment.status != ExperimentStatus::Archived,
        };
        is_asked_for && caller.must_cover(&experiment.app).is_ok()
    });
    Ok(list(experiments, None))
}

/// `POST /api/v1/experiments`
pub async fn create_experiment(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(new): JsonBody<NewExperiment>,
) -> ApiResult<Created<Experiment>> {
    caller.must_cover(&new.app)?;
    let experiment = experiments::create(&context, &caller, new).await?;
    Ok(Created(experiment))
}

/// An experiment with what came of it so far.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedExperiment {
    #[serde(flatten)]
    experiment: Experiment,
    /// What each arm serves, by the arm's name.
    serves: BTreeMap<ArmName, Served>,
    /// A row for each arm that has calls.
    summary: Vec<Summary>,
}

/// `GET /api/v1/experiments/{name}`
pub async fn get_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<DescribedExperiment>> {
    let mut session = context.state.read().await?;
    let experiment = experiments::find(&mut *session, &caller, &name).await?;
    let mut serves = BTreeMap::new();
    for arm in &experiment.arms {
        let Some(manifest) = &arm.manifest else {
            continue;
        };
        if let Some(served) = served::find(&mut *session, manifest).await? {
            serves.insert(arm.name.clone(), served);
        }
    }
    drop(session);
    let filter = SummaryFilter {
        apps: vec![experiment.app.clone()],
        experiment: Some(name),
        ..SummaryFilter::default()
    };
    let rows = context.events.summarize(&filter, SummaryKey::Arm).await?;
    Ok(Json(DescribedExperiment {
        experiment,
        serves,
        summary: summarize(rows),
    }))
}

/// `POST /api/v1/experiments/{name}/start`
pub async fn start_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<Experiment>> {
    Ok(Json(experiments::start(&context, &caller, &name).await?))
}

/// Why an experiment is stopped.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StopBody {
    /// Why; goes into the audit log.
    reason: String,
}

/// `POST /api/v1/experiments/{name}/stop`
pub async fn stop_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<StopBody>,
) -> ApiResult<Json<Experiment>> {
    Ok(Json(
        experiments::stop(&context, &caller, &name, &body.reason).await?,
    ))
}

/// `POST /api/v1/experiments/{name}/archive`
pub async fn archive_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<Experiment>> {
    Ok(Json(experiments::archive(&context, &caller, &name).await?))
}

/// `PATCH /api/v1/experiments/{name}`
pub async fn change_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<ExperimentChange>,
) -> ApiResult<Json<Experiment>> {
    Ok(Json(
        experiments::change(&context, &caller, &name, &body).await?,
    ))
}

/// `GET /api/v1/experiments/{name}/readout`
pub async fn get_readout(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<Readout>> {
    let (_, readout) = experiments::read(&context, &caller, &name).await?;
    Ok(Json(readout))
}

/// What is promoted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteBody {
    /// The arm whose manifest is deployed.
    arm: ArmName,
    /// Why.
    #[serde(default)]
    reason: String,
    /// The manifest that is believed to be served now, as a prefix of its id.
    #[serde(default)]
    expected_manifest: Option<String>,
    /// Only tell what would happen.
    #[serde(default)]
    dry_run: bool,
    /// Go on although the readout or the preflight objects.
    #[serde(default)]
    force: bool,
}

/// `POST /api/v1/experiments/{name}/promote`
pub async fn promote_arm(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<PromoteBody>,
) -> ApiResult<Json<DescribedMove>> {
    let request = Move {
        environment: None,
        reason: body.reason,
        expected_manifest: body.expected_manifest,
        dry_run: body.dry_run,
        force: body.force,
    };
    if body.dry_run && !body.force {
        // What would be refused for real is refused here too.
        let (_, readout) = experiments::read(&context, &caller, &name).await?;
        if let Some(problem) = experiments::objection(&readout, &body.arm) {
            return Err(problem);
        }
    }
    let moved = experiments::promote(&context, &caller, &name, &body.arm, &request).await?;
    Ok(Json(describe_move(&context, moved, body.dry_run).await))
}

/// Which units are listed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UnitQuery {
    /// Those after this one, in the order of their names.
    after: Option<String>,
    /// How many at most, 1000 if absent.
    limit: Option<u32>,
}

/// A unit and what came together of every metric.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListedUnit {
    /// The unit.
    unit: String,
    /// Its arm.
    arm: ArmName,
    /// The epoch of its first exposure, from 0.
    epoch: usize,
    /// When it was first exposed.
    #[schemars(with = "flywheel_core::schema::DateTime")]
    first_at: Timestamp,
    /// Whether it counts: not if it was seen in two arms, or moved to another.
    counts: bool,
    /// Tags and their values at the first exposure, as `tag=value`: of those that the plan breaks down by.
    segments: Vec<String>,
    /// By metric: numerator and denominator, and both before the first exposure.
    metrics: BTreeMap<String, [f64; 4]>,
    /// Of the primary metric numerator and denominator in the first half of the minimum days; what is missing came later.
    early: Option<[f64; 2]>,
}

/// Units on one page.
const MOST_UNITS: u32 = 10_000;

/// `GET /api/v1/experiments/{name}/units`
pub async fn list_units(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    QueryParams(query): QueryParams<UnitQuery>,
) -> ApiResult<Json<List<ListedUnit>>> {
    let mut session = context.state.read().await?;
    let experiment = experiments::find(&mut *session, &caller, &name).await?;
    drop(session);
    let limit = query.limit.unwrap_or(1000);
    if !(1..=MOST_UNITS).contains(&limit) {
        return Err(Problem::invalid(format!(
            "`limit` must lie between 1 and {MOST_UNITS}, not `{limit}`"
        )));
    }
    let after = query.after.as_deref();
    let found = context
        .statistics
        .experiment_units(&name, after, limit)
        .await?
        .ok_or_else(|| experiments::rebuilding(&name))?;
    let readings = experiment.plan.readings();
    let whole = |place: &usize| {
        let reading = readings.get(*place).filter(|r| r.part == Part::Whole)?;
        let metric = experiment.plan.metrics.get(reading.metric)?;
        Some(metric.name.to_string())
    };
    let early = readings.iter().position(|r| r.part == Part::Early);
    let next = found
        .last()
        .filter(|_| found.len() == limit as usize)
        .map(|unit| unit.unit.clone());
    let units = found
        .into_iter()
        .filter_map(|unit| {
            Some(ListedUnit {
                arm: experiment.arms.get(unit.arm)?.name.clone(),
                unit: unit.unit,
                epoch: unit.epoch,
                first_at: unit.first_at,
                counts: unit.counts,
                early: early
                    .filter(|_| unit.counts)
                    .map(|place| unit.readings.get(&place).map_or([0.0; 2], |v| [v[0], v[1]])),
                segments: unit.segments,
                metrics: unit
                    .readings
                    .into_iter()
                    .filter_map(|(place, values)| Some((whole(&place)?, values)))
                    .collect(),
            })
        })
        .collect();
    Ok(list(units, next))
}

/// `GET /api/v1/experiments/{name}/sums`
pub async fn list_sums(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<List<DaySums>>> {
    let found = day_sums::read(&context, &caller, &name).await?;
    Ok(list(found, None))
}

/// `GET /api/v1/experiments/{name}/histograms`
pub async fn list_histograms(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<List<ArmHistogram>>> {
    let found = histograms::read(&context, &caller, &name).await?;
    Ok(list(found, None))
}

/// Whether the statistics are being made again.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RebuildAnswer {
    /// Always true; how far it is, the readout says.
    rebuilding: bool,
}

/// `POST /api/v1/experiments/{name}/rebuild`
pub async fn rebuild_statistics(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Json<RebuildAnswer>> {
    experiments::rebuild(&context, &caller, &name).await?;
    Ok(Json(RebuildAnswer { rebuilding: true }))
}
