//! What versions are called: people know them by prompt and number, not by their hashes.

use std::collections::HashMap;

use flywheel_core::{PromptName, PromptVersionId};
use flywheel_storage::{StateSession, StorageResult};

/// The names of the versions on a page, each looked up once.
pub(super) struct Labels {
    session: Box<dyn StateSession>,
    known: HashMap<(PromptName, PromptVersionId), String>,
}

impl Labels {
    pub(super) fn new(session: Box<dyn StateSession>) -> Self {
        Self {
            session,
            known: HashMap::new(),
        }
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
        let key = (prompt.clone(), version);
        if let Some(label) = self.known.get(&key) {
            return Ok(Some(label.clone()));
        }
        let found = self.session.prompts().get(prompt, &version).await?;
        let label = match found {
            Some(found) => format!("{prompt}@{}", found.ordinal),
            None => format!("{prompt}@{}", version.short()),
        };
        self.known.insert(key, label.clone());
        Ok(Some(label))
    }
}
