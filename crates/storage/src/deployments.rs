//! Apps, manifests and the deployments that point environments at them.

use async_trait::async_trait;
use flywheel_core::deployment::{App, Deployment, DeploymentKind};
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, Manifest, ManifestId, PromptName, PromptVersionId};
use jiff::Timestamp;

use crate::StorageResult;

/// A deployment to be recorded.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What is to be served.
    pub manifest: ManifestId,
    /// What is served until then.
    pub previous_manifest: Option<ManifestId>,
    /// What kind of move it is.
    pub kind: DeploymentKind,
    /// Who moves it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
    /// What the preflight objected to when it was overruled.
    pub forced_over: Vec<String>,
}

/// A place where a prompt version is or was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptUse {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The manifest with the prompt version.
    pub manifest: ManifestId,
    /// The version.
    pub prompt_version: PromptVersionId,
    /// Whether it is served now.
    pub current: bool,
    /// When it was deployed there last.
    pub deployed_at: Timestamp,
}

/// Writes and reads apps, manifests and deployments.
#[async_trait]
pub trait DeploymentRepository: Send {
    /// Makes an app, or replaces its settings; `created_at` stays.
    async fn put_app(&mut self, app: &App) -> StorageResult<()>;

    /// One app.
    async fn get_app(&mut self, app: &AppName) -> StorageResult<Option<App>>;

    /// All apps, by name.
    async fn list_apps(&mut self) -> StorageResult<Vec<App>>;

    /// Keeps a manifest. The same manifest twice is one.
    async fn put_manifest(&mut self, manifest: &Manifest, at: Timestamp) -> StorageResult<()>;

    /// One manifest.
    async fn get_manifest(&mut self, id: &ManifestId) -> StorageResult<Option<Manifest>>;

    /// The manifests whose id begins with `prefix`, at most ten.
    async fn find_manifests(&mut self, prefix: &str) -> StorageResult<Vec<Manifest>>;

    /// Appends a deployment, which becomes the environment's newest.
    async fn append(&mut self, deployment: NewDeployment) -> StorageResult<Deployment>;

    /// The newest deployment of an environment.
    async fn current(
        &mut self,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> StorageResult<Option<Deployment>>;

    /// The newest deployment of every environment of every app.
    async fn all_current(&mut self) -> StorageResult<Vec<Deployment>>;

    /// Deployments of an app, or of one of its environments, newest first, below the given number.
    async fn history(
        &mut self,
        app: &AppName,
        environment: Option<&EnvironmentName>,
        before: Option<u64>,
        limit: u32,
    ) -> StorageResult<Vec<Deployment>>;

    /// Where versions of a prompt are or were deployed, or one version of it.
    async fn uses_of_prompt(
        &mut self,
        prompt: &PromptName,
        version: Option<&PromptVersionId>,
    ) -> StorageResult<Vec<PromptUse>>;
}
