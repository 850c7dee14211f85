//! Writing what changed in units and in the sums over them, in one short transaction.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use flywheel_storage::statistics::UnitSums;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::super::error::unfulfilled;
use super::changes::Changes;
use super::state::{CellKey, Deltas, HistogramKey, Unit, write_values};
use super::{ALL, again};

/// Writes what was read. Whether it was still new: if not, nothing changed.
pub(super) fn apply(connection: &Connection, changes: &Changes) -> StorageResult<bool> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        .map_err(unfulfilled("beginning to write the units of experiments"))?;
    let applied =
        write(&transaction, changes).map_err(unfulfilled("writing the units of experiments"))?;
    if applied {
        transaction
            .commit()
            .map_err(unfulfilled("committing the units of experiments"))?;
    }
    Ok(applied)
}

fn write(connection: &Connection, changes: &Changes) -> rusqlite::Result<bool> {
    let progress = changes.progress;
    let changed = connection
        .prepare_cached(
            "UPDATE experiment_progress SET calls = ?1, feedback = ?2
             WHERE experiment = ?5 AND calls = ?3 AND feedback = ?4",
        )?
        .execute(params![
            progress.calls.1,
            progress.feedback.1,
            progress.calls.0,
            progress.feedback.0,
            changes.of
        ])?;
    if changed != 1 {
        return Ok(false);
    }
    let sums_of = if changes.of == ALL { SUMS } else { AGAIN };
    put(connection, sums_of, &changes.units, &changes.deltas)?;
    if changes.has_caught_up {
        catch_up(connection, &changes.of)?;
    }
    Ok(true)
}

/// Writes units, and what changes in what is read of them.
pub(super) fn put(
    connection: &Connection,
    sums_of: &str,
    units: &BTreeMap<(String, String), Unit>,
    deltas: &Deltas,
) -> rusqlite::Result<()> {
    for ((experiment, name), unit) in units {
        put_unit(connection, experiment, name, unit)?;
    }
    for (key, sums) in &deltas.cells {
        add_sums(connection, sums_of, key, sums)?;
    }
    for (key, classes) in &deltas.histograms {
        add_classes(connection, key, classes)?;
    }
    Ok(())
}

/// The sums that are read.
pub(super) const SUMS: &str = "experiment_sums";
/// Those of experiments that are made again.
const AGAIN: &str = "experiment_sums_again";

/// Puts what was made again in its place: the days until now stay, as what could be read on them, and by what they do not
/// come to in sum the last one changes.
fn catch_up(connection: &Connection, experiment: &str) -> rusqlite::Result<()> {
    let known = all_sums(connection, SUMS, experiment)?;
    if known.is_empty() {
        let copy = format!("INSERT INTO {SUMS} SELECT * FROM {AGAIN} WHERE experiment = ?");
        connection.execute(&copy, [experiment])?;
    } else {
        let again = all_sums(connection, AGAIN, experiment)?;
        // A day that was over when this was asked for is not changed.
        let asked: Option<i64> = connection
            .query_row(
                "SELECT day FROM experiment_open_days WHERE experiment = ?",
                [experiment],
                |row| row.get(0),
            )
            .optional()?;
        let days = known.keys().chain(again.keys()).map(|key| key.day);
        let last = days.chain(asked).max();
        // What all days together are, and should be.
        let mut totals: BTreeMap<CellKey, [UnitSums; 2]> = BTreeMap::new();
        for (rows, place) in [(known, 0), (again, 1)] {
            for (mut key, sums) in rows {
                // Segments have no days.
                if key.segment.is_empty() {
                    key.day = last.unwrap_or_default();
                }
                totals.entry(key).or_default()[place].add(&sums);
            }
        }
        for (key, [known, again]) in totals {
            let mut missing = again;
            missing.take_away(&known);
            if !missing.is_nothing_beside(&again) {
                add_sums(connection, SUMS, &key, &missing)?;
            }
        }
        again::open_from(connection, experiment, last.unwrap_or_default())?;
    }
    for table in [AGAIN, "experiment_progress"] {
        let forget = format!("DELETE FROM {table} WHERE experiment = ?");
        connection.execute(&forget, [experiment])?;
    }
    Ok(())
}

fn all_sums(
    connection: &Connection,
    table: &str,
    experiment: &str,
) -> rusqlite::Result<BTreeMap<CellKey, UnitSums>> {
    connection
        .prepare_cached(&format!(
            "SELECT epoch, arm, reading, segment, day, sums FROM {table} WHERE experiment = ?"
        ))?
        .query_map([experiment], |row| {
            let key = CellKey {
                experiment: experiment.to_owned(),
                epoch: row.get(0)?,
                arm: row.get(1)?,
                reading: row.get(2)?,
                segment: row.get(3)?,
                day: row.get(4)?,
            };
            Ok((key, read_sums(&row.get::<_, String>(5)?)))
        })?
        .collect()
}

fn put_unit(
    connection: &Connection,
    experiment: &str,
    name: &str,
    unit: &Unit,
) -> rusqlite::Result<()> {
    let segments = match &unit.segments {
        segments if segments.is_empty() => None,
        segments => serde_json::to_string(segments).ok(),
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO experiment_units
                 (experiment, unit, epoch, arm, first_at, day, state, segments, readings)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            experiment,
            name,
            unit.epoch,
            unit.arm,
            unit.first_at,
            unit.day,
            unit.standing as i64,
            segments,
            write_values(&unit.values)
        ])?;
    Ok(())
}

fn add_sums(
    connection: &Connection,
    table: &str,
    key: &CellKey,
    delta: &UnitSums,
) -> rusqlite::Result<()> {
    let CellKey {
        experiment,
        epoch,
        arm,
        reading,
        segment,
        day,
    } = key;
    let known: Option<String> = connection
        .prepare_cached(&format!(
            "SELECT sums FROM {table}
             WHERE experiment = ? AND epoch = ? AND arm = ? AND reading = ? AND segment = ? AND day = ?"
        ))?
        .query_row(params![experiment, epoch, arm, reading, segment, day], |row| row.get(0))
        .optional()?;
    let mut sums = known.as_deref().map(read_sums).unwrap_or_default();
    sums.add(delta);
    let text = serde_json::to_string(&sums.to_numbers()).unwrap_or_default();
    connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO {table} (experiment, epoch, arm, reading, segment, day, sums)
             VALUES (?, ?, ?, ?, ?, ?, ?)"
        ))?
        .execute(params![experiment, epoch, arm, reading, segment, day, text])?;
    Ok(())
}

/// Sums as a row keeps them; what cannot be read is none.
pub(in super::super) fn read_sums(text: &str) -> UnitSums {
    let numbers: Vec<f64> = serde_json::from_str(text).unwrap_or_default();
    UnitSums::of_numbers(&numbers).unwrap_or_default()
}

fn add_classes(
    connection: &Connection,
    key: &HistogramKey,
    delta: &BTreeMap<i32, i64>,
) -> rusqlite::Result<()> {
    let HistogramKey {
        experiment,
        epoch,
        arm,
        reading,
    } = key;
    let known: Option<String> = connection
        .prepare_cached(
            "SELECT classes FROM experiment_histograms
             WHERE experiment = ? AND epoch = ? AND arm = ? AND reading = ?",
        )?
        .query_row(params![experiment, epoch, arm, reading], |row| row.get(0))
        .optional()?;
    let mut classes = known.as_deref().map(read_classes).unwrap_or_default();
    for (class, count) in delta {
        let sum = classes.entry(*class).or_default();
        *sum += count;
        if *sum == 0 {
            classes.remove(class);
        }
    }
    let pairs: Vec<_> = classes.iter().collect();
    let text = serde_json::to_string(&pairs).unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO experiment_histograms (experiment, epoch, arm, reading, classes)
             VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![experiment, epoch, arm, reading, text])?;
    Ok(())
}

/// Classes as a row keeps them; what cannot be read is none.
pub(in super::super) fn read_classes(text: &str) -> BTreeMap<i32, i64> {
    let pairs: Vec<(i32, i64)> = serde_json::from_str(text).unwrap_or_default();
    pairs.into_iter().collect()
}
