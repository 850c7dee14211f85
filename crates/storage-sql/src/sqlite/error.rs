//! What the database's errors mean to those who ask a store.
//!
//! [`StorageError::Unavailable`]: a full or failing disk, a lock, a folder that may not be written, a damaged file;
//! someone has to do something, and then the same request succeeds. [`StorageError::Inconsistent`] comes from
//! [`super::fields`]. Everything else is a defect of ours, [`StorageError::Refused`].

use std::borrow::Cow;
use std::error::Error;
use std::io;

use flywheel_storage::StorageError;
use sqlx::error::DatabaseError;

/// Turns an error of the database into one of the store, saying what was being done.
pub(super) fn failed(
    context: impl Into<Cow<'static, str>>,
) -> impl FnOnce(sqlx::Error) -> StorageError {
    let context = context.into();
    move |error| {
        let reason = match &error {
            sqlx::Error::Database(database) => reason(primary_code(database.as_ref())),
            sqlx::Error::Io(_) => Some("the file cannot be read or written"),
            sqlx::Error::PoolTimedOut => Some("every connection is in use"),
            sqlx::Error::PoolClosed => Some("it is closed"),
            sqlx::Error::WorkerCrashed => Some("the connection broke"),
            _ => None,
        };
        with_reason(&context, reason, error)
    }
}

/// The same for connections on threads of their own.
pub(super) fn unfulfilled(context: &'static str) -> impl FnOnce(rusqlite::Error) -> StorageError {
    move |error| {
        let code = error.sqlite_error().map(|error| error.extended_code & 0xff);
        with_reason(context, reason(code), error)
    }
}

/// The main file could not be synced to the disk.
pub(super) fn unsynced(error: io::Error) -> StorageError {
    let reason = Some("the file cannot be written to the disk");
    with_reason("syncing the main file", reason, error)
}

/// Unavailable for a reason, or a defect of ours if there is none.
fn with_reason(
    context: &str,
    reason: Option<&str>,
    error: impl Error + Send + Sync + 'static,
) -> StorageError {
    match reason {
        Some(reason) => StorageError::Unavailable {
            context: format!("{context}: {reason}"),
            source: Some(Box::new(error)),
        },
        None => StorageError::Refused {
            context: context.to_owned(),
            source: Box::new(error),
        },
    }
}

/// A store that was closed.
pub(super) fn closed() -> StorageError {
    StorageError::Unavailable {
        context: "it is closed".to_owned(),
        source: None,
    }
}

/// Whether another connection holds the lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database)
        if matches!(primary_code(database.as_ref()), Some(5 | 6)))
}

/// The result code, without what extended codes add in their upper bytes.
fn primary_code(error: &dyn DatabaseError) -> Option<i32> {
    error.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

/// Why the store is not available, for the result codes that mean so (<https://sqlite.org/rescode.html>).
fn reason(code: Option<i32>) -> Option<&'static str> {
    Some(match code? {
        3 => "access is denied",
        5 | 6 => "another process holds the lock",
        7 => "memory ran out",
        8 => "the data folder is read-only",
        10 => "the disk cannot be read or written",
        11 => "the file is damaged",
        13 => "the disk is full",
        14 => "the file cannot be opened",
        26 => "the file is not a database",
        _ => return None,
    })
}
