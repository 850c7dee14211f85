//! What the routes of deployments answer with.

use flywheel_core::deployment::Deployment;
use flywheel_core::diff::MemberChange;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName, ModelName, VersionName};
use flywheel_core::preflight::{Check, Preflight};
use flywheel_core::{AppName, ManifestId, PromptName, PromptVersionId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::manifests::DescribedManifest;
use crate::operations::rehearse::{Probe, Rehearsed};
use crate::operations::served::Served;

/// What a move did, or would do.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedMove {
    /// Whether it was only asked what would happen.
    pub(super) dry_run: bool,
    /// Whether that manifest was deployed already, so that nothing was done.
    pub(super) unchanged: bool,
    /// The deployment; null in a dry run.
    pub(super) deployment: Option<DescribedDeployment>,
    /// What is served from now on.
    pub(super) manifest: DescribedManifest,
    /// What was served before, if anything.
    pub(super) previous: Option<DescribedManifest>,
    /// In what the two differ.
    pub(super) changes: Vec<MemberChange>,
    /// The experiments this stops.
    pub(super) stopped_experiments: Vec<ExperimentName>,
    /// The experiments that go on, whose units do not get this manifest.
    pub(super) running_experiments: Vec<ExperimentName>,
    /// The rollback that took this manifest back the last time it was in force here, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) taken_back: Option<Deployment>,
    /// The deployment that was in force before, if any.
    pub(super) replaced: Option<Deployment>,
    /// What was checked before.
    pub(super) preflight: DescribedPreflight,
}

/// The result of a preflight.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DescribedPreflight {
    /// Whether nothing stands against the move.
    passed: bool,
    /// Everything that was checked, in order.
    checks: Vec<Check>,
}

impl From<Preflight> for DescribedPreflight {
    fn from(preflight: Preflight) -> Self {
        Self {
            passed: preflight.passed(),
            checks: preflight.checks,
        }
    }
}

/// A deployment with what its manifest names, so that a list of them can be read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedDeployment {
    #[serde(flatten)]
    pub(super) deployment: Deployment,
    #[serde(flatten)]
    pub(super) served: Option<Served>,
}

/// How the last manifests of an environment did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RehearsalResult {
    /// Whether all of them passed.
    pub(super) passed: bool,
    /// What a rollback would lead to now; null if there is no way back.
    pub(super) way_back: Option<ManifestId>,
    /// One for each manifest, newest first.
    pub(super) items: Vec<DescribedRehearsal>,
}

/// How one manifest did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DescribedRehearsal {
    /// The manifest.
    manifest: ManifestId,
    /// The deployment that put it in place last.
    deployment_number: u64,
    /// What the preflight found.
    preflight: DescribedPreflight,
    /// What the real call found, if one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe: Option<Probe>,
}

impl From<Rehearsed> for DescribedRehearsal {
    fn from(rehearsed: Rehearsed) -> Self {
        Self {
            manifest: rehearsed.manifest,
            deployment_number: rehearsed.deployment_number,
            preflight: rehearsed.preflight.into(),
            probe: rehearsed.probe,
        }
    }
}

/// The rendered request, and what to log the call with.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Resolved {
    /// The id to log the call with.
    pub(super) call_id: String,
    /// The app.
    pub(super) app: Option<AppName>,
    /// The environment.
    pub(super) environment: Option<EnvironmentName>,
    /// What is served there.
    pub(super) manifest: Option<ManifestId>,
    /// Its prompt.
    pub(super) prompt: Option<PromptName>,
    /// The prompt's version.
    pub(super) prompt_version: Option<PromptVersionId>,
    /// The model.
    pub(super) model_id: ModelName,
    /// Its version.
    pub(super) model_version: VersionName,
    /// The provider in the configuration.
    pub(super) provider: String,
    /// The experiment the unit takes part in.
    pub(super) experiment: Option<ExperimentName>,
    /// The arm it gets.
    pub(super) arm: Option<ArmName>,
    /// What to send to the provider, in OpenAI's shape.
    pub(super) request: Map<String, Value>,
}
