//! One experiment: its verdict on top and what can be done about it, then the evidence, then the numbers behind that.

pub(super) mod amounts;
mod distribution;
mod evidence;
mod forest;
pub(super) mod plan;
mod sequence;

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _};
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::key::Permission;
use flywheel_core::name::ExperimentName;
use serde::Deserialize;

use self::evidence::Evidence;
use self::plan::{ArmRow, ShownPlan};
use super::answer::{Frame, PageResult, go_to, page, render};
use super::form::{PageForm, PagePath};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::context::Context;
use crate::operations::experiments;
use crate::operations::histograms;
use crate::operations::readout::{MetricReadout, MetricRole, Readout, Verdict, VerdictState};
use crate::problem::{ApiResult, Problem};

/// A verdict as it is shown: a colour, an icon and a word for its state.
pub(super) struct ShownVerdict {
    pub(super) class: &'static str,
    pub(super) icon: &'static str,
    pub(super) word: &'static str,
    pub(super) headline: Markup,
    pub(super) reason: Markup,
    pub(super) next: Option<Markup>,
}

impl ShownVerdict {
    pub(super) fn new(verdict: &Verdict, status: ExperimentStatus) -> Self {
        let (class, icon, word) = match verdict.state {
            VerdictState::Draft => ("open", "○", "draft"),
            VerdictState::Rebuilding => ("open", "↻", "being counted again"),
            VerdictState::Invalid => ("bad", "✗", "invalid"),
            VerdictState::Abort => ("bad", "■", "guardrail violated"),
            VerdictState::Better => ("good", "✓", "better"),
            VerdictState::Worse => ("warn", "▼", "control is better"),
            VerdictState::NoMeaningfulDifference => ("calm", "=", "no meaningful difference"),
            VerdictState::NoVerdict => ("open", "…", "no verdict yet"),
            VerdictState::Collecting => ("open", "…", "collecting"),
            VerdictState::Unplanned => ("open", "–", "nothing planned"),
        };
        Self {
            class,
            icon,
            word,
            headline: show::sentence(&verdict.headline),
            reason: show::sentence(&verdict.reason),
            // What to do next is over with the experiment.
            next: (!status.has_ended()).then(|| show::sentence(&verdict.next)),
        }
    }
}

pub(super) fn status(experiment: &Experiment) -> &'static str {
    experiment.status.as_str()
}

/// What can be done now, and which of it the verdict asks for.
struct Actions {
    is_draft: bool,
    is_running: bool,
    may_be_archived: bool,
    /// The arm that may be promoted.
    promote: Option<String>,
    /// Whether stopping is what the verdict asks for.
    is_to_stop: bool,
    /// What was typed as the reason for stopping, if that was refused.
    reason: Option<String>,
}

impl Actions {
    fn new(experiment: &Experiment, verdict: &Verdict, reason: Option<String>) -> Self {
        let is_running = experiment.status == ExperimentStatus::Running;
        let arm = verdict.arm.as_ref().filter(|_| verdict.may_promote);
        Self {
            is_draft: experiment.status == ExperimentStatus::Draft,
            is_running,
            may_be_archived: matches!(
                experiment.status,
                ExperimentStatus::Draft | ExperimentStatus::Stopped
            ),
            promote: arm.filter(|_| is_running).map(ToString::to_string),
            is_to_stop: matches!(
                verdict.state,
                VerdictState::Invalid
                    | VerdictState::Abort
                    | VerdictState::Worse
                    | VerdictState::NoMeaningfulDifference
            ),
            reason,
        }
    }
}

struct ShownDecision {
    by: String,
    reason: Markup,
    promoted: Option<String>,
}

#[derive(Template)]
#[template(path = "experiment.html")]
struct ExperimentPage {
    frame: Frame,
    name: String,
    app: String,
    environment: String,
    status: &'static str,
    hypothesis: Markup,
    times: Vec<(&'static str, Markup)>,
    verdict: ShownVerdict,
    /// No number may be used.
    is_void: bool,
    decision: Option<ShownDecision>,
    /// Absent where the visitor may change nothing.
    actions: Option<Actions>,
    plan: ShownPlan,
    arms: Vec<ArmRow>,
    evidence: Evidence,
    problem: Option<Markup>,
    hint: Option<Markup>,
}

/// `GET /experiments/{experiment}`
pub(super) async fn show_experiment(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
) -> PageResult {
    page(&prepare(&context, &visitor, &name, None).await?)
}

/// `POST /experiments/{experiment}/start`
pub(super) async fn start(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
) -> PageResult {
    match experiments::start(&context, &visitor.caller, &name).await {
        Ok(_) => Ok(go_to(&path_of(&name))),
        Err(problem) => again(&context, &visitor, &name, problem, None).await,
    }
}

/// Why an experiment is stopped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StopForm {
    reason: String,
}

/// `POST /experiments/{experiment}/stop`
pub(super) async fn stop(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
    PageForm(form): PageForm<StopForm>,
) -> PageResult {
    let reason = form.reason.trim();
    let done = if reason.is_empty() {
        Err(Problem::invalid(
            "say why: the reason is kept with the experiment",
        ))
    } else {
        experiments::stop(&context, &visitor.caller, &name, reason).await
    };
    match done {
        Ok(_) => Ok(go_to(&path_of(&name))),
        Err(problem) => again(&context, &visitor, &name, problem, Some(form.reason)).await,
    }
}

/// `POST /experiments/{experiment}/archive`
pub(super) async fn archive(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
) -> PageResult {
    match experiments::archive(&context, &visitor.caller, &name).await {
        Ok(_) => Ok(go_to(&path_of(&name))),
        Err(problem) => again(&context, &visitor, &name, problem, None).await,
    }
}

pub(super) fn path_of(name: &ExperimentName) -> String {
    format!("/experiments/{}", encoded(name.as_str()))
}

/// The page as it is now, with what was typed and why nothing was done.
async fn again(
    context: &Context,
    visitor: &Visitor,
    name: &ExperimentName,
    problem: Problem,
    reason: Option<String>,
) -> PageResult {
    let status = problem.status();
    let page = prepare(context, visitor, name, Some((&problem, reason))).await?;
    Ok((status, Html(render(&page)?)).into_response())
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    name: &ExperimentName,
    refused: Option<(&Problem, Option<String>)>,
) -> ApiResult<ExperimentPage> {
    let now = context.sources.clock.now();
    let (experiment, readout) = experiments::read(context, &visitor.caller, name).await?;
    // While they are made again there are none.
    let statistics = context.statistics.experiment_statistics(name).await?;
    let histograms = histograms::of_statistics(&experiment, &statistics);
    let may_change = visitor.caller.must_be_allowed(Permission::Change).is_ok();
    let problem = refused.as_ref().map(|(problem, _)| *problem);
    let reason = refused.as_ref().and_then(|(_, reason)| reason.clone());
    let actions = may_change.then(|| Actions::new(&experiment, &readout.verdict, reason));
    let mut verdict = ShownVerdict::new(&readout.verdict, experiment.status);
    // Where a button does it, no command needs to be named.
    if actions
        .as_ref()
        .is_some_and(|actions| actions.is_draft || actions.promote.is_some())
    {
        verdict.next = None;
    }
    let times = [
        ("made", Some(experiment.created_at)),
        ("started", experiment.started_at),
        ("stopped", experiment.stopped_at),
        ("as of", experiment.started_at.map(|_| readout.at)),
    ];
    Ok(ExperimentPage {
        frame: Frame::new(context, visitor, name.as_str(), "/experiments"),
        name: name.to_string(),
        app: experiment.app.to_string(),
        environment: experiment.environment.to_string(),
        status: status(&experiment),
        hypothesis: show::text(&experiment.hypothesis),
        times: times
            .into_iter()
            .filter_map(|(what, at)| Some((what, show::when(at?, now))))
            .collect(),
        verdict,
        is_void: readout.verdict.state == VerdictState::Invalid,
        decision: experiment.decision.as_ref().map(|decision| ShownDecision {
            by: decision.by.clone(),
            reason: show::text(&decision.reason),
            promoted: decision.promoted.as_ref().map(ToString::to_string),
        }),
        actions,
        plan: ShownPlan::new(&experiment, control_value(&readout), now),
        arms: ArmRow::all(context, &experiment, &readout).await?,
        evidence: Evidence::new(&experiment, &readout, &histograms),
        problem: problem.map(|problem| show::prose(problem.detail())),
        hint: problem.and_then(Problem::advice).map(show::prose),
    })
}

/// The control's value of the primary metric.
fn control_value(readout: &Readout) -> Option<f64> {
    let control = readout.arms.iter().find(|arm| arm.is_control)?;
    let primary = primary(readout)?;
    let of_control = primary.arms.iter().find(|arm| arm.arm == control.arm)?;
    of_control.value
}

/// The metric that decides.
pub(super) fn primary(readout: &Readout) -> Option<&MetricReadout> {
    readout
        .metrics
        .iter()
        .find(|metric| metric.role == MetricRole::Primary)
}
