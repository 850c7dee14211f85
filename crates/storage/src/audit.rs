//! The audit log.

use async_trait::async_trait;
use flywheel_core::audit::{AuditDraft, AuditEntry};

use crate::StorageResult;
use crate::page::{Page, PageRequest};

/// Appends to the audit log and reads it.
#[async_trait]
pub trait AuditRepository: Send {
    /// Puts an entry at the end of the chain and returns it.
    async fn append(&mut self, draft: AuditDraft) -> StorageResult<AuditEntry>;

    /// Entries, newest first.
    async fn list(&mut self, page: PageRequest<u64>) -> StorageResult<Page<AuditEntry, u64>>;

    /// At most `limit` entries after the one with this number, oldest first, for walking the chain.
    async fn after(&mut self, number: u64, limit: u32) -> StorageResult<Vec<AuditEntry>>;
}
