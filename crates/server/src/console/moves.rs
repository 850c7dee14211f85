//! Deploying and rolling back: a page that shows exactly what will change, and one button that does it.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use flywheel_core::deployment::{Deployment, DeploymentKind, rollback_candidates};
use flywheel_core::diff::{Change, diff_prompts};
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, Manifest, PromptName};
use flywheel_storage::StateSession;
use serde::Deserialize;

use super::answer::{Frame, PageResult, go_to, page};
use super::form::{PageForm, PagePath, PageQuery, given};
use super::prompts::{ShownChange, show_changes};
use super::session::Visitor;
use super::show::encoded;
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::{
    self, Goal, Move, Moved, Selection, find_app, find_environment, whole_history,
};
use crate::operations::served;
use crate::problem::{ApiResult, Problem};

/// What is to be done, as a page or a form says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MoveForm {
    #[serde(deserialize_with = "given")]
    environment: Option<EnvironmentName>,
    /// A prompt to deploy.
    #[serde(deserialize_with = "given")]
    prompt: Option<PromptName>,
    /// Its version.
    #[serde(deserialize_with = "given")]
    version: Option<String>,
    /// A manifest to go back to.
    #[serde(deserialize_with = "given")]
    to: Option<String>,
    reason: String,
    /// What the page showed as deployed.
    #[serde(deserialize_with = "given")]
    expected_manifest: Option<String>,
    #[serde(deserialize_with = "given")]
    force: Option<bool>,
}

/// What can be chosen.
struct Choice {
    value: String,
    label: String,
    is_chosen: bool,
}

pub(super) struct CheckLine {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) detail: String,
}

/// What a move would do.
pub(super) struct Plan {
    pub(super) from: Option<String>,
    pub(super) to: String,
    pub(super) manifest: String,
    pub(super) expected: String,
    pub(super) unchanged: bool,
    pub(super) changes: Vec<ShownChange>,
    pub(super) members: Vec<(String, String, String)>,
    pub(super) checks: Vec<CheckLine>,
    pub(super) passed: bool,
    pub(super) stopped: Vec<String>,
    pub(super) running: Vec<String>,
}

#[derive(Template)]
#[template(path = "move.html")]
struct MovePage {
    frame: Frame,
    app: String,
    environment: String,
    is_rollback: bool,
    /// Prompts that can be deployed.
    prompts: Vec<Choice>,
    /// Versions of the chosen one, or manifests to go back to.
    targets: Vec<Choice>,
    plan: Option<Plan>,
    /// Who took what is to be deployed back the last time, and why.
    taken_back: Option<String>,
    /// What was typed.
    reason: String,
    /// Why it was not done.
    problem: Option<String>,
    hint: Option<String>,
}

/// `GET /apps/{app}/deploy`
pub(super) async fn plan_deploy(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(app): PagePath<AppName>,
    PageQuery(form): PageQuery<MoveForm>,
) -> PageResult {
    page(&prepare(&context, &visitor, &app, &form, false, None).await?)
}

/// `GET /apps/{app}/rollback`
pub(super) async fn plan_rollback(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(app): PagePath<AppName>,
    PageQuery(form): PageQuery<MoveForm>,
) -> PageResult {
    page(&prepare(&context, &visitor, &app, &form, true, None).await?)
}

/// `POST /apps/{app}/deploy`
pub(super) async fn deploy(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(app): PagePath<AppName>,
    PageForm(form): PageForm<MoveForm>,
) -> PageResult {
    carry_out(&context, &visitor, &app, form, false).await
}

/// `POST /apps/{app}/rollback`
pub(super) async fn roll_back(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(app): PagePath<AppName>,
    PageForm(form): PageForm<MoveForm>,
) -> PageResult {
    carry_out(&context, &visitor, &app, form, true).await
}

async fn carry_out(
    context: &Context,
    visitor: &Visitor,
    app: &AppName,
    form: MoveForm,
    is_rollback: bool,
) -> PageResult {
    let done = if form.reason.trim().is_empty() {
        Err(Problem::invalid(
            "say why: the reason is kept with the deployment",
        ))
    } else {
        run(context, &visitor.caller, app, &form, is_rollback, false).await
    };
    match done {
        Ok(moved) => {
            let environment = moved
                .deployment
                .as_ref()
                .map(|made| made.environment.to_string())
                .or_else(|| form.environment.as_ref().map(ToString::to_string));
            let number = moved.deployment.map_or(0, |made| made.number);
            Ok(go_to(&format!(
                "/apps/{}?environment={}&done={number}",
                encoded(app.as_str()),
                encoded(environment.unwrap_or_default())
            )))
        }
        // The page again, with what was typed, what is deployed now, and why it was not done.
        Err(problem) => {
            let status = problem.status();
            let again = prepare(context, visitor, app, &form, is_rollback, Some(&problem)).await?;
            let html = super::answer::render(&again)?;
            Ok((status, Html(html)).into_response())
        }
    }
}

async fn run(
    context: &Context,
    caller: &Caller,
    app: &AppName,
    form: &MoveForm,
    is_rollback: bool,
    dry_run: bool,
) -> ApiResult<Moved> {
    caller.must_cover(app)?;
    let request = Move {
        environment: form.environment.clone(),
        reason: form.reason.clone(),
        expected_manifest: form.expected_manifest.clone().filter(|_| !dry_run),
        dry_run,
        force: form.force.unwrap_or(false),
    };
    if is_rollback {
        let goal = Goal {
            to: form.to.clone(),
            steps: None,
        };
        return deploy::rollback(context, caller, app, &goal, &request).await;
    }
    let selection = Selection {
        prompt: form.prompt.clone(),
        version: form.version.clone(),
        manifest: form.to.clone(),
        ..Selection::default()
    };
    deploy::deploy(
        context,
        caller,
        app,
        &selection,
        DeploymentKind::Deploy,
        &request,
    )
    .await
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    name: &AppName,
    form: &MoveForm,
    is_rollback: bool,
    problem: Option<&Problem>,
) -> ApiResult<MovePage> {
    visitor.caller.must_cover(name)?;
    let is_chosen = is_rollback || form.prompt.is_some() || form.to.is_some();
    let mut hint = problem.and_then(Problem::advice).map(str::to_owned);
    let mut told = problem.map(|problem| problem.detail().to_owned());
    let planned = match is_chosen {
        false => None,
        true => match run(context, &visitor.caller, name, form, is_rollback, true).await {
            Ok(moved) => Some(moved),
            Err(problem) => {
                told = told.or_else(|| Some(problem.detail().to_owned()));
                hint = hint.or_else(|| problem.advice().map(str::to_owned));
                None
            }
        },
    };
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, name).await?;
    let environment = find_environment(&app, form.environment.as_ref())?;
    let history = whole_history(&mut *session, name, &environment).await?;
    let expected = history
        .first()
        .map_or_else(|| "none".to_owned(), |current| current.manifest.to_string());
    let plan = match planned {
        Some(moved) => Some(describe(&mut *session, moved, expected).await?),
        None => None,
    };
    let taken_back = plan
        .as_ref()
        .filter(|_| !is_rollback)
        .and_then(|plan| taken_back(&history, &plan.manifest));
    let (prompts, targets) = if is_rollback {
        let chosen = plan.as_ref().map(|plan| plan.manifest.as_str());
        let mut targets = Vec::new();
        for candidate in rollback_candidates(&history) {
            let id = candidate.manifest.to_string();
            let served = served::find(&mut *session, &candidate.manifest).await?;
            let label = served.map_or_else(|| id[..12].to_owned(), |served| served.label());
            targets.push(Choice {
                label: format!("{label} (#{}: {})", candidate.number, candidate.reason),
                is_chosen: chosen == Some(id.as_str()),
                value: id,
            });
        }
        (Vec::new(), targets)
    } else {
        choices(&mut *session, form).await?
    };
    let title = if is_rollback { "Roll back" } else { "Deploy" };
    Ok(MovePage {
        frame: Frame::new(context, visitor, format!("{title} {name}"), "/"),
        app: name.to_string(),
        environment: environment.to_string(),
        is_rollback,
        prompts,
        targets,
        plan,
        taken_back,
        reason: form.reason.clone(),
        problem: told,
        hint,
    })
}

/// How a manifest ended when it was in force here last, if somebody rolled it back. The history is newest first.
fn taken_back(history: &[Deployment], manifest: &str) -> Option<String> {
    let last = history
        .iter()
        .position(|made| made.manifest.to_string() == manifest)?;
    let next = &history[last.checked_sub(1)?];
    (next.kind == DeploymentKind::Rollback).then(|| {
        let (number, actor, reason) = (next.number, &next.actor, &next.reason);
        format!("{actor} rolled this back here (#{number}): {reason}")
    })
}

/// The prompts, and the versions of the one that was chosen.
async fn choices(
    session: &mut dyn StateSession,
    form: &MoveForm,
) -> ApiResult<(Vec<Choice>, Vec<Choice>)> {
    let prompts = session.prompts().list("", None, 500).await?;
    let prompts = prompts
        .into_iter()
        .map(|prompt| Choice {
            is_chosen: form.prompt.as_ref() == Some(&prompt.name),
            value: prompt.name.to_string(),
            label: prompt.name.to_string(),
        })
        .collect();
    let Some(prompt) = &form.prompt else {
        return Ok((prompts, Vec::new()));
    };
    let versions = session.prompts().history(prompt, None, 200).await?;
    let targets = versions
        .into_iter()
        .map(|version| Choice {
            value: version.ordinal.to_string(),
            is_chosen: form.version == Some(version.ordinal.to_string()),
            label: format!("@{} {}", version.ordinal, version.description),
        })
        .collect();
    Ok((prompts, targets))
}

/// What a move would do, for people.
pub(super) async fn describe(
    session: &mut dyn StateSession,
    moved: Moved,
    expected: String,
) -> ApiResult<Plan> {
    let from = match &moved.previous {
        Some(previous) => Some(served::describe(session, previous).await?.label()),
        None => None,
    };
    let changes = match &moved.previous {
        Some(previous) => prompt_changes(session, previous, &moved.manifest).await?,
        None => Vec::new(),
    };
    let members = moved
        .previous
        .iter()
        .flat_map(|previous| flywheel_core::diff::diff_manifests(previous, &moved.manifest));
    let short = |value: Option<String>| {
        let value = value.unwrap_or_else(|| "none".to_owned());
        value.chars().take(12).collect::<String>()
    };
    Ok(Plan {
        from,
        to: served::describe(session, &moved.manifest).await?.label(),
        manifest: moved.manifest.id().to_string(),
        expected,
        unchanged: moved.unchanged,
        changes: show_changes(&changes),
        members: members
            .map(|change| (change.member, short(change.before), short(change.after)))
            .collect(),
        passed: moved.preflight.passed(),
        checks: moved
            .preflight
            .checks
            .iter()
            .map(|check| CheckLine {
                name: check.name.to_string(),
                passed: check.problem.is_none(),
                detail: check
                    .problem
                    .iter()
                    .chain(&check.hint)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; "),
            })
            .collect(),
        stopped: names(&moved.stopped_experiments),
        running: names(&moved.running_experiments),
    })
}

fn names(experiments: &[flywheel_core::name::ExperimentName]) -> Vec<String> {
    experiments.iter().map(ToString::to_string).collect()
}

async fn prompt_changes(
    session: &mut dyn StateSession,
    before: &Manifest,
    after: &Manifest,
) -> ApiResult<Vec<Change>> {
    let older = session
        .prompts()
        .get(&before.prompt_id, &before.prompt_version)
        .await?;
    let newer = session
        .prompts()
        .get(&after.prompt_id, &after.prompt_version)
        .await?;
    Ok(match (older, newer) {
        (Some(older), Some(newer)) => diff_prompts(&older.content, &newer.content).changes,
        _ => Vec::new(),
    })
}
