//! API keys.

use async_trait::async_trait;
use flywheel_core::key::ApiKey;
use jiff::Timestamp;

use crate::StorageResult;

/// Writes and reads API keys.
#[async_trait]
pub trait KeyRepository: Send {
    /// Keeps a new key.
    async fn add(&mut self, key: &ApiKey) -> StorageResult<()>;

    /// All keys, newest first, revoked ones too.
    async fn list(&mut self) -> StorageResult<Vec<ApiKey>>;

    /// Revokes a key. Tells whether there was one to revoke.
    async fn revoke(&mut self, id: &str, at: Timestamp) -> StorageResult<bool>;
}
