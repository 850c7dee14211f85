//! API keys.

use async_trait::async_trait;
use flywheel_core::key::ApiKey;
use flywheel_storage::StorageResult;
use flywheel_storage::keys::KeyRepository;
use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document};

/// The API keys, over one connection.
pub(super) struct Keys<'c>(pub(super) &'c mut SqliteConnection);

fn key_from(row: &SqliteRow) -> StorageResult<ApiKey> {
    let fields = Fields::new(row, "api_keys", &["id"]);
    Ok(ApiKey {
        id: fields.text("id")?,
        name: fields.text("name")?,
        role: fields.spelled("role")?,
        apps: fields.json("apps")?,
        secret_hash: fields.parsed("secret_hash")?,
        created_at: fields.time("created_at")?,
        revoked_at: fields.optional_time("revoked_at")?,
    })
}

#[async_trait]
impl KeyRepository for Keys<'_> {
    #[tracing::instrument(name = "db.api_keys.add", skip_all)]
    async fn add(&mut self, key: &ApiKey) -> StorageResult<()> {
        query(
            "INSERT INTO api_keys (id, name, role, apps, secret_hash, created_at, revoked_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&key.id)
        .bind(&key.name)
        .bind(key.role.as_str())
        .bind(document(&key.apps)?)
        .bind(key.secret_hash.to_string())
        .bind(key.created_at.as_microsecond())
        .bind(key.revoked_at.map(|at| at.as_microsecond()))
        .execute(&mut *self.0)
        .await
        .map_err(failed("adding a key"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.api_keys.list", skip_all)]
    async fn list(&mut self) -> StorageResult<Vec<ApiKey>> {
        let rows = query("SELECT * FROM api_keys ORDER BY created_at DESC, number DESC")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing keys"))?;
        rows.iter().map(key_from).collect()
    }

    #[tracing::instrument(name = "db.api_keys.revoke", skip_all)]
    async fn revoke(&mut self, id: &str, at: Timestamp) -> StorageResult<bool> {
        let done =
            query("UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
                .bind(at.as_microsecond())
                .bind(id)
                .execute(&mut *self.0)
                .await
                .map_err(failed("revoking a key"))?;
        Ok(done.rows_affected() > 0)
    }
}
