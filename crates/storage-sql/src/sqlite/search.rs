//! Searches that end: one that takes too long, or that nobody waits for any more, is stopped, and its reader serves others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flywheel_storage::{StorageError, StorageResult};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::time::Instant;

use super::error::failed;

/// After how many instructions of a search SQLite asks whether to go on. One of them may look through the whole text of a
/// call, so there are few.
const INSTRUCTIONS: i32 = 100;

/// Stops a search when it is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rows of a statement that may run for so long.
pub(super) async fn fetch_all(
    readers: &SqlitePool,
    longest: Duration,
    mut sql: QueryBuilder<Sqlite>,
) -> StorageResult<Vec<SqliteRow>> {
    let context = "searching";
    let mut connection = readers.acquire().await.map_err(failed(context))?;
    // Dropped before the connection goes back, with this future too when nobody waits for it.
    let stop = Stop(Arc::default());
    let is_stopped = Arc::clone(&stop.0);
    connection
        .lock_handle()
        .await
        .map_err(failed(context))?
        .set_progress_handler(INSTRUCTIONS, move || !is_stopped.load(Ordering::Relaxed));
    // There are too many different statements to keep each prepared.
    let search = sql.build().persistent(false).fetch_all(&mut *connection);
    let begun = Instant::now();
    match tokio::time::timeout(longest, search).await {
        // The timer is only good to a millisecond; what took longer than it may took too long either way.
        Ok(rows) if begun.elapsed() <= longest => rows.map_err(failed(context)),
        _ => Err(StorageError::TooLong { longest }),
    }
}

/// Makes a connection ready for whoever is next. It waits for a search that was stopped to end.
pub(super) async fn forget(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    connection.lock_handle().await?.remove_progress_handler();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::{SqliteOptions, SqliteStore};

    const ENDLESS: &str =
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
                           SELECT max(n) FROM numbers";

    #[tokio::test]
    async fn a_stopped_search_frees_its_reader() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            readers: 1,
            ..SqliteOptions::default()
        };
        let path = folder.path().join("flywheel.db");
        let store = SqliteStore::open(&path, options).await.unwrap();
        let search =
            |longest, sql: &str| fetch_all(&store.readers, longest, QueryBuilder::new(sql));
        let error = search(Duration::from_millis(1), ENDLESS).await.unwrap_err();
        assert!(matches!(error, StorageError::TooLong { .. }), "{error}");
        {
            // Somebody asks and goes away.
            let mut left = pin!(search(Duration::MAX, ENDLESS));
            for _ in 0..100 {
                let polled = left.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending());
                tokio::task::yield_now().await;
            }
        }
        // The one reader is there for the next, who is not stopped for what the others did.
        let long = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 100000)
                    SELECT max(n) FROM numbers";
        let rows = search(Duration::MAX, long).await.unwrap();
        assert_eq!(rows.len(), 1);
        let plain = sqlx::query(long).fetch_all(&store.readers).await.unwrap();
        assert_eq!(plain.len(), 1);
    }
}
