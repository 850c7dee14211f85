//! Reading a store that is not ours: one that a server uses, a copy, or what a crash left. Nothing of it is changed.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flywheel_storage::{StateSession, StorageError, StorageResult};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection, query};

use super::error::failed;
use super::migrations;
use super::session::{HoldsConnection, Session};

/// A connection to a store that others may use meanwhile. It sees one moment.
struct Inspection {
    connection: SqliteConnection,
    /// Kept until the connection is gone.
    _copy: Option<CopiedFiles>,
}

impl HoldsConnection for Inspection {
    fn held(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

/// A copy of a store, removed when this is dropped.
struct CopiedFiles(PathBuf);

impl Drop for CopiedFiles {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Reads the state in a file from one moment, without changing the file or what lies beside it.
///
/// # Errors
/// When it is no store, cannot be read, or was written by a newer release.
pub async fn inspect(path: &Path) -> StorageResult<Box<dyn StateSession>> {
    let context = || format!("opening `{}`", path.display());
    let options = SqliteConnectOptions::new()
        .read_only(true)
        .disable_statement_logging();
    // SQLite reads a log through an index that it would have to put beside the file. If it is there, a server is at work
    // or was killed. If there is no log, none is needed. Else a copy is made, on which it may write.
    let has_log = beside(path, "-wal").exists();
    let (options, copy) = if has_log && has_bytes(&beside(path, "-shm")) {
        (options.filename(path), None)
    } else if has_bytes(&beside(path, "-wal")) {
        let (copy, path) = copied(path).map_err(|source| StorageError::Unavailable {
            context: format!("copying `{}` to read it", path.display()),
            source: Some(Box::new(source)),
        })?;
        (options.filename(path).read_only(false), Some(copy))
    } else {
        (options.filename(path).immutable(true), None)
    };
    let mut connection = options.connect().await.map_err(failed(context()))?;
    query("BEGIN")
        .execute(&mut connection)
        .await
        .map_err(failed(context()))?;
    migrations::must_be_known(&mut connection).await?;
    Ok(Box::new(Session(Inspection {
        connection,
        _copy: copy,
    })))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn has_bytes(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

fn copied(path: &Path) -> io::Result<(CopiedFiles, PathBuf)> {
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), COPIES.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(format!("flywheel-inspect-{process}-{number}"));
    // A folder that is there already is somebody else's.
    DirBuilder::new().mode(0o700).create(&folder)?;
    let copy = CopiedFiles(folder);
    let file = copy.0.join("flywheel.db");
    std::fs::copy(path, &file)?;
    std::fs::copy(beside(path, "-wal"), beside(&file, "-wal"))?;
    Ok((copy, file))
}
