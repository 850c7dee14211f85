//! What needs a person now: what cannot be served, what people dislike, what fails, and a way back that is closed.

use flywheel_core::AppName;
use flywheel_core::deployment::{App, Deployment, RollbackTarget, rollback_target};
use flywheel_core::name::EnvironmentName;
use flywheel_storage::events::{SummaryFilter, SummaryKey, Window};
use jiff::{SignedDuration, Timestamp};

use super::figures::Sight;
use super::scores::{self, Score};
use super::show::{self, encoded};
use crate::context::Context;
use crate::operations::deploy;
use crate::operations::served;
use crate::operations::summary::Reading;
use crate::problem::ApiResult;

/// A share of failed calls from which on somebody should look.
const MANY_FAILURES: f64 = 0.05;

/// Fewer calls than this in an hour say nothing about a share.
const FEWEST_CALLS: u64 = 20;

/// Something that a person should look at now.
pub(super) struct Concern {
    pub(super) text: String,
    pub(super) links: Vec<(String, &'static str)>,
}

/// Providers that nothing can be asked of.
pub(super) fn broken_providers(context: &Context) -> Vec<Concern> {
    let problems = context.options.provider_problems.values();
    problems
        .map(|problem| Concern {
            text: format!("A provider cannot be used: {problem}"),
            links: vec![("/models".to_owned(), "Models")],
        })
        .collect()
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
    if let Some(text) = closed_way_back(context, app, history).await? {
        let details = (format!("/apps/{name}/rollback?{place}"), "See what objects");
        concerns.push(Concern {
            text: format!("{}: {text}", app.name),
            links: match may_change {
                true => vec![details],
                false => Vec::new(),
            },
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
        for (failed, status, what) in [
            (row.hard_failures, "provider_error", "calls failed"),
            (
                row.invalid_outputs,
                "invalid_output",
                "answers were not as the prompt wants them",
            ),
        ] {
            let share = failed as f64 / row.calls.max(1) as f64;
            if row.calls < FEWEST_CALLS || share < MANY_FAILURES {
                continue;
            }
            let calls = format!("/calls?app={name}&{place}&status={status}");
            concerns.push(Concern {
                text: format!(
                    "{}: {} of {} {what} in the last hour ({})",
                    app.name,
                    show::count(failed),
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

/// Why the next rollback would be refused, if it would be: that is to be known before it is needed.
async fn closed_way_back(
    context: &Context,
    app: &App,
    history: &[Deployment],
) -> ApiResult<Option<String>> {
    let Ok(target) = rollback_target(history, &RollbackTarget::Steps(1)) else {
        return Ok(None);
    };
    let mut session = context.state.read().await?;
    let manifest = session.deployments().get_manifest(&target).await?;
    let Some(manifest) = manifest else {
        let missing = target.short();
        return Ok(Some(format!(
            "the manifest {missing} that a rollback leads to is missing"
        )));
    };
    let preflight = deploy::check(context, &mut *session, app, &manifest).await?;
    if preflight.passed() {
        return Ok(None);
    }
    let served = served::describe(&mut *session, &manifest).await?;
    Ok(Some(format!(
        "a rollback to {} would be refused: {}",
        served.label(),
        preflight.problems().join("; ")
    )))
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
