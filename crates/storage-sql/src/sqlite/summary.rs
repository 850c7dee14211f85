//! Calls and feedback summed up by a key.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use flywheel_storage::events::{SeriesSums, SummaryFilter, SummaryKey, SummaryRow};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::error::failed;
use super::fields::Fields;

/// One row for each key that any call has, in the order of the keys. The connection must see one moment throughout.
pub(super) async fn summarize(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
    by: SummaryKey,
) -> StorageResult<Vec<SummaryRow>> {
    let calls = of_calls(filter, by)
        .build()
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("summing up calls"))?;
    let mut rows = BTreeMap::new();
    for row in &calls {
        let row = calls_from(row)?;
        rows.insert(row.key.clone(), row);
    }
    let series = of_feedback(filter, by)
        .build()
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(failed("summing up feedback"))?;
    for row in &series {
        let key = Fields::new(row, "calls", &["key"]).text("key")?;
        if let Some(summary) = rows.get_mut(&key) {
            summary.series.push(series_from(row)?);
        }
    }
    Ok(rows.into_values().collect())
}

/// The key as an expression over a call; NULL where the call has none.
fn key_expression(by: SummaryKey) -> &'static str {
    match by {
        SummaryKey::Arm => "experiment || '/' || arm",
        SummaryKey::PromptVersion => "lower(hex(prompt_version))",
        SummaryKey::Manifest => "lower(hex(manifest))",
        SummaryKey::Model => "model_id || ':' || model_version",
        SummaryKey::Day => "strftime('%Y-%m-%d', started_at / 1000000.0, 'unixepoch')",
    }
}

/// The column that is NULL where the key is, because the hexadecimal form of NULL is an empty text.
fn key_column(by: SummaryKey) -> &'static str {
    match by {
        SummaryKey::Arm => "arm",
        SummaryKey::PromptVersion => "prompt_version",
        SummaryKey::Manifest => "manifest",
        SummaryKey::Model => "model_version",
        SummaryKey::Day => "started_at",
    }
}

fn push_matching(sql: &mut QueryBuilder<Sqlite>, filter: &SummaryFilter, by: SummaryKey) {
    sql.push(" FROM calls WHERE ")
        .push(key_column(by))
        .push(" IS NOT NULL");
    if by == SummaryKey::Arm {
        sql.push(" AND experiment IS NOT NULL");
    }
    if by == SummaryKey::Model {
        sql.push(" AND model_id IS NOT NULL");
    }
    if !filter.apps.is_empty() {
        sql.push(" AND app IN (");
        let mut names = sql.separated(", ");
        for app in &filter.apps {
            names.push_bind(app.as_str());
        }
        sql.push(")");
    }
    if let Some(environment) = &filter.environment {
        sql.push(" AND environment = ")
            .push_bind(environment.as_str());
    }
    if let Some(experiment) = &filter.experiment {
        sql.push(" AND experiment = ")
            .push_bind(experiment.as_str());
    }
    if let Some(since) = filter.since {
        sql.push(" AND started_at >= ")
            .push_bind(since.as_microsecond());
    }
    if let Some(until) = filter.until {
        sql.push(" AND started_at < ")
            .push_bind(until.as_microsecond());
    }
}

/// Sums are taken of the upper and the lower half of each number, because a sum of many large ones may not fit.
fn of_calls(filter: &SummaryFilter, by: SummaryKey) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(key_expression(by)).push(
        " AS key,
          count(*) AS calls,
          count(*) FILTER (WHERE status = 'provider_error') AS provider_errors,
          sum(latency_us >> 32) AS latency_upper,
          sum(latency_us & 4294967295) AS latency_lower,
          count(cost_nano_usd) AS calls_with_cost,
          coalesce(sum(cost_nano_usd >> 32), 0) AS cost_upper,
          coalesce(sum(cost_nano_usd & 4294967295), 0) AS cost_lower",
    );
    push_matching(&mut sql, filter, by);
    sql.push(" GROUP BY 1");
    sql
}

/// The mean is known before deviations from it are squared, so that nothing is lost to large values close together.
fn of_feedback(filter: &SummaryFilter, by: SummaryKey) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("WITH matching AS (SELECT calls.id AS call_id, ");
    sql.push(key_expression(by)).push(" AS key");
    push_matching(&mut sql, filter, by);
    sql.push(
        "),
         ranked AS (
             SELECT matching.key,
                    CASE WHEN name IS NULL THEN kind ELSE kind || ':' || name END AS series,
                    value,
                    row_number() OVER (
                        PARTITION BY feedback.call_id, kind, name
                        ORDER BY feedback.created_at DESC, feedback.number DESC
                    ) AS place
             FROM matching
             JOIN feedback ON feedback.call_id = matching.call_id
         ),
         latest AS (
             SELECT key, series, value, avg(value) OVER (PARTITION BY key, series) AS mean
             FROM ranked
             WHERE place = 1
         )
         SELECT key,
                series,
                count(*) AS n,
                count(*) FILTER (WHERE value = 1) AS ones,
                count(*) FILTER (WHERE value = 0) AS zeros,
                coalesce(sum(value), 0.0) AS sum,
                coalesce(sum((value - mean) * (value - mean)), 0.0) AS squared_deviations
         FROM latest
         GROUP BY key, series
         ORDER BY key, series",
    );
    sql
}

fn calls_from(row: &SqliteRow) -> StorageResult<SummaryRow> {
    let fields = Fields::new(row, "calls", &["key"]);
    let latency = joined(fields.raw("latency_upper")?, fields.raw("latency_lower")?);
    let cost = joined(fields.raw("cost_upper")?, fields.raw("cost_lower")?);
    Ok(SummaryRow {
        key: fields.text("key")?,
        calls: fields.count("calls")?,
        provider_errors: fields.count("provider_errors")?,
        latency_us_sum: u64::try_from(latency).unwrap_or(u64::MAX),
        calls_with_cost: fields.count("calls_with_cost")?,
        cost_nano_usd_sum: i64::try_from(cost).unwrap_or(if cost < 0 {
            i64::MIN
        } else {
            i64::MAX
        }),
        series: Vec::new(),
    })
}

fn joined(upper: i64, lower: i64) -> i128 {
    (i128::from(upper) << 32) + i128::from(lower)
}

fn series_from(row: &SqliteRow) -> StorageResult<SeriesSums> {
    let fields = Fields::new(row, "feedback", &["key", "series"]);
    Ok(SeriesSums {
        series: fields.text("series")?,
        n: fields.count("n")?,
        ones: fields.count("ones")?,
        zeros: fields.count("zeros")?,
        sum: fields.number("sum")?,
        squared_deviations: fields.number("squared_deviations")?,
    })
}
