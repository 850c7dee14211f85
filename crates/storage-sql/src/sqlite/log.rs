//! Working off the write-ahead log: when what was appended moves into the main file, and by whom.
//!
//! It moves in small pieces beside the writers. Moved all at once, a second's worth of events keeps disk and processor
//! busy for tens of milliseconds, in which every call waits.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use flywheel_storage::StorageResult;
use rusqlite::Connection;

use super::connection_thread::ConnectionThread;
use super::error::{unfulfilled, unsynced};

/// How many events are appended until what is in the log is moved: at a few kilobytes each, some megabytes.
const PIECE: u64 = 512;

/// Pages in the log from which on it is worked off to its end, so that it can begin anew: 16 MiB, of which a restart
/// reads each page once.
const RESTART_PAGES: i64 = 4_096;

/// Pages in the log from which on a commit works it off itself, in case nobody calls for maintenance.
pub(super) const CHECKPOINT_PAGES: u32 = 65_536;

/// How large the log's file may stay when the log begins anew, in bytes. Well above what it grows to as a rule: the commit
/// that cuts a file off waits for the file system to free it.
pub(super) const LARGEST_KEPT: u64 = 128 << 20;

/// The log and how far it is worked off.
#[derive(Debug)]
pub(super) struct Log {
    /// The main file, opened once more to be synced where SQLite would not do it. It is never closed: to close any descriptor
    /// of a file gives up all locks that the process has on it, which are SQLite's.
    main_file: ManuallyDrop<File>,
    /// Events appended since it was last asked for that they be moved.
    unmoved: AtomicU64,
    /// The housekeeper has been asked and is not done. What it does twice at a time does not move twice as much.
    is_being_moved: Arc<AtomicBool>,
}

impl Log {
    /// The log beside a main file that exists.
    pub(super) fn of(main_file: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(main_file)?;
        Ok(Self {
            main_file: ManuallyDrop::new(file),
            unmoved: AtomicU64::default(),
            is_being_moved: Arc::default(),
        })
    }

    /// Takes note of events that were appended, and asks the housekeeper to work off the log when they are many.
    pub(super) fn has_grown(
        self: &Arc<Self>,
        events: usize,
        housekeeper: &ConnectionThread,
        appender: &Arc<ConnectionThread>,
    ) {
        let events = events as u64;
        let unmoved = self.unmoved.fetch_add(events, Ordering::Relaxed) + events;
        if unmoved < PIECE || self.is_being_moved.swap(true, Ordering::Relaxed) {
            return;
        }
        self.unmoved.store(0, Ordering::Relaxed);
        let moving = Moving(Arc::clone(&self.is_being_moved));
        let (log, appender) = (Arc::clone(self), Arc::clone(appender));
        housekeeper.send(move |connection| {
            let _moving = moving;
            // If it fails, the regular maintenance fails too and says so.
            connection.and_then(|connection| log.work_off(connection, &appender))
        });
    }

    /// Moves what is in the log into the main file beside the writers. When the log has grown long, the appender is asked to
    /// move the last bit: while that takes nobody appends, so the log begins anew with the next group.
    ///
    /// SQLite syncs the main file only with that last bit, when everybody waits, and then all that was moved since the log
    /// began. So it is synced before.
    pub(super) fn work_off(
        &self,
        connection: &Connection,
        appender: &ConnectionThread,
    ) -> StorageResult<()> {
        if move_log(connection)? < RESTART_PAGES {
            return Ok(());
        }
        // The second time for what came in meanwhile, which is little.
        for _ in 0..2 {
            self.main_file.sync_data().map_err(unsynced)?;
            move_log(connection)?;
        }
        // Not by the housekeeper, whose low priority would become that of all who wait.
        appender.send(|connection| connection.and_then(move_log).map(|_| ()));
        Ok(())
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
fn move_log(connection: &Connection) -> StorageResult<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(unfulfilled("moving the log into the main file"))
}
