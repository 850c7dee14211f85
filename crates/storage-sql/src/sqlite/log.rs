//! Working off the write-ahead log: when what was appended moves into the main file, and by whom.
//!
//! It moves in small pieces beside the writers. Moved all at once, a second's worth of events keeps disk and processor
//! busy for tens of milliseconds, in which every call waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flywheel_storage::StorageResult;
use rusqlite::Connection;

use super::connection_thread::ConnectionThread;
use super::error::unfulfilled;

/// How many events are appended until what is in the log is moved: at a few kilobytes each, some megabytes.
const PIECE: u64 = 512;

/// Pages in the log from which on it is worked off to its end, while writers wait for the little that is left and for the
/// disk. Until then it is worked off beside them, which in all but the heaviest load is enough for it to begin anew.
/// 64 MiB is a log that a restart still reads in no time.
pub(super) const RESTART_PAGES: i64 = 16_384;

/// Pages in the log from which on a commit works it off itself, in case nobody calls for maintenance.
pub(super) const CHECKPOINT_PAGES: u32 = 65_536;

/// How large the log's file may stay when the log begins anew, in bytes. Well above what it grows to as a rule: the commit
/// that cuts a file off waits for the file system to free it.
pub(super) const LARGEST_KEPT: u64 = 128 << 20;

/// What is known of the log without reading it.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Events appended since it was last asked for that they be moved.
    unmoved: AtomicU64,
    /// The housekeeper has been asked and is not done. What it does twice at a time does not move twice as much.
    is_being_moved: Arc<AtomicBool>,
}

impl Log {
    /// Takes note of events that were appended, and asks the housekeeper to move them when they are many.
    pub(super) fn has_grown(&self, events: usize, housekeeper: &ConnectionThread) {
        let events = events as u64;
        let unmoved = self.unmoved.fetch_add(events, Ordering::Relaxed) + events;
        if unmoved < PIECE || self.is_being_moved.swap(true, Ordering::Relaxed) {
            return;
        }
        self.unmoved.store(0, Ordering::Relaxed);
        let moving = Moving(Arc::clone(&self.is_being_moved));
        housekeeper.send(move |connection| {
            let _moving = moving;
            // If it fails, the regular maintenance fails too and says so.
            connection.and_then(|connection| move_log(connection).map(|_| ()))
        });
    }
}

/// While it lives the housekeeper is not asked again.
struct Moving(Arc<AtomicBool>);

impl Drop for Moving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Moves what is in the log into the main file, without holding up whoever appends to it. Returns how many pages the log
/// has.
pub(super) fn move_log(connection: &Connection) -> StorageResult<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(unfulfilled("moving the log into the main file"))
}
