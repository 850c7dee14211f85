//! Working off the write-ahead log: when what was appended moves into the main file, and by whom.
//!
//! It moves in small pieces beside the writers. Moved all at once, a second's worth of events keeps disk and processor
//! busy for tens of milliseconds, in which every call waits.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

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
    /// How many pages the log had when it was moved to its end the last time: while it has no more, nothing is left to do.
    settled: AtomicI64,
    /// Something did not reach the disk. A system tells that once and then takes it for written, so the log, which has all of
    /// it, is not worked off any more: the next start moves it again.
    is_unsynced: AtomicBool,
}

impl Log {
    /// The log beside a main file that exists.
    pub(super) fn of(main_file: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(main_file)?;
        Ok(Self {
            main_file: ManuallyDrop::new(file),
            unmoved: AtomicU64::default(),
            is_being_moved: Arc::default(),
            settled: AtomicI64::default(),
            is_unsynced: AtomicBool::default(),
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
            said(connection.and_then(|connection| log.work_off(connection, &appender)))
        });
    }

    /// Moves what is in the log into the main file beside the writers. When the log has grown long, the appender is asked to
    /// move the last bit: while that takes nobody appends, so the log begins anew with the next group.
    ///
    /// SQLite syncs the main file only with the last bit, which under load everybody waits for, and then all that was moved since
    /// the log began. So it is synced before.
    pub(super) fn work_off(
        self: &Arc<Self>,
        connection: &Connection,
        appender: &ConnectionThread,
    ) -> StorageResult<()> {
        if self.is_unsynced.load(Ordering::Relaxed) {
            return Err(unsynced(io::Error::other("it failed before")));
        }
        let pages = move_log(connection)?;
        if pages < RESTART_PAGES || pages == self.settled.load(Ordering::Relaxed) {
            return Ok(());
        }
        // The second time for what came in meanwhile, which is little.
        for _ in 0..2 {
            self.main_file.sync_data().map_err(|error| {
                self.is_unsynced.store(true, Ordering::Relaxed);
                unsynced(error)
            })?;
            move_log(connection)?;
        }
        // Not by the housekeeper, whose low priority would become that of all who wait.
        let log = Arc::clone(self);
        appender
            .send(move |connection| said(connection.and_then(|connection| log.settle(connection))));
        Ok(())
    }

    /// Moves the last bit. Nobody appends meanwhile, though the state may change: then the next group does not begin anew, and
    /// this is asked for again.
    fn settle(&self, connection: &Connection) -> StorageResult<()> {
        let pages = move_log(connection)?;
        self.settled.store(pages, Ordering::Relaxed);
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
/// had: others may have been appended since.
fn move_log(connection: &Connection) -> StorageResult<i64> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
        .map_err(unfulfilled("moving the log into the main file"))
}

/// Nobody waits for the outcome, so what went wrong is said here.
fn said(outcome: StorageResult<()>) -> StorageResult<()> {
    if let Err(error) = &outcome {
        tracing::error!(error.message = %error.chain(), "the log could not be moved into the main file");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::connection_thread::{ConnectionOptions, Priority};
    use super::*;

    /// What the housekeeper moved need not be all, as others append meanwhile: a log that is not moved to its end while nobody
    /// can append grows until some commit has to move all of it.
    #[tokio::test]
    async fn the_last_bit_is_moved_while_nobody_appends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.db");
        let options = ConnectionOptions {
            path: path.clone(),
            busy_timeout: Duration::from_secs(5),
            pragmas: vec![
                ("journal_mode", "WAL".to_owned()),
                ("wal_autocheckpoint", "0".to_owned()),
            ],
        };
        let housekeeper = Connection::open(&path).unwrap();
        housekeeper
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x BLOB)")
            .unwrap();
        let appender = ConnectionThread::start("appender", Priority::Normal, options).unwrap();
        let append = |megabytes: u64| {
            let insert = "INSERT INTO t VALUES (zeroblob(1000000))";
            appender.run(move |connection| {
                for _ in 0..megabytes {
                    connection
                        .execute(insert, [])
                        .map_err(unfulfilled("appending"))?;
                }
                Ok(())
            })
        };
        let log = Arc::new(Log::of(&path).unwrap());
        append(10).await.unwrap();
        log.work_off(&housekeeper, &appender).unwrap();
        append(0).await.unwrap();
        assert_eq!(log.settled.load(Ordering::Relaxed), 0, "it is short");
        append(20).await.unwrap();
        log.work_off(&housekeeper, &appender).unwrap();
        append(0).await.unwrap();
        let settled = log.settled.load(Ordering::Relaxed);
        assert!(settled >= RESTART_PAGES, "{settled}");
        append(1).await.unwrap();
        let pages = move_log(&housekeeper).unwrap();
        assert!(pages < RESTART_PAGES, "it began anew: {pages}");
    }
}
