//! The connection that writes state, the transactions on it, and the lock on writing.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use flywheel_storage::StorageResult;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection, query};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::{closed, failed, is_busy};

/// The connection that writes state. The lock around it is fair, so state transactions and event groups, which go to
/// another connection, take turns.
///
/// Transactions are plain statements here and not sqlx's: when the disk is full SQLite ends the transaction by itself,
/// after which sqlx counts one too many on this connection and refuses every further one.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    connection: SqliteConnection,
    /// A transaction was begun and neither its commit nor its undoing is known to have succeeded.
    is_unfinished: bool,
    is_closed: bool,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, connection: SqliteConnection) -> Self {
        Self {
            options,
            connection,
            is_unfinished: false,
            is_closed: false,
        }
    }

    async fn begin(&mut self) -> StorageResult<()> {
        if self.is_closed {
            return Err(closed());
        }
        if self.is_unfinished {
            // Its outcome does not matter: if nothing was left open, this fails.
            let _ = query("ROLLBACK").execute(&mut self.connection).await;
        }
        self.is_unfinished = true;
        let Err(error) = query("BEGIN IMMEDIATE").execute(&mut self.connection).await else {
            return Ok(());
        };
        if is_busy(&error) {
            return Err(failed("beginning to write")(error));
        }
        // The connection is not what it should be; a new one starts clean.
        self.connection = self
            .options
            .connect()
            .await
            .map_err(failed("beginning to write"))?;
        query("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await
            .map_err(failed("beginning to write"))?;
        Ok(())
    }

    /// Moves the log into the main file and refuses further transactions.
    pub(super) async fn close(&mut self) -> StorageResult<()> {
        if self.is_closed {
            return Ok(());
        }
        self.is_closed = true;
        if self.is_unfinished {
            let _ = query("ROLLBACK").execute(&mut self.connection).await;
        }
        query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut self.connection)
            .await
            .map_err(failed("closing the store"))?;
        Ok(())
    }
}

/// Waits for the writing lock, for work on another connection.
pub(super) async fn turn(writer: &Arc<Mutex<Writer>>) -> StorageResult<OwnedMutexGuard<Writer>> {
    let writer = Arc::clone(writer).lock_owned().await;
    if writer.is_closed {
        return Err(closed());
    }
    Ok(writer)
}

/// A transaction on the writing connection. Dropping it undoes it.
#[derive(Debug)]
pub(super) struct WriteTransaction {
    writer: OwnedMutexGuard<Writer>,
}

impl WriteTransaction {
    /// Waits for its turn and begins.
    pub(super) async fn begin(writer: Arc<Mutex<Writer>>) -> StorageResult<Self> {
        let mut transaction = Self {
            writer: writer.lock_owned().await,
        };
        // Given up while it begins, it is undone like any other: the file would stay locked.
        transaction.writer.begin().await?;
        Ok(transaction)
    }

    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }

    /// Commits and hands the connection on for work outside the transaction; nobody else writes until it is dropped.
    pub(super) async fn commit(mut self) -> StorageResult<Self> {
        query("COMMIT")
            .execute(self.connection())
            .await
            .map_err(failed("committing"))?;
        self.writer.is_unfinished = false;
        Ok(self)
    }
}

impl Drop for WriteTransaction {
    fn drop(&mut self) {
        if self.writer.is_unfinished {
            // Polled once, this queues the statement on the connection's thread and so frees the file's lock soon. The
            // next transaction makes sure of it.
            let rollback = pin!(query("ROLLBACK").execute(&mut self.writer.connection));
            let _ = rollback.poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}
