//! Statistics of experiments by unit, kept as events arrive, so that a readout reads sums and no events.
//!
//! They advance like the sums by the hour: what is new is read beside the writers, and what follows from it is written in one
//! short transaction with the number of the last event that is in it, so that every event counts once whatever happens. The
//! values that feedback replaces are taken away again.

mod changes;
mod follow;
mod history;
mod late;
mod opinions;
mod reading;
mod running;
mod state;
mod write;

use std::time::Duration;

use flywheel_core::name::ExperimentName;
use flywheel_storage::StorageResult;
use flywheel_storage::statistics::Rebuild;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::time::Instant;

use super::error::unfulfilled;
use super::{SqliteStore, writer};

pub(super) use follow::{MEASURED, measured};
pub(super) use history::history;
pub(super) use reading::{statistics, units};
pub(super) use write::{read_classes, read_sums};

const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// Under which name the progress of all experiments is kept.
const ALL: &str = "";

impl SqliteStore {
    /// Takes in every event of experiments that was committed before this was called.
    pub(super) async fn advance_units(&self) -> StorageResult<()> {
        self.take_in(changes::read, write::apply).await
    }

    /// Takes in again events of the experiments whose statistics are being made anew, for about as long as given. Between two
    /// steps whoever waits for sums gets a turn.
    pub(super) async fn rebuild_units(&self, for_about: Duration) -> StorageResult<()> {
        let begun = Instant::now();
        while begun.elapsed() < for_about {
            if !self.take_in_once(changes::read_again, write::apply).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Forgets the statistics of an experiment, so that its events are taken in again.
    pub(super) async fn forget_units(
        &self,
        experiment: &ExperimentName,
        now: Timestamp,
    ) -> StorageResult<Rebuild> {
        let _alone = self.summing.lock().await;
        let turn = writer::turn(&self.writer).await?;
        let experiment = experiment.clone();
        let today = now.as_microsecond().div_euclid(DAY_MICROSECONDS);
        let forget = move |connection: &Connection| {
            let _turn = turn;
            forget(connection, experiment.as_str(), today)
                .map_err(unfulfilled("forgetting the statistics of an experiment"))
        };
        self.appender.run(forget).await
    }
}

fn forget(connection: &Connection, experiment: &str, today: i64) -> rusqlite::Result<Rebuild> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let archived = "SELECT status = 'archived' FROM experiments WHERE name = ?";
    let is_archived = transaction.query_row(archived, [experiment], |row| row.get(0));
    if is_archived.optional()?.unwrap_or(false) {
        return Ok(Rebuild::Archived);
    }
    // Retention removes the oldest events, hour by hour.
    let removed: bool = transaction
        .query_row(
            "SELECT coalesce(started_at, created_at)
                     - iif(coalesce(plan, '') LIKE '%\"covariate\":true%', 28 * 86400000000.0, 0)
                     < (SELECT first_hour FROM sums_progress) * 3600000000.0
                 OR (EXISTS (SELECT 1 FROM experiment_units WHERE experiment = name)
                     AND NOT EXISTS (SELECT 1 FROM calls WHERE experiment = name))
             FROM experiments WHERE name = ?",
            [experiment],
            |row| row.get(0),
        )
        .optional()?
        .unwrap_or(false);
    if removed {
        return Ok(Rebuild::EventsRemoved);
    }
    for table in [
        "experiment_units",
        "experiment_sums_again",
        "experiment_histograms",
    ] {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE experiment = ?"),
            [experiment],
        )?;
    }
    transaction.execute(
        "INSERT INTO experiment_made_again (experiment, day) VALUES (?1, ?2)
         ON CONFLICT (experiment) DO UPDATE SET day = max(day, excluded.day)",
        params![experiment, today],
    )?;
    transaction.execute(
        "INSERT OR REPLACE INTO experiment_progress (experiment, calls, feedback) VALUES (?, 0, 0)",
        params![experiment],
    )?;
    transaction.commit()?;
    Ok(Rebuild::Begun)
}
