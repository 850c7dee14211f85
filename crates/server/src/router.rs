//! The table of contents: every route, and the permission it demands.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use flywheel_core::key::Permission::{self, Administer, Call, Change, Read};
use http::{Method, Uri};
use serde::de::DeserializeOwned;

use crate::api::{
    apps, audit, calls, deployments, experiments, feedback, health, indexes, keys, manifests,
    models, prompts,
};
use crate::auth::authorise;
use crate::context::Context;
use crate::extract::{self, PageQuery};
use crate::openai;
use crate::problem::Problem;

/// One route of the server.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: &'static str,
    /// What the caller must be allowed to do; none for what anyone may ask.
    pub permission: Option<Permission>,
    /// The parameters that its query may have.
    pub parameters: Vec<&'static str>,
    handler: MethodRouter<Context>,
}

/// Every route.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut table = Table(Vec::new());
    add_openai_door(&mut table);
    add_registry(&mut table);
    add_apps(&mut table);
    add_events(&mut table);
    add_experiments(&mut table);
    add_administration(&mut table);
    table.0
}

fn add_openai_door(table: &mut Table) {
    table.post("/v1/chat/completions", Call, openai::create_chat_completion);
    table.post("/v1/embeddings", Call, openai::create_embeddings);
    table.get("/v1/models", Call, openai::list_callable_models);
}

fn add_registry(table: &mut Table) {
    table.post("/api/v1/push", Change, prompts::push_registry);
    table
        .get("/api/v1/prompts", Read, prompts::list_prompts)
        .taking::<prompts::ListQuery>()
        .taking::<PageQuery>();
    let versions = "/api/v1/prompts/{prompt}/versions";
    table
        .get(versions, Read, prompts::list_prompt_versions)
        .taking::<PageQuery>();
    table.post(versions, Change, prompts::register_prompt_version);
    let version = "/api/v1/prompts/{prompt}/versions/{version}";
    table.get(version, Read, prompts::get_prompt_version);
    let scores = "/api/v1/prompts/{prompt}/versions/{version}/scores";
    table.post(scores, Change, prompts::add_prompt_score);
    let diff = "/api/v1/prompts/{prompt}/diff";
    table
        .get(diff, Read, prompts::diff_prompt_versions)
        .taking::<prompts::DiffQuery>();
    let uses = "/api/v1/prompts/{prompt}/uses";
    table
        .get(uses, Read, prompts::list_prompt_uses)
        .taking::<prompts::VersionQuery>();
    let label = "/api/v1/prompts/{prompt}/labels/{label}";
    table.put(label, Change, prompts::put_prompt_label);
    table.delete(label, Change, prompts::remove_prompt_label);

    table.get("/api/v1/models", Read, models::list_models);
    table.put(
        "/api/v1/models/{model}/versions/{version}",
        Change,
        models::put_model,
    );
    table.put(
        "/api/v1/models/{model}/aliases/{alias}",
        Change,
        models::put_model_alias,
    );

    table.get("/api/v1/indexes", Read, indexes::list_indexes);
    table.put("/api/v1/indexes/{version}", Change, indexes::put_index);
}

fn add_apps(table: &mut Table) {
    table.get("/api/v1/apps", Read, apps::list_apps);
    table.get("/api/v1/apps/{app}", Read, apps::get_app);
    table.put("/api/v1/apps/{app}", Change, apps::put_app);
    table.post("/api/v1/apps/{app}/deploy", Change, deployments::deploy_app);
    table.post(
        "/api/v1/apps/{app}/rollback",
        Change,
        deployments::roll_back_app,
    );
    table.post(
        "/api/v1/apps/{app}/rehearse",
        Change,
        deployments::rehearse_app,
    );
    table.post("/api/v1/apps/{app}/resolve", Call, deployments::resolve_app);
    let history = "/api/v1/apps/{app}/deployments";
    table
        .get(history, Read, deployments::list_deployments)
        .taking::<deployments::HistoryQuery>()
        .taking::<PageQuery>();
    table.get(
        "/api/v1/manifests/{manifest}",
        Read,
        manifests::get_manifest,
    );
    table
        .get("/api/v1/manifest-diff", Read, manifests::diff_two_manifests)
        .taking::<manifests::DiffQuery>();
}

fn add_events(table: &mut Table) {
    table
        .get("/api/v1/calls", Read, calls::list_calls)
        .taking::<calls::CallsQuery>()
        .taking::<PageQuery>();
    table.post("/api/v1/calls", Call, calls::log_calls);
    table.get("/api/v1/calls/{call}", Read, calls::get_call);
    table.post("/api/v1/feedback", Call, feedback::send_feedback);
    let summary = "/api/v1/feedback/summary";
    table
        .get(summary, Read, feedback::summarize_feedback)
        .taking::<feedback::SummaryQuery>();
}

fn add_experiments(table: &mut Table) {
    table.get("/api/v1/experiments", Read, experiments::list_experiments);
    table.post(
        "/api/v1/experiments",
        Change,
        experiments::create_experiment,
    );
    let experiment = "/api/v1/experiments/{experiment}";
    table.get(experiment, Read, experiments::get_experiment);
    table.patch(experiment, Change, experiments::change_experiment);
    table.post(
        "/api/v1/experiments/{experiment}/start",
        Change,
        experiments::start_experiment,
    );
    table.post(
        "/api/v1/experiments/{experiment}/stop",
        Change,
        experiments::stop_experiment,
    );
}

fn add_administration(table: &mut Table) {
    table.get("/api/v1/keys", Administer, keys::list_keys);
    table.post("/api/v1/keys", Administer, keys::create_key);
    table.delete("/api/v1/keys/{key}", Administer, keys::revoke_key);
    table
        .get("/api/v1/audit", Read, audit::list_audit_entries)
        .taking::<PageQuery>();
    table.get("/api/v1/audit/verify", Read, audit::verify_audit_log);
    table.get("/metrics", Read, health::get_metrics);
    table.get("/healthz", Anyone, health::get_health);
    table.get("/readyz", Anyone, health::get_readiness);
}

struct Table(Vec<Route>);

/// What a route demands of its caller, if anything.
struct Needs(Option<Permission>);

/// Marks a route that needs no key.
struct Anyone;

impl From<Permission> for Needs {
    fn from(permission: Permission) -> Self {
        Self(Some(permission))
    }
}

impl From<Anyone> for Needs {
    fn from(_: Anyone) -> Self {
        Self(None)
    }
}

impl Table {
    fn add<T: 'static>(
        &mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        needs: Needs,
        handler: impl Handler<T, Context>,
    ) {
        let (Needs(permission), handler) = (needs, on(filter, handler));
        self.0.push(Route {
            method,
            path,
            permission,
            parameters: Vec::new(),
            handler,
        });
    }

    /// Lets the route that was added last take the parameters of a query.
    fn taking<T: DeserializeOwned>(&mut self) -> &mut Self {
        if let Some(route) = self.0.last_mut() {
            route.parameters.extend(extract::parameters::<T>());
        }
        self
    }

    fn get<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Context>,
    ) -> &mut Self {
        self.add(Method::GET, MethodFilter::GET, path, needs.into(), handler);
        self
    }

    fn post<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Context>,
    ) {
        self.add(
            Method::POST,
            MethodFilter::POST,
            path,
            needs.into(),
            handler,
        );
    }

    fn put<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Context>,
    ) {
        self.add(Method::PUT, MethodFilter::PUT, path, needs.into(), handler);
    }

    fn patch<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Context>,
    ) {
        self.add(
            Method::PATCH,
            MethodFilter::PATCH,
            path,
            needs.into(),
            handler,
        );
    }

    fn delete<T: 'static>(
        &mut self,
        path: &'static str,
        needs: impl Into<Needs>,
        handler: impl Handler<T, Context>,
    ) {
        self.add(
            Method::DELETE,
            MethodFilter::DELETE,
            path,
            needs.into(),
            handler,
        );
    }
}

/// The server's router.
pub fn router(context: &Context) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let mut handler = route.handler;
        // Clients of the other doors add what they like.
        if route.path.starts_with("/api/") {
            let known: Arc<[&str]> = route.parameters.into();
            handler = handler.layer(middleware::from_fn_with_state(known, check_parameters));
        }
        if let Some(permission) = route.permission {
            let needed = (context.clone(), permission);
            handler = handler.layer(middleware::from_fn_with_state(needed, authorise));
        }
        router = router.route(route.path, handler);
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(context.options.largest_body))
        .with_state(context.clone())
}

async fn check_parameters(
    State(known): State<Arc<[&'static str]>>,
    request: Request,
    next: Next,
) -> Response {
    match extract::check_parameters(request.uri(), &known) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn not_found(uri: Uri) -> axum::response::Response {
    let problem = Problem::not_found(format!("there is nothing at `{}`", uri.path()));
    if uri.path().starts_with("/v1/") {
        openai::refuse(&problem)
    } else {
        problem.into_response()
    }
}

async fn method_not_allowed(method: Method, uri: Uri) -> axum::response::Response {
    let detail = format!("`{}` does not take {method}", uri.path());
    let status = http::StatusCode::METHOD_NOT_ALLOWED;
    let problem = Problem::new(status, "method_not_allowed", detail);
    if uri.path().starts_with("/v1/") {
        openai::refuse(&problem)
    } else {
        problem.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_reference_has_every_route_with_its_permission_and_no_other() {
        let reference = include_str!("../../../docs/api.md");
        let mut documented: Vec<_> = reference
            .lines()
            .filter_map(|line| {
                let (route, rest) = line.strip_prefix("| `")?.split_once('`')?;
                let needed = rest.trim_end_matches(" |").rsplit("| ").next()?;
                route.contains(" /").then(|| format!("{route} {needed}"))
            })
            .collect();
        let mut served: Vec<_> = routes()
            .iter()
            .map(
                |Route {
                     method,
                     path,
                     permission,
                     ..
                 }| {
                    let needed = match permission {
                        Some(Read) => "read",
                        Some(Call) => "call",
                        Some(Change) => "change",
                        Some(Administer) => "administer",
                        None => "anyone",
                    };
                    format!("{method} {path} {needed}")
                },
            )
            .collect();
        documented.sort();
        served.sort();
        assert_eq!(documented, served);
    }
}
