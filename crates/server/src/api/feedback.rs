//! Feedback and its summary.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::AppName;
use flywheel_core::feedback::{Feedback, FeedbackBody};
use flywheel_core::name::{EnvironmentName, ExperimentName};
use flywheel_storage::NewEvent;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::calls::{covered_apps, stored};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonItems, QueryParams};
use crate::operations::logged_calls;
use crate::operations::summary::Summary;
use crate::problem::{ApiResult, Problem};

/// Feedback as it is sent.
#[derive(Debug, Deserialize)]
pub struct NewFeedback {
    /// The same id again changes nothing; drawn here if absent.
    #[serde(default)]
    id: Option<String>,
    /// The call it is about: the `id` of the answer.
    call_id: String,
    #[serde(flatten)]
    body: FeedbackBody,
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    created_at: Option<Timestamp>,
}

/// `POST /api/v1/feedback`
pub async fn send_feedback(
    State(context): State<Context>,
    caller: Caller,
    headers: HeaderMap,
    JsonItems(mut items): JsonItems<NewFeedback>,
) -> ApiResult<Response> {
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok());
    match (key, items.as_mut_slice()) {
        (Some(key), [item]) if item.id.is_none() => item.id = Some(key.to_owned()),
        (Some(_), [_]) | (None, _) => {}
        (Some(_), _) => {
            let detail =
                "`Idempotency-Key` names one piece of feedback; give each of several an `id`";
            return Err(Problem::invalid(detail));
        }
    }
    must_cover_calls(&context, &caller, &items).await?;
    let now = context.sources.clock.now();
    let feedback: Vec<_> = items
        .into_iter()
        .map(|item| Feedback {
            id: item.id.unwrap_or_else(|| context.sources.id_at(now)),
            call_id: item.call_id,
            body: item.body,
            author: item.author,
            created_at: item.created_at.unwrap_or(now),
        })
        .collect();
    let errors: Vec<_> = feedback
        .iter()
        .enumerate()
        .filter_map(|(index, item)| {
            let error = item.check().err()?;
            Some(json!({"index": index, "detail": error.to_string()}))
        })
        .collect();
    if let Some(first) = errors.first() {
        let detail = first["detail"].as_str().unwrap_or_default().to_owned();
        return Err(Problem::invalid(detail).with("errors", errors.into()));
    }
    let ids: Vec<_> = feedback.iter().map(|item| item.id.clone()).collect();
    let events = feedback
        .into_iter()
        .map(|item| NewEvent::Feedback(Box::new(item)))
        .collect();
    let appended = logged_calls::store(&context, events).await?;
    Ok(stored(ids.into_iter().zip(appended).collect()))
}

/// A key that is limited to apps may not speak of the calls of others. A call that is not known yet is nobody's.
async fn must_cover_calls(
    context: &Context,
    caller: &Caller,
    items: &[NewFeedback],
) -> ApiResult<()> {
    if caller.apps().is_empty() {
        return Ok(());
    }
    let ids: BTreeSet<&str> = items.iter().map(|item| item.call_id.as_str()).collect();
    for id in ids {
        if let Some(call) = context.events.get_call(id).await? {
            match &call.facts.app {
                Some(app) => caller.must_cover(app)?,
                None => caller.must_cover_all()?,
            }
        }
    }
    Ok(())
}

/// What is summed up, and by what.
#[derive(Debug, Deserialize)]
pub struct SummaryQuery {
    #[serde(default = "by_version")]
    by: SummaryKey,
    app: Option<AppName>,
    environment: Option<EnvironmentName>,
    experiment: Option<ExperimentName>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

fn by_version() -> SummaryKey {
    SummaryKey::PromptVersion
}

/// `GET /api/v1/feedback/summary`
pub async fn summarize_feedback(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<SummaryQuery>,
) -> ApiResult<Response> {
    let SummaryQuery {
        by,
        app,
        environment,
        experiment,
        since,
        until,
    } = query;
    let apps = covered_apps(&caller, app)?;
    let filter = SummaryFilter {
        apps,
        environment,
        experiment,
        since,
        until,
    };
    let rows = context.events.summarize(&filter, by).await?;
    let items: Vec<_> = rows.into_iter().map(Summary::from).collect();
    Ok(Json(json!({"by": by, "items": items})).into_response())
}
