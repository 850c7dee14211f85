//! Making, starting, changing and stopping experiments.

mod change;
mod ending;

use axum::http::StatusCode;
use flywheel_core::deployment::App;
use flywheel_core::experiment::{
    Arm, Epoch, Experiment, ExperimentStatus, InvalidExperiment, UnitKind, default_layer,
    place_in_layer,
};
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::plan::Plan;
use flywheel_core::{AppName, Manifest, PromptName};
use flywheel_storage::StateSession;
use flywheel_storage::events::SummaryFilter;
use flywheel_storage::statistics::{ExperimentStatistics, Rebuild};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

pub use self::change::{ExperimentChange, change};
pub(super) use self::ending::no_arm;
pub use self::ending::{Aborted, abort_violated, archive, objection, promote, stop};
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::{self, Selection, find_app, find_environment, select};
use crate::operations::planning::{self, NewPlan};
use crate::operations::readout::{self, Kept, Readout};
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
    /// What is compared, how, and when it is enough.
    #[serde(default)]
    pub plan: NewPlan,
    /// Only tell what it would be, and what the app's traffic says of its plan.
    #[serde(default)]
    pub dry_run: bool,
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
    /// Or what the environment serves at any time: what the rest gets while a holdout keeps what it had.
    #[serde(default)]
    pub follows_environment: bool,
    /// Its weight, in basis points.
    pub weight: u32,
}

/// What stands in an address where the name of an experiment does.
const RESERVED: &str = "new";

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

/// Makes an experiment, as a draft; of a dry run nothing stays.
///
/// # Errors
/// When something named does not exist, the arms or the plan make no experiment, or the name is taken.
pub async fn create(
    context: &Context,
    caller: &Caller,
    new: NewExperiment,
) -> ApiResult<Experiment> {
    let is_dry_run = new.dry_run;
    let mut session = context.state.read().await?;
    let (mut experiment, manifests) = draft(context, &mut *session, new).await?;
    drop(session);
    // Looking at a month of calls takes a while, for which nobody who writes must wait.
    experiment.plan = estimated(context, &experiment).await?;
    if is_dry_run {
        return Ok(experiment);
    }
    let mut transaction = context.state.begin().await?;
    let name = &experiment.name;
    if transaction.experiments().get(name).await?.is_some() {
        let detail = format!("an experiment named `{name}` exists");
        return Err(Problem::conflict("name_taken", detail).hint("choose another name"));
    }
    for manifest in &manifests {
        let mut deployments = transaction.deployments();
        deployments
            .put_manifest(manifest, experiment.created_at)
            .await?;
    }
    let detail = json!(experiment);
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.create",
        detail,
    )
    .await
}

/// An experiment as it is asked for, checked against what is there, and the manifests of its arms.
async fn draft(
    context: &Context,
    session: &mut dyn StateSession,
    new: NewExperiment,
) -> ApiResult<(Experiment, Vec<Manifest>)> {
    if new.name.as_str() == RESERVED {
        let detail = format!(
            "`{RESERVED}` is no name for an experiment: its page would be the form for new ones"
        );
        return Err(Problem::invalid(detail).hint("choose another name"));
    }
    let app = find_app(session, &new.app).await?;
    let environment = find_environment(&app, new.environment.as_ref())?;
    let mut arms = Vec::with_capacity(new.arms.len());
    let mut manifests = Vec::with_capacity(new.arms.len());
    for arm in new.arms {
        if arm.follows_environment {
            arms.push(following(arm)?);
            continue;
        }
        let selection = Selection {
            prompt: arm.prompt,
            version: arm.version,
            manifest: arm.manifest,
            ..Selection::default()
        };
        let manifest = select(session, &app.name, &environment, &selection).await?;
        must_be_servable(context, session, &app, &arm.name, &manifest).await?;
        arms.push(Arm {
            name: arm.name,
            manifest: Some(manifest.id()),
            weight: arm.weight,
        });
        manifests.push(manifest);
    }
    let mut salt = [0_u8; 16];
    context.sources.entropy.fill(&mut salt);
    let plan = planning::make(new.plan, &app.settings, &arms)?;
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
        created_at: context.sources.clock.now(),
        started_at: None,
        stopped_at: None,
        plan,
        plan_hash: None,
        plan_changes: Vec::new(),
        epochs: Vec::new(),
        decision: None,
    };
    experiment.check()?;
    Ok((experiment, manifests))
}

fn following(arm: NewArm) -> ApiResult<Arm> {
    if arm.manifest.is_some() || arm.prompt.is_some() || arm.version.is_some() {
        return Err(Problem::invalid(format!(
            "arm `{}` cannot both follow the environment and serve something of its own",
            arm.name
        )));
    }
    Ok(Arm {
        name: arm.name,
        manifest: None,
        weight: arm.weight,
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
    // Looking at a month of calls takes a while, for which nobody who writes must wait.
    let mut session = context.state.read().await?;
    let draft = find(&mut *session, caller, name).await?;
    drop(session);
    must_be(&draft, ExperimentStatus::Draft, "started")?;
    let planned = estimated(context, &draft).await?;
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    must_be(&experiment, ExperimentStatus::Draft, "started")?;
    if experiment.plan != draft.plan {
        let detail = format!("the plan of `{name}` was changed while it was being started");
        return Err(Problem::conflict("plan_changed", detail).hint("start it again"));
    }
    // What could be served when the experiment was made may be gone by now.
    let app = find_app(&mut *transaction, &experiment.app).await?;
    for arm in &experiment.arms {
        let Some(id) = arm.manifest else {
            must_serve(&mut *transaction, &experiment, &arm.name).await?;
            continue;
        };
        let manifest = transaction.deployments().get_manifest(&id).await?;
        let manifest = manifest
            .ok_or_else(|| Problem::not_found(format!("manifest `{id}` is not in the store")))?;
        must_be_servable(context, &mut *transaction, &app, &arm.name, &manifest).await?;
    }
    let running = transaction.experiments().running().await?;
    if let Some(other) = running.iter().find(|other| {
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
    let in_layer: Vec<_> = running
        .iter()
        .filter(|other| other.layer == experiment.layer)
        .collect();
    experiment.layer_offset = place_in_layer(&experiment.layer, experiment.layer_share, &in_layer)?;
    let now = context.sources.clock.now();
    // The plan was estimated from traffic when the experiment was made; what counts is what is known at the start.
    experiment.plan = planned;
    experiment.plan_hash = Some(experiment.plan.hash());
    experiment.epochs = vec![epoch(&experiment, now)];
    experiment.status = ExperimentStatus::Running;
    experiment.started_at = Some(now);
    let detail = json!({"plan": experiment.plan, "plan_hash": experiment.plan_hash});
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.start",
        detail,
    )
    .await
}

/// An arm that follows an environment in which nothing is deployed has nothing to serve.
async fn must_serve(
    session: &mut dyn StateSession,
    experiment: &Experiment,
    arm: &ArmName,
) -> ApiResult<()> {
    let (app, environment) = (&experiment.app, &experiment.environment);
    let mut deployments = session.deployments();
    if deployments.current(app, environment).await?.is_some() {
        return Ok(());
    }
    let detail = format!(
        "arm `{arm}` follows environment `{environment}` of `{app}`, in which nothing is deployed"
    );
    Err(Problem::conflict("nothing_deployed", detail).hint("deploy something there first"))
}

/// What is allocated from a moment on.
fn epoch(experiment: &Experiment, since: Timestamp) -> Epoch {
    Epoch {
        since,
        weights: experiment.arms.iter().map(|arm| arm.weight).collect(),
        exposure: experiment.exposure,
        stopped_arm: None,
    }
}

/// An experiment's plan with what the app's traffic says now.
async fn estimated(context: &Context, experiment: &Experiment) -> ApiResult<Plan> {
    let now = context.sources.clock.now();
    planning::estimate(&*context.statistics, experiment, now).await
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

/// An experiment and what it says now.
///
/// # Errors
/// When there is none of that name, or its statistics cannot be read.
pub async fn read(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<(Experiment, Readout)> {
    let mut session = context.state.read().await?;
    let experiment = find(&mut *session, caller, name).await?;
    drop(session);
    let kept = match experiment.started_at {
        Some(_) => Some(kept(context, &experiment).await?),
        None => None,
    };
    let readout = read_out(context, &experiment, kept).await?;
    Ok((experiment, readout))
}

async fn read_out(
    context: &Context,
    experiment: &Experiment,
    kept: Option<Kept>,
) -> ApiResult<Readout> {
    let now = context.sources.clock.now();
    close_days(context, experiment, now).await?;
    let statistics = context
        .statistics
        .experiment_statistics(&experiment.name)
        .await?;
    let experiment = experiment.clone();
    // Looks at many days of many metrics take milliseconds, for which calls are not to wait.
    let read = move || readout::read(&experiment, &statistics, kept.as_ref(), now);
    match tokio::task::spawn_blocking(read).await {
        Ok(readout) => Ok(readout),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {
            let stopping = "the server is stopping";
            Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                stopping,
            ))
        }
    }
}

/// What can be read of a day that is over stays from now on, whatever is logged late.
///
/// # Errors
/// When it cannot be kept.
pub async fn close_days(
    context: &Context,
    experiment: &Experiment,
    now: Timestamp,
) -> ApiResult<()> {
    let is_kept = experiment.status != ExperimentStatus::Archived;
    if experiment.started_at.is_some() && is_kept {
        context.statistics.close_days(&experiment.name, now).await?;
    }
    Ok(())
}

/// What is known of an experiment's units, when all of it is there.
///
/// # Errors
/// When it is being made again, or cannot be read.
pub async fn whole_statistics(
    context: &Context,
    name: &ExperimentName,
) -> ApiResult<ExperimentStatistics> {
    let statistics = context.statistics.experiment_statistics(name).await?;
    match statistics.rebuilt {
        None => Ok(statistics),
        Some(_) => Err(rebuilding(name)),
    }
}

/// What is said while statistics are being made again.
#[must_use]
pub fn rebuilding(name: &ExperimentName) -> Problem {
    let detail = format!("the statistics of `{name}` are being made again");
    let hint = "ask again when they are there; the readout says how far they are";
    Problem::conflict("rebuilding", detail).hint(hint)
}

/// What was said in the experiment's app and environment from the hour of its start on: of whole hours there are sums, of
/// parts of them events would have to be read, each time and however many they are.
async fn kept(context: &Context, experiment: &Experiment) -> ApiResult<Kept> {
    let mut kept = Kept::default();
    let of_all = SummaryFilter {
        apps: vec![experiment.app.clone()],
        environment: Some(experiment.environment.clone()),
        since: experiment.started_at.map(|at| hour(at, 0)),
        until: experiment.stopped_at.map(|at| hour(at, 1)),
        ..SummaryFilter::default()
    };
    let own = SummaryFilter {
        experiment: Some(experiment.name.clone()),
        ..of_all.clone()
    };
    for (filter, counts) in [(of_all, &mut kept.of_all), (own, &mut kept.of_experiment)] {
        *counts = context.events.count_feedback(&filter).await?;
    }
    Ok(kept)
}

/// The beginning of a time's hour, or of one so many later.
fn hour(at: Timestamp, later: i64) -> Timestamp {
    let hour = at.as_second().div_euclid(3600).saturating_add(later);
    Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or(at)
}

/// Forgets the statistics of an experiment and takes in all of its events again.
///
/// # Errors
/// When retention has removed events that they contain.
pub async fn rebuild(context: &Context, caller: &Caller, name: &ExperimentName) -> ApiResult<()> {
    let mut session = context.state.read().await?;
    find(&mut *session, caller, name).await?;
    drop(session);
    let now = context.sources.clock.now();
    match context.statistics.rebuild_statistics(name, now).await? {
        Rebuild::Begun => Ok(()),
        Rebuild::EventsRemoved => {
            let detail = format!(
                "retention has removed calls of `{name}`, which its statistics still contain; made again they would lack them"
            );
            Err(Problem::conflict("events_removed", detail)
                .hint("the statistics stay as they are; keep events longer with `retention`"))
        }
        Rebuild::Archived => {
            let detail = format!("`{name}` is archived, and its statistics stay as they are");
            Err(Problem::conflict("archived", detail))
        }
    }
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
        ExperimentStatus::Archived => "archived",
    };
    let name = &experiment.name;
    let problem = Problem::conflict(
        "wrong_status",
        format!("experiment `{name}` is {is} and cannot be {verb}"),
    );
    Err(match (experiment.status, status) {
        (ExperimentStatus::Draft, ExperimentStatus::Running) => {
            problem.hint(format!("`flywheel experiment start {name}` starts it"))
        }
        (ExperimentStatus::Running, ExperimentStatus::Stopped) => {
            problem.hint(format!("`flywheel experiment stop {name}` stops it"))
        }
        _ => problem,
    })
}
