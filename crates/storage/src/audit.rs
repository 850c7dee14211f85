//! The audit log.

use async_trait::async_trait;
use flywheel_core::audit::{AuditDraft, AuditEntry};
use jiff::Timestamp;

use crate::StorageResult;
use crate::page::{Page, PageRequest};

/// Which entries are asked for. Every condition that is given must hold; texts are found anywhere in the member, letter
/// case of ASCII ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Found in who did it.
    pub actor: Option<String>,
    /// Found in what was done.
    pub action: Option<String>,
    /// Found in what it was done to.
    pub subject: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// Appends to the audit log and reads it.
#[async_trait]
pub trait AuditRepository: Send {
    /// Puts an entry at the end of the chain and returns it.
    async fn append(&mut self, draft: AuditDraft) -> StorageResult<AuditEntry>;

    /// Entries, newest first.
    async fn list(
        &mut self,
        filter: &AuditFilter,
        page: PageRequest<u64>,
    ) -> StorageResult<Page<AuditEntry, u64>>;

    /// At most `limit` entries after the one with this number, oldest first, for walking the chain.
    async fn after(&mut self, number: u64, limit: u32) -> StorageResult<Vec<AuditEntry>>;
}
