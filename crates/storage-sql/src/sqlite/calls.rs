//! Reading calls: one, or pages of those that a filter lets through.

use std::collections::HashMap;
use std::time::Duration;

use flywheel_core::AppName;
use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_core::model::Usage;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StorageResult;
use flywheel_storage::events::{CallFilter, CallKey, CallSummary};
use flywheel_storage::page::{LARGEST_PAGE, Page, PageRequest};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqlitePool, query};

use super::error::failed;
use super::fields::{Fields, as_in_json};
use super::search;

/// How many characters of the output a list shows.
const PREVIEW_CHARACTERS: usize = 200;

/// More apps than this are searched by time instead of one by one.
const MOST_BRANCHES: usize = 50;

/// How many ids are looked up with one statement; SQLite takes 32,766 values.
const IDS_AT_ONCE: usize = 10_000;

/// One call.
pub(super) async fn get(readers: &SqlitePool, id: &str) -> StorageResult<Option<Call>> {
    let row = query(
        "SELECT calls.*, output, raw_output, error, tool_calls, variables, messages
         FROM calls
         LEFT JOIN call_contents ON call_contents.number = calls.number
         WHERE calls.id = $1",
    )
    .bind(id)
    .fetch_optional(readers)
    .await
    .map_err(failed("reading a call"))?;
    row.as_ref().map(call_from).transpose()
}

/// The apps of those calls that are known.
pub(super) async fn apps(
    readers: &SqlitePool,
    ids: &[&str],
) -> StorageResult<HashMap<String, Option<AppName>>> {
    let mut apps = HashMap::new();
    for ids in ids.chunks(IDS_AT_ONCE) {
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT id, app FROM calls WHERE id IN (");
        let mut places = sql.separated(", ");
        for id in ids {
            places.push_bind(*id);
        }
        sql.push(")");
        let rows = sql
            .build()
            .persistent(false)
            .fetch_all(readers)
            .await
            .map_err(failed("finding the apps of calls"))?;
        for row in &rows {
            let fields = fields(row);
            apps.insert(fields.text("id")?, fields.optional_parsed("app")?);
        }
    }
    Ok(apps)
}

/// The call with an idempotency key: the one that succeeded, or else the first.
pub(super) async fn find_idempotent(
    readers: &SqlitePool,
    app: &AppName,
    environment: &EnvironmentName,
    key: &str,
) -> StorageResult<Option<Call>> {
    let row = query(
        "SELECT calls.*, output, raw_output, error, tool_calls, variables, messages
         FROM calls
         LEFT JOIN call_contents ON call_contents.number = calls.number
         WHERE calls.idempotency_key = $1 AND calls.app = $2 AND calls.environment = $3
         ORDER BY calls.status <> 'ok', calls.number
         LIMIT 1",
    )
    .bind(key)
    .bind(app.as_str())
    .bind(environment.as_str())
    .fetch_optional(readers)
    .await
    .map_err(failed("finding a repeated call"))?;
    row.as_ref().map(call_from).transpose()
}

/// Calls, newest first.
pub(super) async fn list(
    readers: &SqlitePool,
    longest: Duration,
    filter: &CallFilter,
    page: PageRequest<CallKey>,
) -> StorageResult<Page<CallSummary, CallKey>> {
    let limit = page.limit.clamp(1, LARGEST_PAGE);
    let listing = listing(filter, page.before.as_ref(), limit + 1);
    let rows = search::fetch_all(readers, longest, listing).await?;
    let calls = rows
        .iter()
        .map(summary_from)
        .collect::<StorageResult<Vec<_>>>()?;
    Ok(Page::from_rows(calls, limit, |call| CallKey {
        started_at: call.started_at,
        id: call.id.clone(),
    }))
}

/// The statement for a page: for each app the newest numbers that fit, of all these the newest, and only of those the
/// columns. Asking app by app lets each be answered from the index in its order.
fn listing(filter: &CallFilter, before: Option<&CallKey>, limit: u32) -> QueryBuilder<Sqlite> {
    // The preview is cut in bytes, because SQLite's own cut of text ends at a NUL character; of nothing, that cut makes
    // NULL, where an empty output is to stay empty.
    let mut sql = QueryBuilder::new(
        "SELECT calls.*, coalesce(substr(CAST(output AS BLOB), 1, 800), output) AS output_start
         FROM calls
         LEFT JOIN call_contents ON call_contents.number = calls.number
         WHERE calls.number IN (",
    );
    // An index on what is rarer than an app is the better one; the plus keeps the one on apps out.
    let has_rarer =
        filter.unit.is_some() || filter.session.is_some() || filter.experiment.is_some();
    // A part of an id is looked up first, whatever else is asked for.
    let has_id = filter.id.as_deref().is_some_and(|part| !part.is_empty());
    // Without statistics, which nobody gathers here, an order that an index has is not what the planner thinks of first.
    let in_order = |index: &'static str| match has_rarer || has_id {
        true => "",
        false if filter.status.is_some_and(|status| status != CallStatus::Ok) => {
            " INDEXED BY calls_not_ok"
        }
        false => index,
    };
    match filter.apps.as_slice() {
        [] => push_branch(
            &mut sql,
            filter,
            before,
            limit,
            in_order(" INDEXED BY calls_by_time"),
            |_| {},
        ),
        apps if has_rarer || apps.len() > MOST_BRANCHES => {
            push_branch(&mut sql, filter, before, limit, "", |sql| {
                sql.push(" AND +calls.app IN (");
                let mut names = sql.separated(", ");
                for app in apps {
                    names.push_bind(app.as_str());
                }
                sql.push(")");
            });
        }
        apps => {
            for (position, app) in apps.iter().enumerate() {
                if position > 0 {
                    sql.push(" UNION ");
                }
                let index = in_order(" INDEXED BY calls_by_app");
                push_branch(&mut sql, filter, before, limit, index, |sql| {
                    sql.push(" AND calls.app = ").push_bind(app.as_str());
                });
            }
        }
    }
    sql.push(") ORDER BY calls.started_at DESC, calls.id DESC LIMIT ")
        .push_bind(i64::from(limit));
    sql
}

fn push_branch(
    sql: &mut QueryBuilder<Sqlite>,
    filter: &CallFilter,
    before: Option<&CallKey>,
    limit: u32,
    index: &str,
    push_apps: impl FnOnce(&mut QueryBuilder<Sqlite>),
) {
    sql.push("SELECT number FROM (SELECT calls.number FROM calls")
        .push(index)
        .push(" WHERE TRUE");
    push_apps(sql);
    push_conditions(sql, filter);
    if let Some(before) = before {
        let started_at = before.started_at.as_microsecond();
        sql.push(" AND calls.started_at <= ").push_bind(started_at);
        sql.push(" AND (calls.started_at < ").push_bind(started_at);
        sql.push(" OR calls.id < ")
            .push_bind(before.id.as_str())
            .push(")");
    }
    sql.push(" ORDER BY calls.started_at DESC, calls.id DESC LIMIT ");
    sql.push_bind(i64::from(limit)).push(")");
}

fn push_conditions(sql: &mut QueryBuilder<Sqlite>, filter: &CallFilter) {
    if let Some(part) = filter.id.as_deref().filter(|part| !part.is_empty()) {
        push_part_of_id(sql, part);
    }
    let texts = [
        (
            " AND calls.environment = ",
            filter.environment.as_ref().map(|name| name.as_str()),
        ),
        (
            " AND calls.experiment = ",
            filter.experiment.as_ref().map(|name| name.as_str()),
        ),
        (
            " AND calls.arm = ",
            filter.arm.as_ref().map(|name| name.as_str()),
        ),
        (" AND calls.unit = ", filter.unit.as_deref()),
        (" AND calls.session = ", filter.session.as_deref()),
        (
            " AND calls.status = ",
            filter.status.map(|status| status.as_str()),
        ),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            sql.push(condition).push_bind(value);
        }
    }
    if filter.status.is_some_and(|status| status != CallStatus::Ok) {
        // As the index on those says it.
        sql.push(" AND calls.status <> 'ok'");
    }
    let hashes = [
        (" AND calls.manifest = ", &filter.manifest),
        (" AND calls.prompt_version = ", &filter.prompt_version),
    ];
    for (condition, hash) in hashes {
        if let Some(hash) = hash {
            sql.push(condition).push_bind(hash.as_bytes().to_vec());
        }
    }
    if let Some(since) = filter.since {
        sql.push(" AND calls.started_at >= ")
            .push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        sql.push(" AND calls.started_at < ")
            .push_bind(until.as_microsecond());
    }
    match filter.feedback.as_deref() {
        None => {}
        Some("any") => {
            sql.push(" AND EXISTS (SELECT 1 FROM feedback WHERE call_id = calls.id)");
        }
        Some(kind) => {
            sql.push(" AND EXISTS (SELECT 1 FROM feedback WHERE call_id = calls.id AND kind = ");
            sql.push_bind(kind).push(")");
        }
    }
    if let Some(text) = filter.text.as_deref().filter(|text| !text.is_empty()) {
        push_text(sql, text);
    }
}

/// A beginning is found in the index of the ids; for an end, that index is read as a whole, which is narrower than the
/// table.
fn push_part_of_id(sql: &mut QueryBuilder<Sqlite>, part: &str) {
    sql.push(" AND calls.number IN (SELECT number FROM calls WHERE id >= ")
        .push_bind(part);
    sql.push(" AND id < ")
        .push_bind(format!("{part}{}", char::MAX));
    sql.push(" UNION SELECT number FROM calls WHERE substr(id, -length(")
        .push_bind(part);
    sql.push(")) = ").push_bind(part).push(")");
}

/// The messages are JSON. Searching them as text for the JSON form of what is sought is quick and rules most calls
/// out; only what it finds is taken apart, so that names of members do not count as text.
fn push_text(sql: &mut QueryBuilder<Sqlite>, text: &str) {
    let sought = text.to_ascii_lowercase();
    sql.push(
        " AND EXISTS (
             SELECT 1 FROM call_contents
             WHERE call_contents.number = calls.number
               AND (instr(lower(output), ",
    );
    sql.push_bind(sought.as_str());
    sql.push(") > 0 OR (instr(lower(messages), ")
        .push_bind(as_in_json(&sought));
    sql.push(
        ") > 0 AND EXISTS (
             SELECT 1 FROM json_tree(messages) AS member
             WHERE member.type = 'text'
               AND member.key NOT IN ('role', 'type')
               AND instr(lower(member.atom), ",
    );
    sql.push_bind(sought.as_str()).push(") > 0))))");
}

fn fields(row: &SqliteRow) -> Fields<'_> {
    Fields::new(row, "calls", &["id"])
}

fn call_from(row: &SqliteRow) -> StorageResult<Call> {
    let fields = fields(row);
    let texts = Fields::new(row, "call_contents", &["number"]);
    Ok(Call {
        id: fields.text("id")?,
        started_at: fields.time("started_at")?,
        facts: facts_from(&fields)?,
        content: CallContent {
            variables: texts.optional_json("variables")?.unwrap_or_default(),
            messages: texts.optional_json("messages")?.unwrap_or_default(),
            output: texts.optional_text("output")?,
            raw_output: texts.optional_text("raw_output")?,
            tool_calls: texts.optional_json("tool_calls")?,
            error: texts.optional_text("error")?,
        },
    })
}

fn summary_from(row: &SqliteRow) -> StorageResult<CallSummary> {
    let fields = fields(row);
    let start: Option<&[u8]> = fields.raw("output_start")?;
    Ok(CallSummary {
        id: fields.text("id")?,
        started_at: fields.time("started_at")?,
        facts: facts_from(&fields)?,
        output_preview: start.map(preview),
    })
}

/// The first characters of a text whose end may be cut within one.
fn preview(start: &[u8]) -> String {
    let whole = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    whole.chars().take(PREVIEW_CHARACTERS).collect()
}

fn facts_from(fields: &Fields<'_>) -> StorageResult<CallFacts> {
    Ok(CallFacts {
        app: fields.optional_parsed("app")?,
        environment: fields.optional_parsed("environment")?,
        manifest: fields.optional_hash_bytes("manifest")?,
        prompt: fields.optional_parsed("prompt")?,
        prompt_version: fields.optional_hash_bytes("prompt_version")?,
        model_id: fields.optional_parsed("model_id")?,
        model_version: fields.optional_parsed("model_version")?,
        experiment: fields.optional_parsed("experiment")?,
        arm: fields.optional_parsed("arm")?,
        unit: fields.optional_text("unit")?,
        session: fields.optional_text("session")?,
        tags: fields.optional_json("tags")?.unwrap_or_default(),
        idempotency_key: fields.optional_text("idempotency_key")?,
        request_hash: fields.optional_hash_bytes("request_hash")?,
        redacted: fields.flag("redacted")?,
        status: fields.spelled("status")?,
        error_kind: fields.optional_text("error_kind")?,
        finish_reason: fields.optional_text("finish_reason")?,
        tool_success: fields.raw("tool_success")?,
        streamed: fields.flag("streamed")?,
        fallback: fields.flag("fallback")?,
        attempts: fields.small_count("attempts")?,
        latency_us: fields.optional_count("latency_us")?,
        first_byte_us: fields.optional_count("first_byte_us")?,
        overhead_us: fields.optional_count("overhead_us")?,
        usage: usage_from(fields)?,
        cost_nano_usd: fields.raw("cost_nano_usd")?,
    })
}

fn usage_from(fields: &Fields<'_>) -> StorageResult<Option<Usage>> {
    let Some(input_tokens) = fields.optional_count("input_tokens")? else {
        return Ok(None);
    };
    Ok(Some(Usage {
        input_tokens,
        output_tokens: fields.count("output_tokens")?,
        cached_input_tokens: fields.count("cached_input_tokens")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_end_between_characters() {
        for (start, expected) in [
            ("", ""),
            ("a\0b", "a\0b"),
            ("é".repeat(400).as_str(), &"é".repeat(200)),
        ] {
            assert_eq!(preview(start.as_bytes()), expected);
        }
        assert_eq!(preview(&"ab€".as_bytes()[..4]), "ab");
    }

    #[tokio::test]
    async fn a_filtered_page_is_read_from_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flywheel.db");
        let store = crate::SqliteStore::open(&path, crate::SqliteOptions::default())
            .await
            .unwrap();
        let app: AppName = "support".parse().unwrap();
        let other: AppName = "search".parse().unwrap();
        let of_app = CallFilter {
            apps: vec![app.clone()],
            environment: Some("production".parse().unwrap()),
            status: Some(CallStatus::Ok),
            ..CallFilter::default()
        };
        for (filter, index) in [
            (CallFilter::default(), "calls_by_time"),
            (of_app.clone(), "calls_by_app (app=?"),
            (
                CallFilter {
                    apps: vec![app, other],
                    ..CallFilter::default()
                },
                "calls_by_app (app=?",
            ),
            (
                CallFilter {
                    unit: Some("u".to_owned()),
                    ..of_app.clone()
                },
                "calls_by_unit (unit=?",
            ),
            (
                CallFilter {
                    session: Some("s".to_owned()),
                    ..of_app
                },
                "calls_by_session (session=?",
            ),
        ] {
            let sql = format!(
                "EXPLAIN QUERY PLAN {}",
                listing(&filter, None, 51).into_string()
            );
            let rows = query(sqlx::AssertSqlSafe(sql))
                .fetch_all(&store.readers)
                .await
                .unwrap();
            let plan: Vec<String> = rows
                .iter()
                .map(|row| sqlx::Row::get::<String, _>(row, "detail"))
                .collect();
            assert!(plan.iter().any(|step| step.contains(index)), "{plan:#?}");
            assert!(
                !plan.iter().any(|step| step == "SCAN calls"),
                "{plan:#?} reads the whole table"
            );
        }
    }
}
