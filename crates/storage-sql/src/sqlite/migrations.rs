//! The schema, which comes with the program.

use flywheel_storage::{StorageError, StorageResult};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection as _, SqliteConnection, query_as, query_scalar};

use super::error::failed;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Brings the schema up to date, or refuses one that is newer than this release.
pub(super) async fn run(connection: &mut SqliteConnection) -> StorageResult<()> {
    let known = MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    let found = version(connection).await?;
    if found > known {
        return Err(StorageError::NewerSchema { found, known });
    }
    if found == known {
        return must_be_as_applied(connection).await;
    }
    // The lock keeps a second process that starts at the same time from migrating too. Each migration is a savepoint
    // in this transaction, so either all of them take effect or none.
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed("locking the schema"))?;
    MIGRATOR
        .run(&mut *transaction)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                failed("migrating the schema")(error)
            }
            other => StorageError::Refused {
                context: "migrating the schema".to_owned(),
                source: Box::new(other),
            },
        })?;
    transaction
        .commit()
        .await
        .map_err(failed("migrating the schema"))
}

/// Refuses a file that is no store, or one that this release cannot read.
pub(super) async fn must_be_known(connection: &mut SqliteConnection) -> StorageResult<()> {
    let known = MIGRATOR.iter().map(|migration| migration.version).max();
    let (found, known) = (version(connection).await?, known.unwrap_or(0));
    match found {
        0 => Err(StorageError::Unavailable {
            context: "the file is not a store of Flywheel".to_owned(),
            source: None,
        }),
        found if found > known => Err(StorageError::NewerSchema { found, known }),
        found if found == known => must_be_as_applied(connection).await,
        _ => Ok(()),
    }
}

/// Refuses a store whose migrations have our numbers and did something else, as between two releases they may.
async fn must_be_as_applied(connection: &mut SqliteConnection) -> StorageResult<()> {
    let applied: Vec<(i64, Vec<u8>)> =
        query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await
            .map_err(failed("reading the schema's version"))?;
    let is_ours = |(version, checksum): &(i64, Vec<u8>)| {
        MIGRATOR.iter().any(|migration| {
            migration.version == *version && migration.checksum.as_ref() == checksum.as_slice()
        })
    };
    if applied.iter().all(is_ours) {
        return Ok(());
    }
    Err(StorageError::Unavailable {
        context:
            "the store was made by a build between two releases, whose tables were different; \
                  open it with that build, or start with an empty data folder"
                .to_owned(),
        source: None,
    })
}

/// The newest migration that was applied; 0 in a fresh file.
async fn version(connection: &mut SqliteConnection) -> StorageResult<i64> {
    let has_table: i64 =
        query_scalar("SELECT count(*) FROM sqlite_schema WHERE name = '_sqlx_migrations'")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("reading the schema's version"))?;
    if has_table == 0 {
        return Ok(0);
    }
    query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
        .fetch_one(connection)
        .await
        .map_err(failed("reading the schema's version"))
}
