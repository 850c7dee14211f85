//! Experiments, as far as serving goes.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::name::ExperimentName;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use http::StatusCode;
use serde::Deserialize;

use super::{list, to_json};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::operations::experiments::{self, NewExperiment};
use crate::operations::summary;
use crate::problem::ApiResult;

/// `GET /api/v1/experiments`
pub async fn list_experiments(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Response> {
    let mut experiments = context.state.read().await?.experiments().list().await?;
    experiments.retain(|experiment| caller.must_cover(&experiment.app).is_ok());
    Ok(list(experiments, None))
}

/// `POST /api/v1/experiments`
pub async fn create_experiment(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(new): JsonBody<NewExperiment>,
) -> ApiResult<Response> {
    caller.must_cover(&new.app)?;
    let experiment = experiments::create(&context, &caller, new).await?;
    Ok((StatusCode::CREATED, Json(experiment)).into_response())
}

/// `GET /api/v1/experiments/{name}`
pub async fn get_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let experiment = experiments::find(&mut *session, &caller, &name).await?;
    drop(session);
    let filter = SummaryFilter {
        // Whoever logs a call may name any experiment; only calls of its own app count.
        apps: vec![experiment.app.clone()],
        experiment: Some(name),
        ..SummaryFilter::default()
    };
    let rows = context.events.summarize(&filter, SummaryKey::Arm).await?;
    let mut body = to_json(&experiment);
    body["summary"] = to_json(&summary::summarize(rows));
    Ok(Json(body).into_response())
}

/// `POST /api/v1/experiments/{name}/start`
pub async fn start_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
) -> ApiResult<Response> {
    Ok(Json(experiments::start(&context, &caller, &name).await?).into_response())
}

/// Why an experiment is stopped.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopBody {
    reason: String,
}

/// `POST /api/v1/experiments/{name}/stop`
pub async fn stop_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<StopBody>,
) -> ApiResult<Response> {
    Ok(Json(experiments::stop(&context, &caller, &name, &body.reason).await?).into_response())
}

/// What of an experiment is to be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeBody {
    exposure: u32,
}

/// `PATCH /api/v1/experiments/{name}`
pub async fn change_experiment(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<ExperimentName>,
    JsonBody(body): JsonBody<ChangeBody>,
) -> ApiResult<Response> {
    let changed = experiments::set_exposure(&context, &caller, &name, body.exposure).await?;
    Ok(Json(changed).into_response())
}
