//! A new experiment: a form that says at once how many units and days it takes, and saves it as a draft.

pub(super) mod typed;

use askama::Template;
use axum::extract::State;
use axum::response::{Html, IntoResponse as _};
use flywheel_core::deployment::{App, AppSettings};
use flywheel_core::metric::Metric;
use flywheel_core::plan::{DEFAULT_ALPHA, DEFAULT_DAYS, DEFAULT_POWER, Effect, Guardrail};
use flywheel_stats::planning::duration::LONGEST_SENSIBLE;
use http::StatusCode;
use serde::Deserialize;

use self::typed::{MODES, MOST_ROWS, Typed, UNITS};
use super::answer::{Frame, PageResult, go_to, page, render};
use super::experiment::plan::{self as shown_plan, ShownPlan};
use super::experiment::{amounts, path_of};
use super::form::{PageForm, PageQuery};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::deploy::find_app;
use crate::operations::{experiments, planning, served};
use crate::problem::{ApiResult, Problem};

/// Versions that are offered.
const VERSIONS: u32 = 50;

/// Where the form begins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BeginQuery {
    app: String,
    environment: String,
}

/// Something to choose, and whether it is chosen.
pub(super) struct Choice {
    pub(super) value: String,
    pub(super) label: String,
    pub(super) is_chosen: bool,
}

fn choices<T: ToString>(values: impl IntoIterator<Item = T>, chosen: &str) -> Vec<Choice> {
    let choice = |value: T| {
        let value = value.to_string();
        Choice {
            label: value.clone(),
            is_chosen: value == chosen,
            value,
        }
    };
    values.into_iter().map(choice).collect()
}

struct ArmFields {
    row: usize,
    name: String,
    serves: String,
    weight: String,
}

/// A row for a guardrail.
pub(super) struct GuardrailFields {
    pub(super) row: usize,
    pub(super) metrics: Vec<Choice>,
    pub(super) margin: String,
    pub(super) is_relative: bool,
}

impl GuardrailFields {
    /// All rows, one more than is filled in.
    pub(super) fn all(typed: &mut Typed, metrics: &[Metric]) -> Vec<Self> {
        let rows = typed.rows("guardrail", "metric");
        let last = rows
            .checked_sub(1)
            .map(|row| format!("guardrail.{row}.metric"));
        if rows < MOST_ROWS && last.is_none_or(|last| !typed.get(&last).is_empty()) {
            typed.put(&format!("guardrail.{rows}.metric"), "");
        }
        let fields = |row| {
            let text = |member: &str| typed.get(&format!("guardrail.{row}.{member}"));
            Self {
                row,
                metrics: choices(metrics.iter().map(|metric| &metric.name), text("metric")),
                margin: text("margin").to_owned(),
                is_relative: text("margin_kind") == "relative",
            }
        };
        (0..typed.rows("guardrail", "metric")).map(fields).collect()
    }
}

/// Writes guardrails into their rows.
pub(super) fn put_guardrails(typed: &mut Typed, guardrails: &[Guardrail], metrics: &[Metric]) {
    for (row, guardrail) in guardrails.iter().enumerate() {
        let metric = metrics.iter().find(|known| known.name == guardrail.metric);
        let (margin, kind) = effect_fields(metric, guardrail.margin);
        let field = |member: &str| format!("guardrail.{row}.{member}");
        typed.put(&field("metric"), guardrail.metric.to_string());
        typed.put(&field("margin"), margin);
        typed.put(&field("margin_kind"), kind);
    }
}

/// An effect as it is typed: shares in points.
pub(super) fn effect_fields(metric: Option<&Metric>, effect: Effect) -> (String, &'static str) {
    match effect {
        Effect::Absolute(value) => {
            let value = metric.map_or(value, |metric| amounts::scaled(metric, value));
            (amounts::number(value), "absolute")
        }
        Effect::Relative(share) => (amounts::number(share * 100.0), "relative"),
    }
}

/// What the plan comes to, or why there is none.
#[derive(Template)]
#[template(path = "planned.html")]
struct Planned {
    headline: String,
    facts: Vec<(&'static str, String)>,
    advice: Option<String>,
    problem: Option<Markup>,
    hint: Option<Markup>,
}

#[derive(Template)]
#[template(path = "new_experiment.html")]
struct NewExperimentPage {
    frame: Frame,
    typed: Typed,
    apps: Vec<Choice>,
    environments: Vec<Choice>,
    metrics: Vec<Choice>,
    modes: Vec<Choice>,
    units: Vec<Choice>,
    /// What an arm can serve.
    versions: Vec<String>,
    arms: Vec<ArmFields>,
    guardrails: Vec<GuardrailFields>,
    planned: Option<Planned>,
}

/// `GET /experiments/new`
pub(super) async fn begin(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<BeginQuery>,
) -> PageResult {
    let mut typed = Typed::default();
    typed.put("app", query.app);
    typed.put("environment", query.environment);
    page(&prepare(&context, &visitor, typed, None).await?)
}

/// `POST /experiments/new`
pub(super) async fn use_form(
    State(context): State<Context>,
    visitor: Visitor,
    PageForm(mut typed): PageForm<Typed>,
) -> PageResult {
    match typed.get("action") {
        "save" => match make(&context, &visitor, &typed, false).await {
            Ok(experiment) => Ok(go_to(&path_of(&experiment.name))),
            Err(problem) => {
                let status = problem.status();
                let planned = Some(Planned::refused(&problem));
                let again = prepare(&context, &visitor, typed, planned).await?;
                Ok((status, Html(render(&again)?)).into_response())
            }
        },
        "arm" => {
            let row = typed.rows("arm", "name");
            if row < MOST_ROWS {
                typed.put(&format!("arm.{row}.name"), "");
            }
            page(&prepare(&context, &visitor, typed, None).await?)
        }
        "show" => page(&prepare(&context, &visitor, typed, None).await?),
        // Of the page only the part that changes while one types; whatever is missing yet is no error.
        "fragment" => page(&plan(&context, &visitor, &typed).await.1),
        _ => {
            let (status, planned) = plan(&context, &visitor, &typed).await;
            let again = prepare(&context, &visitor, typed, Some(planned)).await?;
            Ok((status, Html(render(&again)?)).into_response())
        }
    }
}

async fn make(
    context: &Context,
    visitor: &Visitor,
    typed: &Typed,
    is_dry_run: bool,
) -> ApiResult<flywheel_core::experiment::Experiment> {
    let mut session = context.state.read().await?;
    let app = typed.get("app").parse();
    let app = app.map_err(|_| Problem::invalid("choose the app whose traffic takes part"))?;
    visitor.caller.must_cover(&app)?;
    let app = find_app(&mut *session, &app).await?;
    drop(session);
    let new = typed.experiment(&app.settings, is_dry_run)?;
    experiments::create(context, &visitor.caller, new).await
}

async fn plan(context: &Context, visitor: &Visitor, typed: &Typed) -> (StatusCode, Planned) {
    match make(context, visitor, typed, true).await {
        Ok(experiment) => {
            let now = context.sources.clock.now();
            (StatusCode::OK, Planned::new(&experiment, now))
        }
        Err(problem) => (problem.status(), Planned::refused(&problem)),
    }
}

impl Planned {
    fn new(experiment: &flywheel_core::experiment::Experiment, now: jiff::Timestamp) -> Self {
        let plan = &experiment.plan;
        let mut facts = ShownPlan::new(experiment, None, now).facts;
        let size = plan.size;
        if let Some(size) = size {
            let per_arm = crate::operations::readout::words::count(size.fixed_per_arm);
            facts.push((
                "with one look at the end",
                format!("{per_arm} units per arm"),
            ));
        }
        let is_long = size.is_some_and(|size| size.days.is_none_or(|days| days > LONGEST_SENSIBLE));
        Self {
            headline: match plan.primary {
                Some(_) => format!("Takes {}.", shown_plan::size(plan)),
                None => "No primary metric: there will be no verdict.".to_owned(),
            },
            facts,
            advice: is_long.then(|| {
                "That is longer than most changes last: a larger effect, a steadier metric or fewer arms take less."
                    .to_owned()
            }),
            problem: None,
            hint: None,
        }
    }

    fn refused(problem: &Problem) -> Self {
        Self {
            headline: String::new(),
            facts: Vec::new(),
            advice: None,
            problem: Some(show::prose(problem.detail())),
            hint: problem.advice().map(show::prose),
        }
    }
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    mut typed: Typed,
    planned: Option<Planned>,
) -> ApiResult<NewExperimentPage> {
    let mut session = context.state.read().await?;
    let mut apps = session.deployments().list_apps().await?;
    apps.retain(|app| visitor.caller.must_cover(&app.name).is_ok());
    let chosen = apps
        .iter()
        .find(|app| app.name.as_str() == typed.get("app"));
    let app = chosen.or(apps.first()).cloned();
    if let Some(app) = &app {
        typed.put("app", app.name.to_string());
    }
    let settings = app
        .as_ref()
        .map(|app| app.settings.clone())
        .unwrap_or_default();
    let versions = match &app {
        Some(app) => offer(&mut *session, app, &mut typed).await?,
        None => Vec::new(),
    };
    fill(&mut typed, &settings);
    let metrics = settings.metrics();
    let names = || metrics.iter().map(|metric| &metric.name);
    let guardrails = GuardrailFields::all(&mut typed, &metrics);
    let arms = (0..typed.rows("arm", "name")).map(|row| {
        let text = |member: &str| typed.get(&format!("arm.{row}.{member}")).to_owned();
        ArmFields {
            row,
            name: text("name"),
            serves: text("serves"),
            weight: text("weight"),
        }
    });
    Ok(NewExperimentPage {
        frame: Frame::new(context, visitor, "New experiment", "/experiments"),
        apps: choices(apps.iter().map(|app| &app.name), typed.get("app")),
        environments: choices(&settings.environments, typed.get("environment")),
        metrics: choices(names(), typed.get("primary")),
        modes: MODES
            .iter()
            .map(|(name, mode)| Choice {
                value: (*name).to_owned(),
                label: shown_plan::mode(*mode).to_owned(),
                is_chosen: *name == typed.get("mode"),
            })
            .collect(),
        units: UNITS
            .iter()
            .map(|(name, label, _)| Choice {
                value: (*name).to_owned(),
                label: (*label).to_owned(),
                is_chosen: *name == typed.get("unit"),
            })
            .collect(),
        versions,
        arms: arms.collect(),
        guardrails,
        planned,
        typed,
    })
}

/// What arms can serve: versions of the prompt that the environment serves, and the other prompts' latest. The control is
/// what is served now, unless something else was typed.
async fn offer(
    session: &mut dyn flywheel_storage::StateSession,
    app: &App,
    typed: &mut Typed,
) -> ApiResult<Vec<String>> {
    let environment = app
        .settings
        .environments
        .iter()
        .find(|known| known.as_str() == typed.get("environment"))
        .or(app.settings.environments.last());
    let Some(environment) = environment else {
        return Ok(Vec::new());
    };
    typed.put("environment", environment.to_string());
    let current = session
        .deployments()
        .current(&app.name, environment)
        .await?;
    let mut offered = Vec::new();
    if let Some(current) = current
        && let Some(served) = served::find(session, &current.manifest).await?
    {
        typed.default_to("arm.0.serves", &served.label());
        let versions = session
            .prompts()
            .history(&served.prompt, None, VERSIONS)
            .await?;
        let label = |ordinal: u64| format!("{}@{ordinal}", served.prompt);
        offered.extend(versions.iter().map(|version| label(version.ordinal)));
    }
    let prompts = session.prompts().list("", None, VERSIONS).await?;
    offered.extend(prompts.into_iter().map(|prompt| prompt.name.to_string()));
    Ok(offered)
}

/// What stands in a form that nobody has typed into.
fn fill(typed: &mut Typed, settings: &AppSettings) {
    let percent = |share: f64| amounts::number(share * 100.0);
    for (field, text) in [
        ("arm.0.name", "control".to_owned()),
        ("arm.0.serves", String::new()),
        ("arm.0.weight", "50".to_owned()),
        ("arm.1.name", "candidate".to_owned()),
        ("arm.1.serves", String::new()),
        ("arm.1.weight", "50".to_owned()),
        ("unit", UNITS[0].0.to_owned()),
        ("exposure", "100".to_owned()),
        ("layer_share", "100".to_owned()),
        ("mode", MODES[0].0.to_owned()),
        ("alpha", percent(DEFAULT_ALPHA)),
        ("power", percent(DEFAULT_POWER)),
        ("minimum_days", DEFAULT_DAYS.to_string()),
    ] {
        typed.default_to(field, &text);
    }
    let metrics = settings.metrics();
    if typed.rows("guardrail", "metric") == 0 {
        let guardrails = planning::default_guardrails(&metrics, None);
        put_guardrails(typed, &guardrails, &metrics);
    }
}
