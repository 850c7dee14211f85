//! Adding changes to the sums, in one short transaction.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use rusqlite::{
    Connection, OptionalExtension as _, ToSql, Transaction, TransactionBehavior, params,
};

use super::super::error::unfulfilled;
use super::changes::{COMMON, COUNTS, CallSums, Change, Changes, Group, Progress, Series};
use super::exact::Moments;
use flywheel_storage::exact::Double;

/// The counts of a group.
const COUNT_COLUMNS: [&str; COUNTS] = [
    "calls",
    "provider_errors",
    "gateway_errors",
    "invalid_outputs",
    "calls_with_latency",
    "latency_upper",
    "latency_lower",
    "calls_with_cost",
    "cost_upper",
    "cost_lower",
];

/// Adds what was read. Whether it was still new: if not, nothing changed.
pub(super) fn apply(connection: &Connection, changes: &Changes) -> StorageResult<bool> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(unfulfilled("beginning to write sums"))?;
    let applied = write(&transaction, changes).map_err(unfulfilled("writing sums"))?;
    if applied {
        transaction
            .commit()
            .map_err(unfulfilled("committing sums"))?;
    }
    Ok(applied)
}

fn write(connection: &Connection, changes: &Changes) -> rusqlite::Result<bool> {
    if !advance(connection, changes.progress)? {
        return Ok(false);
    }
    for (group, sums) in &changes.calls {
        add_calls(connection, group, sums)?;
    }
    for (series, values) in &changes.feedback {
        // Without its group the hour was removed meanwhile, and what is said of it counts no more.
        if let Some(number) = find(connection, &series.group)? {
            add_feedback(connection, number, series, values)?;
        }
    }
    Ok(true)
}

fn advance(connection: &Connection, progress: Progress) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE sums_progress SET calls = ?1, feedback = ?2 WHERE calls = ?3 AND feedback = ?4",
        )?
        .execute([
            progress.calls.1,
            progress.feedback.1,
            progress.calls.0,
            progress.feedback.0,
        ])?;
    Ok(changed == 1)
}

fn find(connection: &Connection, group: &Group) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached(
        "SELECT number FROM call_sums
         WHERE hour = ? AND app IS ? AND environment IS ? AND manifest IS ? AND prompt_version IS ? AND model_id IS ?
           AND model_version IS ? AND experiment IS ? AND arm IS ? AND fallback = ?",
    )?;
    statement
        .query_row(&parameters(group)[..], |row| row.get(0))
        .optional()
}

fn insert(connection: &Connection, group: &Group) -> rusqlite::Result<i64> {
    let counts = COUNT_COLUMNS.join(", ");
    let zeros = ["0"; COUNTS].join(", ");
    let mut statement = connection.prepare_cached(&format!(
        "INSERT INTO call_sums (hour, {COMMON}, {counts}, latencies)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {zeros}, '[]')"
    ))?;
    statement.insert(&parameters(group)[..])
}

/// The hour and the values of [`COMMON`], in that order.
fn parameters(group: &Group) -> [&dyn ToSql; 10] {
    let [app, environment, model_id, model_version, experiment, arm] = &group.names;
    let [manifest, prompt_version] = &group.hashes;
    [
        &group.hour,
        app,
        environment,
        manifest,
        prompt_version,
        model_id,
        model_version,
        experiment,
        arm,
        &group.fallback,
    ]
}

fn add_calls(connection: &Connection, group: &Group, sums: &CallSums) -> rusqlite::Result<()> {
    let number = match find(connection, group)? {
        Some(number) => number,
        None => insert(connection, group)?,
    };
    let known: String = connection
        .prepare_cached("SELECT latencies FROM call_sums WHERE number = ?")?
        .query_row([number], |row| row.get(0))?;
    let mut latencies: BTreeMap<i64, i64> = read_pairs(&known).into_iter().collect();
    for (latency, calls) in &sums.latencies {
        *latencies.entry(*latency).or_default() += calls;
    }
    let additions: Vec<String> = COUNT_COLUMNS
        .iter()
        .enumerate()
        .map(|(place, column)| format!("{column} = {column} + ?{}", place + 3))
        .collect();
    let mut statement = connection.prepare_cached(&format!(
        "UPDATE call_sums SET latencies = ?2, {} WHERE number = ?1",
        additions.join(", ")
    ))?;
    statement.raw_bind_parameter(1, number)?;
    statement.raw_bind_parameter(2, write_pairs(&latencies))?;
    for (place, count) in sums.counts.iter().enumerate() {
        statement.raw_bind_parameter(place + 3, count)?;
    }
    statement.raw_execute()?;
    Ok(())
}

/// Pairs as JSON; what cannot be read is none.
pub(super) fn read_pairs(text: &str) -> Vec<(i64, i64)> {
    serde_json::from_str(text).unwrap_or_default()
}

fn write_pairs(pairs: &BTreeMap<i64, i64>) -> String {
    let pairs: Vec<_> = pairs.iter().collect();
    serde_json::to_string(&pairs).unwrap_or_else(|_| "[]".to_owned())
}

fn add_feedback(
    connection: &Connection,
    group: i64,
    series: &Series,
    values: &[Change],
) -> rusqlite::Result<()> {
    let (min, max) = series
        .scale
        .map(|(min, max)| (f64::from_bits(min), f64::from_bits(max)))
        .unzip();
    let there = connection
        .prepare_cached(
            "SELECT number, n, ones, zeros, beyond, sum_high, sum_low, squares_high, squares_low
             FROM feedback_sums
             WHERE call_sums = ? AND series = ? AND scale_min IS ? AND scale_max IS ?",
        )?
        .query_row(params![group, series.name, min, max], |row| {
            let moments = Moments {
                beyond: row.get(4)?,
                sum: Double {
                    high: row.get(5)?,
                    low: row.get(6)?,
                },
                squares: Double {
                    high: row.get(7)?,
                    low: row.get(8)?,
                },
            };
            let counts: [i64; 3] = [row.get(1)?, row.get(2)?, row.get(3)?];
            Ok((row.get::<_, i64>(0)?, counts, moments))
        })
        .optional()?;
    let (number, [mut n, mut ones, mut zeros], mut moments) = match there {
        Some((number, counts, moments)) => (Some(number), counts, moments),
        None => (None, [0; 3], Moments::default()),
    };
    for change in values {
        let (value, sign) = match *change {
            Change::Added(value) => (value, 1),
            Change::TakenAway(value) => (value, -1),
        };
        n += sign;
        ones += sign * i64::from(value == Some(1.0));
        zeros += sign * i64::from(value == Some(0.0));
        match (value, sign) {
            (Some(value), 1) => moments.add(value),
            (Some(value), _) => moments.take_away(value),
            (None, _) => {}
        }
    }
    if let Some(number) = number {
        connection
            .prepare_cached("DELETE FROM feedback_sums WHERE number = ?")?
            .execute([number])?;
    }
    if n > 0 {
        connection
            .prepare_cached(
                "INSERT INTO feedback_sums
                     (call_sums, series, scale_min, scale_max, n, ones, zeros, beyond,
                      sum_high, sum_low, squares_high, squares_low, number)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                group,
                series.name,
                min,
                max,
                n,
                ones,
                zeros,
                moments.beyond,
                moments.sum.high,
                moments.sum.low,
                moments.squares.high,
                moments.squares.low,
                number
            ])?;
    }
    Ok(())
}
