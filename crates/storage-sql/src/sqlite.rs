//! The store in one SQLite file: opening, closing, and who gets which connection.

mod activity;
mod append;
mod audit;
mod calls;
mod connection_thread;
mod deployments;
mod error;
mod events;
mod experiments;
mod feedback;
mod fields;
mod inspection;
mod keys;
mod log;
mod migrations;
mod models;
mod prompts;
mod prune;
mod retrievers;
mod search;
mod session;
mod summary;
mod sums;
mod units;
mod weeks;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flywheel_storage::{StateSession, StateStore, StateTransaction, StorageError, StorageResult};
use rusqlite::Connection;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions,
};
use sqlx::{ConnectOptions, query, query_scalar};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::connection_thread::{ConnectionOptions, ConnectionThread, Priority};
use self::error::{failed, is_busy};
pub use self::inspection::inspect;
use self::log::Log;
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
    /// How long a search over calls may take.
    pub longest_search: Duration,
    /// About how long one step of pruning keeps writers waiting.
    pub longest_prune: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            readers: 4,
            busy_timeout: Duration::from_secs(5),
            largest_file_bytes: None,
            longest_search: Duration::from_secs(10),
            longest_prune: Duration::from_millis(50),
        }
    }
}

const PAGE_BYTES: u32 = 4096;

/// How much of the file a connection keeps in memory that does not append, in SQLite's own way of saying KiB. The system keeps
/// more.
const SMALL_CACHE: &str = "-1024";

impl SqliteOptions {
    fn shared(&self, path: &Path) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(self.busy_timeout)
            .foreign_keys(true)
            .disable_statement_logging()
    }

    /// What every writing connection sets.
    fn pragmas(&self) -> Vec<(&'static str, String)> {
        let synchronous = match self.durability {
            Durability::Process => "NORMAL",
            Durability::Disk => "FULL",
        };
        let mut pragmas = vec![
            ("synchronous", synchronous.to_owned()),
            ("foreign_keys", "ON".to_owned()),
            ("cache_size", "-16384".to_owned()),
            ("wal_autocheckpoint", log::CHECKPOINT_PAGES.to_string()),
            ("journal_size_limit", log::LARGEST_KEPT.to_string()),
        ];
        if let Some(bytes) = self.largest_file_bytes {
            let pages = (bytes / u64::from(PAGE_BYTES)).max(1);
            pragmas.push(("max_page_count", pages.to_string()));
        }
        pragmas
    }

    fn for_writing(&self, path: &Path) -> SqliteConnectOptions {
        let options = self
            .shared(path)
            .create_if_missing(true)
            .page_size(PAGE_BYTES)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .thread_name(|_| "sqlite-writer".to_owned());
        self.pragmas()
            .into_iter()
            .fold(options, |options, (name, value)| {
                options.pragma(name, value)
            })
            .pragma("cache_size", SMALL_CACHE)
    }

    fn for_thread(&self, path: &Path) -> ConnectionOptions {
        ConnectionOptions {
            path: path.to_owned(),
            busy_timeout: self.busy_timeout,
            pragmas: self.pragmas(),
        }
    }

    /// For a thread that goes through events once, of which nothing is worth keeping in memory.
    fn for_passing_thread(&self, path: &Path) -> ConnectionOptions {
        let mut options = self.for_thread(path);
        options.pragmas.push(("cache_size", SMALL_CACHE.to_owned()));
        options
    }

    fn for_reading(&self, path: &Path) -> SqliteConnectOptions {
        self.shared(path)
            .read_only(true)
            .thread_name(|number| format!("sqlite-reader-{number}"))
            .pragma("cache_size", SMALL_CACHE)
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
                    search::forget(connection).await?;
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
    options: SqliteOptions,
    writer: Arc<Mutex<Writer>>,
    /// Appends events, when it is its turn to write.
    appender: Arc<ConnectionThread>,
    /// For events: lists, searches and summaries, which may take long.
    readers: SqlitePool,
    /// For state and single look-ups, which a rollback must not wait for behind somebody's search.
    state_readers: SqlitePool,
    /// Works off the log: a commit that did that would keep every other waiting for the disk.
    housekeeper: Arc<ConnectionThread>,
    log: Arc<Log>,
    /// Reads what is to be added to sums over events. What it finds is written by the appender: a thread of low priority that
    /// holds the lock on writing would make that the priority of all who wait.
    summer: Arc<ConnectionThread>,
    /// Held by whoever brings the sums up to date.
    summing: Arc<Mutex<()>>,
}

/// How long to wait before a fresh file is opened again.
const REOPEN_AFTER: Duration = Duration::from_millis(5);

/// Another process may be turning on the log of a fresh file at this moment, for which SQLite does not wait.
async fn first_connection(
    options: &SqliteConnectOptions,
    longest: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    let begun = Instant::now();
    loop {
        match options.connect().await {
            Err(error) if is_busy(&error) && begun.elapsed() < longest => {
                tokio::time::sleep(REOPEN_AFTER).await;
            }
            done => return done,
        }
    }
}

impl SqliteStore {
    /// Opens the store in a file, which is made if it is missing and brought to the newest schema if it is older.
    ///
    /// # Errors
    /// When the file cannot be opened or written, or was written by a newer release.
    pub async fn open(path: &Path, options: SqliteOptions) -> StorageResult<Self> {
        let context = format!("opening `{}`", path.display());
        let for_writing = options.for_writing(path);
        let mut connection = first_connection(&for_writing, options.busy_timeout)
            .await
            .map_err(failed(context))?;
        migrations::run(&mut connection).await?;
        let readers = options.reading_pool(path, options.readers.max(1));
        let state_readers = options.reading_pool(path, STATE_READERS);
        let writer = Arc::new(Mutex::new(Writer::new(for_writing, connection)));
        let thread = |name, priority, options| {
            ConnectionThread::start(name, priority, options).map(Arc::new)
        };
        let appender = thread(
            "sqlite-appender",
            Priority::Normal,
            options.for_thread(path),
        )?;
        let log = Log::of(path).map_err(|error| StorageError::Unavailable {
            context: format!("opening `{}` once more", path.display()),
            source: Some(Box::new(error)),
        })?;
        let passing = || options.for_passing_thread(path);
        let housekeeper = thread("sqlite-housekeeper", Priority::Low, passing())?;
        let summer = thread("sqlite-summer", Priority::Low, passing())?;
        Ok(Self {
            options,
            writer,
            appender,
            log: Arc::new(log),
            readers,
            state_readers,
            housekeeper,
            summer,
            summing: Arc::default(),
        })
    }

    /// Moves what was appended into the main file and closes the store. What is asked of it later fails.
    ///
    /// # Errors
    /// When the log cannot be moved; it is then moved when the store is opened again.
    pub async fn close(&self) -> StorageResult<()> {
        // What they have begun. Whether that worked does not matter: the writer moves the rest.
        for thread in [
            &self.appender,
            &self.summer,
            &self.housekeeper,
            &self.appender,
        ] {
            let _ = thread.run(|_| Ok(())).await;
        }
        self.state_readers.close().await;
        self.readers.close().await;
        self.writer.lock().await.close().await
    }

    /// Works off the log, without holding up whoever appends to it.
    async fn checkpoint(&self) -> StorageResult<()> {
        let (log, appender) = (Arc::clone(&self.log), Arc::clone(&self.appender));
        let work_off = move |connection: &Connection| log.work_off(connection, &appender);
        self.housekeeper.run(work_off).await
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

    async fn browse(&self) -> StorageResult<Box<dyn StateSession>> {
        Ok(Box::new(Session(Snapshot::take(&self.readers).await?)))
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
