//! Sums over events by the hour, kept as events arrive, so that summaries and charts read hours and not events.
//!
//! Appending does not touch them: live traffic waits for nothing here. They are brought up to date from time to time and
//! before each reading, which therefore sees every event that was acknowledged before it was asked for. What is new is read
//! beside the writers, and added in a transaction of a few rows. Hours from which retention has removed events are counted
//! event by event again.

mod apply;
mod changes;
mod exact;
mod reading;

use flywheel_storage::StorageResult;
use rusqlite::Connection;

use super::{SqliteStore, writer};

pub(super) use changes::{Opinion, Progress, each_changed_opinion};
pub(super) use reading::{activity, count_feedback, summarize};

const HOUR_SECONDS: i64 = 3600;
const HOUR_MICROSECONDS: i64 = HOUR_SECONDS * 1_000_000;

/// What events change in sums.
pub(super) trait TakenIn: Send + 'static {
    /// Whether nothing newer was there.
    fn is_all(&self) -> bool;
}

impl TakenIn for changes::Changes {
    fn is_all(&self) -> bool {
        self.is_all
    }
}

impl SqliteStore {
    /// Takes in every event that was committed before this was called.
    pub(super) async fn advance_sums(&self) -> StorageResult<()> {
        self.take_in(changes::read, apply::apply).await
    }

    /// Reads what is new beside the writers and writes what follows from it, until everything is in that was committed before
    /// this was called. What was committed meanwhile is for the next time, or under load there would be no end.
    pub(super) async fn take_in<C: TakenIn>(
        &self,
        read: fn(&Connection) -> StorageResult<Option<C>>,
        apply: fn(&Connection, &C) -> StorageResult<bool>,
    ) -> StorageResult<()> {
        let _alone = self.summing.lock().await;
        while self.take_in_alone(read, apply).await? {}
        Ok(())
    }

    /// The same for one step. Whether there is more.
    pub(super) async fn take_in_once<C: TakenIn>(
        &self,
        read: fn(&Connection) -> StorageResult<Option<C>>,
        apply: fn(&Connection, &C) -> StorageResult<bool>,
    ) -> StorageResult<bool> {
        let _alone = self.summing.lock().await;
        self.take_in_alone(read, apply).await
    }

    async fn take_in_alone<C: TakenIn>(
        &self,
        read: fn(&Connection) -> StorageResult<Option<C>>,
        apply: fn(&Connection, &C) -> StorageResult<bool>,
    ) -> StorageResult<bool> {
        let Some(changes) = self.summer.run(read).await? else {
            return Ok(false);
        };
        let is_all = changes.is_all();
        let turn = writer::turn(&self.writer).await?;
        let write = move |connection: &Connection| {
            let _turn = turn;
            apply(connection, &changes)
        };
        let applied = self.appender.run(write).await?;
        Ok(!(applied && is_all))
    }

    /// Whether the sums have all that was committed before this was called. If they cannot be written, because the disk is
    /// full say, events can still be counted one by one.
    pub(super) async fn are_sums_complete(&self) -> bool {
        match self.advance_sums().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error.message = %error.chain(), "events are counted one by one because sums cannot be kept");
                false
            }
        }
    }
}
