//! Experiments, as far as serving goes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use flywheel_core::experiment::Experiment;
use flywheel_core::name::{ArmName, ExperimentName};
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::operations::experiments::{self, NewExperiment};
use crate::operations::served::{self, Served};
use crate::operations::summary::{Summary, summarize};
use crate::problem::ApiResult;
use crate::respond::{Created, List, list};

/// `GET /api/v1/experiments`
pub async fn list_experiments(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Json<List<Experiment>>> {
    let mut experiments = context.state.read().await?.experiments().list().await?;
    experiments.retain(|experiment| caller.must_cover(&experiment.app).is_ok());
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
        if let Some(served) = served::find(&mut *session, &arm.manifest).await? {
            serves.insert(arm.name.clone(), served);
        }
    }
    drop(session);
    let filter = SummaryFilter {
        // Whoever logs a call may name any experiment; only calls of its own app count.
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

/// What of an experiment is to be changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeBody {
    /// How much of the layer's share takes part, in basis points.
    exposure: u32,
}

/// `PATCH /api/v1/experiments/{name}`
pub async fn change_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<ChangeBody>,
) -> ApiResult<Json<Experiment>> {
    let changed = experiments::set_exposure(&context, &caller, &name, body.exposure).await?;
    Ok(Json(changed))
}
