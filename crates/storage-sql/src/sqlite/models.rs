//! Registered models.

use async_trait::async_trait;
use flywheel_core::ModelName;
use flywheel_core::model::{ModelAlias, ModelSettings, ModelVersion};
use flywheel_core::name::VersionName;
use flywheel_storage::StorageResult;
use flywheel_storage::models::ModelRepository;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document};

/// The models, over one connection.
pub(super) struct Models<'c>(pub(super) &'c mut SqliteConnection);

fn model_from(row: &SqliteRow) -> StorageResult<ModelVersion> {
    let fields = Fields::new(row, "models", &["model_id", "model_version"]);
    Ok(ModelVersion {
        model_id: fields.parsed("model_id")?,
        model_version: fields.parsed("model_version")?,
        settings: ModelSettings {
            provider: fields.parsed("provider")?,
            provider_model: fields.text("provider_model")?,
            price: fields.optional_json("price")?,
        },
        created_at: fields.time("created_at")?,
    })
}

fn alias_from(row: &SqliteRow) -> StorageResult<ModelAlias> {
    let fields = Fields::new(row, "model_aliases", &["model_id", "alias"]);
    Ok(ModelAlias {
        model_id: fields.parsed("model_id")?,
        alias: fields.parsed("alias")?,
        model_version: fields.parsed("model_version")?,
    })
}

#[async_trait]
impl ModelRepository for Models<'_> {
    #[tracing::instrument(name = "db.models.put", skip_all)]
    async fn put(&mut self, model: &ModelVersion) -> StorageResult<()> {
        let price = model.settings.price.as_ref().map(document).transpose()?;
        query(
            "INSERT INTO models
                 (model_id, model_version, provider, provider_model, price, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (model_id, model_version) DO UPDATE SET
                 provider = excluded.provider,
                 provider_model = excluded.provider_model,
                 price = excluded.price",
        )
        .bind(model.model_id.as_str())
        .bind(model.model_version.as_str())
        .bind(model.settings.provider.as_str())
        .bind(&model.settings.provider_model)
        .bind(price)
        .bind(model.created_at.as_microsecond())
        .execute(&mut *self.0)
        .await
        .map_err(failed("registering a model"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.models.get", skip_all)]
    async fn get(
        &mut self,
        model: &ModelName,
        version: &VersionName,
    ) -> StorageResult<Option<ModelVersion>> {
        let row = query("SELECT * FROM models WHERE model_id = $1 AND model_version = $2")
            .bind(model.as_str())
            .bind(version.as_str())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading a model"))?;
        row.as_ref().map(model_from).transpose()
    }

    #[tracing::instrument(name = "db.models.list", skip_all)]
    async fn list(&mut self) -> StorageResult<Vec<ModelVersion>> {
        let rows = query("SELECT * FROM models ORDER BY model_id, created_at DESC, number DESC")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing models"))?;
        rows.iter().map(model_from).collect()
    }

    #[tracing::instrument(name = "db.models.put_alias", skip_all)]
    async fn put_alias(&mut self, alias: &ModelAlias) -> StorageResult<()> {
        query(
            "INSERT INTO model_aliases (model_id, alias, model_version)
             VALUES ($1, $2, $3)
             ON CONFLICT (model_id, alias) DO UPDATE SET model_version = excluded.model_version",
        )
        .bind(alias.model_id.as_str())
        .bind(alias.alias.as_str())
        .bind(alias.model_version.as_str())
        .execute(&mut *self.0)
        .await
        .map_err(failed("setting a model's alias"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.models.aliases", skip_all)]
    async fn aliases(&mut self) -> StorageResult<Vec<ModelAlias>> {
        let rows = query("SELECT * FROM model_aliases ORDER BY model_id, alias")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing models' aliases"))?;
        rows.iter().map(alias_from).collect()
    }
}
