//! The data folder: made if it is not there, and locked so that a second server keeps out.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// A data folder that is ours as long as this lives.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// Opens a data folder.
pub(crate) fn open(path: &Path) -> Result<DataFolder> {
    // What people wrote is in there: nobody else on the machine is to read it.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the data folder `{}` cannot be made", path.display()))?;
    let lock_path = path.join("lock");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path);
    let lock = lock.with_context(|| {
        format!(
            "the data folder `{}` cannot be written; check its owner and permissions",
            path.display()
        )
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(DataFolder {
            path: path.to_owned(),
            _lock: lock,
        }),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another server uses the data folder `{}`; stop it, or name another with `--data`",
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("`{}` cannot be locked", lock_path.display()))
        }
    }
}

impl DataFolder {
    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file with state and events.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("flywheel.db")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_keeps_out() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        let refused = open(folder.path()).err().unwrap().to_string();
        assert!(
            refused.starts_with("another server uses the data folder"),
            "{refused}"
        );
        drop(first);
        assert!(open(folder.path()).is_ok());
    }
}
