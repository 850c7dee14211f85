//! What a manifest serves, under the names that people know.

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
