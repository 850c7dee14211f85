//! Deploy, roll back, look back, rehearse, resolve.

mod answers;

use axum::Json;
use axum::extract::State;
use flywheel_core::deployment::{Deployment, DeploymentKind};
use flywheel_core::diff::diff_manifests;
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, Manifest};
use flywheel_gateway::plan::{self, Chosen};
use flywheel_gateway::request::{ChatBody, FlywheelMember, Target};
use flywheel_storage::StateSession;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub(super) use self::answers::DescribedDeployment;
pub(super) use self::answers::DescribedMove;
use self::answers::{RehearsalResult, Resolved};
use super::manifests::DescribedManifest;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PageQuery, PathParams, QueryParams};
use crate::openai::problem_of;
use crate::operations::deploy::{self, Goal, Move, Moved, Selection, find_app};
use crate::operations::rehearse::{self, Rehearsal, Rehearsed};
use crate::operations::served;
use crate::problem::{ApiResult, Problem};
use crate::respond::{List, list};

/// What is deployed, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DeployBody {
    #[serde(flatten)]
    selection: Selection,
    #[serde(flatten)]
    request: Move,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Map<String, Value>,
}

/// A misspelt `dry_run` must not move anything for real.
fn refuse_unknown(unknown: &Map<String, Value>) -> ApiResult<()> {
    match unknown.keys().next() {
        Some(name) => Err(Problem::invalid(format!("unknown member `{name}`"))),
        None => Ok(()),
    }
}

/// `POST /api/v1/apps/{app}/deploy`
pub async fn deploy_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
    JsonBody(body): JsonBody<DeployBody>,
) -> ApiResult<Json<DescribedMove>> {
    caller.must_cover(&app)?;
    let kind = DeploymentKind::Deploy;
    let DeployBody {
        selection,
        request,
        unknown,
    } = body;
    refuse_unknown(&unknown)?;
    let moved = deploy::deploy(&context, &caller, &app, &selection, kind, &request).await?;
    Ok(Json(describe_move(&context, moved, request.dry_run).await))
}

/// Where to roll back to, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct RollbackBody {
    #[serde(flatten)]
    goal: Goal,
    #[serde(flatten)]
    request: Move,
    #[serde(flatten)]
    #[schemars(skip)]
    unknown: Map<String, Value>,
}

/// `POST /api/v1/apps/{app}/rollback`
pub async fn roll_back_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
    JsonBody(body): JsonBody<RollbackBody>,
) -> ApiResult<Json<DescribedMove>> {
    caller.must_cover(&app)?;
    let RollbackBody {
        goal,
        request,
        unknown,
    } = body;
    refuse_unknown(&unknown)?;
    let moved = deploy::rollback(&context, &caller, &app, &goal, &request).await?;
    Ok(Json(describe_move(&context, moved, request.dry_run).await))
}

pub(super) async fn describe_move(context: &Context, moved: Moved, dry_run: bool) -> DescribedMove {
    let deployment = match moved.deployment {
        Some(deployment) => Some(describe_moved(context, deployment).await),
        None => None,
    };
    let changes = match &moved.previous {
        Some(previous) => diff_manifests(previous, &moved.manifest),
        None => Vec::new(),
    };
    let (manifest, previous) = described(context, moved.manifest, moved.previous).await;
    DescribedMove {
        dry_run,
        unchanged: moved.unchanged,
        deployment,
        manifest,
        previous,
        changes,
        stopped_experiments: moved.stopped_experiments,
        running_experiments: moved.running_experiments,
        taken_back: moved.taken_back,
        replaced: moved.replaced,
        preflight: moved.preflight.into(),
    }
}

/// Both manifests of a move, with the numbers of their prompts' versions if the store can tell them now.
async fn described(
    context: &Context,
    manifest: Manifest,
    previous: Option<Manifest>,
) -> (DescribedManifest, Option<DescribedManifest>) {
    let mut session = context.state.read().await.ok();
    let mut describe = async |manifest: Manifest| {
        let served = match &mut session {
            Some(session) => served::describe(&mut **session, &manifest).await.ok(),
            None => None,
        };
        let ordinal = served.and_then(|served| served.prompt_ordinal);
        DescribedManifest::new(manifest, ordinal)
    };
    let manifest = describe(manifest).await;
    let previous = match previous {
        Some(previous) => Some(describe(previous).await),
        None => None,
    };
    (manifest, previous)
}

/// The deployment that was made. That it was is what counts: if the store cannot tell more of it now, less is told.
async fn describe_moved(context: &Context, deployment: Deployment) -> DescribedDeployment {
    let served = match context.state.read().await {
        Ok(mut session) => served::find(&mut *session, &deployment.manifest)
            .await
            .ok()
            .flatten(),
        Err(_) => None,
    };
    DescribedDeployment { deployment, served }
}

/// Which environment's deployments.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct HistoryQuery {
    environment: Option<EnvironmentName>,
}

/// `GET /api/v1/apps/{app}/deployments`
pub async fn list_deployments(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
    QueryParams(query): QueryParams<HistoryQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<DescribedDeployment>>> {
    caller.must_cover(&app)?;
    let request = page.request(|cursor| cursor.parse::<u64>().ok())?;
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, &app).await?.name;
    let environment = query.environment.as_ref();
    let mut found = session
        .deployments()
        .history(&app, environment, request.before, request.limit + 1)
        .await?;
    let has_more = found.len() > request.limit as usize;
    found.truncate(request.limit as usize);
    let next = if has_more {
        found.last().map(|last| last.number.to_string())
    } else {
        None
    };
    let mut items = Vec::with_capacity(found.len());
    for deployment in found {
        items.push(describe_deployment(&mut *session, deployment).await?);
    }
    Ok(list(items, next))
}

pub(super) async fn describe_deployment(
    session: &mut dyn StateSession,
    deployment: Deployment,
) -> ApiResult<DescribedDeployment> {
    let served = served::find(session, &deployment.manifest).await?;
    Ok(DescribedDeployment { deployment, served })
}

/// `POST /api/v1/apps/{app}/rehearse`
pub async fn rehearse_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
    JsonBody(rehearsal): JsonBody<Rehearsal>,
) -> ApiResult<Json<RehearsalResult>> {
    caller.must_cover(&app)?;
    let rehearsed = rehearse::rehearse(&context, &app, &rehearsal).await?;
    let way_back = rehearse::way_back(&context, &app, rehearsal.environment.as_ref()).await?;
    Ok(Json(RehearsalResult {
        way_back,
        passed: rehearsed.iter().all(Rehearsed::passed),
        items: rehearsed.into_iter().map(Into::into).collect(),
    }))
}

/// What an app that calls its provider itself wants to have rendered.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResolveBody {
    /// The environment; the app's last one if absent.
    environment: Option<EnvironmentName>,
    /// The unit that experiments randomise.
    user: Option<String>,
    /// The session.
    session: Option<String>,
    /// The variables of the prompt.
    variables: Map<String, Value>,
    /// Messages to follow the rendered ones, in OpenAI's shape.
    messages: Vec<Value>,
}

/// `POST /api/v1/apps/{app}/resolve`
pub async fn resolve_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
    JsonBody(body): JsonBody<ResolveBody>,
) -> ApiResult<Json<Resolved>> {
    caller.must_cover(&app)?;
    let ResolveBody {
        environment,
        user,
        session,
        variables,
        messages,
    } = body;
    let given = |id: Option<String>| id.filter(|id| !id.is_empty());
    let (user, session) = (given(user), given(session));
    let body = ChatBody {
        target: Target::App { app, environment },
        messages,
        user,
        stream: false,
        include_usage: false,
        flywheel: FlywheelMember {
            variables,
            session,
            ..FlywheelMember::default()
        },
        further: Map::new(),
    };
    let call_id = context.sources.new_id();
    let table = context.table.load();
    let destination =
        plan::destination(&table, &body, &call_id).map_err(|failure| problem_of(&failure))?;
    let Chosen { served, model } = destination
        .chosen
        .map_err(|unservable| problem_of(&unservable.into()))?;
    let served = served.as_deref();
    let messages = match served {
        Some(served) => plan::render(served, &body).map_err(|error| problem_of(&error.into()))?,
        None => body.messages.clone(),
    };
    let request = plan::chat_request(&model, served, messages, &body, false);
    let mut members = request.body;
    members.insert("model".into(), request.model.into());
    let (app, environment) = destination.app.unzip();
    // A unit whose arm cannot be served is not counted.
    let assignment = destination.assignment;
    let (experiment, arm) = assignment
        .filter(|_| destination.stands_in_for.is_none())
        .unzip();
    Ok(Json(Resolved {
        call_id,
        app,
        environment,
        manifest: served.map(|served| served.id),
        prompt: served.map(|served| served.manifest.prompt_id.clone()),
        prompt_version: served.map(|served| served.manifest.prompt_version),
        model_id: model.model_id.clone(),
        model_version: model.model_version.clone(),
        provider: model.endpoint.name.clone(),
        experiment,
        arm,
        request: members,
    }))
}
