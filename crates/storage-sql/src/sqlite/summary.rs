//! Calls and feedback summed up by a key, event by event.

use std::collections::BTreeMap;

use flywheel_core::feedback::RatingScale;
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
        let Some(summary) = rows.get_mut(&key) else {
            continue;
        };
        summary.add_series(&series_from(row)?);
    }
    Ok(rows.into_values().collect())
}

/// How many pieces of feedback there are of each series.
pub(super) async fn count_feedback(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
) -> StorageResult<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for row in summarize(connection, filter, SummaryKey::Day).await? {
        for sums in row.series {
            *counts.entry(sums.series).or_default() += sums.n;
        }
    }
    Ok(counts)
}

/// What is summed up: events, or sums of them by the hour, which have the same columns but for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Calls,
    Sums,
}

impl Table {
    /// The key as an expression over a row; NULL where the row has none.
    pub(super) fn key(self, by: SummaryKey) -> &'static str {
        match (by, self) {
            (SummaryKey::Arm, _) => "experiment || '/' || arm",
            (SummaryKey::PromptVersion, _) => "lower(hex(prompt_version))",
            (SummaryKey::Manifest, _) => "lower(hex(manifest))",
            (SummaryKey::Model, _) => "model_id || ':' || model_version",
            (SummaryKey::Day, Self::Calls) => {
                "strftime('%Y-%m-%d', (started_at - (started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')"
            }
            (SummaryKey::Hour, Self::Calls) => {
                "strftime('%Y-%m-%dT%H', (started_at - (started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')"
            }
            (SummaryKey::Week, Self::Calls) => {
                "strftime('%Y-%m-%d', (started_at - (started_at % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch', '-6 days', 'weekday 1') || '/' || lower(hex(prompt_version))"
            }
            (SummaryKey::Week, Self::Sums) => {
                "strftime('%Y-%m-%d', hour * 3600, 'unixepoch', '-6 days', 'weekday 1') || '/' || lower(hex(prompt_version))"
            }
            (SummaryKey::Day, Self::Sums) => "strftime('%Y-%m-%d', hour * 3600, 'unixepoch')",
            (SummaryKey::Hour, Self::Sums) => "strftime('%Y-%m-%dT%H', hour * 3600, 'unixepoch')",
        }
    }
}

/// What is NULL where the key is, because the hexadecimal form of NULL is an empty text.
fn has_key(by: SummaryKey) -> &'static str {
    match by {
        SummaryKey::Arm => "arm IS NOT NULL AND experiment IS NOT NULL",
        SummaryKey::PromptVersion | SummaryKey::Week => "prompt_version IS NOT NULL",
        SummaryKey::Manifest => "manifest IS NOT NULL",
        SummaryKey::Model => "model_version IS NOT NULL AND model_id IS NOT NULL",
        SummaryKey::Day | SummaryKey::Hour => "TRUE",
    }
}

/// The conditions of a filter. Those on time are only for events.
pub(super) fn push_matching(
    sql: &mut QueryBuilder<Sqlite>,
    filter: &SummaryFilter,
    by: SummaryKey,
    table: Table,
) {
    sql.push(has_key(by));
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
    if table == Table::Sums {
        return;
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

/// The calls that a key's row is about. What the fallback manifest answered says nothing of the arm that the unit was in;
/// the other keys name what did answer.
pub(super) fn counted(by: SummaryKey) -> &'static str {
    match by {
        SummaryKey::Arm => "fallback = 0",
        _ => "TRUE",
    }
}

/// Sums are taken of the upper and the lower half of each number, because a sum of many large ones may not fit.
fn of_calls(filter: &SummaryFilter, by: SummaryKey) -> QueryBuilder<Sqlite> {
    let (key, counted) = (Table::Calls.key(by), counted(by));
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(format_args!(
        "{key} AS key,
         count(*) FILTER (WHERE {counted}) AS calls,
         count(*) FILTER (WHERE fallback = 1) AS fallbacks,
         count(*) FILTER (WHERE {counted} AND status = 'provider_error') AS provider_errors,
         count(latency_us) FILTER (WHERE {counted}) AS calls_with_latency,
         coalesce(sum(latency_us >> 32) FILTER (WHERE {counted}), 0) AS latency_upper,
         coalesce(sum(latency_us & 4294967295) FILTER (WHERE {counted}), 0) AS latency_lower,
         count(cost_nano_usd) FILTER (WHERE {counted}) AS calls_with_cost,
         coalesce(sum(cost_nano_usd >> 32) FILTER (WHERE {counted}), 0) AS cost_upper,
         coalesce(sum(cost_nano_usd & 4294967295) FILTER (WHERE {counted}), 0) AS cost_lower
         FROM calls WHERE "
    ));
    push_matching(&mut sql, filter, by, Table::Calls);
    sql.push(" GROUP BY 1");
    sql
}

/// The mean is known before deviations from it are squared, so that nothing is lost to large values close together. A
/// rating is taken as its share of its scale, in halves, because the extent of a very wide scale is no number. A series
/// has a row for each scale.
fn of_feedback(filter: &SummaryFilter, by: SummaryKey) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("WITH matching AS (SELECT calls.id AS call_id, ");
    sql.push(Table::Calls.key(by))
        .push(" AS key FROM calls WHERE ");
    push_matching(&mut sql, filter, by, Table::Calls);
    sql.push(" AND ").push(counted(by));
    sql.push(
        "),
         ranked AS (
             SELECT matching.key,
                    CASE WHEN name IS NULL THEN kind ELSE kind || ':' || name END AS series,
                    CASE
                        WHEN scale_min IS NULL THEN value
                        ELSE (value / 2 - scale_min / 2) / (scale_max / 2 - scale_min / 2)
                    END AS value,
                    scale_min,
                    scale_max,
                    row_number() OVER (
                        PARTITION BY feedback.call_id, kind, name
                        ORDER BY feedback.created_at DESC, feedback.number DESC
                    ) AS place
             FROM matching
             JOIN feedback ON feedback.call_id = matching.call_id
         ),
         latest AS (
             SELECT key, series, value, scale_min, scale_max,
                    avg(value) OVER (PARTITION BY key, series, scale_min, scale_max) AS mean
             FROM ranked
             WHERE place = 1
         )
         SELECT key,
                series,
                scale_min,
                scale_max,
                count(*) AS n,
                count(*) FILTER (WHERE value = 1) AS ones,
                count(*) FILTER (WHERE value = 0) AS zeros,
                coalesce(sum(value), 0.0) AS sum,
                coalesce(sum((value - mean) * (value - mean)), 0.0) AS squared_deviations
         FROM latest
         GROUP BY key, series, scale_min, scale_max
         ORDER BY key, series, scale_min, scale_max",
    );
    sql
}

pub(super) fn calls_from(row: &SqliteRow) -> StorageResult<SummaryRow> {
    let fields = Fields::new(row, "calls", &["key"]);
    let latency = joined(fields.raw("latency_upper")?, fields.raw("latency_lower")?);
    let cost = joined(fields.raw("cost_upper")?, fields.raw("cost_lower")?);
    Ok(SummaryRow {
        key: fields.text("key")?,
        calls: fields.count("calls")?,
        fallbacks: fields.count("fallbacks")?,
        provider_errors: fields.count("provider_errors")?,
        calls_with_latency: fields.count("calls_with_latency")?,
        latency_us_sum: u64::try_from(latency).unwrap_or(u64::MAX),
        calls_with_cost: fields.count("calls_with_cost")?,
        cost_nano_usd_sum: within_number(cost),
        series: Vec::new(),
    })
}

/// The sum, or the number nearest to it.
pub(super) fn within_number(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

pub(super) fn joined(upper: i64, lower: i64) -> i128 {
    (i128::from(upper) << 32) + i128::from(lower)
}

fn series_from(row: &SqliteRow) -> StorageResult<SeriesSums> {
    let fields = Fields::new(row, "feedback", &["key", "series"]);
    let n = fields.count("n")?;
    let scales = match fields.raw("scale_min")? {
        None => Vec::new(),
        Some(min) => {
            let max = fields.number("scale_max")?;
            vec![(RatingScale { min, max }, n)]
        }
    };
    Ok(SeriesSums {
        series: fields.text("series")?,
        n,
        scales,
        ones: fields.count("ones")?,
        zeros: fields.count("zeros")?,
        sum: fields.number("sum")?,
        squared_deviations: fields.number("squared_deviations")?,
    })
}
