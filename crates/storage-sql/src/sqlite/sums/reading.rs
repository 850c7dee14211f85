//! Reading sums: whole hours from what is kept, and the rest of a window from the events themselves.

use std::collections::BTreeMap;

use flywheel_core::AppName;
use flywheel_core::feedback::RatingScale;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StorageResult;
use flywheel_storage::events::{
    ActivityRow, SeriesSums, SummaryFilter, SummaryKey, SummaryRow, Window,
};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query_scalar};

use super::super::error::failed;
use super::super::fields::{Fields, unsigned};
use super::super::summary::{self, Table};
use super::apply::read_pairs;
use super::exact::Moments;
use super::{HOUR_MICROSECONDS, HOUR_SECONDS};
use flywheel_storage::exact::Double;

/// As [`summary::summarize`], from sums as far as they go.
pub(in super::super) async fn summarize(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
    by: SummaryKey,
) -> StorageResult<Vec<SummaryRow>> {
    let first = first_hour(connection).await?;
    let hours = Hours::within(filter.since, filter.until, first);
    let Some(hours) = hours else {
        return summary::summarize(connection, filter, by).await;
    };
    let mut rows = of_calls(connection, filter, by, hours).await?;
    add_feedback(connection, filter, by, hours, &mut rows).await?;
    for (since, until) in hours.beside(filter.since, filter.until) {
        let part = SummaryFilter {
            since,
            until,
            ..filter.clone()
        };
        for row in summary::summarize(connection, &part, by).await? {
            match rows.get_mut(&row.key) {
                Some(there) => there.add(&row),
                None => {
                    rows.insert(row.key.clone(), row);
                }
            }
        }
    }
    Ok(rows.into_values().collect())
}

/// As [`summary::count_feedback`], from sums as far as they go.
pub(in super::super) async fn count_feedback(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
) -> StorageResult<BTreeMap<String, u64>> {
    let first = first_hour(connection).await?;
    let Some(hours) = Hours::within(filter.since, filter.until, first) else {
        return summary::count_feedback(connection, filter).await;
    };
    let mut sql = QueryBuilder::new(
        "SELECT series, sum(n) AS n
         FROM call_sums JOIN feedback_sums ON feedback_sums.call_sums = call_sums.number WHERE ",
    );
    summary::push_matching(&mut sql, filter, SummaryKey::Day, Table::Sums);
    hours.push(&mut sql);
    sql.push(" GROUP BY series");
    let found = sql
        .build()
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("counting feedback"))?;
    let mut counts = BTreeMap::new();
    for row in &found {
        let fields = Fields::new(row, "feedback_sums", &["series"]);
        counts.insert(fields.text("series")?, fields.count("n")?);
    }
    for (since, until) in hours.beside(filter.since, filter.until) {
        let part = SummaryFilter {
            since,
            until,
            ..filter.clone()
        };
        for (series, n) in summary::count_feedback(connection, &part).await? {
            *counts.entry(series).or_default() += n;
        }
    }
    Ok(counts)
}

/// Whole hours, from one up to and without another; none where the window has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hours {
    from: Option<i64>,
    to: Option<i64>,
}

impl Hours {
    /// The whole hours of a window from the first that sums are of, if it has any.
    fn within(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        first: Option<i64>,
    ) -> Option<Self> {
        let from = since.map(|since| {
            let microsecond = since.as_microsecond();
            microsecond.div_euclid(HOUR_MICROSECONDS)
                + i64::from(microsecond.rem_euclid(HOUR_MICROSECONDS) > 0)
        });
        let from = from.max(first);
        let to = until.map(|until| until.as_microsecond().div_euclid(HOUR_MICROSECONDS));
        match (from, to) {
            (Some(from), Some(to)) if from >= to => None,
            _ => Some(Self { from, to }),
        }
    }

    /// The parts of the window before and after them.
    fn beside(
        self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> impl Iterator<Item = (Option<Timestamp>, Option<Timestamp>)> {
        let before = self
            .from
            .and_then(begin_of)
            .map(|until| (since, Some(until)));
        let after = self.to.and_then(begin_of).map(|since| (Some(since), until));
        [before, after]
            .into_iter()
            .flatten()
            .filter(|(since, until)| since.is_none() || since < until)
    }

    fn push(self, sql: &mut QueryBuilder<Sqlite>) {
        if let Some(from) = self.from {
            sql.push(" AND hour >= ").push_bind(from);
        }
        if let Some(to) = self.to {
            sql.push(" AND hour < ").push_bind(to);
        }
    }
}

/// The hour before which sums say nothing, if there is one.
async fn first_hour(connection: &mut SqliteConnection) -> StorageResult<Option<i64>> {
    let first: i64 = query_scalar("SELECT first_hour FROM sums_progress")
        .fetch_one(connection)
        .await
        .map_err(failed("reading how far sums go"))?;
    Ok((first > i64::MIN).then_some(first))
}

fn begin_of(hour: i64) -> Option<Timestamp> {
    Timestamp::from_second(hour.checked_mul(HOUR_SECONDS)?).ok()
}

async fn of_calls(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
    by: SummaryKey,
    hours: Hours,
) -> StorageResult<BTreeMap<String, SummaryRow>> {
    let (key, counted) = (Table::Sums.key(by), summary::counted(by));
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(format_args!(
        "{key} AS key,
         coalesce(sum(calls) FILTER (WHERE {counted}), 0) AS calls,
         coalesce(sum(calls) FILTER (WHERE fallback = 1), 0) AS fallbacks,
         coalesce(sum(provider_errors) FILTER (WHERE {counted}), 0) AS provider_errors,
         coalesce(sum(calls_with_latency) FILTER (WHERE {counted}), 0) AS calls_with_latency,
         coalesce(sum(latency_upper) FILTER (WHERE {counted}), 0) AS latency_upper,
         coalesce(sum(latency_lower) FILTER (WHERE {counted}), 0) AS latency_lower,
         coalesce(sum(calls_with_cost) FILTER (WHERE {counted}), 0) AS calls_with_cost,
         coalesce(sum(cost_upper) FILTER (WHERE {counted}), 0) AS cost_upper,
         coalesce(sum(cost_lower) FILTER (WHERE {counted}), 0) AS cost_lower
         FROM call_sums WHERE "
    ));
    summary::push_matching(&mut sql, filter, by, Table::Sums);
    hours.push(&mut sql);
    sql.push(" GROUP BY 1");
    let found = sql
        .build()
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(failed("reading sums of calls"))?;
    found
        .iter()
        .map(|row| summary::calls_from(row).map(|row| (row.key.clone(), row)))
        .collect()
}

async fn add_feedback(
    connection: &mut SqliteConnection,
    filter: &SummaryFilter,
    by: SummaryKey,
    hours: Hours,
    rows: &mut BTreeMap<String, SummaryRow>,
) -> StorageResult<()> {
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(Table::Sums.key(by));
    sql.push(
        " AS key, series, scale_min, scale_max, n, ones, zeros, beyond,
          sum_high, sum_low, squares_high, squares_low
          FROM call_sums JOIN feedback_sums ON feedback_sums.call_sums = call_sums.number WHERE ",
    );
    summary::push_matching(&mut sql, filter, by, Table::Sums);
    sql.push(" AND ").push(summary::counted(by));
    hours.push(&mut sql);
    sql.push(" ORDER BY series, scale_min, scale_max");
    let found = sql
        .build()
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(failed("reading sums of feedback"))?;
    for row in &found {
        let fields = Fields::new(row, "feedback_sums", &["key", "series"]);
        let Some(summary) = rows.get_mut(&fields.text("key")?) else {
            continue;
        };
        let double = |high, low| -> StorageResult<Double> {
            Ok(Double {
                high: fields.number(high)?,
                low: fields.number(low)?,
            })
        };
        let moments = Moments {
            beyond: fields.raw("beyond")?,
            sum: double("sum_high", "sum_low")?,
            squares: double("squares_high", "squares_low")?,
        };
        let n = fields.count("n")?;
        let scales = match fields.raw("scale_min")? {
            None => Vec::new(),
            Some(min) => vec![(
                RatingScale {
                    min,
                    max: fields.number("scale_max")?,
                },
                n,
            )],
        };
        summary.add_series(&SeriesSums {
            series: fields.text("series")?,
            n,
            ones: fields.count("ones")?,
            zeros: fields.count("zeros")?,
            sum: moments.total(),
            squared_deviations: moments.squared_deviations(n),
            scales,
        });
    }
    Ok(())
}

/// What apps did, where the window's slots consist of whole hours; nothing where they do not. Before the time that comes
/// with it, events have to be counted.
pub(in super::super) async fn activity(
    connection: &mut SqliteConnection,
    apps: &[AppName],
    environment: Option<&EnvironmentName>,
    window: Window,
) -> StorageResult<Option<(Vec<ActivityRow>, Option<Timestamp>)>> {
    let since = window.since.as_microsecond();
    let slot_hours = i64::from(window.slot_seconds) / HOUR_SECONDS;
    if i64::from(window.slot_seconds) % HOUR_SECONDS != 0
        || slot_hours == 0
        || since.rem_euclid(HOUR_MICROSECONDS) != 0
    {
        return Ok(None);
    }
    let first = since.div_euclid(HOUR_MICROSECONDS);
    let summed_from = first_hour(connection).await?.filter(|hour| *hour > first);
    let hours = Hours {
        from: summed_from.or(Some(first)),
        to: Some(first + slot_hours * i64::from(window.slots)),
    };
    let filter = SummaryFilter {
        apps: apps.to_vec(),
        environment: environment.cloned(),
        ..SummaryFilter::default()
    };
    let mut sql = QueryBuilder::new("SELECT app, (hour - ");
    sql.push_bind(first).push(") / ").push_bind(slot_hours);
    sql.push(
        " AS slot, calls, provider_errors + gateway_errors AS hard_failures, invalid_outputs,
          cost_upper, cost_lower, latencies
          FROM call_sums WHERE ",
    );
    summary::push_matching(&mut sql, &filter, SummaryKey::Hour, Table::Sums);
    hours.push(&mut sql);
    sql.push(" ORDER BY app, slot");
    let found = sql
        .build()
        .persistent(false)
        .fetch_all(connection)
        .await
        .map_err(failed("reading sums of calls"))?;
    let mut rows: Vec<ActivityRow> = Vec::new();
    for row in &found {
        let fields = Fields::new(row, "call_sums", &["app", "slot"]);
        let (app, slot) = (fields.optional_parsed("app")?, fields.small_count("slot")?);
        let cost = summary::joined(fields.raw("cost_upper")?, fields.raw("cost_lower")?);
        let latencies = read_pairs(&fields.text("latencies")?);
        let part = ActivityRow {
            app,
            slot,
            calls: fields.count("calls")?,
            hard_failures: fields.count("hard_failures")?,
            invalid_outputs: fields.count("invalid_outputs")?,
            cost_nano_usd: summary::within_number(cost),
            latencies: latencies
                .into_iter()
                .map(|(latency, calls)| (unsigned(latency), unsigned(calls)))
                .collect(),
        };
        match rows.last_mut() {
            Some(last) if (&last.app, last.slot) == (&part.app, part.slot) => last.add(&part),
            _ => rows.push(part),
        }
    }
    Ok(Some((rows, summed_from.and_then(begin_of))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Option<Timestamp> {
        Timestamp::from_second(minute * 60).ok()
    }

    #[test]
    fn a_window_is_whole_hours_and_what_is_beside_them() {
        for (since, until, whole, beside) in [
            (at(0), at(120), Some((Some(0), Some(2))), vec![]),
            (
                at(30),
                at(150),
                Some((Some(1), Some(2))),
                vec![(at(30), at(60)), (at(120), at(150))],
            ),
            (at(-30), None, Some((Some(0), None)), vec![(at(-30), at(0))]),
            (
                None,
                at(-1),
                Some((None, Some(-1))),
                vec![(at(-60), at(-1))],
            ),
            (at(10), at(50), None, vec![]),
            (at(10), at(110), None, vec![]),
            (None, None, Some((None, None)), vec![]),
        ] {
            let hours = Hours::within(since, until, None);
            assert_eq!(hours.map(|hours| (hours.from, hours.to)), whole);
            if let Some(hours) = hours {
                let parts: Vec<_> = hours.beside(since, until).collect();
                assert_eq!(parts, beside);
            }
        }
    }
}
