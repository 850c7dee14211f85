//! What a process that is killed, a full disk and a folder without permission do to the store.

use std::error::Error as _;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use flywheel_core::call::Call;
use flywheel_storage::conformance::samples::{at, call, call_events, registered};
use flywheel_storage::events::{Appended, PruneBound};
use flywheel_storage::{EventStore as _, StateStore as _, StorageError};
use flywheel_storage_sql::{Durability, SqliteOptions, SqliteStore};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::{open, open_in};

fn large(number: i64) -> Call {
    let mut call = call(&format!("c{number}"), "support", at(number));
    call.content.output = Some("x".repeat(10_000));
    call
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    for durability in [Durability::Process, Durability::Disk] {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            durability,
            ..SqliteOptions::default()
        };
        let path = folder.path().join("flywheel.db");
        let store = SqliteStore::open(&path, options).await.unwrap();
        store.append(call_events((0..50).map(large))).await.unwrap();
        registered(&store, "summary", "one").await;
        let mut unfinished = store.begin().await.unwrap();
        let new = flywheel_storage::conformance::samples::new_version("summary", "unfinished");
        unfinished.prompts().register(new).await.unwrap();

        // A kill leaves the files as they are at this moment, without a goodbye to the database.
        let after = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                std::fs::copy(file.path(), after.path().join(file.file_name())).unwrap();
            }
        }
        let reopened = open_in(&after).await;
        for number in 0..50 {
            assert_eq!(
                reopened.get_call(&large(number).id).await.unwrap(),
                Some(large(number))
            );
        }
        assert_eq!(registered(&reopened, "summary", "two").await.ordinal, 2);
    }
}

/// Writers wait for a step of pruning, so it looks at the time and not only at the number of rows.
#[tokio::test]
async fn a_step_of_pruning_ends_when_its_time_is_up() {
    for (longest_prune, most) in [(Duration::ZERO, 8), (Duration::from_secs(600), 200)] {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions {
            longest_prune,
            ..SqliteOptions::default()
        };
        let path = folder.path().join("flywheel.db");
        let store = SqliteStore::open(&path, options).await.unwrap();
        store
            .append(call_events((0..200).map(large)))
            .await
            .unwrap();
        for bound in [PruneBound::Before(at(100)), PruneBound::Bytes(0)] {
            let removed = store.prune(bound).await.unwrap();
            assert!(
                (1..=most).contains(&removed),
                "{removed} with {longest_prune:?}"
            );
        }
        let left = (200..).map(large);
        store.append(call_events(left.take(1))).await.unwrap();
        let first = store.get_call("c0").await.unwrap();
        assert_eq!(first, None, "the oldest go first");
        let is_whole = store.get_call("c99").await.unwrap().is_none();
        assert_eq!(is_whole, most == 200, "with {longest_prune:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_overcome() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions {
        largest_file_bytes: Some(2 << 20),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&folder.path().join("flywheel.db"), options)
        .await
        .unwrap();
    let mut stored = 0;
    let error = loop {
        let group = call_events((stored..stored + 10).map(large));
        match store.append(group.clone()).await {
            Ok(_) => stored += 10,
            Err(error) => break error,
        }
        assert!(stored < 1000, "it never fills up");
    };
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(error.to_string().ends_with("the disk is full"), "{error}");
    assert!(error.source().is_some());

    // None of the group that failed is there, and everything before it is.
    assert_eq!(store.get_call(&large(stored).id).await.unwrap(), None);
    assert!(
        store
            .get_call(&large(stored - 1).id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        store
            .prune(PruneBound::Before(at(stored / 2)))
            .await
            .unwrap()
            > 0
    );
    let again = store.append(call_events([large(stored)])).await.unwrap();
    assert_eq!(again, [Appended::Stored]);
    registered(&store, "summary", "one").await;
    assert!(store.live_bytes().await.unwrap() < 2 << 20);
}

#[tokio::test]
async fn removed_events_give_space_back() {
    let (store, folder) = open().await;
    store
        .append(call_events((0..1000).map(large)))
        .await
        .unwrap();
    while store.prune(PruneBound::Before(at(2000))).await.unwrap() > 0 {}
    store.prune(PruneBound::Before(at(2000))).await.unwrap();
    store.close().await.unwrap();
    let size = std::fs::metadata(folder.path().join("flywheel.db"))
        .unwrap()
        .len();
    assert!(size < 2_000_000, "{size} bytes are still taken");
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flywheel.db");
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(20),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).await.unwrap();
    let mut other = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    let error = store.append(call_events([large(1)])).await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("another process holds the lock"),
        "{error}"
    );
    assert!(matches!(
        store.live_bytes().await,
        Err(StorageError::Unavailable { .. })
    ));
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(
        store.append(call_events([large(1)])).await.unwrap(),
        [Appended::Stored]
    );
}

#[tokio::test]
async fn a_folder_without_permission_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a file, not a folder");
    std::fs::write(&file, "").unwrap();
    let mut paths = vec![
        file.join("flywheel.db"),
        folder.path().join("missing/flywheel.db"),
    ];

    // Where permissions hold (they do not for root), a folder that may only be read is told too.
    let read_only = folder.path().join("read-only");
    std::fs::create_dir(&read_only).unwrap();
    let mut permissions = std::fs::metadata(&read_only).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&read_only, permissions).unwrap();
    if std::fs::write(read_only.join("probe"), "").is_err() {
        paths.push(read_only.join("flywheel.db"));
    }
    for path in paths {
        let error = SqliteStore::open(&path, SqliteOptions::default())
            .await
            .unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_file_of_another_kind_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flywheel.db");
    std::fs::write(
        &path,
        "certainly not a database, but long enough to look at".repeat(100),
    )
    .unwrap();
    let error = SqliteStore::open(&path, SqliteOptions::default())
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("the file is not a database"),
        "{error}"
    );
}

#[tokio::test]
async fn a_write_that_is_given_up_is_undone() {
    let (store, _folder) = open().await;
    for round in 0..20_i64 {
        let group = call_events((round * 100..round * 100 + 100).map(large));
        let append = store.append(group.clone());
        let _ =
            tokio::time::timeout(Duration::from_micros(200 * round.unsigned_abs()), append).await;
        let again = store.append(group.clone()).await.unwrap();
        let stored = again
            .iter()
            .filter(|answer| **answer == Appended::Stored)
            .count();
        assert!(
            [0, 100].contains(&stored),
            "{stored} of a group that is whole or not there"
        );
        assert!(store.get_call(&group_id(round)).await.unwrap().is_some());
    }
    assert!(store.begin().await.unwrap().commit().await.is_ok());
}

#[tokio::test]
async fn a_transaction_that_is_given_up_while_it_begins_is_undone() {
    let (store, _folder) = open().await;
    for round in 0..3 {
        {
            // It has its turn, and has asked the database.
            let mut transaction = pin!(store.begin());
            let _ = transaction
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
        let group = call_events([large(round)]);
        assert_eq!(store.append(group).await.unwrap(), [Appended::Stored]);
    }
}

fn group_id(round: i64) -> String {
    format!("c{}", round * 100)
}
