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

pub(super) use reading::{activity, summarize};

const HOUR_SECONDS: i64 = 3600;
const HOUR_MICROSECONDS: i64 = HOUR_SECONDS * 1_000_000;

impl SqliteStore {
    /// Takes in every event that was committed before this was called.
    pub(super) async fn advance_sums(&self) -> StorageResult<()> {
        let _alone = self.summing.lock().await;
        loop {
            let Some(changes) = self.summer.run(changes::read).await? else {
                return Ok(());
            };
            let is_all = changes.is_all;
            let turn = writer::turn(&self.writer).await?;
            let apply = move |connection: &Connection| {
                let _turn = turn;
                apply::apply(connection, &changes)
            };
            let applied = self.appender.run(apply).await?;
            // What was committed meanwhile is for the next time, or under load there would be no end.
            if applied && is_all {
                return Ok(());
            }
        }
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
