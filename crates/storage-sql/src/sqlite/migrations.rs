//! The schema, which comes with the program.

use std::sync::LazyLock;

use flywheel_storage::{StorageError, StorageResult};
use sqlx::SqlStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection as _, SqliteConnection, query_as, query_scalar};

use super::error::failed;

/// The name of a migration and what it does.
macro_rules! migration {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../migrations/sqlite/", $name, ".sql")),
        )
    };
}

/// All of them, in order. They are listed here because the macro that finds them builds SQLite a second time.
const MIGRATIONS: [(&str, &str); 8] = [
    migration!("0001_initial"),
    migration!("0002_sums"),
    migration!("0003_experiment_statistics"),
    migration!("0004_units_with_events"),
    migration!("0005_weeks"),
    migration!("0006_tool_success"),
    migration!("0007_late_events"),
    migration!("0008_open_days"),
];

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migrations = MIGRATIONS.into_iter().zip(1..);
    let migrations = migrations.map(|((name, sql), version)| {
        let (_, description) = name.split_once('_').unwrap_or(("", name));
        let description = description.replace('_', " ").into();
        let sql = SqlStr::from_static(sql);
        Migration::new(version, description, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
});

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_under_its_number() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let listed = MIGRATIONS.map(|(name, _)| format!("{name}.sql"));
        assert_eq!(files, listed);
        for ((name, _), version) in MIGRATIONS.iter().zip(1..) {
            assert!(name.starts_with(&format!("{version:04}_")), "{name}");
        }
    }
}
