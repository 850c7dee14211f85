//! Reading a store without changing anything of it.

use std::collections::BTreeMap;
use std::path::Path;

use flywheel_core::audit::{AuditDraft, ChainWalk};
use flywheel_storage::conformance::samples::at;
use flywheel_storage::{StateStore as _, StorageError};
use flywheel_storage_sql::{SqliteStore, inspect};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use crate::{open, open_in};

async fn append(store: &SqliteStore, subject: &str) {
    let mut transaction = store.begin().await.unwrap();
    let draft = AuditDraft {
        at: at(0),
        actor: "ada".to_owned(),
        action: "app.put".to_owned(),
        subject: subject.to_owned(),
        detail: serde_json::Value::Null,
    };
    transaction.audit().append(draft).await.unwrap();
    transaction.commit().await.unwrap();
}

/// How many entries the chain has that can be read in a folder.
async fn walked(folder: &Path) -> u64 {
    let mut session = inspect(&folder.join("flywheel.db")).await.unwrap();
    let mut walk = ChainWalk::default();
    for entry in session.audit().after(0, 1000).await.unwrap() {
        walk.step(&entry).unwrap();
    }
    walk.entries()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| {
        let file = file.unwrap();
        let name = file.file_name().to_string_lossy().into_owned();
        (name, std::fs::read(file.path()).unwrap())
    });
    files.collect()
}

fn copy(folder: &Path, without: &str) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files(folder) {
        if without.is_empty() || !name.ends_with(without) {
            std::fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    copy
}

#[tokio::test]
async fn a_store_in_use_is_read_as_it_is() {
    let (store, folder) = open().await;
    for number in 1..4 {
        append(&store, "support").await;
        assert_eq!(walked(folder.path()).await, number);
    }
}

#[tokio::test]
async fn a_store_that_was_closed_or_killed_is_read_and_left_as_it_was() {
    let (store, folder) = open().await;
    append(&store, "support").await;
    append(&store, "other").await;
    let before = files(folder.path());
    assert!(
        before.contains_key("flywheel.db-wal"),
        "the log is part of it"
    );
    let killed = copy(folder.path(), "");
    let without_index = copy(folder.path(), "-shm");
    store.close().await.unwrap();
    // Before the store is dropped: its threads remove files when they let go of it.
    let closed = copy(folder.path(), "-wal");
    drop(store);
    for (copy, is_whole) in [(&killed, false), (&without_index, true), (&closed, true)] {
        let before = files(copy.path());
        assert_eq!(walked(copy.path()).await, 2);
        let after = files(copy.path());
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before));
        for (name, bytes) in &after {
            // The index is the readers' own; SQLite makes it anew whenever it likes.
            assert!(
                !is_whole && name.ends_with("-shm") || bytes == &before[name],
                "{name}"
            );
        }
    }
    // What was read can still be served.
    append(&open_in(&without_index).await, "more").await;
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flywheel.db");
    assert!(inspect(&path).await.is_err(), "it is not there");
    std::fs::write(&path, "").unwrap();
    assert!(inspect(&path).await.is_err(), "it is empty");
    std::fs::write(&path, "x".repeat(10_000)).unwrap();
    assert!(inspect(&path).await.is_err(), "it is something else");
    std::fs::remove_file(&path).unwrap();
    open_in(&folder).await.close().await.unwrap();
    let mut connection = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = inspect(&path).await.err().unwrap();
    assert!(
        matches!(refused, StorageError::NewerSchema { found: 9999, .. }),
        "{refused}"
    );
}
