//! The overview: what needs a person now, and how every app has been doing.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::deployment::{App, Deployment};
use flywheel_core::key::Permission;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::StateSession;
use flywheel_storage::events::{SummaryFilter, SummaryKey, Window};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::figures::{Figures, Sight, Span};
use super::form::PageQuery;
use super::scores::{self, Score};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::context::Context;
use crate::operations::deploy::whole_history;
use crate::operations::served;
use crate::operations::summary::{Reading, Summary};
use crate::problem::ApiResult;

/// A share of failed calls from which on somebody should look.
const MANY_FAILURES: f64 = 0.05;

/// Fewer calls than this in an hour say nothing about a share.
const FEWEST_CALLS: u64 = 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OverviewQuery {
    span: Span,
}

/// Something that a person should look at now.
pub(super) struct Concern {
    pub(super) text: String,
    pub(super) links: Vec<(String, &'static str)>,
}

struct AppCard {
    name: String,
    description: String,
    environment: String,
    serving: Option<Serving>,
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
    let mut concerns = broken_providers(&context);
    let mut apps = Vec::new();
    for (app, environment, history, serving) in seen_apps(&context, &visitor, now).await? {
        let sight = Sight::take(&context, &app.name, &environment, query.span, now).await?;
        concerns.extend(
            concerns_of(
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

/// What the state says of the apps that a visitor may see. It is read before anything is summed up, which may take longer
/// than a session should be held: deployments read through such sessions too.
async fn seen_apps(
    context: &Context,
    visitor: &Visitor,
    now: Timestamp,
) -> ApiResult<Vec<(App, EnvironmentName, Vec<Deployment>, Option<Serving>)>> {
    let mut session = context.state.read().await?;
    let mut apps = Vec::new();
    let known = session.deployments().list_apps().await?;
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
        apps.push((app, environment, history, serving));
    }
    Ok(apps)
}

fn broken_providers(context: &Context) -> Vec<Concern> {
    let problems = context.options.provider_problems.values();
    problems
        .map(|problem| Concern {
            text: format!("A provider cannot be used: {problem}"),
            links: vec![("/models".to_owned(), "Models")],
        })
        .collect()
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

/// What is wrong with an app right now.
pub(super) async fn concerns_of(
    context: &Context,
    app: &App,
    environment: &EnvironmentName,
    history: &[Deployment],
    sight: &Sight,
    may_change: bool,
    now: Timestamp,
) -> ApiResult<Vec<Concern>> {
    let mut concerns = Vec::new();
    let name = encoded(app.name.as_str());
    let place = format!("environment={}", encoded(environment.as_str()));
    let page = (format!("/apps/{name}?{place}"), "Look at the app");
    let way_back = (format!("/apps/{name}/rollback?{place}"), "Roll back…");
    let links = |first: Vec<(String, &'static str)>| {
        let mut links = first;
        if may_change && history.len() > 1 {
            links.push(way_back.clone());
        }
        links
    };
    if let Some(problem) = unservable(context, &app.name, environment) {
        concerns.push(Concern {
            text: format!("{} cannot serve what is deployed: {problem}", app.name),
            links: links(vec![page.clone()]),
        });
    }
    if let Some(text) = rated_lower(context, &app.name, environment, history, sight).await? {
        let said = (
            format!("/feedback?app={name}&kind=comment"),
            "What they say",
        );
        concerns.push(Concern {
            text: format!("{}: {text}", app.name),
            links: links(vec![page, said]),
        });
    }
    let hour = Window {
        since: now - SignedDuration::from_hours(1),
        slot_seconds: 3600,
        slots: 1,
    };
    let apps = [app.name.clone()];
    let events = &context.events;
    for row in events.activity(&apps, Some(environment), hour).await? {
        let share = row.hard_failures as f64 / row.calls.max(1) as f64;
        if row.calls >= FEWEST_CALLS && share >= MANY_FAILURES {
            let calls = format!("/calls?app={name}&{place}&status=provider_error");
            concerns.push(Concern {
                text: format!(
                    "{}: {} of {} calls failed in the last hour ({})",
                    app.name,
                    show::count(row.hard_failures),
                    show::count(row.calls),
                    show::percent(share)
                ),
                links: links(vec![(calls, "Look at the calls")]),
            });
        }
    }
    Ok(concerns)
}

fn unservable(context: &Context, app: &AppName, environment: &EnvironmentName) -> Option<String> {
    let table = context.table.load();
    let routes = table.app(app)?.environments.get(environment)?;
    let unservable = routes.deployed.as_ref()?.as_ref().err()?;
    Some(unservable.problem.clone())
}

/// Whether people rate what is deployed lower than what was before it. It is said only when the intervals of the two do
/// not even touch, because this is looked at all the time and a difference that is just significant would often be none.
async fn rated_lower(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    history: &[Deployment],
    sight: &Sight,
) -> ApiResult<Option<String>> {
    let (Some(current), Some(previous)) = (
        history.first(),
        history
            .first()
            .and_then(|current| current.previous_manifest),
    ) else {
        return Ok(None);
    };
    let filter = SummaryFilter {
        apps: vec![app.clone()],
        environment: Some(environment.clone()),
        since: Some(sight.window.since),
        ..SummaryFilter::default()
    };
    let summaries = scores::by(context, &filter, SummaryKey::Manifest).await?;
    let of = |manifest: String| {
        let summary = summaries.iter().find(|summary| summary.key == manifest)?;
        scores::headline(summary)
    };
    let (Some(new), Some(old)) = (of(current.manifest.to_string()), of(previous.to_string()))
    else {
        return Ok(None);
    };
    let is_lower = new.series == old.series
        && matches!((new.high, old.low), (Some(high), Some(low)) if high < low);
    if !is_lower {
        return Ok(None);
    }
    let mut session = context.state.read().await?;
    let mut label = async |manifest| -> ApiResult<String> {
        let served = served::find(&mut *session, manifest).await?;
        Ok(served.map_or_else(|| manifest.short().to_string(), |served| served.label()))
    };
    Ok(Some(format!(
        "{}, deployed by {} (#{}), is rated lower than {}, which was before it: {} against {}",
        label(&current.manifest).await?,
        current.actor,
        current.number,
        label(&previous).await?,
        in_words(new),
        in_words(old)
    )))
}

fn in_words(reading: &Reading) -> String {
    let Score {
        name,
        value,
        interval,
        n,
        ..
    } = Score::new(reading);
    let n = n.map_or_else(String::new, |n| format!(", n = {n}"));
    format!("{name} {value} ({interval}{n})")
}

/// Rows by their key, for tables that look several up.
pub(super) fn by_key(summaries: &[Summary]) -> BTreeMap<&str, &Summary> {
    summaries
        .iter()
        .map(|summary| (summary.key.as_str(), summary))
        .collect()
}
