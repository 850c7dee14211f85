//! What versions are called: people know them by prompt and number, not by their hashes.

use flywheel_core::{PromptName, PromptVersionId};
use flywheel_storage::{StateSession, StorageResult};

use crate::operations::served::Ordinals;

/// The names of the versions on a page.
pub(super) struct Labels(Ordinals);

impl Labels {
    pub(super) fn new(session: Box<dyn StateSession>) -> Self {
        Self(Ordinals::new(session))
    }

    /// `prompt@3`; with the beginning of the hash where the version is not registered here.
    pub(super) async fn of(
        &mut self,
        prompt: Option<&PromptName>,
        version: Option<PromptVersionId>,
    ) -> StorageResult<Option<String>> {
        let (Some(prompt), Some(version)) = (prompt, version) else {
            return Ok(None);
        };
        let label = match self.0.of(prompt, version).await? {
            Some(ordinal) => format!("{prompt}@{ordinal}"),
            None => format!("{prompt}@{}", version.short()),
        };
        Ok(Some(label))
    }
}
