//! Recorded calls.

use axum::Json;
use axum::extract::State;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::feedback::Feedback;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::schema::DateTime;
use flywheel_core::{AppName, ManifestId, PromptVersionId};
use flywheel_storage::events::{Appended, CallFilter, CallKey, CallSummary};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonItems, PageQuery, PathParams, QueryParams};
use crate::operations::call_ids;
use crate::operations::logged_calls::{self, LoggedCall};
use crate::problem::{ApiResult, Problem};
use crate::respond::{Created, List, list};

/// Which calls.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CallsQuery {
    /// How the id begins or ends: people copy parts of ids.
    id: Option<String>,
    app: Option<AppName>,
    environment: Option<EnvironmentName>,
    /// The whole id of a manifest.
    #[schemars(with = "Option<ManifestId>")]
    manifest: Option<String>,
    /// The whole id of a prompt version.
    #[schemars(with = "Option<PromptVersionId>")]
    prompt_version: Option<String>,
    experiment: Option<ExperimentName>,
    arm: Option<ArmName>,
    /// What is randomised: the user's id as the app sends it.
    unit: Option<String>,
    session: Option<String>,
    #[schemars(with = "Option<CallStatus>")]
    status: Option<String>,
    /// Not before this time.
    #[schemars(with = "Option<DateTime>")]
    since: Option<Timestamp>,
    /// Before this time.
    #[schemars(with = "Option<DateTime>")]
    until: Option<Timestamp>,
    /// Found in the messages or the output, whatever its letters' case.
    text: Option<String>,
    /// With feedback of this kind, or of `any`.
    feedback: Option<String>,
}

/// `GET /api/v1/calls`
pub async fn list_calls(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<CallsQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<CallSummary>>> {
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
    let next = page.next.as_ref().map(cursor_of);
    Ok(list(page.items, next))
}

/// The apps a query is about, within those the caller may see.
pub(crate) fn covered_apps(caller: &Caller, asked: Option<AppName>) -> ApiResult<Vec<AppName>> {
    match asked {
        Some(app) => {
            caller.must_cover(&app)?;
            Ok(vec![app])
        }
        None => Ok(caller.apps().to_vec()),
    }
}

/// A place in the list, as it is passed around.
pub(crate) fn cursor_of(key: &CallKey) -> String {
    format!("{}_{}", key.started_at.as_microsecond(), key.id)
}

pub(crate) fn parse_cursor(cursor: &str) -> Option<CallKey> {
    let (microsecond, id) = cursor.split_once('_')?;
    let started_at = Timestamp::from_microsecond(microsecond.parse().ok()?).ok()?;
    Some(CallKey {
        started_at,
        id: id.to_owned(),
    })
}

pub(super) fn parse_hash<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
) -> ApiResult<Option<T>>
where
    T::Err: std::fmt::Display,
{
    text.map(str::parse)
        .transpose()
        .map_err(|error| Problem::invalid(format!("`{name}`: {error}")))
}

pub(crate) fn parse_status(text: Option<&str>) -> ApiResult<Option<CallStatus>> {
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

/// A call with what was said of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedCall {
    #[serde(flatten)]
    call: Call,
    /// Feedback on it.
    feedback: Vec<Feedback>,
}

/// `GET /api/v1/calls/{id}`
pub async fn get_call(
    State(context): State<Context>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> ApiResult<Json<DescribedCall>> {
    let call = call_ids::get_visible(&context, &caller, &id).await?;
    let call = call.ok_or_else(|| {
        Problem::not_found(format!("there is no call `{id}`"))
            .hint("`flywheel calls list` shows the newest calls")
    })?;
    let feedback = context.events.feedback_on(&call.id).await?;
    Ok(Json(DescribedCall { call, feedback }))
}

/// `POST /api/v1/calls`
pub async fn log_calls(
    State(context): State<Context>,
    caller: Caller,
    JsonItems(calls): JsonItems<LoggedCall>,
) -> ApiResult<Created<StoredEvents>> {
    let logged = logged_calls::log(&context, &caller, calls).await?;
    Ok(stored(logged))
}

/// What became of events that were sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoredEvents {
    /// In the order they were sent.
    items: Vec<StoredEvent>,
}

/// What became of an event.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StoredEvent {
    /// Its id.
    id: String,
    /// Whether it is new.
    stored: Storage,
}

/// Whether an event is new.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// It is.
    Stored,
    /// One with its id was there; nothing changed.
    Duplicate,
}

pub(super) fn stored(events: Vec<(String, Appended)>) -> Created<StoredEvents> {
    let items = events
        .into_iter()
        .map(|(id, appended)| {
            let stored = match appended {
                Appended::Stored => Storage::Stored,
                Appended::Duplicate => Storage::Duplicate,
            };
            StoredEvent { id, stored }
        })
        .collect();
    Created(StoredEvents { items })
}
