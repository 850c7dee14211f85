//! Changing what an experiment allocates, or its plan: a form with what holds now.

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _};
use flywheel_core::ContentHash;
use flywheel_core::experiment::Experiment;
use flywheel_core::metric::Metric;
use flywheel_core::name::ExperimentName;
use flywheel_core::plan::{Guardrail, Plan};

use serde_json::json;

use super::answer::{Frame, PageResult, go_to, page, render};
use super::experiment::{amounts, path_of};
use super::form::{PageForm, PagePath};
use super::new_experiment::typed::{Typed, UNITS};
use super::new_experiment::{GuardrailFields, effect_fields, put_guardrails};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::experiments::{self, ExperimentChange};
use crate::problem::{ApiResult, Problem};

#[derive(Template)]
#[template(path = "change_experiment.html")]
struct ChangePage {
    frame: Frame,
    name: String,
    path: String,
    before: String,
    status: &'static str,
    units: &'static str,
    primary: Option<String>,
    typed: Typed,
    /// Names and weights.
    arms: Vec<(String, String)>,
    guardrails: Vec<GuardrailFields>,
    problem: Option<Markup>,
    hint: Option<Markup>,
}

/// `GET /experiments/{experiment}/change`
pub(super) async fn begin(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
) -> PageResult {
    let experiment = find(&context, &visitor, &name).await?;
    let typed = as_it_is(&experiment);
    page(&prepare(&context, &visitor, &experiment, typed, None))
}

/// `POST /experiments/{experiment}/change`
pub(super) async fn change(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
    PageForm(typed): PageForm<Typed>,
) -> PageResult {
    let experiment = find(&context, &visitor, &name).await?;
    let done = match asked_for(&experiment, &typed) {
        // What one did not touch would be put back to what it was when the form was opened.
        Ok(_) if typed.get("before") != fingerprint(&experiment) => Err(Problem::conflict(
            "changed_meanwhile",
            format!("`{name}` was changed while this form was open"),
        )
        .hint("below is what you typed; what holds now is on the experiment's page")),
        Ok(change) => experiments::change(&context, &visitor.caller, &name, &change).await,
        Err(problem) => Err(problem),
    };
    match done {
        Ok(_) => Ok(go_to(&path_of(&name))),
        Err(problem) => {
            let again = prepare(&context, &visitor, &experiment, typed, Some(&problem));
            Ok((problem.status(), Html(render(&again)?)).into_response())
        }
    }
}

async fn find(
    context: &Context,
    visitor: &Visitor,
    name: &ExperimentName,
) -> ApiResult<Experiment> {
    let mut session = context.state.read().await?;
    experiments::find(&mut *session, &visitor.caller, name).await
}

fn primary(experiment: &Experiment) -> Option<&Metric> {
    let plan = &experiment.plan;
    plan.metric(plan.primary.as_ref()?)
}

/// What the form began with, so that a change in between shows.
fn fingerprint(experiment: &Experiment) -> String {
    let weights: Vec<u32> = experiment.arms.iter().map(|arm| arm.weight).collect();
    let allocated = json!({"exposure": experiment.exposure, "weights": weights});
    let plan = experiment.plan.hash();
    ContentHash::of_json(&json!({"plan": plan, "allocated": allocated})).to_string()
}

/// The form as it stands before anything is typed.
fn as_it_is(experiment: &Experiment) -> Typed {
    let plan = &experiment.plan;
    let percent = |basis_points: u32| amounts::percent(basis_points);
    let mut typed = Typed::default();
    typed.put("exposure", percent(experiment.exposure));
    for (place, arm) in experiment.arms.iter().enumerate() {
        typed.put(&format!("weight.{place}"), percent(arm.weight));
    }
    if let Some(mde) = plan.mde {
        let (text, kind) = effect_fields(primary(experiment), mde);
        typed.put("mde", text);
        typed.put("mde_kind", kind);
    }
    typed.put("minimum_days", plan.minimum_days.to_string());
    put_guardrails(&mut typed, &plan.guardrails, &plan.metrics);
    typed
}

/// What is to be different. A number that nobody touched stays exactly what it was, of which the form shows some digits.
fn asked_for(experiment: &Experiment, typed: &Typed) -> ApiResult<ExperimentChange> {
    let plan = &experiment.plan;
    let before = as_it_is(experiment);
    let is_other = |field: &str| before.get(field) != typed.get(field);
    let mut change = ExperimentChange::default();
    if is_other("exposure") {
        must_be_given(typed, "exposure", "the share that takes part")?;
        change.exposure = typed.percent("exposure", "the share that takes part")?;
    }
    let fields = (0..experiment.arms.len()).map(|place| format!("weight.{place}"));
    let fields: Vec<String> = fields.collect();
    if fields.iter().any(|field| is_other(field)) {
        let mut weights = Vec::new();
        for (arm, field) in experiment.arms.iter().zip(&fields) {
            let what = format!("the weight of arm `{}`", arm.name);
            weights.push(match is_other(field) {
                true => typed.percent(field, &what)?.unwrap_or(0),
                false => arm.weight,
            });
        }
        change.weights = Some(weights);
    }
    if is_other("mde") || (is_other("mde_kind") && !typed.get("mde").is_empty()) {
        let what = "the smallest effect that matters";
        must_be_given(typed, "mde", what)?;
        change.mde = typed.effect("mde", what, plan.primary.as_ref(), &plan.metrics)?;
    }
    if is_other("minimum_days") {
        must_be_given(typed, "minimum_days", "the number of full days")?;
        change.minimum_days = typed.days()?;
    }
    let rows = before
        .rows("guardrail", "metric")
        .max(typed.rows("guardrail", "metric"));
    let members = ["metric", "margin", "margin_kind"];
    let mut fields = (0..rows)
        .flat_map(|row| members.map(|member| (row, member)))
        // A row without a metric guards nothing, whatever else stands in it.
        .filter(|(row, _)| {
            let metric = format!("guardrail.{row}.metric");
            !(before.get(&metric).is_empty() && typed.get(&metric).is_empty())
        });
    if fields.any(|(row, member)| is_other(&format!("guardrail.{row}.{member}"))) {
        let guardrails = typed.guardrails(&plan.metrics)?.into_iter();
        change.guardrails = Some(guardrails.map(|typed| kept(plan, typed)).collect());
    }
    Ok(change)
}

fn must_be_given(typed: &Typed, field: &str, what: &str) -> ApiResult<()> {
    match typed.get(field) {
        "" => Err(Problem::invalid(format!("{what} is missing"))),
        _ => Ok(()),
    }
}

/// The guardrail as it was, where the form shows it no different.
fn kept(plan: &Plan, typed: Guardrail) -> Guardrail {
    let metric = plan.metric(&typed.metric);
    let shown = |guardrail: &Guardrail| effect_fields(metric, guardrail.margin);
    let mut before = plan.guardrails.iter();
    let is_it = |known: &&Guardrail| known.metric == typed.metric && shown(known) == shown(&typed);
    before.find(is_it).cloned().unwrap_or(typed)
}

fn prepare(
    context: &Context,
    visitor: &Visitor,
    experiment: &Experiment,
    mut typed: Typed,
    problem: Option<&Problem>,
) -> ChangePage {
    let metrics = &experiment.plan.metrics;
    let arms = experiment.arms.iter().enumerate();
    let units = UNITS.iter().find(|(.., unit)| *unit == experiment.unit);
    ChangePage {
        frame: Frame::new(context, visitor, "Change an experiment", "/experiments"),
        name: experiment.name.to_string(),
        path: path_of(&experiment.name),
        before: fingerprint(experiment),
        status: experiment.status.as_str(),
        units: units.map_or("units", |(_, label, _)| label),
        primary: experiment.plan.primary.as_ref().map(ToString::to_string),
        arms: arms
            .map(|(place, arm)| {
                let weight = typed.get(&format!("weight.{place}")).to_owned();
                (arm.name.to_string(), weight)
            })
            .collect(),
        guardrails: GuardrailFields::all(&mut typed, metrics),
        typed,
        problem: problem.map(|problem| show::prose(problem.detail())),
        hint: problem.and_then(Problem::advice).map(show::prose),
    }
}
