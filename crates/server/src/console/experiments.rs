//! Experiments, and one of them: its arms and what people think of each.

use askama::Template;
use axum::extract::State;
use flywheel_core::experiment::{Experiment, ExperimentStatus};
use flywheel_core::name::ExperimentName;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::Timestamp;

use super::answer::{Frame, PageResult, page};
use super::form::PagePath;
use super::overview::by_key;
use super::scores::{self, ScoreRow};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::experiments::find;

struct Row {
    name: String,
    app: String,
    environment: String,
    hypothesis: String,
    status: &'static str,
    exposure: String,
    started: Option<Markup>,
    stopped: Option<Markup>,
}

impl Row {
    fn new(experiment: &Experiment, now: Timestamp) -> Self {
        Self {
            name: experiment.name.to_string(),
            app: experiment.app.to_string(),
            environment: experiment.environment.to_string(),
            hypothesis: experiment.hypothesis.clone(),
            status: match experiment.status {
                ExperimentStatus::Draft => "draft",
                ExperimentStatus::Running => "running",
                ExperimentStatus::Stopped => "stopped",
            },
            exposure: show::percent(f64::from(experiment.exposure) / 1e4),
            started: experiment.started_at.map(|at| show::when(at, now)),
            stopped: experiment.stopped_at.map(|at| show::when(at, now)),
        }
    }
}

struct ShownArm {
    name: String,
    manifest: String,
    label: String,
    weight: String,
    score: Option<ScoreRow>,
}

#[derive(Template)]
#[template(path = "experiments.html")]
struct ExperimentsPage {
    frame: Frame,
    rows: Vec<Row>,
}

#[derive(Template)]
#[template(path = "experiment.html")]
struct ExperimentPage {
    frame: Frame,
    row: Row,
    arms: Vec<ShownArm>,
}

/// `GET /experiments`
pub(super) async fn list_experiments(
    State(context): State<Context>,
    visitor: Visitor,
) -> PageResult {
    let now = context.sources.clock.now();
    let mut experiments = context.state.read().await?.experiments().list().await?;
    experiments.retain(|experiment| visitor.caller.must_cover(&experiment.app).is_ok());
    experiments.sort_by_key(|experiment| {
        (
            experiment.status != ExperimentStatus::Running,
            std::cmp::Reverse(experiment.created_at),
        )
    });
    page(&ExperimentsPage {
        frame: Frame::new(&context, &visitor, "Experiments", "/experiments"),
        rows: experiments
            .iter()
            .map(|experiment| Row::new(experiment, now))
            .collect(),
    })
}

/// `GET /experiments/{experiment}`
pub(super) async fn show_experiment(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<ExperimentName>,
) -> PageResult {
    let now = context.sources.clock.now();
    let mut session = context.state.read().await?;
    let experiment = find(&mut *session, &visitor.caller, &name).await?;
    let filter = SummaryFilter {
        apps: vec![experiment.app.clone()],
        experiment: Some(name.clone()),
        ..SummaryFilter::default()
    };
    let summaries = scores::by(&context, &filter, SummaryKey::Arm).await?;
    let summaries = by_key(&summaries);
    let mut arms = Vec::new();
    for arm in &experiment.arms {
        let manifest = session.deployments().get_manifest(&arm.manifest).await?;
        let label = match manifest {
            Some(manifest) => {
                let version = session
                    .prompts()
                    .get(&manifest.prompt_id, &manifest.prompt_version)
                    .await?;
                let ordinal = version.map_or(0, |version| version.ordinal);
                format!("{}@{ordinal}", manifest.prompt_id)
            }
            None => arm.manifest.short().to_string(),
        };
        let key = format!("{name}/{}", arm.name);
        arms.push(ShownArm {
            name: arm.name.to_string(),
            manifest: arm.manifest.to_string(),
            label,
            weight: show::percent(f64::from(arm.weight) / 1e4),
            score: summaries.get(key.as_str()).map(|row| ScoreRow::new(row)),
        });
    }
    page(&ExperimentPage {
        frame: Frame::new(&context, &visitor, name.as_str(), "/experiments"),
        row: Row::new(&experiment, now),
        arms,
    })
}
