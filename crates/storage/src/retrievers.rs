//! Registered retriever indexes.

use async_trait::async_trait;
use flywheel_core::name::VersionName;
use flywheel_core::retriever::RetrieverIndex;

use crate::StorageResult;

/// Registers and reads retriever indexes.
#[async_trait]
pub trait RetrieverRepository: Send {
    /// Registers an index version, or replaces the state of the one that is there; `created_at` stays.
    async fn put(&mut self, index: &RetrieverIndex) -> StorageResult<()>;

    /// One index version.
    async fn get(&mut self, version: &VersionName) -> StorageResult<Option<RetrieverIndex>>;

    /// All index versions, newest first.
    async fn list(&mut self) -> StorageResult<Vec<RetrieverIndex>>;
}
