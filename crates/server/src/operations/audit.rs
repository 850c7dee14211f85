//! Walking the chain of the audit log.

use flywheel_core::ContentHash;
use flywheel_core::audit::ChainWalk;
use flywheel_storage::{StateSession, StorageResult};
use schemars::JsonSchema;
use serde::Serialize;

/// Entries that are read at a time.
const STEP: u32 = 1000;

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Verification {
    /// Whether every entry follows the one before it, unchanged.
    pub verified: bool,
    /// How many entries do.
    pub entries: u64,
    /// The hash of the last of them.
    pub head: ContentHash,
    /// What is wrong with the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Walks the chain from its beginning to its end, or to the first entry that does not fit.
///
/// # Errors
/// When the log cannot be read.
pub async fn verify(session: &mut dyn StateSession) -> StorageResult<Verification> {
    let mut walk = ChainWalk::default();
    let mut problem = None;
    loop {
        let entries = session.audit().after(walk.entries(), STEP).await?;
        if entries.is_empty() {
            break;
        }
        if let Err(broken) = entries.iter().try_for_each(|entry| walk.step(entry)) {
            problem = Some(broken.to_string());
            break;
        }
    }
    Ok(Verification {
        verified: problem.is_none(),
        entries: walk.entries(),
        head: walk.head(),
        problem,
    })
}
