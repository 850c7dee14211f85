//! Making, starting, changing and stopping experiments.

use flywheel_core::deployment::App;
use flywheel_core::experiment::{
    Arm, Experiment, ExperimentStatus, InvalidExperiment, UnitKind, default_layer, place_in_layer,
};
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, Manifest, PromptName};
use flywheel_storage::StateSession;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::{self, Selection, find_app, find_environment, select};
use crate::problem::{ApiResult, Problem};

/// An experiment as it is asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExperiment {
    /// Its name.
    pub name: ExperimentName,
    /// The app.
    pub app: AppName,
    /// The environment; the app's last one if absent.
    #[serde(default)]
    pub environment: Option<EnvironmentName>,
    /// What is expected and why.
    #[serde(default)]
    pub hypothesis: String,
    /// What is randomised.
    #[serde(default)]
    pub unit: UnitKind,
    /// The layer; one for each environment if absent.
    #[serde(default)]
    pub layer: Option<String>,
    /// How much of the layer it takes, in basis points.
    #[serde(default = "all")]
    pub layer_share: u32,
    /// How much of that takes part, in basis points.
    #[serde(default = "all")]
    pub exposure: u32,
    /// The arms.
    pub arms: Vec<NewArm>,
}

/// An arm as it is asked for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewArm {
    /// Its name.
    pub name: ArmName,
    /// What it serves, as a prefix of the manifest's id.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Or a prompt, which is served with the index and the guards of what the environment serves.
    #[serde(default)]
    pub prompt: Option<PromptName>,
    /// The prompt's version; the latest if absent.
    #[serde(default)]
    pub version: Option<String>,
    /// Its weight, in basis points.
    pub weight: u32,
}

fn all() -> u32 {
    10_000
}

impl From<InvalidExperiment> for Problem {
    fn from(error: InvalidExperiment) -> Self {
        match error {
            InvalidExperiment::LayerFull { .. } => Self::conflict("layer_full", error.to_string())
                .hint(
                    "stop one of them, or make the experiments with a smaller `layer_share` each",
                ),
            _ => Self::invalid(error.to_string()),
        }
    }
}

/// Makes an experiment, as a draft.
///
/// # Errors
/// When something named does not exist, the arms make no experiment, or the name is taken.
pub async fn create(
    context: &Context,
    caller: &Caller,
    new: NewExperiment,
) -> ApiResult<Experiment> {
    let mut transaction = context.state.begin().await?;
    let app = find_app(&mut *transaction, &new.app).await?;
    let environment = find_environment(&app, new.environment.as_ref())?;
    if transaction.experiments().get(&new.name).await?.is_some() {
        let detail = format!("an experiment named `{}` exists", new.name);
        return Err(Problem::conflict("name_taken", detail).hint("choose another name"));
    }
    let now = context.sources.clock.now();
    let served = served_now(&mut *transaction, &app.name, &environment).await?;
    let mut arms = Vec::with_capacity(new.arms.len());
    for arm in new.arms {
        let selection = Selection {
            prompt: arm.prompt,
            version: arm.version,
            manifest: arm.manifest,
            ..served.clone()
        };
        let manifest = select(&mut *transaction, &selection).await?;
        must_be_servable(context, &mut *transaction, &app, &arm.name, &manifest).await?;
        transaction
            .deployments()
            .put_manifest(&manifest, now)
            .await?;
        arms.push(Arm {
            name: arm.name,
            manifest: manifest.id(),
            weight: arm.weight,
        });
    }
    let mut salt = [0_u8; 16];
    context.sources.entropy.fill(&mut salt);
    let experiment = Experiment {
        name: new.name,
        layer: new
            .layer
            .unwrap_or_else(|| default_layer(&app.name, &environment)),
        app: app.name,
        environment,
        hypothesis: new.hypothesis,
        salt: salt.iter().map(|byte| format!("{byte:02x}")).collect(),
        unit: new.unit,
        layer_share: new.layer_share,
        layer_offset: 0,
        arms,
        exposure: new.exposure,
        status: ExperimentStatus::Draft,
        created_at: now,
        started_at: None,
        stopped_at: None,
    };
    experiment.check()?;
    transaction.experiments().put(&experiment).await?;
    let subject = experiment.name.to_string();
    context
        .commit(
            transaction,
            caller,
            "experiment.create",
            &subject,
            json!(experiment),
        )
        .await?;
    Ok(experiment)
}

/// What an arm shares with what the environment serves, so that it differs in its prompt alone.
async fn served_now(
    session: &mut dyn StateSession,
    app: &AppName,
    environment: &EnvironmentName,
) -> ApiResult<Selection> {
    let Some(current) = session.deployments().current(app, environment).await? else {
        return Ok(Selection::default());
    };
    let manifest = deploy::get_manifest(session, &current.manifest).await?;
    Ok(Selection {
        retriever_index_version: manifest.retriever_index_version,
        guards_version: manifest.guards_version,
        ..Selection::default()
    })
}

/// Starts an experiment.
///
/// # Errors
/// When it is not a draft, its layer has no room, or another one has its environment.
pub async fn start(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<Experiment> {
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    must_be(&experiment, ExperimentStatus::Draft, "started")?;
    // What could be served when the experiment was made may be gone by now.
    let app = find_app(&mut *transaction, &experiment.app).await?;
    for arm in &experiment.arms {
        let id = arm.manifest;
        let manifest = transaction.deployments().get_manifest(&id).await?;
        let manifest = manifest
            .ok_or_else(|| Problem::not_found(format!("manifest `{id}` is not in the store")))?;
        must_be_servable(context, &mut *transaction, &app, &arm.name, &manifest).await?;
    }
    let others = transaction.experiments().list().await?;
    let running = || {
        others
            .iter()
            .filter(|other| other.status == ExperimentStatus::Running)
    };
    if let Some(other) = running().find(|other| {
        other.layer != experiment.layer
            && other.app == experiment.app
            && other.environment == experiment.environment
    }) {
        let detail = format!(
            "experiment `{}` runs in layer `{}` of the same environment, and a request can be served by one manifest only",
            other.name, other.layer
        );
        return Err(
            Problem::conflict("environment_in_use", detail).hint(format!(
                "make this one in layer `{}`, where the two share no unit",
                other.layer
            )),
        );
    }
    let in_layer: Vec<_> = running()
        .filter(|other| other.layer == experiment.layer)
        .collect();
    experiment.layer_offset = place_in_layer(&experiment.layer, experiment.layer_share, &in_layer)?;
    experiment.status = ExperimentStatus::Running;
    experiment.started_at = Some(context.sources.clock.now());
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.start",
        json!({}),
    )
    .await
}

async fn must_be_servable(
    context: &Context,
    session: &mut dyn StateSession,
    app: &App,
    arm: &ArmName,
    manifest: &Manifest,
) -> ApiResult<()> {
    let preflight = deploy::check(context, session, app, manifest).await?;
    if preflight.passed() {
        return Ok(());
    }
    let problems = preflight.problems().join("; ");
    Err(Problem::invalid(format!(
        "arm `{arm}` cannot be served: {problems}"
    )))
}

/// Stops an experiment.
///
/// # Errors
/// When it is not running.
pub async fn stop(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    reason: &str,
) -> ApiResult<Experiment> {
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    must_be(&experiment, ExperimentStatus::Running, "stopped")?;
    experiment.status = ExperimentStatus::Stopped;
    experiment.stopped_at = Some(context.sources.clock.now());
    let detail = json!({"reason": reason});
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.stop",
        detail,
    )
    .await
}

/// Changes how much of the traffic takes part. No unit moves between arms.
///
/// # Errors
/// When the experiment has ended, or the share is none.
pub async fn set_exposure(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    exposure: u32,
) -> ApiResult<Experiment> {
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    if experiment.status == ExperimentStatus::Stopped {
        return Err(Problem::conflict(
            "experiment_stopped",
            format!("experiment `{name}` has ended"),
        ));
    }
    let detail = json!({"before": experiment.exposure, "after": exposure});
    experiment.exposure = exposure;
    experiment.check()?;
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.set_exposure",
        detail,
    )
    .await
}

async fn save(
    context: &Context,
    mut transaction: Box<dyn flywheel_storage::StateTransaction>,
    caller: &Caller,
    experiment: Experiment,
    action: &str,
    detail: Value,
) -> ApiResult<Experiment> {
    transaction.experiments().put(&experiment).await?;
    let subject = experiment.name.to_string();
    context
        .commit(transaction, caller, action, &subject, detail)
        .await?;
    Ok(experiment)
}

/// One experiment that the caller may see.
///
/// # Errors
/// When there is none of that name.
pub async fn find(
    session: &mut dyn StateSession,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<Experiment> {
    let experiment = session.experiments().get(name).await?.ok_or_else(|| {
        Problem::not_found(format!("there is no experiment `{name}`"))
            .hint("`flywheel experiment list` shows those there are")
    })?;
    caller.must_cover(&experiment.app)?;
    Ok(experiment)
}

fn must_be(experiment: &Experiment, status: ExperimentStatus, verb: &str) -> ApiResult<()> {
    if experiment.status == status {
        return Ok(());
    }
    let is = match experiment.status {
        ExperimentStatus::Draft => "a draft",
        ExperimentStatus::Running => "running",
        ExperimentStatus::Stopped => "stopped",
    };
    let detail = format!(
        "experiment `{}` is {is} and cannot be {verb}",
        experiment.name
    );
    Err(Problem::conflict("wrong_status", detail))
}
