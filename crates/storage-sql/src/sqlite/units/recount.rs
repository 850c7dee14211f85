//! Experiments that were changed so that their units count otherwise: by other weights units have another arm, and are left out
//! whether they come again or not; by other minimum days other calls are early. The change says so in its own transaction, and
//! before statistics are read or advanced it is done, so that no crash comes in between.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use flywheel_storage::statistics::Rebuild;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::super::error::unfulfilled;
use super::super::sums::TakenIn;
use super::changes::unit_from;
use super::running::{Own, Running, running};
use super::state::{Deltas, Standing, Unit};
use super::{ALL, again, late, write};

/// How many units are looked at in one step, while everybody who writes waits for what changes.
const MOST: usize = 4000;

/// What follows for an experiment that was changed.
pub(super) struct Recount {
    experiment: String,
    day: i64,
    /// How many changes it follows from.
    changes: i64,
    after: String,
    what: Following,
    is_all: bool,
}

enum Following {
    /// It is made again.
    MadeAgain,
    /// Units that have another arm are taken out of the sums. Where retention has removed events, what their calls measured
    /// stays in the histograms of quantiles, because not all of those calls are there.
    LeftOut {
        units: BTreeMap<(String, String), Unit>,
        deltas: Deltas,
        /// The last unit that was looked at, if there are more.
        last: Option<String>,
    },
}

impl TakenIn for Recount {
    fn is_all(&self) -> bool {
        self.is_all
    }
}

/// Reads what is to be done next; nothing if nothing is.
pub(super) fn read(connection: &Connection) -> StorageResult<Option<Recount>> {
    next(connection).map_err(unfulfilled("looking for experiments that were changed"))
}

fn next(connection: &Connection) -> rusqlite::Result<Option<Recount>> {
    let snapshot = connection.unchecked_transaction()?;
    // What is being made again begins anew.
    let waiting: Vec<(String, i64, String, bool, i64)> = snapshot
        .prepare_cached(
            "SELECT experiment, day, after, again OR EXISTS
                 (SELECT 1 FROM experiment_progress AS own WHERE own.experiment = experiment_recounts.experiment), changes
             FROM experiment_recounts LIMIT 2",
        )?
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
            ))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let is_only = waiting.len() < 2;
    let Some((experiment, day, after, is_again, changes)) = waiting.into_iter().next() else {
        return Ok(None);
    };
    let what = match is_again && again::refusal(&snapshot, &experiment)?.is_none() {
        true => Following::MadeAgain,
        false => left_out(&snapshot, &experiment, day, &after)?,
    };
    let is_last = !matches!(&what, Following::LeftOut { last: Some(_), .. });
    Ok(Some(Recount {
        experiment,
        day,
        changes,
        after,
        what,
        is_all: is_only && is_last,
    }))
}

fn left_out(
    connection: &Connection,
    experiment: &str,
    day: i64,
    after: &str,
) -> rusqlite::Result<Following> {
    let mut units = BTreeMap::new();
    let mut deltas = Deltas::default();
    let Some(running) = running(connection, experiment, false)? else {
        return Ok(Following::LeftOut {
            units,
            deltas,
            last: None,
        });
    };
    let found: Vec<(String, Unit)> = connection
        .prepare_cached(
            "SELECT epoch, arm, first_at, day, state, segments, readings, unit FROM experiment_units
             WHERE experiment = ? AND unit > ? ORDER BY unit LIMIT ?",
        )?
        .query_map(params![experiment, after, MOST as i64], |row| {
            Ok((row.get(7)?, unit_from(row)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let last = found.get(MOST - 1).map(|(name, _)| name.clone());
    let taken_in: i64 = connection
        .prepare_cached("SELECT calls FROM experiment_progress WHERE experiment = ?")?
        .query_row([ALL], |row| row.get(0))?;
    for (name, mut unit) in found {
        if is_moved(&running, &name, &unit) {
            unit.day = unit.day.max(day).max(running.open_day);
            if running.is_whole {
                let of = (connection, &running, name.as_str());
                late::unclassify(of, &unit, taken_in, &mut deltas)?;
            }
            unit.drop_from(&running.counted, Standing::Moved, &mut deltas);
            units.insert((experiment.to_owned(), name), unit);
        }
    }
    Ok(Following::LeftOut {
        units,
        deltas,
        last,
    })
}

fn is_moved(running: &Running, name: &str, unit: &Unit) -> bool {
    let own = Own {
        arm: unit.arm,
        epoch: unit.epoch,
    };
    unit.standing == Standing::Counts && running.is_given_away(name, own)
}

/// Writes what was read. Whether it was still to be done: if not, nothing changed.
pub(super) fn apply(connection: &Connection, recount: &Recount) -> StorageResult<bool> {
    match &recount.what {
        Following::MadeAgain => again::forget(connection, &recount.experiment, recount.day)
            .map(|answer| answer == Rebuild::Begun)
            .map_err(unfulfilled("forgetting the statistics of an experiment")),
        Following::LeftOut {
            units,
            deltas,
            last,
        } => leave_out(connection, recount, (units, deltas, last.as_deref()))
            .map_err(unfulfilled("leaving out units with another arm")),
    }
}

fn leave_out(
    connection: &Connection,
    recount: &Recount,
    (units, deltas, last): (&BTreeMap<(String, String), Unit>, &Deltas, Option<&str>),
) -> rusqlite::Result<bool> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let is_same: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM experiment_recounts WHERE experiment = ? AND after = ? AND changes = ?)",
        )?
        .query_row(
            params![recount.experiment, recount.after, recount.changes],
            |row| row.get(0),
        )?;
    if !is_same {
        return Ok(false);
    }
    write::put(&transaction, write::SUMS, units, deltas)?;
    match last {
        Some(last) => transaction.execute(
            "UPDATE experiment_recounts SET after = ? WHERE experiment = ?",
            params![last, recount.experiment],
        )?,
        None => transaction.execute(
            "DELETE FROM experiment_recounts WHERE experiment = ?",
            [&recount.experiment],
        )?,
    };
    transaction.commit()?;
    Ok(true)
}
