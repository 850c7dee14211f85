//! Storing events that others send: what is sent again is acknowledged again, what only looks so is refused.

use flywheel_core::call::Call;
use flywheel_core::feedback::Feedback;
use flywheel_storage::NewEvent;
use flywheel_storage::events::Appended;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::context::Context;
use crate::problem::{ApiResult, Problem};

/// An event as it was sent, completed with what was left open.
pub struct SentEvent {
    /// The event.
    pub event: NewEvent,
    /// Whether its sender chose the id, so that it may be there already.
    pub has_own_id: bool,
    /// Members that the sender left open. They may differ when the same is sent again.
    pub left_open: Vec<&'static str>,
}

impl SentEvent {
    fn id(&self) -> &str {
        match &self.event {
            NewEvent::Call(call) => &call.id,
            NewEvent::Feedback(feedback) => &feedback.id,
        }
    }
}

/// A time as the store keeps it.
#[must_use]
pub fn to_the_microsecond(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// How far the clock of a sender may be ahead.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);

/// Refuses a time that is yet to come: of a call's opinions the latest counts, and this one would for as long.
///
/// # Errors
/// With what is wrong.
pub fn must_have_come(member: &str, time: Timestamp, now: Timestamp) -> Result<(), String> {
    match now.duration_until(time) > AHEAD {
        true => Err(format!(
            "`{member}` is `{time}`, which is yet to come: it is `{now}`"
        )),
        false => Ok(()),
    }
}

/// Stores events, and returns their ids with what became of them once they are durable.
///
/// # Errors
/// When they could not be stored; or when one has the id of another that says something else. The rest is then stored.
pub async fn store(
    context: &Context,
    caller: &Caller,
    sent: Vec<SentEvent>,
) -> ApiResult<Vec<(String, Appended)>> {
    let mut ids = Vec::with_capacity(sent.len());
    let mut may_be_there = Vec::new();
    let mut events = Vec::with_capacity(sent.len());
    for (index, sent) in sent.into_iter().enumerate() {
        ids.push(sent.id().to_owned());
        if sent.has_own_id {
            may_be_there.push((index, sent.event.clone(), sent.left_open));
        }
        events.push(sent.event);
    }
    let appended = context
        .gateway
        .recorder
        .record(events)
        .await
        .map_err(|error| {
            Problem::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                format!("the events could not be stored: {error}"),
            )
            .hint("send them again shortly; ids make that safe")
        })?;
    let mut errors = Vec::new();
    for (index, mut event, left_open) in may_be_there {
        if appended.get(index) != Some(&Appended::Duplicate) {
            continue;
        }
        context.gateway.recorder.redact(&mut event);
        if let Some(detail) = contradiction(context, caller, &event, &left_open).await? {
            errors.push(json!({"index": index, "detail": detail}));
        }
    }
    let Some(first) = errors.first() else {
        return Ok(ids.into_iter().zip(appended).collect());
    };
    let detail = first["detail"].as_str().unwrap_or_default().to_owned();
    Err(Problem::conflict("id_taken", detail)
        .hint("what is new needs an id of its own; the other items are stored")
        .with("errors", errors.into()))
}

/// How what was sent differs from what is there under its id.
async fn contradiction(
    context: &Context,
    caller: &Caller,
    sent: &NewEvent,
    left_open: &[&str],
) -> ApiResult<Option<String>> {
    Ok(match sent {
        NewEvent::Call(call) => match context.events.get_call(&call.id).await? {
            Some(there) => call_contradiction(caller, call, &there, left_open),
            None => None,
        },
        NewEvent::Feedback(feedback) => {
            let Feedback { id, call_id, .. } = &**feedback;
            let there = context.events.get_feedback(call_id, id).await?;
            there
                .map(|there| differing(&json!(there), &json!(feedback), left_open))
                .filter(|members| !members.is_empty())
                .map(|members| {
                    format!(
                        "feedback `{id}` on call `{call_id}` is stored already and says something else: {} \
                         differs",
                        list(&members)
                    )
                })
        }
    })
}

fn call_contradiction(
    caller: &Caller,
    sent: &Call,
    there: &Call,
    left_open: &[&str],
) -> Option<String> {
    let id = &sent.id;
    // Of a call of an app that the key does not cover, not even what differs is told.
    let is_covered = match &there.facts.app {
        Some(app) => caller.must_cover(app).is_ok(),
        None => caller.must_cover_all().is_ok(),
    };
    if !is_covered {
        return Some(format!("a call with the id `{id}` cannot be logged"));
    }
    let members = differing(&json!(there), &json!(sent), left_open);
    (!members.is_empty()).then(|| {
        format!(
            "call `{id}` is stored already and says something else: {} differs",
            list(&members)
        )
    })
}

/// The names of the members that differ.
fn differing(there: &Value, sent: &Value, left_open: &[&str]) -> Vec<String> {
    let names = |value: &Value| -> Vec<String> {
        value
            .as_object()
            .map(|members| members.keys().cloned().collect())
            .unwrap_or_default()
    };
    let mut all = names(there);
    all.extend(names(sent));
    all.sort();
    all.dedup();
    all.retain(|name| !left_open.contains(&name.as_str()) && there.get(name) != sent.get(name));
    all
}

fn list(members: &[String]) -> String {
    let quoted: Vec<_> = members.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
