//! The list of feedback: what was said, newest first, with what is known of the calls it is about.

use axum::Json;
use axum::extract::State;
use flywheel_core::feedback::{Feedback, FeedbackKind};
use flywheel_core::schema::DateTime;
use flywheel_core::{AppName, PromptName, PromptVersionId};
use flywheel_storage::events::{FeedbackFilter, FeedbackKey};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::calls::{covered_apps, parse_hash};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{PageQuery, QueryParams};
use crate::operations::served::Ordinals;
use crate::problem::ApiResult;
use crate::respond::{List, list};

/// Which feedback.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FeedbackQuery {
    /// On calls of this app.
    app: Option<AppName>,
    /// Of this kind.
    kind: Option<FeedbackKind>,
    /// On calls that this prompt version answered: its whole id.
    #[schemars(with = "Option<PromptVersionId>")]
    prompt_version: Option<String>,
    /// Said not before this time.
    #[schemars(with = "Option<DateTime>")]
    since: Option<Timestamp>,
    /// Found in the comment or correction, whatever its letters' case.
    text: Option<String>,
}

/// A piece of feedback with what is known of its call.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListedFeedback {
    #[serde(flatten)]
    feedback: Feedback,
    /// The call's app.
    app: Option<AppName>,
    /// The prompt that the call was rendered from.
    prompt: Option<PromptName>,
    /// Its version.
    prompt_version: Option<PromptVersionId>,
    /// That version's number, if it is registered here.
    prompt_ordinal: Option<u64>,
}

/// `GET /api/v1/feedback`
pub async fn list_feedback(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<FeedbackQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<ListedFeedback>>> {
    let request = page.request(parse_cursor)?;
    let prompt_version = query.prompt_version.as_deref();
    let filter = FeedbackFilter {
        apps: covered_apps(&caller, query.app)?,
        kind: query.kind.map(|kind| kind.as_str().to_owned()),
        prompt_version: parse_hash::<PromptVersionId>("prompt_version", prompt_version)?,
        since: query.since,
        text: query.text,
    };
    let found = context.events.list_feedback(&filter, request).await?;
    let mut ordinals = Ordinals::new(context.state.read().await?);
    let mut items = Vec::with_capacity(found.items.len());
    for listed in found.items {
        let prompt_ordinal = match (&listed.prompt, listed.prompt_version) {
            (Some(prompt), Some(version)) => ordinals.of(prompt, version).await?,
            _ => None,
        };
        items.push(ListedFeedback {
            feedback: listed.feedback,
            app: listed.app,
            prompt: listed.prompt,
            prompt_version: listed.prompt_version,
            prompt_ordinal,
        });
    }
    Ok(list(items, found.next.as_ref().map(cursor_of)))
}

/// Ids may have any characters: those that part a cursor, or that a shell would take for its own, are written as `%` and
/// their code.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b':');

/// A place in the list, as it is passed around.
pub(crate) fn cursor_of(key: &FeedbackKey) -> String {
    let plain = |id| utf8_percent_encode(id, PLAIN);
    format!(
        "{}_{}_{}",
        key.created_at.as_microsecond(),
        plain(&key.call_id),
        plain(&key.id)
    )
}

pub(crate) fn parse_cursor(cursor: &str) -> Option<FeedbackKey> {
    let (microsecond, ids) = cursor.split_once('_')?;
    let (call_id, id) = ids.split_once('_')?;
    let decoded = |id| Some(percent_decode_str(id).decode_utf8().ok()?.into_owned());
    Some(FeedbackKey {
        created_at: Timestamp::from_microsecond(microsecond.parse().ok()?).ok()?,
        call_id: decoded(call_id)?,
        id: decoded(id)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_lead_back_to_where_they_came_from() {
        for id in ["f1", "a_b", "a%5Fb", "用户 \n", "", "support:42"] {
            let key = FeedbackKey {
                created_at: Timestamp::from_microsecond(1_767_225_600_000_001).unwrap(),
                call_id: id.to_owned(),
                id: format!("{id}_{id}"),
            };
            assert_eq!(parse_cursor(&cursor_of(&key)), Some(key));
        }
        for wrong in ["", "1", "1_2", "x_a_b", "1_%FF_b"] {
            assert_eq!(parse_cursor(wrong), None, "{wrong}");
        }
    }
}
