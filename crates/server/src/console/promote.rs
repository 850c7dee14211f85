//! Promoting an arm: what the experiment says, what the deployment changes, and one button that makes it.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _};
use flywheel_core::experiment::Experiment;
use flywheel_core::name::{ArmName, ExperimentName};
use serde::Deserialize;

use super::answer::{Frame, PageResult, go_to, page, render};
use super::experiment::ShownVerdict;
use super::form::{PageForm, PagePath, PageQuery, given};
use super::moves::{self, Plan};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::{Move, Moved};
use crate::operations::experiments;
use crate::problem::{ApiResult, Problem};

/// What is to be promoted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromoteForm {
    /// The arm; the one that the verdict is about if absent.
    #[serde(deserialize_with = "given")]
    arm: Option<ArmName>,
    reason: String,
    /// What the page showed as deployed.
    #[serde(deserialize_with = "given")]
    expected_manifest: Option<String>,
    #[serde(deserialize_with = "given")]
    force: Option<bool>,
}

#[derive(Template)]
#[template(path = "promote.html")]
struct PromotePage {
    frame: Frame,
    name: String,
    app: String,
    environment: String,
    /// The arms, and whether each is chosen.
    arms: Vec<(String, bool)>,
    arm: Option<String>,
    verdict: ShownVerdict,
    /// Whether the readout allows it.
    is_allowed: bool,
    plan: Option<Plan>,
    reason: String,
    problem: Option<Markup>,
    hint: Option<Markup>,
}

/// `GET /experiments/{experiment}/promote`
pub(super) async fn plan_promotion(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
    PageQuery(form): PageQuery<PromoteForm>,
) -> PageResult {
    page(&prepare(&context, &visitor, &name, &form, None).await?)
}

/// `POST /experiments/{experiment}/promote`
pub(super) async fn promote(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
    PageForm(form): PageForm<PromoteForm>,
) -> PageResult {
    let done = match &form.arm {
        None => Err(Problem::invalid("choose the arm that is to be promoted")),
        Some(_) if form.reason.trim().is_empty() => Err(Problem::invalid(
            "say why: the reason is kept with the deployment",
        )),
        Some(arm) => run(&context, &visitor.caller, &name, arm, &form, false).await,
    };
    match done {
        Ok(moved) => {
            let path = moved.deployment.map_or_else(
                || super::experiment::path_of(&name),
                |made| {
                    format!(
                        "/apps/{}?environment={}&done={}",
                        encoded(made.app.as_str()),
                        encoded(made.environment.as_str()),
                        made.number
                    )
                },
            );
            Ok(go_to(&path))
        }
        // The page again, with what was typed, what is deployed now, and why it was not done.
        Err(problem) => {
            let status = problem.status();
            let again = prepare(&context, &visitor, &name, &form, Some(&problem)).await?;
            Ok((status, Html(render(&again)?)).into_response())
        }
    }
}

async fn run(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    arm: &ArmName,
    form: &PromoteForm,
    dry_run: bool,
) -> ApiResult<Moved> {
    let request = Move {
        environment: None,
        reason: form.reason.trim().to_owned(),
        expected_manifest: form.expected_manifest.clone().filter(|_| !dry_run),
        dry_run,
        force: form.force.unwrap_or(false),
    };
    experiments::promote(context, caller, name, arm, &request).await
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    name: &ExperimentName,
    form: &PromoteForm,
    problem: Option<&Problem>,
) -> ApiResult<PromotePage> {
    let (experiment, readout) = experiments::read(context, &visitor.caller, name).await?;
    let verdict = &readout.verdict;
    let arm = form.arm.clone().or_else(|| verdict.arm.clone());
    let mut told = problem.map(|problem| show::prose(problem.detail()));
    let mut hint = problem.and_then(Problem::advice).map(show::prose);
    let planned = match &arm {
        None => None,
        Some(arm) => match run(context, &visitor.caller, name, arm, form, true).await {
            Ok(moved) => Some(moved),
            Err(problem) => {
                told = told.or_else(|| Some(show::prose(problem.detail())));
                hint = hint.or_else(|| problem.advice().map(show::prose));
                None
            }
        },
    };
    let mut session = context.state.read().await?;
    let expected = current(&mut *session, &experiment).await?;
    let plan = match planned {
        Some(moved) => Some(moves::describe(&mut *session, moved, expected).await?),
        None => None,
    };
    Ok(PromotePage {
        frame: Frame::new(context, visitor, format!("Promote {name}"), "/experiments"),
        name: name.to_string(),
        app: experiment.app.to_string(),
        environment: experiment.environment.to_string(),
        arms: experiment
            .arms
            .iter()
            .map(|known| (known.name.to_string(), arm.as_ref() == Some(&known.name)))
            .collect(),
        is_allowed: verdict.may_promote && verdict.arm == arm,
        arm: arm.map(|arm| arm.to_string()),
        verdict: ShownVerdict {
            // This is the page that does it.
            next: None,
            ..ShownVerdict::new(verdict, experiment.status)
        },
        plan,
        reason: form.reason.clone(),
        problem: told,
        hint,
    })
}

/// What the experiment's environment serves now.
async fn current(
    session: &mut dyn flywheel_storage::StateSession,
    experiment: &Experiment,
) -> ApiResult<String> {
    let found = session
        .deployments()
        .current(&experiment.app, &experiment.environment)
        .await?;
    Ok(found.map_or_else(|| "none".to_owned(), |found| found.manifest.to_string()))
}
