//! Rehearsal: the preflight, and on request a real call, for the last manifests of an environment, so that the way
//! back is known to work before it is needed.

use flywheel_core::call::CallStatus;
use flywheel_core::deployment::{RollbackTarget, rollback_target};
use flywheel_core::name::EnvironmentName;
use flywheel_core::preflight::Preflight;
use flywheel_core::{AppName, Manifest, ManifestId};
use flywheel_storage::events::CallFilter;
use flywheel_storage::page::PageRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::context::Context;
use crate::operations::{deploy, trial};
use crate::problem::ApiResult;

/// What is to be rehearsed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rehearsal {
    /// The environment; the app's last one if absent.
    pub environment: Option<EnvironmentName>,
    /// How many manifests, the one that is served now among them; 5 if absent.
    pub last: Option<usize>,
    /// Whether each is to answer a real call.
    pub probe: bool,
    /// The variables of that call; those of the newest recorded call that succeeded if absent.
    pub variables: Option<Map<String, Value>>,
}

/// How one manifest did.
#[derive(Debug)]
pub struct Rehearsed {
    /// The manifest.
    pub manifest: ManifestId,
    /// The deployment that put it in place last.
    pub deployment_number: u64,
    /// What the preflight found.
    pub preflight: Preflight,
    /// What the real call found, if one was made.
    pub probe: Option<Probe>,
}

/// What a real call found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Probe {
    /// Whether an answer came.
    pub ok: bool,
    /// How long it took.
    pub latency_ms: u64,
    /// The answer's beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Rehearsed {
    /// Whether a rollback to this manifest would work.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.preflight.passed() && self.probe.as_ref().is_none_or(|probe| probe.ok)
    }
}

/// What a rollback would lead to now, if there is a way back.
///
/// # Errors
/// When the app does not exist or the store fails.
pub async fn way_back(
    context: &Context,
    app: &AppName,
    environment: Option<&EnvironmentName>,
) -> ApiResult<Option<ManifestId>> {
    let mut session = context.state.read().await?;
    let app = deploy::find_app(&mut *session, app).await?;
    let environment = deploy::find_environment(&app, environment)?;
    let history = deploy::whole_history(&mut *session, &app.name, &environment).await?;
    Ok(rollback_target(&history, &RollbackTarget::Steps(1)).ok())
}

/// Rehearses the last manifests of an environment, newest first.
///
/// # Errors
/// When the app does not exist or the store fails. A manifest that fails is a result, not an error.
pub async fn rehearse(
    context: &Context,
    app: &AppName,
    rehearsal: &Rehearsal,
) -> ApiResult<Vec<Rehearsed>> {
    let mut session = context.state.read().await?;
    let app = deploy::find_app(&mut *session, app).await?;
    let environment = deploy::find_environment(&app, rehearsal.environment.as_ref())?;
    let history = deploy::whole_history(&mut *session, &app.name, &environment).await?;
    let mut chosen: Vec<(ManifestId, u64)> = Vec::new();
    for deployment in history {
        if chosen.len() == rehearsal.last.unwrap_or(5).clamp(1, 100) {
            break;
        }
        if chosen
            .iter()
            .all(|(manifest, _)| *manifest != deployment.manifest)
        {
            chosen.push((deployment.manifest, deployment.number));
        }
    }
    let mut checked = Vec::new();
    for (id, deployment_number) in chosen {
        let manifest = deploy::get_manifest(&mut *session, &id).await?;
        let preflight = deploy::check(context, &mut *session, &app, &manifest).await?;
        let content = session
            .prompts()
            .get(&manifest.prompt_id, &manifest.prompt_version)
            .await?;
        let content = content.map(|version| version.content);
        checked.push((
            manifest,
            content,
            Rehearsed {
                manifest: id,
                deployment_number,
                preflight,
                probe: None,
            },
        ));
    }
    // The calls may take long; nothing of the store is held meanwhile.
    drop(session);
    if rehearsal.probe {
        let variables = match &rehearsal.variables {
            Some(variables) => variables.clone(),
            None => recorded_variables(context, &app.name, &environment).await?,
        };
        for (manifest, content, rehearsed) in &mut checked {
            if let (true, Some(content)) = (rehearsed.preflight.passed(), content) {
                rehearsed.probe = Some(probe(context, manifest, content, &variables).await);
            }
        }
    }
    Ok(checked
        .into_iter()
        .map(|(_, _, rehearsed)| rehearsed)
        .collect())
}

async fn recorded_variables(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
) -> ApiResult<Map<String, Value>> {
    let filter = CallFilter {
        apps: vec![app.clone()],
        environment: Some(environment.clone()),
        // One that was refused for its variables would fail here too.
        status: Some(CallStatus::Ok),
        ..CallFilter::default()
    };
    let page = context
        .events
        .list_calls(&filter, PageRequest::first(1))
        .await?;
    let Some(newest) = page.items.first() else {
        return Ok(Map::new());
    };
    let call = context.events.get_call(&newest.id).await?;
    Ok(call.map(|call| call.content.variables).unwrap_or_default())
}

async fn probe(
    context: &Context,
    manifest: &Manifest,
    content: &flywheel_core::PromptContent,
    variables: &Map<String, Value>,
) -> Probe {
    let begun = tokio::time::Instant::now();
    let outcome = trial::try_out(context, manifest, content, variables, Vec::new()).await;
    let latency_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(trial) => Probe {
            ok: true,
            latency_ms,
            output: trial.output.map(|text| text.chars().take(200).collect()),
            problem: None,
        },
        Err(problem) => Probe {
            ok: false,
            latency_ms,
            output: None,
            problem: Some(problem),
        },
    }
}
