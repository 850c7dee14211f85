//! The overview: what needs a person now, and how every app has been doing.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use flywheel_core::deployment::{App, Deployment};
use flywheel_core::key::Permission;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StateSession;
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::concerns::{self, Concern};
use super::figures::{Figures, Sight, Span};
use super::form::PageQuery;
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::deploy::whole_history;
use crate::operations::served;
use crate::operations::summary::Summary;
use crate::problem::ApiResult;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OverviewQuery {
    span: Span,
}

struct AppCard {
    name: String,
    description: String,
    environment: String,
    serving: Option<Serving>,
    /// The experiments that run there.
    experiments: Vec<String>,
    figures: Figures,
}

/// What an environment serves.
pub(super) struct Serving {
    pub(super) prompt: String,
    pub(super) ordinal: Option<u64>,
    pub(super) model: String,
    pub(super) manifest: String,
    pub(super) since: Markup,
    pub(super) actor: String,
    pub(super) reason: String,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    span: Span,
    concerns: Vec<Concern>,
    apps: Vec<AppCard>,
}

/// `GET /`
pub(super) async fn show_overview(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<OverviewQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let may_change = visitor.may(Permission::Change);
    let mut concerns = concerns::broken_providers(&context);
    let mut apps = Vec::new();
    for seen in seen_apps(&context, &visitor, now).await? {
        let SeenApp {
            app,
            environment,
            history,
            serving,
            experiments,
        } = seen;
        let sight = Sight::take(&context, &app.name, &environment, query.span, now).await?;
        concerns.extend(
            concerns::concerns_of(
                &context,
                &app,
                &environment,
                &history,
                &sight,
                may_change,
                now,
            )
            .await?,
        );
        apps.push(AppCard {
            name: app.name.to_string(),
            description: app.settings.description.clone(),
            environment: environment.to_string(),
            serving,
            experiments,
            figures: sight.figures(&history),
        });
    }
    page(&OverviewPage {
        frame: Frame::new(&context, &visitor, "Overview", "/"),
        span: query.span,
        concerns,
        apps,
    })
}

/// What the state says of an app.
struct SeenApp {
    app: App,
    environment: EnvironmentName,
    history: Vec<Deployment>,
    serving: Option<Serving>,
    experiments: Vec<String>,
}

/// What the state says of the apps that a visitor may see. It is read before anything is summed up, which may take longer
/// than a session should be held: deployments read through such sessions too.
async fn seen_apps(
    context: &Context,
    visitor: &Visitor,
    now: Timestamp,
) -> ApiResult<Vec<SeenApp>> {
    let mut session = context.state.read().await?;
    let mut apps = Vec::new();
    let known = session.deployments().list_apps().await?;
    let running = session.experiments().running().await?;
    for app in known {
        if visitor.caller.must_cover(&app.name).is_err() {
            continue;
        }
        let Some(environment) = app.settings.default_environment().cloned() else {
            continue;
        };
        let history = whole_history(&mut *session, &app.name, &environment).await?;
        let serving = match history.first() {
            Some(current) => describe_serving(&mut *session, current, now).await?,
            None => None,
        };
        let here = running.iter().filter(|experiment| {
            experiment.app == app.name && experiment.environment == environment
        });
        apps.push(SeenApp {
            experiments: here.map(|experiment| experiment.name.to_string()).collect(),
            app,
            environment,
            history,
            serving,
        });
    }
    Ok(apps)
}

/// What a deployment serves, in words.
pub(super) async fn describe_serving(
    session: &mut dyn StateSession,
    deployment: &Deployment,
    now: Timestamp,
) -> ApiResult<Option<Serving>> {
    let served = served::find(session, &deployment.manifest).await?;
    Ok(served.map(|served| Serving {
        prompt: served.prompt.to_string(),
        ordinal: served.prompt_ordinal,
        model: served.model,
        manifest: deployment.manifest.to_string(),
        since: show::when(deployment.created_at, now),
        actor: deployment.actor.clone(),
        reason: deployment.reason.clone(),
    }))
}

/// Rows by their key, for tables that look several up.
pub(super) fn by_key(summaries: &[Summary]) -> BTreeMap<&str, &Summary> {
    summaries
        .iter()
        .map(|summary| (summary.key.as_str(), summary))
        .collect()
}
