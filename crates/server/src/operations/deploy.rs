//! Moving an environment's pointer: deploy and rollback, with the preflight before them.

use flywheel_core::deployment::{
    App, Deployment, DeploymentKind, RollbackTarget, rollback_candidates, rollback_target,
};
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::name::{EnvironmentName, ExperimentName, VersionName};
use flywheel_core::preflight::{ManifestFacts, Preflight, preflight};
use flywheel_core::{AppName, Manifest, ManifestId, PromptName, hash};
use flywheel_storage::deployments::NewDeployment;
use flywheel_storage::{StateSession, StateTransaction};
use http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::auth::Caller;
use crate::context::Context;
use crate::operations::registry;
use crate::problem::{ApiResult, Problem};

/// How many manifests are proposed where one cannot be found.
const MOST_CANDIDATES: usize = 5;

/// What both moves share.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Move {
    /// The environment; the app's last one if absent.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// The manifest that is believed to be served now, as a prefix of its id; `none` if nothing is.
    #[serde(default)]
    pub expected_manifest: Option<String>,
    /// Only tell what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Go on although the preflight objects.
    #[serde(default)]
    pub force: bool,
}

/// What is to be deployed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Selection {
    /// A prompt, by name.
    #[serde(default)]
    pub prompt: Option<PromptName>,
    /// Its version; the latest if absent.
    #[serde(default)]
    pub version: Option<String>,
    /// The retriever index the app is to read.
    #[serde(default)]
    pub retriever_index_version: Option<VersionName>,
    /// The guards.
    #[serde(default)]
    pub guards_version: Option<VersionName>,
    /// Or a manifest that is there already, as a prefix of its id.
    #[serde(default)]
    pub manifest: Option<String>,
}

/// A rollback's goal.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Goal {
    /// A manifest that was deployed here before, as a prefix of its id.
    #[serde(default)]
    pub to: Option<String>,
    /// So many manifests back.
    #[serde(default)]
    pub steps: Option<usize>,
}

/// What a move did, or would do.
#[derive(Debug)]
pub struct Moved {
    /// The deployment; absent in a dry run.
    pub deployment: Option<Deployment>,
    /// Whether that manifest was deployed already, so that nothing was done.
    pub unchanged: bool,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest before.
    pub previous: Option<Manifest>,
    /// What the preflight found.
    pub preflight: Preflight,
    /// The experiments this stops: a rollback or containment stops those of its environment, or their arms would go on
    /// serving what it takes back.
    pub stopped_experiments: Vec<ExperimentName>,
    /// The experiments that go on, whose units do not get this manifest.
    pub running_experiments: Vec<ExperimentName>,
}

/// Deploys a manifest.
///
/// # Errors
/// When something named does not exist, the preflight objects, or somebody else was faster.
pub async fn deploy(
    context: &Context,
    caller: &Caller,
    app: &AppName,
    selection: &Selection,
    kind: DeploymentKind,
    request: &Move,
) -> ApiResult<Moved> {
    let (plan, mut transaction) = Plan::begin(context, caller, app, kind, request).await?;
    let manifest = select(&mut *transaction, selection).await?;
    plan.carry_out(transaction, manifest).await
}

/// Rolls an environment back.
///
/// # Errors
/// As [`deploy`], and when there is nothing to go back to.
pub async fn rollback(
    context: &Context,
    caller: &Caller,
    app: &AppName,
    goal: &Goal,
    request: &Move,
) -> ApiResult<Moved> {
    let kind = DeploymentKind::Rollback;
    let (plan, mut transaction) = Plan::begin(context, caller, app, kind, request).await?;
    let (app, environment) = (&plan.app, &plan.environment);
    let target = match (&goal.to, goal.steps) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("`to` and `steps` cannot both be given"));
        }
        (Some(prefix), None) => {
            RollbackTarget::Manifest(find_manifest(&mut *transaction, prefix).await?.id())
        }
        (None, Some(0)) => return Err(Problem::invalid("`steps` must be at least 1")),
        (None, steps) => RollbackTarget::Steps(steps.unwrap_or(1)),
    };
    let history = whole_history(&mut *transaction, &app.name, environment).await?;
    let goal = rollback_target(&history, &target).map_err(|reason| {
        let app = &app.name;
        let detail = format!("`{app}` in `{environment}` cannot be rolled back: {reason}");
        Problem::conflict("no_rollback_target", detail).hint(advice(app, &history))
    })?;
    let manifest = transaction
        .deployments()
        .get_manifest(&goal)
        .await?
        .ok_or_else(|| Problem::not_found(format!("manifest `{goal}` is not in the store")))?;
    plan.carry_out(transaction, manifest).await
}

/// What can be gone back to where counting steps leads nowhere.
fn advice(app: &AppName, history: &[Deployment]) -> String {
    let shown = format!("`flywheel history {app}` shows what was deployed");
    let candidates = rollback_candidates(history).into_iter();
    let names: Vec<String> = candidates
        .take(MOST_CANDIDATES)
        .map(|deployment| format!("`{}` (#{})", deployment.manifest.short(), deployment.number))
        .collect();
    if names.is_empty() {
        return format!("no other manifest was ever deployed there; {shown}");
    }
    format!(
        "`--to` (`to` in the API) goes to any that was deployed there: {}; {shown}",
        names.join(", ")
    )
}

/// Every deployment of an environment, newest first.
///
/// # Errors
/// When the store fails.
pub async fn whole_history(
    session: &mut dyn StateSession,
    app: &AppName,
    environment: &EnvironmentName,
) -> ApiResult<Vec<Deployment>> {
    let mut history: Vec<Deployment> = Vec::new();
    loop {
        let before = history.last().map(|deployment| deployment.number);
        let page = session
            .deployments()
            .history(app, Some(environment), before, 1000)
            .await?;
        if page.is_empty() {
            return Ok(history);
        }
        history.extend(page);
    }
}

/// A move whose place is known, in the transaction that is to carry it out.
struct Plan<'a> {
    context: &'a Context,
    caller: &'a Caller,
    app: App,
    environment: EnvironmentName,
    kind: DeploymentKind,
    request: &'a Move,
}

impl<'a> Plan<'a> {
    async fn begin(
        context: &'a Context,
        caller: &'a Caller,
        app: &AppName,
        kind: DeploymentKind,
        request: &'a Move,
    ) -> ApiResult<(Self, Box<dyn StateTransaction>)> {
        let mut transaction = context.state.begin().await?;
        let app = find_app(&mut *transaction, app).await?;
        let environment = find_environment(&app, request.environment.as_ref())?;
        let plan = Self {
            context,
            caller,
            app,
            environment,
            kind,
            request,
        };
        Ok((plan, transaction))
    }

    async fn carry_out(
        &self,
        mut transaction: Box<dyn StateTransaction>,
        manifest: Manifest,
    ) -> ApiResult<Moved> {
        let Self {
            context,
            caller,
            app,
            environment,
            kind,
            request,
        } = self;
        if request.reason.trim().is_empty() && !request.dry_run {
            return Err(Problem::invalid(
                "a `reason` is needed: whoever looks at this at night will want to know why",
            ));
        }
        let current = transaction
            .deployments()
            .current(&app.name, environment)
            .await?;
        self.check_expectation(current.as_ref())?;
        let preflight = check(context, &mut *transaction, app, &manifest).await?;
        if !preflight.passed() && !request.force && !request.dry_run {
            return Err(preflight_failed(&preflight));
        }
        let id = manifest.id();
        let previous = match &current {
            Some(current) => {
                transaction
                    .deployments()
                    .get_manifest(&current.manifest)
                    .await?
            }
            None => None,
        };
        let running = self.running_experiments(&mut *transaction).await?;
        let takes_back = matches!(kind, DeploymentKind::Rollback | DeploymentKind::Contain);
        let names = running
            .iter()
            .map(|experiment| experiment.name.clone())
            .collect();
        let (stopped_experiments, running_experiments) = if takes_back {
            (names, Vec::new())
        } else {
            (Vec::new(), names)
        };
        let unchanged = current
            .as_ref()
            .is_some_and(|current| current.manifest == id);
        // A rollback to what is deployed already still takes back the experiments beside it.
        let nothing_to_do = unchanged && (!takes_back || running.is_empty());
        if request.dry_run || nothing_to_do {
            let deployment = current.filter(|_| !request.dry_run);
            return Ok(Moved {
                deployment,
                unchanged,
                manifest,
                previous,
                preflight,
                stopped_experiments,
                running_experiments,
            });
        }
        let now = context.sources.clock.now();
        transaction
            .deployments()
            .put_manifest(&manifest, now)
            .await?;
        let previous_manifest = current.map(|current| current.manifest);
        let deployment = transaction
            .deployments()
            .append(self.record(id, previous_manifest, &preflight, now))
            .await?;
        if takes_back {
            stop(&mut *transaction, running, now).await?;
        }
        let detail = json!({
            "number": deployment.number,
            "manifest": deployment.manifest,
            "previous_manifest": deployment.previous_manifest,
            "reason": deployment.reason,
            "forced_over": deployment.forced_over,
            "stopped_experiments": stopped_experiments,
        });
        let subject = format!("{}/{environment}", app.name);
        let action = format!("app.{}", kind.as_str());
        context
            .commit(transaction, caller, &action, &subject, detail)
            .await?;
        Ok(Moved {
            deployment: Some(deployment),
            unchanged: false,
            manifest,
            previous,
            preflight,
            stopped_experiments,
            running_experiments,
        })
    }

    fn record(
        &self,
        manifest: ManifestId,
        previous_manifest: Option<ManifestId>,
        preflight: &Preflight,
        now: Timestamp,
    ) -> NewDeployment {
        NewDeployment {
            app: self.app.name.clone(),
            environment: self.environment.clone(),
            manifest,
            previous_manifest,
            kind: self.kind,
            actor: self.caller.name.clone(),
            reason: self.request.reason.trim().to_owned(),
            created_at: now,
            forced_over: preflight.problems(),
        }
    }

    async fn running_experiments(
        &self,
        session: &mut dyn StateSession,
    ) -> ApiResult<Vec<Experiment>> {
        let mut experiments = session.experiments().list().await?;
        experiments.retain(|experiment| {
            experiment.status == ExperimentStatus::Running
                && experiment.app == self.app.name
                && experiment.environment == self.environment
        });
        Ok(experiments)
    }

    fn check_expectation(&self, current: Option<&Deployment>) -> ApiResult<()> {
        let Some(expected) = &self.request.expected_manifest else {
            return Ok(());
        };
        if expected != "none" && !hash::is_hash_prefix(expected) {
            return Err(Problem::invalid(format!(
                "`expected_manifest` is `{expected}`, it must be `none` or at least 12 digits of an id"
            )));
        }
        let is_met = match current {
            None => expected == "none",
            Some(current) => current.manifest.to_string().starts_with(expected),
        };
        if is_met {
            return Ok(());
        }
        let (app, environment) = (&self.app.name, &self.environment);
        let found = match current {
            None => "nothing is deployed there".to_owned(),
            Some(current) => format!(
                "manifest `{}` is, by {} at {}: {}",
                current.manifest.short(),
                current.actor,
                current.created_at,
                current.reason
            ),
        };
        let detail =
            format!("`{app}` in `{environment}` does not serve `{expected}` any more; {found}");
        Err(Problem::conflict("lost_race", detail)
            .hint("look at what changed with `flywheel history`, then decide again")
            .with("current", json!(current)))
    }
}

async fn stop(
    transaction: &mut dyn StateTransaction,
    experiments: Vec<Experiment>,
    now: Timestamp,
) -> ApiResult<()> {
    for mut experiment in experiments {
        experiment.status = ExperimentStatus::Stopped;
        experiment.stopped_at = Some(now);
        transaction.experiments().put(&experiment).await?;
    }
    Ok(())
}

fn preflight_failed(preflight: &Preflight) -> Problem {
    let hint = preflight.checks.iter().find_map(|check| check.hint.clone());
    let problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "preflight_failed",
        preflight.problems().join("; "),
    )
    .with(
        "preflight",
        json!({"passed": false, "checks": preflight.checks}),
    );
    match hint {
        Some(hint) => problem.hint(format!(
            "{hint}; or go on regardless with `--force`, which is recorded"
        )),
        None => problem,
    }
}

/// Runs the preflight of a manifest for an app.
///
/// # Errors
/// When the store fails.
pub async fn check(
    context: &Context,
    session: &mut dyn StateSession,
    app: &App,
    manifest: &Manifest,
) -> ApiResult<Preflight> {
    let prompt = session
        .prompts()
        .get(&manifest.prompt_id, &manifest.prompt_version)
        .await?;
    let model = session
        .models()
        .get(&manifest.model_id, &manifest.model_version)
        .await?;
    let index = match &manifest.retriever_index_version {
        Some(version) => session.retrievers().get(version).await?,
        None => None,
    };
    let provider = model.map(|model| model.settings.provider.to_string());
    let provider_problem = provider
        .as_ref()
        .and_then(|name| provider_problem(context, name));
    let facts = ManifestFacts {
        prompt: prompt.map(|version| version.content),
        provider,
        provider_problem,
        index,
    };
    Ok(preflight(manifest, &app.settings, &facts))
}

/// Why a provider cannot be used, if it cannot.
#[must_use]
pub fn provider_problem(context: &Context, provider: &str) -> Option<String> {
    if let Some(problem) = context.options.provider_problems.get(provider) {
        return Some(problem.clone());
    }
    (!context.endpoints.contains_key(provider))
        .then(|| format!("provider `{provider}` is not in the configuration"))
}

/// One app.
///
/// # Errors
/// When there is none of that name.
pub async fn find_app(session: &mut dyn StateSession, app: &AppName) -> ApiResult<App> {
    session.deployments().get_app(app).await?.ok_or_else(|| {
        Problem::not_found(format!("app `{app}` does not exist"))
            .hint(format!("make it with `flywheel app create {app}`"))
    })
}

/// The environment that is asked for, or the app's last one.
///
/// # Errors
/// When the app has none of that name.
pub fn find_environment(app: &App, asked: Option<&EnvironmentName>) -> ApiResult<EnvironmentName> {
    let environments = &app.settings.environments;
    match asked {
        Some(asked) if environments.contains(asked) => Ok(asked.clone()),
        Some(asked) => {
            let names: Vec<_> = environments
                .iter()
                .map(|name| format!("`{name}`"))
                .collect();
            let detail = format!("app `{}` has no environment `{asked}`", app.name);
            Err(Problem::not_found(detail).hint(format!("it has {}", names.join(", "))))
        }
        None => environments
            .last()
            .cloned()
            .ok_or_else(|| Problem::not_found(format!("app `{}` has no environment", app.name))),
    }
}

/// The manifest whose id begins with `prefix`.
///
/// # Errors
/// When there is none, or several.
pub async fn find_manifest(session: &mut dyn StateSession, prefix: &str) -> ApiResult<Manifest> {
    if !hash::is_hash_prefix(prefix) {
        let detail =
            format!("`{prefix}` is not a manifest: name it by at least 12 digits of its id");
        return Err(Problem::invalid(detail));
    }
    let mut found = session.deployments().find_manifests(prefix).await?;
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Problem::not_found(format!(
            "there is no manifest `{prefix}`"
        ))),
        _ => {
            let ids: Vec<_> = found
                .iter()
                .map(|manifest| format!("`{}`", manifest.id()))
                .collect();
            let detail = format!("`{prefix}` fits several manifests: {}", ids.join(", "));
            Err(Problem::conflict("ambiguous_manifest", detail).hint("type more digits"))
        }
    }
}

/// The manifest that a selection means.
///
/// # Errors
/// When something named does not exist, or the selection says two things.
pub async fn select(session: &mut dyn StateSession, selection: &Selection) -> ApiResult<Manifest> {
    match (&selection.prompt, &selection.manifest) {
        (Some(_), Some(_)) => Err(Problem::invalid(
            "`prompt` and `manifest` cannot both be given",
        )),
        (None, None) => Err(Problem::invalid(
            "name what to deploy: a `prompt`, or a `manifest`",
        )),
        (None, Some(prefix)) => find_manifest(session, prefix).await,
        (Some(prompt), None) => {
            let reference = selection.version.as_deref().unwrap_or("latest");
            let version = registry::find_version(session, prompt, reference).await?;
            Ok(Manifest {
                model_id: version.content.model_id,
                model_version: version.content.model_version,
                prompt_id: prompt.clone(),
                prompt_version: version.version,
                retriever_index_version: selection.retriever_index_version.clone(),
                guards_version: selection.guards_version.clone(),
            })
        }
    }
}

/// A manifest that is in the store, by its whole id.
///
/// # Errors
/// When it is not there.
pub async fn get_manifest(session: &mut dyn StateSession, id: &ManifestId) -> ApiResult<Manifest> {
    let manifest = session.deployments().get_manifest(id).await?;
    manifest.ok_or_else(|| Problem::not_found(format!("there is no manifest `{id}`")))
}
