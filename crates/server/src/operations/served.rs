//! What a manifest serves, under the names that people know.

use std::collections::HashMap;

use flywheel_core::{Manifest, ManifestId, PromptName, PromptVersionId};
use flywheel_storage::{StateSession, StorageResult};
use schemars::JsonSchema;
use serde::Serialize;

/// What a manifest names.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Served {
    /// The prompt.
    pub prompt: PromptName,
    /// Its version.
    pub prompt_version: PromptVersionId,
    /// The model, as `name:version`.
    pub model: String,
    /// The number of the prompt's version.
    pub prompt_ordinal: Option<u64>,
}

impl Served {
    /// `prompt@3`, as people say it.
    #[must_use]
    pub fn label(&self) -> String {
        match self.prompt_ordinal {
            Some(ordinal) => format!("{}@{ordinal}", self.prompt),
            None => self.prompt.to_string(),
        }
    }
}

/// The numbers of versions, each looked up once.
pub struct Ordinals {
    session: Box<dyn StateSession>,
    known: HashMap<(PromptName, PromptVersionId), Option<u64>>,
}

impl Ordinals {
    /// None is known yet.
    #[must_use]
    pub fn new(session: Box<dyn StateSession>) -> Self {
        Self {
            session,
            known: HashMap::new(),
        }
    }

    /// The number of a prompt's version, if it is registered here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(
        &mut self,
        prompt: &PromptName,
        version: PromptVersionId,
    ) -> StorageResult<Option<u64>> {
        let key = (prompt.clone(), version);
        if let Some(ordinal) = self.known.get(&key) {
            return Ok(*ordinal);
        }
        let found = self.session.prompts().get(prompt, &version).await?;
        let ordinal = found.map(|found| found.ordinal);
        self.known.insert(key, ordinal);
        Ok(ordinal)
    }
}

/// What a manifest serves.
///
/// # Errors
/// When the store fails.
pub async fn describe(
    session: &mut dyn StateSession,
    manifest: &Manifest,
) -> StorageResult<Served> {
    let version = session
        .prompts()
        .get(&manifest.prompt_id, &manifest.prompt_version)
        .await?;
    Ok(Served {
        prompt: manifest.prompt_id.clone(),
        prompt_version: manifest.prompt_version,
        prompt_ordinal: version.map(|version| version.ordinal),
        model: format!("{}:{}", manifest.model_id, manifest.model_version),
    })
}

/// What the manifest with this id serves, if it is known.
///
/// # Errors
/// When the store fails.
pub async fn find(
    session: &mut dyn StateSession,
    manifest: &ManifestId,
) -> StorageResult<Option<Served>> {
    let manifest = session.deployments().get_manifest(manifest).await?;
    match manifest {
        Some(manifest) => describe(session, &manifest).await.map(Some),
        None => Ok(None),
    }
}
