//! `flywheel audit verify --data`: a data folder, without a server.

use std::path::Path;

use flywheel_core::audit::AuditDraft;
use flywheel_storage::StateStore as _;
use flywheel_storage_sql::{SqliteOptions, SqliteStore};

use crate::run::{Run, flywheel};

fn verify(folder: &Path) -> Run {
    let folder = folder.display().to_string();
    flywheel(&["--json", "audit", "verify", "--data", &folder])
}

async fn with_entries(folder: &Path) -> SqliteStore {
    let file = folder.join("flywheel.db");
    let store = SqliteStore::open(&file, SqliteOptions::default())
        .await
        .unwrap();
    for subject in ["support-one", "support-two"] {
        let mut transaction = store.begin().await.unwrap();
        let draft = AuditDraft {
            at: jiff::Timestamp::UNIX_EPOCH,
            actor: "ada".to_owned(),
            action: "app.put".to_owned(),
            subject: subject.to_owned(),
            detail: serde_json::Value::Null,
        };
        transaction.audit().append(draft).await.unwrap();
        transaction.commit().await.unwrap();
    }
    store
}

#[tokio::test]
async fn a_folder_is_verified_with_and_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_entries(folder.path()).await;
    let in_use = verify(folder.path());
    // Not dropped yet: its threads remove files some time after that.
    store.close().await.unwrap();
    let closed = verify(folder.path());
    for run in [in_use, closed] {
        assert_eq!(run.code, Some(0), "{}", run.transcript());
        let found = run.json();
        assert_eq!(
            (&found["verified"], &found["entries"]),
            (&true.into(), &2.into())
        );
    }
}

#[tokio::test]
async fn what_was_changed_in_the_file_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = with_entries(folder.path()).await;
    store.close().await.unwrap();
    let file = folder.path().join("flywheel.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes
        .windows(11)
        .position(|window| window == b"support-two")
        .unwrap();
    bytes[place + 8..place + 11].copy_from_slice(b"six");
    std::fs::write(&file, bytes).unwrap();
    let run = verify(folder.path());
    assert_eq!(run.code, Some(1), "{}", run.transcript());
    let problem = run.json()["problem"].as_str().unwrap().to_owned();
    assert!(problem.starts_with("entry 2 was changed"), "{problem}");
}

#[test]
fn a_folder_without_a_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = verify(folder.path());
    assert_ne!(run.code, Some(0));
    assert!(
        run.transcript().contains("there is no `flywheel.db`"),
        "{}",
        run.transcript()
    );
}
