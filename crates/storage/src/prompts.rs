//! Prompts and their versions.

use async_trait::async_trait;
use flywheel_core::name::Label;
use flywheel_core::prompt::{EvaluationScore, PromptContent, PromptVersion};
use flywheel_core::{PromptName, PromptVersionId};
use jiff::Timestamp;

use crate::StorageResult;

/// A version to be registered.
#[derive(Debug, Clone)]
pub struct NewPromptVersion {
    /// The prompt.
    pub prompt: PromptName,
    /// The content, which decides the version's id.
    pub content: PromptContent,
    /// Who registers it.
    pub author: String,
    /// What changed and why.
    pub description: String,
    /// When.
    pub created_at: Timestamp,
}

/// What a registration led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    /// The version, as it is now kept.
    pub version: PromptVersion,
    /// Whether it is new, or was there before.
    pub created: bool,
}

/// A prompt in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptSummary {
    /// Its name.
    pub name: PromptName,
    /// How many versions it has.
    pub versions: u64,
    /// The version registered last.
    pub latest: PromptVersionId,
    /// When that was.
    pub updated_at: Timestamp,
}

/// Registers and reads prompt versions.
#[async_trait]
pub trait PromptRepository: Send {
    /// Registers a version, or returns the one with the same content.
    async fn register(&mut self, version: NewPromptVersion) -> StorageResult<Registered>;

    /// One version.
    async fn get(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
    ) -> StorageResult<Option<PromptVersion>>;

    /// The versions whose id begins with `prefix`, at most ten.
    async fn find_by_prefix(
        &mut self,
        prompt: &PromptName,
        prefix: &str,
    ) -> StorageResult<Vec<PromptVersion>>;

    /// The version with an ordinal.
    async fn get_by_ordinal(
        &mut self,
        prompt: &PromptName,
        ordinal: u64,
    ) -> StorageResult<Option<PromptVersion>>;

    /// The version registered last.
    async fn latest(&mut self, prompt: &PromptName) -> StorageResult<Option<PromptVersion>>;

    /// Prompts whose name or newest content contains `text` (all when empty), by name, after the given name.
    async fn list(
        &mut self,
        text: &str,
        after: Option<&PromptName>,
        limit: u32,
    ) -> StorageResult<Vec<PromptSummary>>;

    /// Versions of a prompt, newest first, below the given ordinal.
    async fn history(
        &mut self,
        prompt: &PromptName,
        before: Option<u64>,
        limit: u32,
    ) -> StorageResult<Vec<PromptVersion>>;

    /// Puts a label on a version; a label is on one version of a prompt at a time.
    async fn set_label(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
        label: &Label,
    ) -> StorageResult<()>;

    /// Takes a label away. Tells whether it was there.
    async fn remove_label(&mut self, prompt: &PromptName, label: &Label) -> StorageResult<bool>;

    /// Adds an evaluation score to a version.
    async fn add_score(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
        score: &EvaluationScore,
    ) -> StorageResult<()>;

    /// The scores of a version, newest first.
    async fn scores(
        &mut self,
        prompt: &PromptName,
        version: &PromptVersionId,
    ) -> StorageResult<Vec<EvaluationScore>>;
}
