//! Keys, and what the configuration says that people ask for.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use flywheel_core::AppName;
use flywheel_core::key::{Permission, Role};
use serde::Deserialize;

use super::answer::{Frame, PageError, PageResult, go_to, page};
use super::form::PageForm;
use super::session::Visitor;
use super::show::{self, Markup};
use crate::api::keys::{self, NewKey};
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::problem::Problem;
use crate::respond::Created;

struct KeyRow {
    id: String,
    name: String,
    role: &'static str,
    apps: String,
    made: Markup,
    revoked: Option<Markup>,
    is_own: bool,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    may_administer: bool,
    any_made: bool,
    keys: Vec<KeyRow>,
    /// A key that was just made, shown this once.
    secret: Option<(String, String)>,
    providers: Vec<(String, String)>,
    limits: Vec<(&'static str, String)>,
}

/// `GET /settings`
pub(super) async fn show_settings(State(context): State<Context>, visitor: Visitor) -> PageResult {
    page(&prepare(&context, &visitor, None).await?)
}

async fn prepare(
    context: &Context,
    visitor: &Visitor,
    secret: Option<(String, String)>,
) -> Result<SettingsPage, PageError> {
    let now = context.sources.clock.now();
    let may_administer =
        visitor.may(Permission::Administer) && visitor.caller.must_cover_all().is_ok();
    let mut keys = Vec::new();
    if may_administer {
        for key in context.state.read().await?.keys().list().await? {
            let apps: Vec<_> = key.apps.iter().map(ToString::to_string).collect();
            keys.push(KeyRow {
                is_own: visitor.caller.identity() == key.id,
                role: key.role.as_str(),
                apps: if apps.is_empty() {
                    "all apps".to_owned()
                } else {
                    apps.join(", ")
                },
                made: show::when(key.created_at, now),
                revoked: key.revoked_at.map(|at| show::when(at, now)),
                id: key.id,
                name: key.name,
            });
        }
        keys.sort_by_key(|key| key.revoked.is_some());
    }
    let mut providers: Vec<_> = context
        .endpoints
        .iter()
        .map(|(name, endpoint)| {
            let state = if endpoint.breaker.is_open() {
                "failing: its circuit breaker is open"
            } else {
                "in use"
            };
            (name.clone(), state.to_owned())
        })
        .collect();
    providers.extend(context.options.provider_problems.clone());
    providers.sort();
    let options = &context.options;
    Ok(SettingsPage {
        frame: Frame::new(context, visitor, "Settings", "/settings"),
        may_administer,
        any_made: context.keys.load().any_made(),
        keys,
        secret,
        providers,
        limits: vec![
            (
                "largest body",
                format!("{} bytes", show::count(options.largest_body as u64)),
            ),
            (
                "requests per second and key",
                options
                    .requests_per_second
                    .map_or_else(|| "no limit".to_owned(), |limit| limit.to_string()),
            ),
            (
                "listens",
                if options.loopback_only {
                    "on this machine only".to_owned()
                } else {
                    "on the network".to_owned()
                },
            ),
        ]
        .into_iter()
        .chain(context.options.settings.iter().cloned())
        .collect(),
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct KeyForm {
    name: String,
    role: Role,
    #[serde(default)]
    apps: String,
}

/// `POST /settings/keys`
pub(super) async fn create_key(
    State(context): State<Context>,
    visitor: Visitor,
    PageForm(form): PageForm<KeyForm>,
) -> PageResult {
    let apps: Result<Vec<AppName>, _> = form
        .apps
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(str::parse)
        .collect();
    let apps = apps.map_err(|error| Problem::invalid(format!("`apps`: {error}")))?;
    let new = NewKey {
        name: form.name.trim().to_owned(),
        role: form.role,
        apps,
    };
    let caller = visitor.caller.clone();
    let Created(made) = keys::create_key(State(context.clone()), caller, JsonBody(new)).await?;
    let secret = Some((made.made.name, made.key));
    // With the first key this visitor's way in ends: the page says so.
    page(&prepare(&context, &visitor, secret).await?)
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeForm {
    id: String,
}

/// `POST /settings/keys/revoke`
pub(super) async fn revoke_key(
    State(context): State<Context>,
    visitor: Visitor,
    PageForm(form): PageForm<RevokeForm>,
) -> Result<Response, PageError> {
    let caller = visitor.caller.clone();
    keys::revoke_key(State(context), caller, PathParams(form.id)).await?;
    Ok(go_to("/settings"))
}
