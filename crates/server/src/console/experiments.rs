//! The list of experiments: where each stands and what its primary metric says.

use askama::Template;
use axum::extract::State;
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::key::Permission;
use flywheel_core::name::AppName;
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::experiment::{self, ShownVerdict, amounts};
use super::form::{PageQuery, address, given};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::experiments::read;
use crate::operations::readout::{Readout, VerdictState, words};

/// Experiments on one page: each is read anew.
const PAGE: usize = 25;

const STATUSES: [&str; 4] = ["draft", "running", "stopped", "archived"];

/// The filters, as they stand in the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ExperimentQuery {
    #[serde(deserialize_with = "given")]
    text: Option<String>,
    #[serde(deserialize_with = "given")]
    app: Option<AppName>,
    #[serde(deserialize_with = "given")]
    status: Option<String>,
    /// How many newer ones were on the pages before.
    #[serde(deserialize_with = "given")]
    from: Option<usize>,
}

impl ExperimentQuery {
    fn fits(&self, experiment: &Experiment) -> bool {
        let has_text = |text: &String| {
            let text = text.to_lowercase();
            [experiment.name.as_str(), &experiment.hypothesis]
                .iter()
                .any(|written| written.to_lowercase().contains(&text))
        };
        self.text.as_ref().is_none_or(has_text)
            && self.app.as_ref().is_none_or(|app| *app == experiment.app)
            && self
                .status
                .as_deref()
                .map_or(experiment.status != ExperimentStatus::Archived, |status| {
                    status == experiment.status.as_str()
                })
    }

    fn is_app(&self, app: &str) -> bool {
        self.app
            .as_ref()
            .is_some_and(|chosen| chosen.as_str() == app)
    }

    fn is_filtered(&self) -> bool {
        self.text.is_some() || self.app.is_some() || self.status.is_some()
    }

    /// The same filters, from a later experiment on.
    fn address(&self, from: usize) -> String {
        let filters = [
            ("text", self.text.clone()),
            ("app", self.app.as_ref().map(ToString::to_string)),
            ("status", self.status.clone()),
            ("from", Some(from.to_string())),
        ];
        address("/experiments", &filters)
    }
}

struct Row {
    name: String,
    app: String,
    environment: String,
    hypothesis: Markup,
    status: &'static str,
    verdict: ShownVerdict,
    /// The primary metric's name, and its difference with the interval for each arm.
    primary: Option<(String, Vec<(String, String)>)>,
    /// No number may be used.
    is_void: bool,
    days: String,
    units: String,
    made: Markup,
}

impl Row {
    fn new(experiment: &Experiment, readout: &Readout, now: Timestamp) -> Self {
        let started = experiment.started_at.is_some();
        let is_void = readout.verdict.state == VerdictState::Invalid;
        let primary = experiment::primary(readout).map(|primary| {
            let of = &primary.metric;
            let usable = primary.comparisons.iter().filter(|_| !is_void);
            let shown = usable.filter_map(|found| {
                let interval = Some(found.low?).zip(found.high);
                let difference = words::difference(of, found.difference?);
                Some((difference, amounts::interval(of, interval)))
            });
            (of.name.to_string(), shown.collect())
        });
        let if_started = |text: String| if started { text } else { String::new() };
        Self {
            name: experiment.name.to_string(),
            app: experiment.app.to_string(),
            environment: experiment.environment.to_string(),
            hypothesis: show::line(&experiment.hypothesis),
            status: experiment::status(experiment),
            verdict: ShownVerdict::new(&readout.verdict, experiment.status),
            primary,
            is_void,
            days: if_started(readout.days.to_string()),
            units: if_started(show::count(readout.arms.iter().map(|arm| arm.units).sum())),
            made: show::when(experiment.started_at.unwrap_or(experiment.created_at), now),
        }
    }
}

#[derive(Template)]
#[template(path = "experiments.html")]
struct ExperimentsPage {
    frame: Frame,
    query: ExperimentQuery,
    apps: Vec<String>,
    rows: Vec<Row>,
    next: Option<String>,
    may_change: bool,
}

/// `GET /experiments`
pub(super) async fn list_experiments(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<ExperimentQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let mut experiments = context.state.read().await?.experiments().list().await?;
    experiments.retain(|experiment| visitor.caller.must_cover(&experiment.app).is_ok());
    let mut apps: Vec<_> = experiments
        .iter()
        .map(|experiment| experiment.app.to_string())
        .collect();
    apps.sort_unstable();
    apps.dedup();
    experiments.retain(|experiment| query.fits(experiment));
    experiments.sort_by_key(|experiment| {
        (
            experiment.status != ExperimentStatus::Running,
            std::cmp::Reverse(experiment.created_at),
        )
    });
    let from = query.from.unwrap_or(0);
    let mut rows = Vec::new();
    for experiment in experiments.iter().skip(from).take(PAGE) {
        let (experiment, readout) = read(&context, &visitor.caller, &experiment.name).await?;
        rows.push(Row::new(&experiment, &readout, now));
    }
    let end = from.saturating_add(PAGE);
    page(&ExperimentsPage {
        frame: Frame::new(&context, &visitor, "Experiments", "/experiments"),
        apps,
        rows,
        next: (experiments.len() > end).then(|| query.address(end)),
        may_change: visitor.caller.must_be_allowed(Permission::Change).is_ok(),
        query,
    })
}
