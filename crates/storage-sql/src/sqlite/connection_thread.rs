//! A connection on a thread of its own, to which whole pieces of work are sent.
//!
//! sqlx crosses to a connection's thread and back with every statement, which for a group of a few events takes longer
//! than writing them. Here the work crosses once.

use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use flywheel_storage::{StorageError, StorageResult};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::error::{closed, unfulfilled};

/// How a thread's connection is opened.
#[derive(Debug, Clone)]
pub(super) struct ConnectionOptions {
    pub(super) path: PathBuf,
    pub(super) busy_timeout: Duration,
    pub(super) pragmas: Vec<(&'static str, String)>,
}

/// Whether a thread gets its share of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    Normal,
    /// Only what the others leave, as far as the system knows such a thing.
    Low,
}

/// The niceness of threads of low priority: a tenth of a share beside a normal one.
#[cfg(target_os = "linux")]
const LOW: i32 = 10;

/// Takes the connection, or why there is none, and says whether it may be used again.
type Job = Box<dyn FnOnce(StorageResult<&Connection>) -> bool + Send>;

/// Sends work to the thread, which ends when this is dropped.
pub(super) struct ConnectionThread {
    jobs: Sender<Job>,
}

impl std::fmt::Debug for ConnectionThread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ConnectionThread").finish()
    }
}

impl ConnectionThread {
    /// Starts the thread. It opens its connection when the first work comes, and anew after work that failed.
    pub(super) fn start(
        name: &str,
        priority: Priority,
        options: ConnectionOptions,
    ) -> StorageResult<Self> {
        let (jobs, queue) = channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                lower(priority);
                serve(&options, &queue);
            })
            .map_err(|error| StorageError::Unavailable {
                context: format!("starting the thread `{name}`"),
                source: Some(Box::new(error)),
            })?;
        Ok(Self { jobs })
    }

    /// Sends a piece of work for whose outcome nobody waits. It is called even if there is no connection.
    pub(super) fn send(
        &self,
        work: impl FnOnce(StorageResult<&Connection>) -> StorageResult<()> + Send + 'static,
    ) {
        let job: Job = Box::new(move |connection| work(connection).is_ok());
        // Without the thread the store is closed.
        let _ = self.jobs.send(job);
    }

    /// Does a piece of work on the thread, after what was sent before. Once sent it is done, whether or not somebody
    /// still waits for its outcome.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> StorageResult<T> + Send + 'static,
    ) -> StorageResult<T> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let outcome = connection.and_then(work);
            let succeeded = outcome.is_ok();
            let _ = answer.send(outcome);
            succeeded
        });
        self.jobs.send(job).map_err(|_| closed())?;
        answered.await.map_err(|_| StorageError::Unavailable {
            context: "the connection's thread gave no answer".to_owned(),
            source: None,
        })?
    }
}

fn serve(options: &ConnectionOptions, queue: &Receiver<Job>) {
    let mut open = None;
    for job in queue {
        let connection = match open.take() {
            Some(connection) => Ok(connection),
            None => connect(options).map_err(unfulfilled("opening the store")),
        };
        match connection {
            Ok(connection) => {
                // A defect in one piece of work must not be the end of all that come after it.
                let outcome = panic::catch_unwind(AssertUnwindSafe(|| job(Ok(&connection))));
                if outcome.unwrap_or(false) {
                    open = Some(connection);
                }
            }
            Err(error) => {
                job(Err(error));
            }
        }
    }
}

fn connect(options: &ConnectionOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&options.path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    for (name, value) in &options.pragmas {
        connection.pragma_update(None, name, value)?;
    }
    Ok(connection)
}

#[cfg(target_os = "linux")]
fn lower(priority: Priority) {
    if priority == Priority::Low {
        // On Linux this is about the calling thread. Without it everything works, only less evenly.
        let _ = rustix::process::setpriority_process(None, LOW);
    }
}

#[cfg(not(target_os = "linux"))]
fn lower(_priority: Priority) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_not_the_end_of_the_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.db");
        Connection::open(&path).unwrap();
        let options = ConnectionOptions {
            path,
            busy_timeout: Duration::ZERO,
            pragmas: Vec::new(),
        };
        let thread = ConnectionThread::start("tested", Priority::Low, options).unwrap();
        let broken = thread.run::<()>(|_| panic!("a defect")).await.unwrap_err();
        assert!(broken.to_string().contains("no answer"), "{broken}");
        let one = thread.run(|connection| {
            connection
                .query_row("SELECT 1", [], |row| row.get::<_, i64>(0))
                .map_err(unfulfilled("asking"))
        });
        assert_eq!(one.await.unwrap(), 1);
    }
}
