//! Going anywhere by name, by a part of an id, or by text.

use askama::Template;
use axum::Json;
use axum::extract::State;
use flywheel_storage::events::CallFilter;
use flywheel_storage::page::PageRequest;
use serde::{Deserialize, Serialize};

use super::answer::{Frame, PLACES, PageError, PageResult, page};
use super::form::PageQuery;
use super::session::Visitor;
use super::show::encoded;
use crate::auth::Caller;
use crate::context::Context;
use crate::problem::ApiResult;

/// How many of a kind are proposed.
const MOST: usize = 8;

/// From this length on, a text may be a part of a call's id.
const SHORTEST_ID: usize = 6;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SearchQuery {
    q: String,
}

/// Somewhere to go.
#[derive(Debug, Serialize)]
pub(super) struct Hit {
    kind: &'static str,
    name: String,
    path: String,
}

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    frame: Frame,
    q: String,
    hits: Vec<Hit>,
}

/// `GET /search`
pub(super) async fn search(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<SearchQuery>,
) -> PageResult {
    let hits = find(&context, &visitor.caller, &query.q).await?;
    page(&SearchPage {
        frame: Frame::new(&context, &visitor, "Search", ""),
        q: query.q,
        hits,
    })
}

/// `GET /search.json`
pub(super) async fn search_as_json(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<SearchQuery>,
) -> Result<Json<Vec<Hit>>, PageError> {
    Ok(Json(find(&context, &visitor.caller, &query.q).await?))
}

async fn find(context: &Context, caller: &Caller, sought: &str) -> ApiResult<Vec<Hit>> {
    let sought = sought.trim();
    let fits = |name: &str| name.to_lowercase().contains(&sought.to_lowercase());
    let mut hits = Vec::new();
    for place in PLACES.iter().filter(|place| fits(place.name)) {
        hits.push(hit("page", place.name, place.path.to_owned()));
    }
    let mut session = context.state.read().await?;
    let apps = session.deployments().list_apps().await?;
    let apps = apps
        .iter()
        .map(|app| &app.name)
        .filter(|name| fits(name.as_str()) && caller.must_cover(name).is_ok());
    for name in apps.take(MOST) {
        let path = format!("/apps/{}", encoded(name.as_str()));
        hits.push(hit("app", name.as_str(), path));
    }
    for prompt in session.prompts().list(sought, None, MOST as u32).await? {
        let path = format!("/prompts/{}", encoded(prompt.name.as_str()));
        hits.push(hit("prompt", prompt.name.as_str(), path));
    }
    let experiments = session.experiments().list().await?;
    let experiments = experiments.iter().filter(|experiment| {
        fits(experiment.name.as_str()) && caller.must_cover(&experiment.app).is_ok()
    });
    for experiment in experiments.take(MOST) {
        let path = format!("/experiments/{}", encoded(experiment.name.as_str()));
        hits.push(hit("experiment", experiment.name.as_str(), path));
    }
    let models = session.models().list().await?;
    let models = models
        .iter()
        .map(|model| format!("{}:{}", model.model_id, model.model_version))
        .filter(|name| fits(name));
    for name in models.take(MOST) {
        hits.push(hit("model", &name, "/models".to_owned()));
    }
    drop(session);
    hits.extend(people(context, caller, sought).await?);
    if sought.len() >= SHORTEST_ID {
        let filter = CallFilter {
            id: Some(sought.to_owned()),
            apps: caller.apps().to_vec(),
            ..CallFilter::default()
        };
        let page = PageRequest::first(MOST as u32);
        for call in context.events.list_calls(&filter, page).await?.items {
            let path = format!("/calls/{}", encoded(&call.id));
            hits.push(hit("call", &call.id, path));
        }
    }
    if !sought.is_empty() {
        let path = format!("/calls?text={}", encoded(sought));
        hits.push(hit("text", &format!("calls that say “{sought}”"), path));
    }
    Ok(hits)
}

/// The user, the session and the manifest of that very name, if a call has them.
async fn people(context: &Context, caller: &Caller, sought: &str) -> ApiResult<Vec<Hit>> {
    if sought.is_empty() {
        return Ok(Vec::new());
    }
    let all = || CallFilter {
        apps: caller.apps().to_vec(),
        ..CallFilter::default()
    };
    let name = || Some(sought.to_owned());
    let mut asked = vec![
        (
            "user",
            format!("/users/{}", encoded(sought)),
            CallFilter {
                unit: name(),
                ..all()
            },
        ),
        (
            "session",
            format!("/sessions/{}", encoded(sought)),
            CallFilter {
                session: name(),
                ..all()
            },
        ),
    ];
    let table = context.table.load();
    let manifests = table
        .apps()
        .filter_map(|app| table.app(app))
        .flat_map(|app| {
            let deployed = app
                .environments
                .values()
                .map(|routes| routes.deployed.as_ref());
            deployed.flatten().filter_map(|served| served.as_ref().ok())
        });
    let deployed = manifests
        .map(|served| served.id)
        .find(|id| sought.len() >= SHORTEST_ID && id.to_string().starts_with(sought));
    if let Some(id) = deployed {
        let filter = CallFilter {
            manifest: Some(id),
            ..all()
        };
        asked.push(("calls by manifest", format!("/calls?manifest={id}"), filter));
    }
    let mut hits = Vec::new();
    for (kind, path, filter) in asked {
        let found = context
            .events
            .list_calls(&filter, PageRequest::first(1))
            .await?;
        if !found.items.is_empty() {
            hits.push(hit(kind, sought, path));
        }
    }
    Ok(hits)
}

fn hit(kind: &'static str, name: &str, path: String) -> Hit {
    Hit {
        kind,
        name: name.to_owned(),
        path,
    }
}
