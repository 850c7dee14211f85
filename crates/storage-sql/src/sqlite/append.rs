//! Appending events: the path that must keep up with live traffic.

use std::sync::LazyLock;

use flywheel_core::ContentHash;
use flywheel_core::call::Call;
use flywheel_core::feedback::{Feedback, FeedbackBody};
use flywheel_storage::events::Appended;
use flywheel_storage::{NewEvent, StorageResult};
use rusqlite::{Connection, Statement, ToSql, Transaction, TransactionBehavior};

use super::error::unfulfilled;
use super::fields::{document, signed};

/// An insertion into one table. A failure undoes the whole transaction, which it does anyhow; SQLite need not keep then
/// what every page was before the statement.
fn insertion(table: &str, columns: &[&str], conflict: &str) -> String {
    let places = vec!["?"; columns.len()].join(", ");
    let columns = columns.join(", ");
    format!("INSERT OR ROLLBACK INTO {table} ({columns}) VALUES ({places}) {conflict}")
}

static CALLS: LazyLock<String> =
    LazyLock::new(|| insertion("calls", &CALL_COLUMNS, "ON CONFLICT (id) DO NOTHING"));

static CONTENTS: LazyLock<String> =
    LazyLock::new(|| insertion("call_contents", &CONTENT_COLUMNS, ""));

static FEEDBACK: LazyLock<String> = LazyLock::new(|| {
    insertion(
        "feedback",
        &FEEDBACK_COLUMNS,
        "ON CONFLICT (call_id, id) DO NOTHING",
    )
});

/// Appends events in one transaction. The answers are in the order of the events.
pub(super) fn append(connection: &Connection, events: &[NewEvent]) -> StorageResult<Vec<Appended>> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(unfulfilled("beginning to write"))?;
    let appended = insert(&transaction, events)?;
    transaction.commit().map_err(unfulfilled("committing"))?;
    Ok(appended)
}

fn insert(connection: &Connection, events: &[NewEvent]) -> StorageResult<Vec<Appended>> {
    let prepare = |sql: &str| {
        connection
            .prepare_cached(sql)
            .map_err(unfulfilled("preparing to append events"))
    };
    let mut calls = prepare(&CALLS)?;
    let mut contents = prepare(&CONTENTS)?;
    let mut feedback = prepare(&FEEDBACK)?;
    let one = |event: &NewEvent| match event {
        NewEvent::Call(call) => {
            let mut row = Row::of(&mut calls);
            add_call(&mut row, call)?;
            let added = row.insert().map_err(unfulfilled("appending a call"))?;
            if added == Appended::Stored {
                let mut row = Row::of(&mut contents);
                add_content(&mut row, connection.last_insert_rowid(), call)?;
                row.insert()
                    .map_err(unfulfilled("appending the texts of a call"))?;
            }
            Ok(added)
        }
        NewEvent::Feedback(piece) => {
            let mut row = Row::of(&mut feedback);
            add_feedback(&mut row, piece)?;
            row.insert().map_err(unfulfilled("appending feedback"))
        }
    };
    events.iter().map(one).collect()
}

/// The values of a row, added one after the other.
struct Row<'a, 'c> {
    statement: &'a mut Statement<'c>,
    filled: usize,
}

impl<'a, 'c> Row<'a, 'c> {
    fn of(statement: &'a mut Statement<'c>) -> Self {
        Self {
            statement,
            filled: 0,
        }
    }

    fn add(&mut self, value: impl ToSql) -> StorageResult<()> {
        self.filled += 1;
        self.statement
            .raw_bind_parameter(self.filled, value)
            .map_err(unfulfilled("writing an event"))
    }

    fn insert(self) -> rusqlite::Result<Appended> {
        Ok(match self.statement.raw_execute()? {
            0 => Appended::Duplicate,
            _ => Appended::Stored,
        })
    }
}

const CALL_COLUMNS: [&str; 31] = [
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
    "request_hash",
    "redacted",
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
    "tool_success",
];

fn add_call(row: &mut Row<'_, '_>, call: &Call) -> StorageResult<()> {
    let facts = &call.facts;
    let tags = if facts.tags.is_empty() {
        None
    } else {
        Some(document(&facts.tags)?)
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
    row.add(facts.request_hash.as_ref().map(hash_bytes))?;
    row.add(i64::from(facts.redacted))?;
    row.add(facts.status.as_str())?;
    row.add(facts.error_kind.as_deref())?;
    row.add(facts.finish_reason.as_deref())?;
    row.add(i64::from(facts.streamed))?;
    row.add(i64::from(facts.fallback))?;
    row.add(i64::from(facts.attempts))?;
    row.add(facts.latency_us.map(signed))?;
    row.add(facts.first_byte_us.map(signed))?;
    row.add(facts.overhead_us.map(signed))?;
    row.add(facts.usage.map(|usage| signed(usage.input_tokens)))?;
    row.add(facts.usage.map(|usage| signed(usage.output_tokens)))?;
    row.add(facts.usage.map(|usage| signed(usage.cached_input_tokens)))?;
    row.add(facts.cost_nano_usd)?;
    row.add(facts.tool_success.map(i64::from))
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

fn add_content(row: &mut Row<'_, '_>, number: i64, call: &Call) -> StorageResult<()> {
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
    row.add(number)?;
    row.add(content.output.as_deref())?;
    row.add(content.raw_output.as_deref())?;
    row.add(content.error.as_deref())?;
    row.add(tool_calls)?;
    row.add(variables)?;
    row.add(messages)
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

fn add_feedback(row: &mut Row<'_, '_>, feedback: &Feedback) -> StorageResult<()> {
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
