//! Statistics of experiments by unit, kept as events arrive, so that a readout reads sums and no events.
//!
//! They advance like the sums by the hour: what is new is read beside the writers, and what follows from it is written in one
//! short transaction with the number of the last event that is in it, so that every event counts once whatever happens. The
//! values that feedback replaces are taken away again.

mod again;
mod changes;
mod follow;
mod history;
mod late;
mod opinions;
mod reading;
mod recount;
mod running;
mod state;
mod write;

use std::time::Duration;

use flywheel_core::name::ExperimentName;
use flywheel_storage::StorageResult;
use flywheel_storage::statistics::Rebuild;
use jiff::Timestamp;
use rusqlite::Connection;
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
        // Between two steps whoever waits for sums gets a turn.
        while self.take_in_once(recount::read, recount::apply).await? {}
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
        let today = day_of(now);
        let forget = move |connection: &Connection| {
            let _turn = turn;
            again::forget(connection, experiment.as_str(), today)
                .map_err(unfulfilled("forgetting the statistics of an experiment"))
        };
        self.appender.run(forget).await
    }

    /// Says that the days of an experiment before that of a time are over.
    pub(super) async fn open_units_from(
        &self,
        experiment: &ExperimentName,
        now: Timestamp,
    ) -> StorageResult<()> {
        let (experiment, today) = (experiment.to_string(), day_of(now));
        let known = experiment.clone();
        let is_open = move |connection: &Connection| {
            again::is_open_from(connection, &known, today)
                .map_err(unfulfilled("looking for the open day of an experiment"))
        };
        if self.summer.run(is_open).await? {
            return Ok(());
        }
        // What came until now is of those days.
        self.advance_units().await?;
        let _alone = self.summing.lock().await;
        let turn = writer::turn(&self.writer).await?;
        let close = move |connection: &Connection| {
            let _turn = turn;
            again::open_from(connection, &experiment, today)
                .map_err(unfulfilled("closing the days of an experiment"))
        };
        self.appender.run(close).await
    }
}

/// The UTC day of a time, counted from 1970.
pub(super) fn day_of(at: Timestamp) -> i64 {
    at.as_microsecond().div_euclid(DAY_MICROSECONDS)
}
