//! The conformance suite over SQLite, and what only SQLite can get wrong.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, not the functions beside them"
)]

mod disk;
mod inspection;
mod recount;
mod schema;
mod sums;
mod units;
mod weeks;

use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

async fn open() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open_in(&folder).await, folder)
}

async fn open_in(folder: &TempDir) -> SqliteStore {
    let path = folder.path().join("flywheel.db");
    SqliteStore::open(&path, SqliteOptions::default())
        .await
        .unwrap()
}

mod state {
    flywheel_storage::state_conformance!(super::open);
}

mod events {
    flywheel_storage::event_conformance!(super::open);
}
