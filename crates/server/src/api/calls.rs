//! Recorded calls.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::call::CallStatus;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, ManifestId, PromptVersionId};
use flywheel_storage::events::{Appended, CallFilter, CallKey};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{list, to_json};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonItems, PageQuery, PathParams, QueryParams};
use crate::operations::call_ids;
use crate::operations::logged_calls::{self, LoggedCall};
use crate::problem::{ApiResult, Problem};

/// Which calls.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct CallsQuery {
    id: Option<String>,
    app: Option<AppName>,
    environment: Option<EnvironmentName>,
    manifest: Option<String>,
    prompt_version: Option<String>,
    experiment: Option<ExperimentName>,
    arm: Option<ArmName>,
    unit: Option<String>,
    session: Option<String>,
    status: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    text: Option<String>,
    feedback: Option<String>,
}

/// `GET /api/v1/calls`
pub async fn list_calls(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<CallsQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Response> {
    let request = page.request(parse_cursor)?;
    let filter = CallFilter {
        id: query.id,
        apps: covered_apps(&caller, query.app)?,
        environment: query.environment,
        manifest: parse_hash::<ManifestId>("manifest", query.manifest.as_deref())?,
        prompt_version: parse_hash::<PromptVersionId>(
            "prompt_version",
            query.prompt_version.as_deref(),
        )?,
        experiment: query.experiment,
        arm: query.arm,
        unit: query.unit,
        session: query.session,
        status: parse_status(query.status.as_deref())?,
        since: query.since,
        until: query.until,
        text: query.text.filter(|text| !text.is_empty()),
        feedback: query.feedback,
    };
    let page = context.events.list_calls(&filter, request).await?;
    let next = page
        .next
        .map(|key| format!("{}_{}", key.started_at.as_microsecond(), key.id));
    Ok(list(page.items, next))
}

/// The apps a query is about, within those the caller may see.
pub(super) fn covered_apps(caller: &Caller, asked: Option<AppName>) -> ApiResult<Vec<AppName>> {
    match asked {
        Some(app) => {
            caller.must_cover(&app)?;
            Ok(vec![app])
        }
        None => Ok(caller.apps().to_vec()),
    }
}

fn parse_cursor(cursor: &str) -> Option<CallKey> {
    let (microsecond, id) = cursor.split_once('_')?;
    let started_at = Timestamp::from_microsecond(microsecond.parse().ok()?).ok()?;
    Some(CallKey {
        started_at,
        id: id.to_owned(),
    })
}

fn parse_hash<T: std::str::FromStr>(name: &str, text: Option<&str>) -> ApiResult<Option<T>>
where
    T::Err: std::fmt::Display,
{
    text.map(str::parse)
        .transpose()
        .map_err(|error| Problem::invalid(format!("`{name}`: {error}")))
}

fn parse_status(text: Option<&str>) -> ApiResult<Option<CallStatus>> {
    let Some(text) = text else { return Ok(None) };
    CallStatus::parse(text).map(Some).ok_or_else(|| {
        let all: Vec<_> = CallStatus::ALL
            .iter()
            .map(|status| format!("`{}`", status.as_str()))
            .collect();
        Problem::invalid(format!(
            "`status` is `{text}`, it must be one of {}",
            all.join(", ")
        ))
    })
}

/// `GET /api/v1/calls/{id}`
pub async fn get_call(
    State(context): State<Context>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> ApiResult<Response> {
    let mut call = context.events.get_call(&id).await?;
    if call.is_none()
        && let Some(whole) = call_ids::find(&context, &caller, &id).await?
    {
        call = context.events.get_call(&whole).await?;
    }
    let visible = call.filter(|call| match &call.facts.app {
        Some(app) => caller.must_cover(app).is_ok(),
        None => caller.apps().is_empty(),
    });
    let call = visible.ok_or_else(|| {
        Problem::not_found(format!("there is no call `{id}`"))
            .hint("`flywheel calls list` shows the newest calls")
    })?;
    let mut body = to_json(&call);
    body["feedback"] = to_json(&context.events.feedback_on(&call.id).await?);
    Ok(Json(body).into_response())
}

/// `POST /api/v1/calls`
pub async fn log_calls(
    State(context): State<Context>,
    caller: Caller,
    JsonItems(calls): JsonItems<LoggedCall>,
) -> ApiResult<Response> {
    let logged = logged_calls::log(&context, &caller, calls).await?;
    Ok(stored(logged))
}

/// What became of events that were sent.
pub(super) fn stored(events: Vec<(String, Appended)>) -> Response {
    let items: Vec<Value> = events
        .into_iter()
        .map(|(id, appended)| {
            let stored = match appended {
                Appended::Stored => "stored",
                Appended::Duplicate => "duplicate",
            };
            json!({"id": id, "stored": stored})
        })
        .collect();
    (StatusCode::CREATED, Json(json!({"items": items}))).into_response()
}
