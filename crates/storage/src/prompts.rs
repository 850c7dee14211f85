//! Prompts and their versions.

use async_trait::async_trait;
use flywheel_core::name::Label;
use flywheel_core::prompt::{EvaluationScore, PromptContent, PromptVersion};
use flywheel_core::{PromptName, PromptVersionId};
use jiff::Timestamp;
use serde::Serialize;

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
    /// The newest version in which the text was found, when one was sought and not in the name only.
    pub matched: Option<PromptMatch>,
}

/// Where a text was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptMatch {
    /// The version.
    pub version: PromptVersionId,
    /// Its number.
    pub ordinal: u64,
    /// The part of it.
    #[serde(rename = "in")]
    pub part: MatchedPart,
}

/// The parts of a version that are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MatchedPart {
    /// One of its labels.
    Label,
    /// What was said of it when it was registered.
    Description,
    /// Its content.
    Content,
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

    /// Prompts with `text` (all when empty) in their name, or in the content, the description or a label of any version,
    /// letter case of ASCII ignored; by name, after the given name.
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

    /// The prompts under which a version is registered, with its number there, by name.
    async fn named(&mut self, version: &PromptVersionId) -> StorageResult<Vec<(PromptName, u64)>>;

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
