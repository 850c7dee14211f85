//! The web console: pages rendered on the server, on the same operations as the API.
//!
//! One file for each page; [`routes`] is their table. Every page works without JavaScript; what a model or a user wrote is
//! shown by `show.rs` only, as hostile text.

mod answer;
mod app;
mod assets;
mod audit;
mod calculator;
mod call;
mod calls;
mod change_experiment;
mod chart;
mod concerns;
mod evaluations;
mod experiment;
mod experiments;
mod feedback;
mod figures;
mod form;
mod labels;
mod models;
mod moves;
mod new_experiment;
mod overview;
mod people;
mod playground;
mod plot;
mod promote;
mod prompts;
mod scores;
mod search;
pub mod session;
mod settings;
mod show;
mod signin;
mod tail;
mod weeks;

use axum::Router;
use axum::handler::Handler;
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use flywheel_core::key::Permission::{self, Administer, Call, Change, Read};
use http::{HeaderMap, Method, header};

use crate::context::Context;
use crate::problem::Problem;

/// One page, or something that a page sends.
pub struct ConsoleRoute {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What the visitor must be allowed to do; none for what anyone may see.
    pub permission: Option<Permission>,
    handler: MethodRouter<Context>,
}

fn get<T: 'static>(
    path: &'static str,
    permission: impl Into<Option<Permission>>,
    handler: impl Handler<T, Context>,
) -> ConsoleRoute {
    ConsoleRoute {
        method: Method::GET,
        path,
        permission: permission.into(),
        handler: on(MethodFilter::GET, handler),
    }
}

fn post<T: 'static>(
    path: &'static str,
    permission: impl Into<Option<Permission>>,
    handler: impl Handler<T, Context>,
) -> ConsoleRoute {
    ConsoleRoute {
        method: Method::POST,
        path,
        permission: permission.into(),
        handler: on(MethodFilter::POST, handler),
    }
}

/// Every page.
#[must_use]
pub fn routes() -> Vec<ConsoleRoute> {
    vec![
        get("/", Read, overview::show_overview),
        get("/apps/{app}", Read, app::show_app),
        get("/apps/{app}/weeks.csv", Read, weeks::list_weeks_as_csv),
        get("/apps/{app}/deploy", Change, moves::plan_deploy),
        post("/apps/{app}/deploy", Change, moves::deploy),
        get("/apps/{app}/rollback", Change, moves::plan_rollback),
        post("/apps/{app}/rollback", Change, moves::roll_back),
        get("/prompts", Read, prompts::list_prompts),
        get("/prompts/{prompt}", Read, prompts::show_prompt),
        get("/playground", Read, playground::show_playground),
        post("/playground", Change, playground::use_playground),
        get("/calls", Read, calls::list_calls),
        get("/calls.csv", Read, calls::list_calls_as_csv),
        get("/calls/tail", Read, tail::tail_calls),
        get("/calls/{call}", Read, call::show_call),
        post("/calls/{call}/feedback", Call, call::send_feedback),
        get("/sessions", Read, people::list_sessions),
        get("/sessions/{session}", Read, people::show_session),
        get("/users", Read, people::list_users),
        get("/users/{unit}", Read, people::show_user),
        get("/feedback", Read, feedback::list_feedback),
        get("/experiments", Read, experiments::list_experiments),
        get("/experiments/new", Change, new_experiment::begin),
        post("/experiments/new", Change, new_experiment::use_form),
        get(
            "/experiments/{experiment}",
            Read,
            experiment::show_experiment,
        ),
        post("/experiments/{experiment}/start", Change, experiment::start),
        get(
            "/experiments/{experiment}/change",
            Change,
            change_experiment::begin,
        ),
        post(
            "/experiments/{experiment}/change",
            Change,
            change_experiment::change,
        ),
        post("/experiments/{experiment}/stop", Change, experiment::stop),
        post(
            "/experiments/{experiment}/archive",
            Change,
            experiment::archive,
        ),
        get(
            "/experiments/{experiment}/promote",
            Change,
            promote::plan_promotion,
        ),
        post(
            "/experiments/{experiment}/promote",
            Change,
            promote::promote,
        ),
        get("/calculator", Read, calculator::show_calculator),
        get("/models", Read, models::list_models),
        get("/settings", Read, settings::show_settings),
        post("/settings/keys", Administer, settings::create_key),
        post("/settings/keys/revoke", Administer, settings::revoke_key),
        get("/audit", Read, audit::list_entries),
        get("/search", Read, search::search),
        get("/search.json", Read, search::search_as_json),
        get("/signin", None, signin::show_signin),
        post("/signin", None, signin::sign_in),
        post("/signout", None, signin::sign_out),
        get("/assets/{asset}", None, assets::get_asset),
    ]
}

/// Whether whoever asks wants a page.
pub(crate) fn is_for_reading(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT);
    accepted.is_some_and(|accepted| accepted.as_bytes().starts_with(b"text/html"))
}

/// A page that says what went wrong, for paths that no page has.
pub(crate) fn refuse(
    context: &Context,
    headers: &HeaderMap,
    path: &str,
    problem: Problem,
) -> Response {
    session::turn_away(context, headers, path, problem)
}

/// The console's part of the router.
pub(crate) fn router(context: &Context) -> Router<Context> {
    let mut router = Router::new();
    for route in routes() {
        let needed = (context.clone(), route.permission);
        let handler = route
            .handler
            .layer(middleware::from_fn_with_state(needed, session::enter));
        router = router.route(route.path, handler);
    }
    router
}
