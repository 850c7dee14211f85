//! What the routes of prompts answer with.

use flywheel_core::diff::PromptDiff;
use flywheel_core::name::{EnvironmentName, Label, VersionName};
use flywheel_core::prompt::{EvaluationScore, PromptVersion};
use flywheel_core::schema::DateTime;
use flywheel_core::{AppName, ManifestId, ModelName, PromptContent, PromptName, PromptVersionId};
use flywheel_storage::deployments::PromptUse;
use flywheel_storage::prompts::{PromptMatch, PromptSummary};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::operations::registry::{ModelChange, Pushed};

/// What a push led to, in the order of its items.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedPush {
    /// The models.
    models: Vec<DescribedPushedModel>,
    /// The prompt versions.
    prompts: Vec<DescribedPushedPrompt>,
}

/// A model that was pushed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DescribedPushedModel {
    model_id: ModelName,
    model_version: VersionName,
    /// Whether it is new.
    created: bool,
    /// Whether its settings are others now.
    changed: bool,
}

/// A prompt version that was pushed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DescribedPushedPrompt {
    prompt: PromptName,
    version: PromptVersionId,
    /// 1, 2, 3… in order of registration.
    ordinal: u64,
    /// Whether it is new.
    created: bool,
    /// The number of the prompt's newest version.
    newest: u64,
}

impl From<Pushed> for DescribedPush {
    fn from(pushed: Pushed) -> Self {
        let models = pushed.models.into_iter();
        let prompts = pushed.prompts.into_iter();
        Self {
            models: models
                .map(|(model, change)| DescribedPushedModel {
                    model_id: model.model_id,
                    model_version: model.model_version,
                    created: change == ModelChange::Created,
                    changed: change == ModelChange::Changed,
                })
                .collect(),
            prompts: prompts
                .zip(pushed.newest)
                .map(|(registered, newest)| DescribedPushedPrompt {
                    prompt: registered.version.prompt,
                    version: registered.version.version,
                    ordinal: registered.version.ordinal,
                    created: registered.created,
                    newest,
                })
                .collect(),
        }
    }
}

/// A prompt in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedPrompt {
    name: PromptName,
    /// How many versions it has.
    versions: u64,
    /// The version registered last.
    latest: PromptVersionId,
    /// When that was.
    #[schemars(with = "DateTime")]
    updated_at: Timestamp,
    /// The newest version in which the text was found, when one was sought and not in the name only.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<PromptMatch>,
}

impl From<PromptSummary> for DescribedPrompt {
    fn from(prompt: PromptSummary) -> Self {
        Self {
            name: prompt.name,
            versions: prompt.versions,
            latest: prompt.latest,
            updated_at: prompt.updated_at,
            matched: prompt.matched,
        }
    }
}

/// A version in a list, without its content.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListedVersion {
    prompt: PromptName,
    version: PromptVersionId,
    /// 1, 2, 3… in order of registration; an alias, never an identity.
    ordinal: u64,
    /// Who registered it.
    author: String,
    /// What changed and why.
    description: String,
    /// When it was registered.
    #[schemars(with = "DateTime")]
    created_at: Timestamp,
    /// Labels people put on it.
    labels: Vec<Label>,
    /// The environment that serves it, `production` before others; `draft` if none does.
    status: String,
    /// Where it is or was deployed.
    uses: Vec<DescribedUse>,
}

/// A version with its content and scores.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedVersion {
    #[serde(flatten)]
    listed: ListedVersion,
    /// The content, nulls left out.
    #[schemars(with = "PromptContent")]
    content: Value,
    /// What evaluations gave it.
    scores: Vec<EvaluationScore>,
}

/// A version that was registered, now or before.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RegisteredVersion {
    #[serde(flatten)]
    pub(super) version: DescribedVersion,
    /// Whether it is new.
    pub(super) created: bool,
}

impl ListedVersion {
    pub(super) fn new(version: PromptVersion, uses: &[PromptUse]) -> Self {
        // Where it is served now decides its status; an environment later in the app's list is nearer to users.
        let serving = uses
            .iter()
            .filter(|item| item.current)
            .map(|item| item.environment.as_str());
        let status = serving
            .max_by_key(|name| *name == "production")
            .unwrap_or("draft");
        Self {
            prompt: version.prompt,
            version: version.version,
            ordinal: version.ordinal,
            author: version.author,
            description: version.description,
            created_at: version.created_at,
            labels: version.labels,
            status: status.to_owned(),
            uses: uses.iter().map(DescribedUse::from).collect(),
        }
    }
}

impl DescribedVersion {
    pub(super) fn new(
        version: PromptVersion,
        uses: &[PromptUse],
        scores: Vec<EvaluationScore>,
    ) -> Self {
        Self {
            content: version.content.to_json(),
            listed: ListedVersion::new(version, uses),
            scores,
        }
    }
}

/// Where a prompt is or was deployed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedUse {
    app: AppName,
    environment: EnvironmentName,
    manifest: ManifestId,
    prompt_version: PromptVersionId,
    /// Whether it is served there now.
    current: bool,
    /// When it was deployed there last.
    #[schemars(with = "DateTime")]
    deployed_at: Timestamp,
}

impl From<&PromptUse> for DescribedUse {
    fn from(item: &PromptUse) -> Self {
        Self {
            app: item.app.clone(),
            environment: item.environment.clone(),
            manifest: item.manifest,
            prompt_version: item.prompt_version,
            current: item.current,
            deployed_at: item.deployed_at,
        }
    }
}

/// What differs between two versions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VersionDiff {
    #[serde(flatten)]
    pub(super) diff: PromptDiff,
    /// The older one.
    pub(super) from: VersionNames,
    /// The newer one.
    pub(super) to: VersionNames,
}

/// What names a version.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VersionNames {
    version: PromptVersionId,
    ordinal: u64,
}

impl From<&PromptVersion> for VersionNames {
    fn from(version: &PromptVersion) -> Self {
        Self {
            version: version.version,
            ordinal: version.ordinal,
        }
    }
}

/// Where a label is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlacedLabel {
    pub(super) prompt: PromptName,
    pub(super) label: Label,
    pub(super) version: PromptVersionId,
}
