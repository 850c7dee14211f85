//! The table of contents: every route, and the permission it demands.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, on};
use flywheel_core::key::Permission::{self, Administer, Call, Change, Read};
use http::{Method, Uri};

use crate::api::{
    apps, audit, calls, deployments, experiments, feedback, health, indexes, keys, manifests,
    models, prompts,
};
use crate::auth::authorise;
use crate::context::Context;
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
    handler: MethodRouter<Context>,
}

/// Every route.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut table = Table(Vec::new());
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let (delete, patch) = (Method::DELETE, Method::PATCH);

    table.add(
        &post,
        "/v1/chat/completions",
        Call,
        openai::create_chat_completion,
    );
    table.add(&post, "/v1/embeddings", Call, openai::create_embeddings);
    table.add(&get, "/v1/models", Call, openai::list_callable_models);

    table.add(&post, "/api/v1/push", Change, prompts::push_registry);
    table.add(&get, "/api/v1/prompts", Read, prompts::list_prompts);
    table.add(
        &get,
        "/api/v1/prompts/{prompt}/versions",
        Read,
        prompts::list_prompt_versions,
    );
    table.add(
        &post,
        "/api/v1/prompts/{prompt}/versions",
        Change,
        prompts::register_prompt_version,
    );
    table.add(
        &get,
        "/api/v1/prompts/{prompt}/versions/{version}",
        Read,
        prompts::get_prompt_version,
    );
    table.add(
        &post,
        "/api/v1/prompts/{prompt}/versions/{version}/scores",
        Change,
        prompts::add_prompt_score,
    );
    table.add(
        &get,
        "/api/v1/prompts/{prompt}/diff",
        Read,
        prompts::diff_prompt_versions,
    );
    table.add(
        &get,
        "/api/v1/prompts/{prompt}/uses",
        Read,
        prompts::list_prompt_uses,
    );
    table.add(
        &put,
        "/api/v1/prompts/{prompt}/labels/{label}",
        Change,
        prompts::put_prompt_label,
    );
    table.add(
        &delete,
        "/api/v1/prompts/{prompt}/labels/{label}",
        Change,
        prompts::remove_prompt_label,
    );

    table.add(&get, "/api/v1/models", Read, models::list_models);
    table.add(
        &put,
        "/api/v1/models/{model}/versions/{version}",
        Change,
        models::put_model,
    );
    table.add(
        &put,
        "/api/v1/models/{model}/aliases/{alias}",
        Change,
        models::put_model_alias,
    );

    table.add(&get, "/api/v1/indexes", Read, indexes::list_indexes);
    table.add(
        &put,
        "/api/v1/indexes/{version}",
        Change,
        indexes::put_index,
    );

    table.add(&get, "/api/v1/apps", Read, apps::list_apps);
    table.add(&get, "/api/v1/apps/{app}", Read, apps::get_app);
    table.add(&put, "/api/v1/apps/{app}", Change, apps::put_app);
    table.add(
        &post,
        "/api/v1/apps/{app}/deploy",
        Change,
        deployments::deploy_app,
    );
    table.add(
        &post,
        "/api/v1/apps/{app}/rollback",
        Change,
        deployments::roll_back_app,
    );
    table.add(
        &post,
        "/api/v1/apps/{app}/rehearse",
        Change,
        deployments::rehearse_app,
    );
    table.add(
        &post,
        "/api/v1/apps/{app}/resolve",
        Call,
        deployments::resolve_app,
    );
    table.add(
        &get,
        "/api/v1/apps/{app}/deployments",
        Read,
        deployments::list_deployments,
    );

    table.add(
        &get,
        "/api/v1/manifests/{manifest}",
        Read,
        manifests::get_manifest,
    );
    table.add(
        &get,
        "/api/v1/manifest-diff",
        Read,
        manifests::diff_two_manifests,
    );

    table.add(&get, "/api/v1/calls", Read, calls::list_calls);
    table.add(&post, "/api/v1/calls", Call, calls::log_calls);
    table.add(&get, "/api/v1/calls/{call}", Read, calls::get_call);

    table.add(&post, "/api/v1/feedback", Call, feedback::send_feedback);
    table.add(
        &get,
        "/api/v1/feedback/summary",
        Read,
        feedback::summarize_feedback,
    );

    table.add(
        &get,
        "/api/v1/experiments",
        Read,
        experiments::list_experiments,
    );
    table.add(
        &post,
        "/api/v1/experiments",
        Change,
        experiments::create_experiment,
    );
    table.add(
        &get,
        "/api/v1/experiments/{experiment}",
        Read,
        experiments::get_experiment,
    );
    table.add(
        &patch,
        "/api/v1/experiments/{experiment}",
        Change,
        experiments::change_experiment,
    );
    table.add(
        &post,
        "/api/v1/experiments/{experiment}/start",
        Change,
        experiments::start_experiment,
    );
    table.add(
        &post,
        "/api/v1/experiments/{experiment}/stop",
        Change,
        experiments::stop_experiment,
    );

    table.add(&get, "/api/v1/keys", Administer, keys::list_keys);
    table.add(&post, "/api/v1/keys", Administer, keys::create_key);
    table.add(&delete, "/api/v1/keys/{key}", Administer, keys::revoke_key);

    table.add(&get, "/api/v1/audit", Read, audit::list_audit_entries);
    table.add(&get, "/api/v1/audit/verify", Read, audit::verify_audit_log);

    table.add(&get, "/metrics", Read, health::get_metrics);
    table.add_open(&get, "/healthz", health::get_health);
    table.add_open(&get, "/readyz", health::get_readiness);
    table.0
}

struct Table(Vec<Route>);

impl Table {
    fn add<T: 'static>(
        &mut self,
        method: &Method,
        path: &'static str,
        permission: Permission,
        handler: impl Handler<T, Context>,
    ) {
        self.push(method, path, Some(permission), handler);
    }

    fn add_open<T: 'static>(
        &mut self,
        method: &Method,
        path: &'static str,
        handler: impl Handler<T, Context>,
    ) {
        self.push(method, path, None, handler);
    }

    fn push<T: 'static>(
        &mut self,
        method: &Method,
        path: &'static str,
        permission: Option<Permission>,
        handler: impl Handler<T, Context>,
    ) {
        // Every method in the table is one that a filter exists for.
        if let Ok(filter) = method.clone().try_into() {
            let handler = on(filter, handler);
            self.0.push(Route {
                method: method.clone(),
                path,
                permission,
                handler,
            });
        }
    }
}

/// The server's router.
#[must_use]
pub fn router(context: &Context) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let handler = match route.permission {
            Some(permission) => {
                let needed = (context.clone(), permission);
                route
                    .handler
                    .layer(middleware::from_fn_with_state(needed, authorise))
            }
            None => route.handler,
        };
        router = router.route(route.path, handler);
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(context.options.largest_body))
        .with_state(context.clone())
}

async fn not_found(uri: Uri) -> axum::response::Response {
    let problem = Problem::not_found(format!("there is nothing at `{}`", uri.path()));
    if uri.path().starts_with("/v1/") {
        openai::refuse(&problem)
    } else {
        problem.into_response()
    }
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not take {method}", uri.path());
    Problem::new(
        http::StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        detail,
    )
}
