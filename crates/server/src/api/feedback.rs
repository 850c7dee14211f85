//! Feedback, sent. Its list is in [`list`], what it comes to in [`summary`].

pub mod list;
pub mod summary;

use axum::extract::State;
use flywheel_core::feedback::Feedback;
use flywheel_core::feedback::sent::NewFeedback;
use flywheel_storage::NewEvent;
use http::HeaderValue;

use super::calls::{StoredEvents, stored};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{IdempotencyKey, JsonItems};
use crate::operations::call_ids::{self, NamedCall};
use crate::operations::sent_events::{self, SentEvent, must_have_come, to_the_microsecond};
use crate::problem::{ApiResult, Problem};
use crate::respond::Created;

/// `POST /api/v1/feedback`
pub async fn send_feedback(
    State(context): State<Context>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonItems(mut items): JsonItems<NewFeedback>,
) -> ApiResult<Created<StoredEvents>> {
    name_by_header(&caller, key, &mut items)?;
    let now = context.sources.clock.now();
    let mut sent = Vec::with_capacity(items.len());
    let mut apps = Vec::with_capacity(items.len());
    let mut errors = Vec::new();
    for (index, mut item) in items.into_iter().enumerate() {
        let (has_own_id, has_time) = (item.id.is_some(), item.created_at.is_some());
        let feedback = item
            .body()
            .map_err(|error| error.to_string())
            .and_then(|body| {
                let feedback = Feedback {
                    id: item.id.unwrap_or_else(|| context.sources.id_at(now)),
                    call_id: item.call_id,
                    body,
                    author: item.author,
                    created_at: item.created_at.map_or(now, to_the_microsecond),
                };
                feedback.check().map_err(|error| error.to_string())?;
                must_have_come("created_at", feedback.created_at, now)?;
                Ok(feedback)
            });
        match feedback {
            Ok(feedback) => {
                apps.push(item.app);
                sent.push((feedback, has_own_id, has_time));
            }
            Err(error) => errors.push((index, error)),
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid_items(sent.len() + errors.len(), errors));
    }
    let named: Vec<_> = sent
        .iter()
        .zip(&apps)
        .map(|((feedback, ..), app)| NamedCall {
            id: &feedback.call_id,
            app: app.as_ref(),
        })
        .collect();
    let calls = call_ids::resolve(&context, &caller, &named).await?;
    let sent = sent
        .into_iter()
        .zip(calls)
        .map(|((feedback, has_own_id, has_time), call_id)| SentEvent {
            event: NewEvent::Feedback(Box::new(Feedback {
                call_id,
                ..feedback
            })),
            has_own_id,
            left_open: if has_time { vec![] } else { vec!["created_at"] },
        })
        .collect();
    Ok(stored(sent_events::store(&context, &caller, sent).await?))
}

/// The longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 150;

/// Makes the header the id of a single piece of feedback, together with who sends it: others may choose the same.
fn name_by_header(
    caller: &Caller,
    key: Option<HeaderValue>,
    items: &mut [NewFeedback],
) -> ApiResult<()> {
    let Some(key) = key else {
        return Ok(());
    };
    let [item] = items else {
        let detail = "`Idempotency-Key` names one piece of feedback; give each of several an `id`";
        return Err(Problem::invalid(detail));
    };
    let key = key
        .to_str()
        .ok()
        .filter(|key| (1..=LONGEST_KEY).contains(&key.len()))
        .ok_or_else(|| {
            let detail =
                format!("`Idempotency-Key` must have 1 to {LONGEST_KEY} visible ASCII characters");
            Problem::invalid(detail)
        })?;
    if item.id.is_none() {
        item.id = Some(format!("{}:{key}", caller.identity()));
    }
    Ok(())
}
