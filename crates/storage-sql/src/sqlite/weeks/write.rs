//! Writing what changed in the units of weeks and in the sums over them, in one short transaction.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use flywheel_storage::exact::Double;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::super::error::unfulfilled;
pub(super) use super::super::units::{read_classes, read_sums};
use super::changes::{Cell, Changes, Delta, Value, Values};

/// Writes what was read. Whether it was still new: if not, nothing changed.
pub(super) fn apply(connection: &Connection, changes: &Changes) -> StorageResult<bool> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(unfulfilled("beginning to write weeks"))?;
    let applied = write(&transaction, changes).map_err(unfulfilled("writing weeks"))?;
    if applied {
        transaction
            .commit()
            .map_err(unfulfilled("committing weeks"))?;
    }
    Ok(applied)
}

fn write(connection: &Connection, changes: &Changes) -> rusqlite::Result<bool> {
    let progress = changes.progress;
    let changed = connection
        .prepare_cached(
            "UPDATE week_progress SET calls = ?1, feedback = ?2, first_week = max(first_week, ?5)
             WHERE calls = ?3 AND feedback = ?4",
        )?
        .execute([
            progress.calls.1,
            progress.feedback.1,
            progress.calls.0,
            progress.feedback.0,
            changes.first_week,
        ])?;
    if changed != 1 {
        return Ok(false);
    }
    for ((cell, unit), values) in &changes.units {
        put_unit(connection, cell, unit, values)?;
    }
    for ((cell, source), delta) in &changes.deltas {
        add(connection, cell, source, delta)?;
    }
    forget_units(connection)?;
    Ok(true)
}

/// Removes some units of weeks that are over, twice as many as a step can add.
fn forget_units(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM week_units
             WHERE (week, app, environment, prompt_version, unit) IN (
                 SELECT week, app, environment, prompt_version, unit FROM week_units
                 WHERE week < (SELECT first_week FROM week_progress) LIMIT 1000)",
        )?
        .execute([])?;
    Ok(())
}

fn put_unit(
    connection: &Connection,
    cell: &Cell,
    unit: &str,
    values: &Values,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO week_units (week, app, environment, prompt_version, unit, readings)
             VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            cell.week,
            cell.app,
            cell.environment,
            cell.prompt_version,
            unit,
            write_values(values)
        ])?;
    Ok(())
}

fn add(connection: &Connection, cell: &Cell, source: &str, delta: &Delta) -> rusqlite::Result<()> {
    let known: Option<(String, String)> = connection
        .prepare_cached(
            "SELECT sums, classes FROM week_sums
             WHERE week = ? AND app = ? AND environment = ? AND prompt_version = ? AND source = ?",
        )?
        .query_row(
            params![
                cell.week,
                cell.app,
                cell.environment,
                cell.prompt_version,
                source
            ],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (mut sums, mut classes) = known.map_or_else(Default::default, |(sums, classes)| {
        (read_sums(&sums), read_classes(&classes))
    });
    sums.add(&delta.sums);
    for (class, count) in &delta.classes {
        *classes.entry(*class).or_default() += count;
    }
    let pairs: Vec<_> = classes.iter().collect();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO week_sums (week, app, environment, prompt_version, source, sums, classes)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            cell.week,
            cell.app,
            cell.environment,
            cell.prompt_version,
            source,
            serde_json::to_string(&sums.to_numbers()).unwrap_or_default(),
            serde_json::to_string(&pairs).unwrap_or_default()
        ])?;
    Ok(())
}

/// The values as a row keeps them: the sum and how many, and what the sum could not hold where there is such a rest.
fn write_values(values: &Values) -> String {
    let rows: BTreeMap<&str, Vec<f64>> = values
        .iter()
        .map(|(source, Value { x, n })| {
            let mut row = vec![x.high, *n as f64];
            row.extend((x.low != 0.0).then_some(x.low));
            (source.as_str(), row)
        })
        .collect();
    serde_json::to_string(&rows).unwrap_or_else(|_| "{}".to_owned())
}

/// Reads what [`write_values`] wrote; what cannot be read is none.
pub(super) fn read_values(text: &str) -> Values {
    let rows: BTreeMap<String, Vec<f64>> = serde_json::from_str(text).unwrap_or_default();
    rows.into_iter()
        .filter(|(_, row)| row.len() >= 2)
        .map(|(source, row)| {
            let x = Double {
                high: row[0],
                low: row.get(2).copied().unwrap_or(0.0),
            };
            (
                source,
                Value {
                    x,
                    n: row[1] as i64,
                },
            )
        })
        .collect()
}
