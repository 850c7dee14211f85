//! What apps did, slot by slot.

use std::time::Duration;

use flywheel_core::AppName;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StorageResult;
use flywheel_storage::events::{ActivityRow, Window};
use jiff::Timestamp;
use sqlx::{QueryBuilder, SqlitePool};

use super::fields::Fields;
use super::search;

/// A call's latency to two digits, counted here and in sums alike.
pub(super) const TWO_DIGITS: &str = "CAST(CAST(printf('%.1e', latency_us) AS REAL) AS INTEGER)";

/// By app and slot, of calls that began before a time within the window. SQLite groups by latencies of two digits, so that what it hands over does not grow with the calls.
pub(super) async fn activity(
    readers: &SqlitePool,
    longest: Duration,
    apps: &[AppName],
    environment: Option<&EnvironmentName>,
    window: Window,
    until: Timestamp,
) -> StorageResult<Vec<ActivityRow>> {
    let since = window.since.as_microsecond();
    let mut sql = QueryBuilder::new("SELECT app, (started_at - ");
    sql.push_bind(since).push(") / ");
    sql.push_bind(i64::from(window.slot_seconds.max(1)) * 1_000_000);
    sql.push(" AS slot, ");
    sql.push(TWO_DIGITS).push(
        " AS latency,
         count(*) AS calls,
         count(*) FILTER (WHERE status IN ('provider_error', 'gateway_error')) AS hard_failures,
         count(*) FILTER (WHERE status = 'invalid_output') AS invalid_outputs,
         CAST(total(cost_nano_usd) AS INTEGER) AS cost,
         latency_us IS NULL AS untimed
         FROM calls WHERE started_at >= ",
    );
    sql.push_bind(since).push(" AND started_at < ");
    sql.push_bind(until.as_microsecond());
    if !apps.is_empty() {
        sql.push(" AND app IN (");
        let mut names = sql.separated(", ");
        for app in apps {
            names.push_bind(app.as_str());
        }
        sql.push(")");
    }
    if let Some(environment) = environment {
        sql.push(" AND environment = ")
            .push_bind(environment.as_str());
    }
    sql.push(" GROUP BY app, slot, untimed, latency ORDER BY app, slot, latency");
    let found = search::fetch_all(readers, longest, sql).await?;
    let mut rows: Vec<ActivityRow> = Vec::new();
    for row in &found {
        let fields = Fields::new(row, "calls", &["app", "slot"]);
        let app: Option<AppName> = fields.optional_parsed("app")?;
        let slot = fields.small_count("slot")?;
        if rows
            .last()
            .is_none_or(|last| last.app != app || last.slot != slot)
        {
            rows.push(ActivityRow {
                app,
                slot,
                ..ActivityRow::default()
            });
        }
        let Some(last) = rows.last_mut() else {
            continue;
        };
        let calls = fields.count("calls")?;
        let latencies = match fields.flag("untimed")? {
            true => Vec::new(),
            false => vec![(fields.count("latency")?, calls)],
        };
        last.add(&ActivityRow {
            calls,
            hard_failures: fields.count("hard_failures")?,
            invalid_outputs: fields.count("invalid_outputs")?,
            cost_nano_usd: fields.raw("cost")?,
            latencies,
            ..ActivityRow::default()
        });
    }
    Ok(rows)
}
