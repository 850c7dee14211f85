//! An app: what its environments serve, how it got there, and the way back.

use askama::Template;
use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::deployment::{Deployment, rollback_candidates};
use flywheel_core::experiment::{Decision, Experiment};
use flywheel_core::key::Permission;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StateSession;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::concerns::{Concern, concerns_of};
use super::figures::{Figures, Sight, Span};
use super::form::{PagePath, PageQuery, given};
use super::overview::{Serving, by_key, describe_serving};
use super::scores::{self, ScoreRow};
use super::session::Visitor;
use super::show::{self, Markup};
use super::weeks::{self, WeekTable};
use crate::context::Context;
use crate::operations::deploy::{find_app, find_environment, whole_history};
use crate::operations::served;
use crate::problem::ApiResult;

/// How long an experiment that has ended is shown.
const LATELY: SignedDuration = SignedDuration::from_hours(24 * 7);
/// How many deployments the timeline shows.
const TIMELINE: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AppQuery {
    #[serde(deserialize_with = "given")]
    environment: Option<EnvironmentName>,
    span: Span,
    /// The deployment that was just made.
    #[serde(deserialize_with = "given")]
    done: Option<u64>,
}

struct Move {
    number: u64,
    kind: &'static str,
    when: Markup,
    actor: String,
    reason: String,
    forced: bool,
    serving: Option<Serving>,
    manifest: String,
    is_current: bool,
    can_go_back_here: bool,
}

/// A manifest that was served, with what people thought of it.
struct Version {
    label: String,
    manifest: String,
    is_current: bool,
    score: ScoreRow,
}

/// An experiment that has not ended, or has lately.
struct ShownExperiment {
    name: String,
    status: &'static str,
    hypothesis: String,
    exposure: String,
    ended: Option<Ended>,
}

/// How an experiment ended.
struct Ended {
    when: Markup,
    by: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "app.html")]
struct AppPage {
    frame: Frame,
    name: String,
    description: String,
    environment: String,
    environments: Vec<String>,
    span: Span,
    done: Option<String>,
    may_change: bool,
    can_roll_back: bool,
    concerns: Vec<Concern>,
    serving: Option<Serving>,
    figures: Figures,
    versions: Vec<Version>,
    weeks: WeekTable,
    timeline: Vec<Move>,
    is_cut: bool,
    experiments: Vec<ShownExperiment>,
}

/// `GET /apps/{app}`
pub(super) async fn show_app(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<AppName>,
    PageQuery(query): PageQuery<AppQuery>,
) -> PageResult {
    visitor.caller.must_cover(&name)?;
    let now = context.sources.clock.now();
    let may_change = visitor.may(Permission::Change);
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, &name).await?;
    let environment = find_environment(&app, query.environment.as_ref())?;
    let history = whole_history(&mut *session, &name, &environment).await?;
    let timeline = timeline(&mut *session, &history, now).await?;
    let mut experiments = session.experiments().list().await?;
    experiments.retain(|experiment| {
        experiment.app == name
            && experiment.environment == environment
            && match experiment.stopped_at {
                Some(at) => now.duration_since(at) < LATELY,
                None => !experiment.status.has_ended(),
            }
    });
    let serving = match history.first() {
        Some(current) => describe_serving(&mut *session, current, now).await?,
        None => None,
    };
    let made = query
        .done
        .and_then(|number| history.iter().find(|made| made.number == number));
    let done = match made {
        None => None,
        Some(made) => {
            let served = served::find(&mut *session, &made.manifest).await?;
            Some(format!(
                "#{} is in force: every request that starts now is served by {}",
                made.number,
                served.map_or_else(
                    || made.manifest.short().to_string(),
                    |served| served.label()
                )
            ))
        }
    };
    // What follows may take longer than a session should be held.
    drop(session);
    let sight = Sight::take(&context, &name, &environment, query.span, now).await?;
    let mut concerns = concerns_of(
        &context,
        &app,
        &environment,
        &history,
        &sight,
        may_change,
        now,
    )
    .await?;
    // This is the page that they point to.
    for concern in &mut concerns {
        concern
            .links
            .retain(|(path, _)| !path.starts_with("/apps/") || path.contains("/rollback"));
    }
    let versions = versions(&context, &name, &environment, &timeline).await?;
    let weeks = weeks::table(&context, &name, &environment, now).await?;
    page(&AppPage {
        frame: Frame::new(&context, &visitor, name.as_str(), "/"),
        name: name.to_string(),
        description: app.settings.description.clone(),
        environments: app
            .settings
            .environments
            .iter()
            .map(ToString::to_string)
            .collect(),
        environment: environment.to_string(),
        span: query.span,
        done,
        may_change,
        can_roll_back: may_change && !rollback_candidates(&history).is_empty(),
        concerns,
        serving,
        figures: sight.figures(&history),
        versions,
        weeks,
        timeline,
        is_cut: history.len() > TIMELINE,
        experiments: experiments
            .into_iter()
            .map(|experiment| ShownExperiment::new(experiment, now))
            .collect(),
    })
}

impl ShownExperiment {
    fn new(experiment: Experiment, now: Timestamp) -> Self {
        let ended = experiment.stopped_at.map(|at| {
            let decision = experiment.decision.as_ref();
            let said = |of: fn(&Decision) -> &String| decision.map(of).cloned();
            Ended {
                when: show::when(at, now),
                by: said(|decision| &decision.by).unwrap_or_default(),
                reason: said(|decision| &decision.reason).unwrap_or_default(),
            }
        });
        Self {
            name: experiment.name.to_string(),
            status: experiment.status.as_str(),
            hypothesis: experiment.hypothesis,
            exposure: show::percent(f64::from(experiment.exposure) / 1e4),
            ended,
        }
    }
}

async fn timeline(
    session: &mut dyn StateSession,
    history: &[Deployment],
    now: Timestamp,
) -> ApiResult<Vec<Move>> {
    let candidates: Vec<u64> = rollback_candidates(history)
        .into_iter()
        .map(|deployment| deployment.number)
        .collect();
    let mut moves = Vec::new();
    for (index, deployment) in history.iter().take(TIMELINE).enumerate() {
        moves.push(Move {
            number: deployment.number,
            kind: deployment.kind.as_str(),
            when: show::when(deployment.created_at, now),
            actor: deployment.actor.clone(),
            reason: deployment.reason.clone(),
            forced: !deployment.forced_over.is_empty(),
            serving: describe_serving(session, deployment, now).await?,
            manifest: deployment.manifest.to_string(),
            is_current: index == 0,
            can_go_back_here: candidates.contains(&deployment.number),
        });
    }
    Ok(moves)
}

/// Every manifest of the timeline once, the current one first.
async fn versions(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    timeline: &[Move],
) -> ApiResult<Vec<Version>> {
    let filter = SummaryFilter {
        apps: vec![app.clone()],
        environment: Some(environment.clone()),
        ..SummaryFilter::default()
    };
    let summaries = scores::by(context, &filter, SummaryKey::Manifest).await?;
    let summaries = by_key(&summaries);
    let mut versions: Vec<Version> = Vec::new();
    for step in timeline {
        let is_there = versions
            .iter()
            .any(|version| version.manifest == step.manifest);
        let Some(summary) = summaries.get(step.manifest.as_str()).filter(|_| !is_there) else {
            continue;
        };
        let label = step.serving.as_ref().map_or_else(
            || step.manifest[..12].to_owned(),
            |serving| match serving.ordinal {
                Some(ordinal) => format!("{}@{ordinal}", serving.prompt),
                None => serving.prompt.clone(),
            },
        );
        versions.push(Version {
            label,
            manifest: step.manifest.clone(),
            is_current: step.is_current,
            score: ScoreRow::new(summary),
        });
    }
    Ok(versions)
}
