//! The store in one SQLite file: opening, closing, and who gets which connection.

mod append;
mod audit;
mod calls;
mod deployments;
mod error;
mod events;
mod experiments;
mod feedback;
mod fields;
mod keys;
mod migrations;
mod models;
mod prompts;
mod prune;
mod retrievers;
mod session;
mod summary;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flywheel_storage::{StateSession, StateStore, StateTransaction, StorageResult};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, query, query_as, query_scalar};
use tokio::sync::Mutex;

use self::error::failed;
use self::session::{Session, Snapshot};
use self::writer::{WriteTransaction, Writer};

/// Connections that read state.
const STATE_READERS: u32 = 2;

/// How long a reader is waited for when all of them are busy.
const LONGEST_WAIT_FOR_READER: Duration = Duration::from_secs(5);

/// What a commit survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, at any moment and by any signal.
    #[default]
    Process,
    /// A power cut too: every commit is synced to the disk.
    Disk,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// What a commit survives.
    pub durability: Durability,
    /// How many connections read at the same time.
    pub readers: u32,
    /// How long to wait for another process that is writing.
    pub busy_timeout: Duration,
    /// The size beyond which the file does not grow: writing then fails as if the disk were full.
    pub largest_file_bytes: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            largest_file_bytes: None,
        }
    }
}

const PAGE_BYTES: u32 = 4096;

/// Pages in the log from which on it is worked off to its end, while writers wait for the little that is left and for the
/// disk. Until then it is worked off beside them, which in all but the heaviest load is enough for it to begin anew.
/// 64 MiB is a log that a restart still reads in no time.
const RESTART_PAGES: i64 = 16_384;

/// Pages in the log from which on a commit works it off itself, in case nobody calls for maintenance.
const CHECKPOINT_PAGES: u32 = 65_536;

impl SqliteOptions {
    fn shared(&self, path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
            .disable_statement_logging()
    }

    fn for_writing(&self, path: &Path) -> SqliteConnectOptions {
        let synchronous = match self.durability {
            Durability::Process => SqliteSynchronous::Normal,
            Durability::Disk => SqliteSynchronous::Full,
        };
        let options = self
            .shared(path)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .thread_name(|_| "sqlite-writer".to_owned())
            .pragma("cache_size", "-16384")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", "33554432");
        match self.largest_file_bytes {
            None => options,
            Some(bytes) => {
                let pages = (bytes / u64::from(PAGE_BYTES)).max(1);
                options.pragma("max_page_count", pages.to_string())
            }
        }
    }

    fn for_reading(&self, path: &Path) -> SqliteConnectOptions {
        self.shared(path)
            .read_only(true)
            .thread_name(|number| format!("sqlite-reader-{number}"))
            .pragma("cache_size", "-2048")
    }

    fn reading_pool(&self, path: &Path, connections: u32) -> SqlitePool {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .min_connections(0)
            .acquire_timeout(LONGEST_WAIT_FOR_READER)
            .idle_timeout(Duration::from_secs(60))
            .max_lifetime(None)
            .test_before_acquire(false)
            // A session may be dropped in its transaction, which would otherwise see the same old moment for ever.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let _ = query("ROLLBACK").execute(connection).await;
                    Ok(true)
                })
            })
            .connect_lazy_with(self.for_reading(path))
    }
}

/// State and events in one SQLite file. Clones share its connections.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: Arc<Mutex<Writer>>,
    /// For events: lists, searches and summaries, which may take long.
    readers: SqlitePool,
    /// For state and single look-ups, which a rollback must not wait for behind somebody's search.
    state_readers: SqlitePool,
    /// Works off the log: a commit that did that would keep every other waiting for the disk.
    housekeeper: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in a file, which is made if it is missing and brought to the newest schema if it is older.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or was written by a newer release.
    pub async fn open(path: &Path, options: SqliteOptions) -> StorageResult<Self> {
        let context = format!("opening `{}`", path.display());
        let for_writing = options.for_writing(path);
        let mut connection = for_writing.connect().await.map_err(failed(context))?;
        migrations::run(&mut connection).await?;
        let readers = options.reading_pool(path, options.readers.max(1));
        let state_readers = options.reading_pool(path, STATE_READERS);
        let housekeeper = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(0)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(
                for_writing
                    .clone()
                    .thread_name(|_| "sqlite-housekeeper".to_owned()),
            );
        let writer = Arc::new(Mutex::new(Writer::new(for_writing, connection)));
        Ok(Self {
            writer,
            readers,
            state_readers,
            housekeeper,
        })
    }

    /// Moves what was appended into the main file and closes the store. What is asked of it later fails.
    ///
    /// # Errors
    /// When the log cannot be moved; it is then moved when the store is opened again.
    pub async fn close(&self) -> StorageResult<()> {
        self.housekeeper.close().await;
        self.state_readers.close().await;
        self.readers.close().await;
        self.writer.lock().await.close().await
    }

    /// Moves what is in the log into the main file, without holding up whoever appends to it. When the log has grown long,
    /// the last bit is moved while nobody writes, so that the log can begin anew.
    async fn checkpoint(&self) -> StorageResult<()> {
        if self.move_log().await? >= RESTART_PAGES {
            // What came in meanwhile, so that little is left for the time when everybody waits.
            self.move_log().await?;
            let _writer = self.writer.lock().await;
            self.move_log().await?;
        }
        Ok(())
    }

    /// Returns how many pages the log has.
    async fn move_log(&self) -> StorageResult<i64> {
        let (_, pages, _): (i64, i64, i64) = query_as("PRAGMA wal_checkpoint(PASSIVE)")
            .fetch_one(&self.housekeeper)
            .await
            .map_err(failed("moving the log into the main file"))?;
        Ok(pages)
    }

    async fn write(&self) -> StorageResult<WriteTransaction> {
        WriteTransaction::begin(Arc::clone(&self.writer)).await
    }

    async fn snapshot(&self) -> StorageResult<Snapshot> {
        Snapshot::take(&self.state_readers).await
    }
}

#[async_trait]
impl StateStore for SqliteStore {
    async fn read(&self) -> StorageResult<Box<dyn StateSession>> {
        Ok(Box::new(Session(self.snapshot().await?)))
    }

    async fn begin(&self) -> StorageResult<Box<dyn StateTransaction>> {
        Ok(Box::new(Session(self.write().await?)))
    }

    async fn revision(&self) -> StorageResult<u64> {
        let revision: i64 = query_scalar("SELECT revision FROM state_revision")
            .fetch_one(&self.state_readers)
            .await
            .map_err(failed("reading the revision"))?;
        Ok(fields::unsigned(revision))
    }
}
