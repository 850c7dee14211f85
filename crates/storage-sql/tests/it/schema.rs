//! Migrations, refusals, and history that cannot be rewritten.

use std::path::Path;

use flywheel_storage::conformance::samples::{
    at, manifest, new_deployment, new_version, registered,
};
use flywheel_storage::{StateStore as _, StorageError};
use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqliteConnection, query, query_scalar};

use crate::{open, open_in};

async fn raw(folder: &Path) -> SqliteConnection {
    let path = folder.join("flywheel.db");
    SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_file_opens_again_and_twice() {
    let (store, folder) = open().await;
    let version = registered(&store, "summary", "one").await;
    store.close().await.unwrap();
    assert!(matches!(
        store.begin().await,
        Err(StorageError::Unavailable { .. })
    ));
    assert!(matches!(
        store.read().await,
        Err(StorageError::Unavailable { .. })
    ));

    let first = open_in(&folder).await;
    let second = open_in(&folder).await;
    for store in [&first, &second] {
        let mut session = store.read().await.unwrap();
        let read = session.prompts().latest(&version.prompt).await.unwrap();
        assert_eq!(read.as_ref(), Some(&version));
    }
    registered(&first, "summary", "two").await;
    assert_eq!(registered(&second, "summary", "three").await.ordinal, 3);
}

#[tokio::test]
async fn a_fresh_file_opened_by_two_at_once_is_migrated_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = tokio::join!(open_in(&folder), open_in(&folder));
    registered(&first, "summary", "one").await;
    assert_eq!(registered(&second, "summary", "two").await.ordinal, 2);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (store, folder) = open().await;
    store.close().await.unwrap();
    query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of tomorrow', TRUE, x'00', 0)",
    )
    .execute(&mut raw(folder.path()).await)
    .await
    .unwrap();
    let path = folder.path().join("flywheel.db");
    let error = SqliteStore::open(&path, SqliteOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StorageError::NewerSchema {
                found: 9999,
                known: 8
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn space_can_be_given_back_and_writes_survive_the_process() {
    let (_store, folder) = open().await;
    let mut connection = raw(folder.path()).await;
    for (pragma, expected) in [
        ("auto_vacuum", "2"),
        ("journal_mode", "wal"),
        ("page_size", "4096"),
    ] {
        let sql = AssertSqlSafe(format!(
            "SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"
        ));
        let value: String = query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
}

#[tokio::test]
async fn a_store_whose_tables_were_different_is_refused() {
    let (store, folder) = open().await;
    store.close().await.unwrap();
    let mut connection = raw(folder.path()).await;
    query("UPDATE _sqlx_migrations SET checksum = x'00'")
        .execute(&mut connection)
        .await
        .unwrap();
    let path = folder.path().join("flywheel.db");
    let refused = SqliteStore::open(&path, SqliteOptions::default()).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("between two releases"), "{error}");
}

#[tokio::test]
async fn history_cannot_be_rewritten() {
    let (store, folder) = open().await;
    let mut transaction = store.begin().await.unwrap();
    let version = transaction
        .prompts()
        .register(new_version("summary", "one"))
        .await
        .unwrap();
    let manifest = manifest("summary", version.version.version);
    transaction
        .deployments()
        .put_manifest(&manifest, at(0))
        .await
        .unwrap();
    let deployment = new_deployment("support", "production", manifest.id());
    transaction.deployments().append(deployment).await.unwrap();
    let draft = flywheel_core::audit::AuditDraft {
        at: at(0),
        actor: "ada".to_owned(),
        action: "app.deploy".to_owned(),
        subject: "support".to_owned(),
        detail: serde_json::Value::Null,
    };
    transaction.audit().append(draft).await.unwrap();
    transaction.commit().await.unwrap();

    let mut connection = raw(folder.path()).await;
    for (table, column) in [
        ("prompt_versions", "content"),
        ("manifests", "prompt_version"),
        ("deployments", "manifest"),
        ("audit_log", "actor"),
    ] {
        for sql in [
            format!("UPDATE {table} SET {column} = 'x'"),
            format!("DELETE FROM {table}"),
        ] {
            let error = query(AssertSqlSafe(sql))
                .execute(&mut connection)
                .await
                .unwrap_err();
            assert!(error.to_string().contains("append-only"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let (store, folder) = open().await;
    query("INSERT INTO apps (name, settings, created_at) VALUES ('support', '{', 0)")
        .execute(&mut raw(folder.path()).await)
        .await
        .unwrap();
    let mut session = store.read().await.unwrap();
    let error = session
        .deployments()
        .list_apps()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("table `apps`, column `settings`, row `support`"),
        "{error}"
    );
}
