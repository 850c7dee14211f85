//! Deploying and rolling back: a page that shows exactly what will change, and one button that does it.

mod hindsight;

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse};
use flywheel_core::deployment::{Deployment, DeploymentKind, rollback_candidates};
use flywheel_core::diff::{Change, diff_prompts};
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, Manifest, PromptName};
use flywheel_storage::StateSession;
use serde::Deserialize;

use self::hindsight::Scores;
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
use crate::operations::served::{self, Served};
use crate::problem::{ApiResult, Problem};

/// What is to be done, as a page or a form says it.
#[derive(Debug, Clone, Default, Deserialize)]
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
    /// What was rolled back here before, by whom and why.
    notes: Vec<String>,
    /// What people think of what is served now, and of what would be.
    ratings: Option<(String, String)>,
    /// Whether that was the latest version and nobody asked for it, so that one has to be chosen.
    version_is_open: bool,
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
    let now = context.sources.clock.now();
    let mut form = with_prompt(context, name, form, is_rollback).await?;
    let is_chosen = is_rollback || form.prompt.is_some() || form.to.is_some();
    let mut hint = problem.and_then(Problem::advice).map(str::to_owned);
    let mut told = problem.map(|problem| problem.detail().to_owned());
    let mut notes = Vec::new();
    let mut version_is_open = false;
    let planned = match is_chosen {
        false => None,
        true => match run(context, &visitor.caller, name, &form, is_rollback, true).await {
            Ok(moved) => {
                version_is_open = !is_rollback
                    && moved.taken_back.is_some()
                    && form.version.is_none()
                    && form.to.is_none();
                notes = hindsight::notes(&moved, is_rollback, version_is_open, now);
                (!version_is_open).then_some(moved)
            }
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
    // What the page shows is what its button does, whatever is pushed meanwhile.
    if let Some(moved) = planned.as_ref().filter(|_| form.prompt.is_some()) {
        let served = served::describe(&mut *session, &moved.manifest).await?;
        form.version = served.prompt_ordinal.map(|ordinal| ordinal.to_string());
    }
    let plan = match planned {
        Some(moved) => Some(describe(&mut *session, moved, expected).await?),
        None => None,
    };
    let (prompts, mut targets) = if is_rollback {
        let chosen = plan.as_ref().map(|plan| plan.manifest.as_str());
        (
            Vec::new(),
            ways_back(&mut *session, &history, chosen).await?,
        )
    } else {
        choices(&mut *session, &form).await?
    };
    drop(session);
    let scores = Scores::read(context, name, &environment).await;
    if is_rollback {
        for target in &mut targets {
            if let Some(score) = scores.of(&target.value) {
                target.label.push_str(&format!(" · {score}"));
            }
        }
    }
    let ratings = plan
        .as_ref()
        .filter(|plan| !plan.unchanged)
        .and_then(|plan| {
            let (now, then) = (scores.of(&plan.expected)?, scores.of(&plan.manifest)?);
            Some((now.to_owned(), then.to_owned()))
        });
    let title = if is_rollback { "Roll back" } else { "Deploy" };
    Ok(MovePage {
        frame: Frame::new(context, visitor, format!("{title} {name}"), "/"),
        app: name.to_string(),
        environment: environment.to_string(),
        is_rollback,
        prompts,
        targets,
        plan,
        notes,
        ratings,
        version_is_open,
        reason: form.reason,
        problem: told,
        hint,
    })
}

/// What is asked for; a deployment of nothing yet is of the prompt that is served, or of the only one there is.
async fn with_prompt(
    context: &Context,
    name: &AppName,
    form: &MoveForm,
    is_rollback: bool,
) -> ApiResult<MoveForm> {
    let mut form = form.clone();
    if is_rollback || form.prompt.is_some() || form.to.is_some() {
        return Ok(form);
    }
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, name).await?;
    let environment = find_environment(&app, form.environment.as_ref())?;
    let current = session.deployments().current(name, &environment).await?;
    let served = match current {
        Some(current) => served::find(&mut *session, &current.manifest).await?,
        None => None,
    };
    form.prompt = match served {
        Some(served) => Some(served.prompt),
        None => {
            let mut prompts = session.prompts().list("", None, 2).await?;
            prompts
                .pop()
                .filter(|_| prompts.is_empty())
                .map(|prompt| prompt.name)
        }
    };
    Ok(form)
}

/// The manifests to go back to.
async fn ways_back(
    session: &mut dyn StateSession,
    history: &[Deployment],
    chosen: Option<&str>,
) -> ApiResult<Vec<Choice>> {
    let mut targets = Vec::new();
    for candidate in rollback_candidates(history) {
        let id = candidate.manifest.to_string();
        let served = served::find(session, &candidate.manifest).await?;
        let label = served.map_or_else(|| id[..12].to_owned(), |served| served.label());
        targets.push(Choice {
            label: format!("{label} (#{}: {})", candidate.number, candidate.reason),
            is_chosen: chosen == Some(id.as_str()),
            value: id,
        });
    }
    Ok(targets)
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
    let now = match &moved.previous {
        Some(previous) => Some(served::describe(session, previous).await?),
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
    let then = served::describe(session, &moved.manifest).await?;
    let short = |member: &str, value: Option<String>, served: Option<&Served>| {
        let value = value.unwrap_or_else(|| "none".to_owned());
        let short: String = value.chars().take(12).collect();
        match served.and_then(|served| served.prompt_ordinal) {
            Some(ordinal) if member == "prompt_version" => format!("@{ordinal} {short}"),
            _ => short,
        }
    };
    Ok(Plan {
        from: now.as_ref().map(Served::label),
        to: then.label(),
        manifest: moved.manifest.id().to_string(),
        expected,
        unchanged: moved.unchanged,
        changes: show_changes(&changes),
        members: members
            .map(|change| {
                let before = short(&change.member, change.before, now.as_ref());
                let after = short(&change.member, change.after, Some(&then));
                (change.member, before, after)
            })
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
