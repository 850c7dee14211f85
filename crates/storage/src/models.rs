//! Registered models.

use async_trait::async_trait;
use flywheel_core::ModelName;
use flywheel_core::model::{ModelAlias, ModelVersion};
use flywheel_core::name::VersionName;

use crate::StorageResult;

/// Registers and reads models.
#[async_trait]
pub trait ModelRepository: Send {
    /// Registers a model version, or replaces the settings of the one that is there; `created_at` stays.
    async fn put(&mut self, model: &ModelVersion) -> StorageResult<()>;

    /// One model version.
    async fn get(
        &mut self,
        model: &ModelName,
        version: &VersionName,
    ) -> StorageResult<Option<ModelVersion>>;

    /// All model versions, by name, each name's newest first.
    async fn list(&mut self) -> StorageResult<Vec<ModelVersion>>;

    /// Points an alias at a version.
    async fn put_alias(&mut self, alias: &ModelAlias) -> StorageResult<()>;

    /// All aliases.
    async fn aliases(&mut self) -> StorageResult<Vec<ModelAlias>>;
}
