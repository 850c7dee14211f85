//! Moving an environment's pointer: deploy and rollback, with the preflight before them.

mod experiments;
mod refusals;

use flywheel_core::deployment::{
    App, Deployment, DeploymentKind, RollbackTarget, rollback_target, taken_back,
};
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::name::{EnvironmentName, ExperimentName, VersionName};
use flywheel_core::preflight::{ManifestFacts, Preflight, preflight};
use flywheel_core::{AppName, Manifest, ManifestId, PromptName, hash};
use flywheel_storage::deployments::NewDeployment;
use flywheel_storage::{StateSession, StateTransaction};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use self::refusals::{advice, preflight_failed};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::present;
use crate::operations::registry;
use crate::problem::{ApiResult, Problem};

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
    /// The retriever index the app is to read, beside a prompt: if absent the one of what is served now, if null none.
    #[serde(default, deserialize_with = "present")]
    pub retriever_index_version: Option<Option<VersionName>>,
    /// The guards, likewise.
    #[serde(default, deserialize_with = "present")]
    pub guards_version: Option<Option<VersionName>>,
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
    /// The rollback that took this manifest back the last time it was in force here, if one did.
    pub taken_back: Option<Deployment>,
    /// The deployment that was in force.
    pub replaced: Option<Deployment>,
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
    let (mut plan, mut transaction) = Plan::begin(context, caller, app, kind, request).await?;
    let manifest = select(&mut *transaction, app, &plan.environment, selection).await?;
    plan.is_latest = selection.prompt.is_some() && selection.version.is_none();
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
    // Unless it takes back experiments, nothing would change, and whoever counted steps believes that something did.
    if matches!(target, RollbackTarget::Steps(2..))
        && history.first().is_some_and(|made| made.manifest == goal)
        && plan
            .running_experiments(&mut *transaction)
            .await?
            .is_empty()
    {
        let detail = format!(
            "so many steps back `{}` in `{environment}` served what it serves now",
            app.name
        );
        return Err(
            Problem::conflict("no_rollback_target", detail).hint(advice(&app.name, &history))
        );
    }
    let manifest = transaction
        .deployments()
        .get_manifest(&goal)
        .await?
        .ok_or_else(|| Problem::not_found(format!("manifest `{goal}` is not in the store")))?;
    plan.carry_out(transaction, manifest).await
}

/// Deploys the manifest of an experiment's arm and stops the experiment, with the decision it brings along.
///
/// # Errors
/// As [`deploy`].
pub(super) async fn promote(
    context: &Context,
    caller: &Caller,
    experiment: Experiment,
    manifest: &ManifestId,
    forced_over: Option<String>,
    request: &Move,
) -> ApiResult<Moved> {
    let request = Move {
        environment: Some(experiment.environment.clone()),
        ..request.clone()
    };
    let app = experiment.app.clone();
    let kind = DeploymentKind::Promote;
    let (mut plan, mut transaction) = Plan::begin(context, caller, &app, kind, &request).await?;
    let kept = transaction.experiments().get(&experiment.name).await?;
    if kept
        .as_ref()
        .is_none_or(|kept| kept.status != ExperimentStatus::Running)
    {
        let detail = format!("experiment `{}` is not running any more", experiment.name);
        return Err(Problem::conflict("wrong_status", detail));
    }
    let is_changed =
        |kept: Experiment| (&kept.epochs, &kept.plan) != (&experiment.epochs, &experiment.plan);
    if kept.is_some_and(is_changed) {
        let detail = format!("experiment `{}` was changed meanwhile", experiment.name);
        return Err(Problem::conflict("experiment_changed", detail).hint("look at it again"));
    }
    plan.promoted = Some(experiment);
    plan.objections.extend(forced_over);
    let manifest = get_manifest(&mut *transaction, manifest).await?;
    plan.carry_out(transaction, manifest).await
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

/// How many deployments are looked at for one that was taken back.
const REMEMBERED: u32 = 200;

/// A move whose place is known, in the transaction that is to carry it out.
struct Plan<'a> {
    context: &'a Context,
    caller: &'a Caller,
    app: App,
    environment: EnvironmentName,
    kind: DeploymentKind,
    request: &'a Move,
    /// The experiment whose arm this deploys, with its decision.
    promoted: Option<Experiment>,
    /// What spoke against it beside the preflight.
    objections: Vec<String>,
    /// Whether it is the latest version of a prompt because no version was named.
    is_latest: bool,
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
            promoted: None,
            objections: Vec::new(),
            is_latest: false,
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
            promoted,
            ..
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
        let takes_back = kind.takes_back();
        let running = self.running_experiments(&mut *transaction).await?;
        let (stopping, going_on) = self.ended_and_going_on(running, takes_back);
        let names = |experiments: &[Experiment]| -> Vec<ExperimentName> {
            experiments.iter().map(|other| other.name.clone()).collect()
        };
        let (stopped_experiments, running_experiments) = (names(&stopping), names(&going_on));
        let unchanged = current
            .as_ref()
            .is_some_and(|current| current.manifest == id);
        // A rollback to what is deployed already still takes back the experiments beside it.
        let nothing_to_do = unchanged && stopping.is_empty();
        let taken_back = self.taken_back(&mut *transaction, &id).await?;
        let mut moved = Moved {
            deployment: None,
            unchanged,
            manifest,
            previous,
            preflight,
            stopped_experiments,
            running_experiments,
            taken_back,
            replaced: current.clone(),
        };
        if request.dry_run || nothing_to_do {
            moved.deployment = current.filter(|_| !request.dry_run);
            return Ok(moved);
        }
        let now = context.sources.clock.now();
        transaction
            .deployments()
            .put_manifest(&moved.manifest, now)
            .await?;
        let previous_manifest = current.map(|current| current.manifest);
        let deployment = transaction
            .deployments()
            .append(self.record(id, previous_manifest, &moved.preflight, now))
            .await?;
        experiments::stop(&mut *transaction, stopping, &deployment).await?;
        let verdict = promoted
            .as_ref()
            .and_then(|promoted| promoted.decision.as_ref()?.readout.as_ref()?.get("verdict"));
        let detail = json!({
            "number": deployment.number,
            "manifest": deployment.manifest,
            "previous_manifest": deployment.previous_manifest,
            "reason": deployment.reason,
            "forced_over": deployment.forced_over,
            "stopped_experiments": moved.stopped_experiments,
            "verdict": verdict,
        });
        let subject = format!("{}/{environment}", app.name);
        let action = format!("app.{}", kind.as_str());
        context
            .commit(transaction, caller, &action, &subject, detail)
            .await?;
        moved.deployment = Some(deployment);
        moved.unchanged = false;
        Ok(moved)
    }

    /// The rollback that took a manifest back the last time, if no longer ago than people remember. What nobody named is not
    /// deployed over it: the latest version is whichever was pushed last.
    async fn taken_back(
        &self,
        session: &mut dyn StateSession,
        manifest: &ManifestId,
    ) -> ApiResult<Option<Deployment>> {
        let mut deployments = session.deployments();
        let history = deployments
            .history(&self.app.name, Some(&self.environment), None, REMEMBERED)
            .await?;
        match taken_back(&history, manifest) {
            Some(rollback) if self.is_latest && !self.request.force && !self.request.dry_run => {
                Err(refusals::taken_back(rollback))
            }
            found => Ok(found.cloned()),
        }
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
            forced_over: [self.objections.clone(), preflight.problems()].concat(),
        }
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

/// The manifest that a selection means. What it does not speak of stays as the environment serves it.
///
/// # Errors
/// When something named does not exist, or the selection says two things.
pub async fn select(
    session: &mut dyn StateSession,
    app: &AppName,
    environment: &EnvironmentName,
    selection: &Selection,
) -> ApiResult<Manifest> {
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
            let current = session.deployments().current(app, environment).await?;
            let served = match current {
                Some(current) => Some(get_manifest(session, &current.manifest).await?),
                None => None,
            };
            let (index, guards) = served.map_or((None, None), |served| {
                (served.retriever_index_version, served.guards_version)
            });
            Ok(Manifest {
                model_id: version.content.model_id,
                model_version: version.content.model_version,
                prompt_id: prompt.clone(),
                prompt_version: version.version,
                retriever_index_version: selection.retriever_index_version.clone().unwrap_or(index),
                guards_version: selection.guards_version.clone().unwrap_or(guards),
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
