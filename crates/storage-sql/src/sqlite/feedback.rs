//! Reading feedback.

use std::time::Duration;

use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_storage::StorageResult;
use flywheel_storage::events::{FeedbackFilter, FeedbackKey, ListedFeedback};
use flywheel_storage::page::{LARGEST_PAGE, Page, PageRequest};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqlitePool, query};

use super::error::failed;
use super::fields::Fields;
use super::search;

/// All feedback on a call, oldest first.
pub(super) async fn on_call(readers: &SqlitePool, call_id: &str) -> StorageResult<Vec<Feedback>> {
    let rows = query("SELECT * FROM feedback WHERE call_id = $1 ORDER BY created_at, number")
        .bind(call_id)
        .fetch_all(readers)
        .await
        .map_err(failed("reading feedback"))?;
    rows.iter().map(feedback_from).collect()
}

/// One piece of feedback on a call.
pub(super) async fn get(
    readers: &SqlitePool,
    call_id: &str,
    id: &str,
) -> StorageResult<Option<Feedback>> {
    let row = query("SELECT * FROM feedback WHERE call_id = $1 AND id = $2")
        .bind(call_id)
        .bind(id)
        .fetch_optional(readers)
        .await
        .map_err(failed("reading feedback"))?;
    row.as_ref().map(feedback_from).transpose()
}

/// Feedback, newest first.
pub(super) async fn list(
    readers: &SqlitePool,
    longest: Duration,
    filter: &FeedbackFilter,
    page: PageRequest<FeedbackKey>,
) -> StorageResult<Page<ListedFeedback, FeedbackKey>> {
    let limit = page.limit.clamp(1, LARGEST_PAGE);
    let listing = listing(filter, page.before.as_ref(), limit + 1);
    let rows = search::fetch_all(readers, longest, listing).await?;
    let pieces = rows
        .iter()
        .map(|row| {
            let fields = Fields::new(row, "feedback", &["call_id", "id"]);
            Ok(ListedFeedback {
                feedback: feedback_from(row)?,
                app: fields.optional_parsed("app")?,
                prompt: fields.optional_parsed("prompt")?,
                prompt_version: fields.optional_hash_bytes("prompt_version")?,
            })
        })
        .collect::<StorageResult<Vec<_>>>()?;
    Ok(Page::from_rows(pieces, limit, |piece| FeedbackKey {
        created_at: piece.feedback.created_at,
        call_id: piece.feedback.call_id.clone(),
        id: piece.feedback.id.clone(),
    }))
}

fn listing(
    filter: &FeedbackFilter,
    before: Option<&FeedbackKey>,
    limit: u32,
) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new(
        "SELECT feedback.*, calls.app, calls.prompt, calls.prompt_version
         FROM feedback INDEXED BY feedback_by_time LEFT JOIN calls ON calls.id = feedback.call_id
         WHERE TRUE",
    );
    if !filter.apps.is_empty() {
        sql.push(" AND calls.app IN (");
        let mut names = sql.separated(", ");
        for app in &filter.apps {
            names.push_bind(app.as_str());
        }
        sql.push(")");
    }
    if let Some(kind) = &filter.kind {
        sql.push(" AND feedback.kind = ").push_bind(kind.as_str());
    }
    if let Some(version) = &filter.prompt_version {
        sql.push(" AND calls.prompt_version = ")
            .push_bind(version.as_bytes().to_vec());
    }
    if let Some(since) = filter.since {
        sql.push(" AND feedback.created_at >= ")
            .push_bind(since.as_microsecond());
    }
    if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
        sql.push(" AND instr(lower(feedback.text), ")
            .push_bind(text.to_ascii_lowercase())
            .push(") > 0");
    }
    if let Some(before) = before {
        sql.push(" AND feedback.created_at <= ")
            .push_bind(before.created_at.as_microsecond());
        sql.push(" AND (feedback.created_at, feedback.call_id, feedback.id) < (")
            .push_bind(before.created_at.as_microsecond());
        sql.push(", ").push_bind(before.call_id.as_str());
        sql.push(", ").push_bind(before.id.as_str()).push(")");
    }
    sql.push(" ORDER BY feedback.created_at DESC, feedback.call_id DESC, feedback.id DESC LIMIT ")
        .push_bind(i64::from(limit));
    sql
}

fn feedback_from(row: &SqliteRow) -> StorageResult<Feedback> {
    let fields = Fields::new(row, "feedback", &["call_id", "id"]);
    Ok(Feedback {
        id: fields.text("id")?,
        call_id: fields.text("call_id")?,
        body: body_from(&fields)?,
        author: fields.optional_text("author")?,
        created_at: fields.time("created_at")?,
    })
}

fn body_from(fields: &Fields<'_>) -> StorageResult<FeedbackBody> {
    Ok(match fields.text("kind")?.as_str() {
        "thumbs" => FeedbackBody::Thumbs {
            value: fields.number("value")? != 0.0,
        },
        "rating" => FeedbackBody::Rating {
            value: fields.number("value")?,
            scale: RatingScale {
                min: fields.number("scale_min")?,
                max: fields.number("scale_max")?,
            },
        },
        "comment" => FeedbackBody::Comment {
            text: fields.text("text")?,
        },
        "correction" => FeedbackBody::Correction {
            text: fields.text("text")?,
        },
        "outcome" => FeedbackBody::Outcome {
            name: fields.text("name")?,
            value: fields.number("value")?,
        },
        _ => return Err(fields.inconsistent("kind", None)),
    })
}
