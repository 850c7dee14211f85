//! Reading feedback.

use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_storage::StorageResult;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqlitePool, query};

use super::error::failed;
use super::fields::Fields;

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
