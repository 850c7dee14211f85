//! Appending events: the path that must keep up with live traffic.
//!
//! Each statement crosses to the connection's thread and back, so one statement takes many rows. The numbers of rows
//! come from a short list, which keeps the prepared statements few and cached.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use flywheel_core::ContentHash;
use flywheel_core::call::Call;
use flywheel_core::feedback::{Feedback, FeedbackBody};
use flywheel_storage::events::Appended;
use flywheel_storage::{NewEvent, StorageResult};
use sqlx::error::BoxDynError;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, Row as _, SqliteConnection, query, query_with};

use super::error::failed;
use super::fields::{document, signed};

/// How many rows one statement takes; a group is cut into these, greatest first.
const SIZES: [usize; 7] = [64, 32, 16, 8, 4, 2, 1];

/// One table's insertion, prepared for each of [`SIZES`].
struct Insertion {
    columns: usize,
    statements: [Arc<str>; SIZES.len()],
}

impl Insertion {
    fn new(table: &str, columns: &[&str], conflict: &str) -> Self {
        let row = format!("({})", vec!["?"; columns.len()].join(", "));
        let statements = SIZES.map(|size| {
            let rows = vec![row.as_str(); size].join(", ");
            let columns = columns.join(", ");
            // A failure undoes the whole transaction, which it does anyhow. SQLite need not keep what every page was
            // before the statement then, which it would do in a temporary file and take a third longer.
            format!("INSERT OR ROLLBACK INTO {table} ({columns}) VALUES {rows} {conflict}").into()
        });
        Self {
            columns: columns.len(),
            statements,
        }
    }

    /// The statement for as many of the first of `left` rows as one takes, and how many that is.
    fn for_rows(&self, left: usize) -> Option<(usize, AssertSqlSafe<Arc<str>>)> {
        let position = SIZES.iter().position(|size| *size <= left)?;
        Some((
            SIZES[position],
            AssertSqlSafe(Arc::clone(&self.statements[position])),
        ))
    }

    fn arguments(&self, rows: usize) -> SqliteArguments {
        let mut arguments = SqliteArguments::default();
        arguments.reserve(rows * self.columns, 0);
        arguments
    }
}

static CALLS: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("calls", &CALL_COLUMNS, "ON CONFLICT (id) DO NOTHING"));

static CONTENTS: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("call_contents", &CONTENT_COLUMNS, ""));

static FEEDBACK: LazyLock<Insertion> =
    LazyLock::new(|| Insertion::new("feedback", &FEEDBACK_COLUMNS, "ON CONFLICT (id) DO NOTHING"));

/// Appends events in the transaction that is open. The answers are in the order of the events.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    events: &[NewEvent],
) -> StorageResult<Vec<Appended>> {
    let mut calls: Vec<(usize, &Call)> = Vec::new();
    let mut feedback: Vec<(usize, &Feedback)> = Vec::new();
    for (place, event) in events.iter().enumerate() {
        match event {
            NewEvent::Call(call) => calls.push((place, call)),
            NewEvent::Feedback(piece) => feedback.push((place, piece)),
        }
    }
    let mut appended = vec![Appended::Duplicate; events.len()];
    append_calls(connection, &calls, &mut appended).await?;
    append_feedback(connection, &feedback, &mut appended).await?;
    Ok(appended)
}

async fn append_calls(
    connection: &mut SqliteConnection,
    mut calls: &[(usize, &Call)],
    appended: &mut [Appended],
) -> StorageResult<()> {
    let mut stored: Vec<(i64, &Call)> = Vec::with_capacity(calls.len());
    while let Some((size, statement)) = CALLS.for_rows(calls.len()) {
        let (chunk, rest) = calls.split_at(size);
        calls = rest;
        let mut arguments = CALLS.arguments(size);
        for (_, call) in chunk {
            add_call(&mut arguments, call).map_err(encoding)?;
        }
        let done = query_with(statement, arguments)
            .execute(&mut *connection)
            .await
            .map_err(failed("appending calls"))?;
        let last = done.last_insert_rowid();
        if done.rows_affected() == size as u64 {
            // Numbers are given out one after the other.
            let first = last - size as i64 + 1;
            for (number, (place, call)) in (first..).zip(chunk) {
                appended[*place] = Appended::Stored;
                stored.push((number, call));
            }
        } else if done.rows_affected() > 0 {
            let sql = "SELECT id, number FROM calls WHERE number BETWEEN ? AND ?";
            let mut new = new_ids(connection, sql, last, done.rows_affected()).await?;
            for (place, call) in chunk {
                // The first of several with one id is the one that was taken.
                if let Some(number) = new.remove(&call.id) {
                    appended[*place] = Appended::Stored;
                    stored.push((number, call));
                }
            }
        }
    }
    append_contents(connection, &stored).await
}

async fn append_contents(
    connection: &mut SqliteConnection,
    mut calls: &[(i64, &Call)],
) -> StorageResult<()> {
    while let Some((size, statement)) = CONTENTS.for_rows(calls.len()) {
        let (chunk, rest) = calls.split_at(size);
        calls = rest;
        let mut arguments = CONTENTS.arguments(size);
        for (number, call) in chunk {
            add_content(&mut arguments, *number, call)?;
        }
        query_with(statement, arguments)
            .execute(&mut *connection)
            .await
            .map_err(failed("appending the texts of calls"))?;
    }
    Ok(())
}

async fn append_feedback(
    connection: &mut SqliteConnection,
    mut feedback: &[(usize, &Feedback)],
    appended: &mut [Appended],
) -> StorageResult<()> {
    while let Some((size, statement)) = FEEDBACK.for_rows(feedback.len()) {
        let (chunk, rest) = feedback.split_at(size);
        feedback = rest;
        let mut arguments = FEEDBACK.arguments(size);
        for (_, piece) in chunk {
            add_feedback(&mut arguments, piece).map_err(encoding)?;
        }
        let done = query_with(statement, arguments)
            .execute(&mut *connection)
            .await
            .map_err(failed("appending feedback"))?;
        if done.rows_affected() == size as u64 {
            for (place, _) in chunk {
                appended[*place] = Appended::Stored;
            }
        } else if done.rows_affected() > 0 {
            let sql = "SELECT id, number FROM feedback WHERE number BETWEEN ? AND ?";
            let last = done.last_insert_rowid();
            let mut new = new_ids(connection, sql, last, done.rows_affected()).await?;
            for (place, piece) in chunk {
                if new.remove(&piece.id).is_some() {
                    appended[*place] = Appended::Stored;
                }
            }
        }
    }
    Ok(())
}

/// The rows that a statement with duplicates added: those with the newest numbers.
async fn new_ids(
    connection: &mut SqliteConnection,
    sql: &'static str,
    last: i64,
    added: u64,
) -> StorageResult<HashMap<String, i64>> {
    let rows = query(sql)
        .bind(last - signed(added) + 1)
        .bind(last)
        .fetch_all(connection)
        .await
        .map_err(failed("telling new events from duplicates"))?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()
        .map_err(failed("telling new events from duplicates"))
}

fn encoding(error: BoxDynError) -> flywheel_storage::StorageError {
    failed("writing an event")(sqlx::Error::Encode(error))
}

const CALL_COLUMNS: [&str; 28] = [
    "id",
    "started_at",
    "app",
    "environment",
    "manifest",
    "prompt",
    "prompt_version",
    "model_id",
    "model_version",
    "experiment",
    "arm",
    "unit",
    "session",
    "tags",
    "idempotency_key",
    "status",
    "error_kind",
    "finish_reason",
    "streamed",
    "fallback",
    "attempts",
    "latency_us",
    "first_byte_us",
    "overhead_us",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cost_nano_usd",
];

fn add_call(row: &mut SqliteArguments, call: &Call) -> Result<(), BoxDynError> {
    let facts = &call.facts;
    let tags = if facts.tags.is_empty() {
        None
    } else {
        Some(serde_json::to_string(&facts.tags)?)
    };
    row.add(call.id.as_str())?;
    row.add(call.started_at.as_microsecond())?;
    row.add(facts.app.as_ref().map(|name| name.as_str()))?;
    row.add(facts.environment.as_ref().map(|name| name.as_str()))?;
    row.add(facts.manifest.as_ref().map(hash_bytes))?;
    row.add(facts.prompt.as_ref().map(|name| name.as_str()))?;
    row.add(facts.prompt_version.as_ref().map(hash_bytes))?;
    row.add(facts.model_id.as_ref().map(|name| name.as_str()))?;
    row.add(facts.model_version.as_ref().map(|name| name.as_str()))?;
    row.add(facts.experiment.as_ref().map(|name| name.as_str()))?;
    row.add(facts.arm.as_ref().map(|name| name.as_str()))?;
    row.add(facts.unit.as_deref())?;
    row.add(facts.session.as_deref())?;
    row.add(tags)?;
    row.add(facts.idempotency_key.as_deref())?;
    row.add(facts.status.as_str())?;
    row.add(facts.error_kind.as_deref())?;
    row.add(facts.finish_reason.as_deref())?;
    row.add(i64::from(facts.streamed))?;
    row.add(i64::from(facts.fallback))?;
    row.add(i64::from(facts.attempts))?;
    row.add(signed(facts.latency_us))?;
    row.add(facts.first_byte_us.map(signed))?;
    row.add(facts.overhead_us.map(signed))?;
    row.add(facts.usage.map(|usage| signed(usage.input_tokens)))?;
    row.add(facts.usage.map(|usage| signed(usage.output_tokens)))?;
    row.add(facts.usage.map(|usage| signed(usage.cached_input_tokens)))?;
    row.add(facts.cost_nano_usd)
}

fn hash_bytes(hash: &ContentHash) -> &[u8] {
    hash.as_bytes()
}

const CONTENT_COLUMNS: [&str; 7] = [
    "number",
    "output",
    "raw_output",
    "error",
    "tool_calls",
    "variables",
    "messages",
];

fn add_content(row: &mut SqliteArguments, number: i64, call: &Call) -> StorageResult<()> {
    let content = &call.content;
    let tool_calls = content.tool_calls.as_ref().map(document).transpose()?;
    let variables = match &content.variables {
        variables if variables.is_empty() => None,
        variables => Some(document(variables)?),
    };
    let messages = match &content.messages {
        messages if messages.is_empty() => None,
        messages => Some(document(messages)?),
    };
    let add = || -> Result<(), BoxDynError> {
        row.add(number)?;
        row.add(content.output.as_deref())?;
        row.add(content.raw_output.as_deref())?;
        row.add(content.error.as_deref())?;
        row.add(tool_calls)?;
        row.add(variables)?;
        row.add(messages)
    };
    add().map_err(encoding)
}

const FEEDBACK_COLUMNS: [&str; 10] = [
    "id",
    "call_id",
    "kind",
    "name",
    "value",
    "scale_min",
    "scale_max",
    "author",
    "created_at",
    "text",
];

fn add_feedback(row: &mut SqliteArguments, feedback: &Feedback) -> Result<(), BoxDynError> {
    let body = &feedback.body;
    let name = match body {
        FeedbackBody::Outcome { name, .. } => Some(name.as_str()),
        _ => None,
    };
    let scale = match body {
        FeedbackBody::Rating { scale, .. } => Some(scale),
        _ => None,
    };
    row.add(feedback.id.as_str())?;
    row.add(feedback.call_id.as_str())?;
    row.add(body.kind())?;
    row.add(name)?;
    row.add(body.value())?;
    row.add(scale.map(|scale| scale.min))?;
    row.add(scale.map(|scale| scale.max))?;
    row.add(feedback.author.as_deref())?;
    row.add(feedback.created_at.as_microsecond())?;
    row.add(body.text())
}
