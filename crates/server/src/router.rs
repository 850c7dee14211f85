//! The table of contents: every route, the permission it demands, and what it does. What it takes and answers is in the
//! types of its handler, from which [`crate::openapi`] describes it.

mod table;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use flywheel_core::key::Permission::{Administer, Call, Change, Read};
use http::{HeaderMap, Method, Uri};

use crate::api::{
    apps, audit, calls, deployments, experiments, feedback, health, indexes, keys, manifests,
    models, prompts,
};
use crate::auth::authorise;
use crate::console;
use crate::context::Context;
use crate::extract;
use crate::openai;
use crate::openapi;
use crate::problem::Problem;
use crate::unread;

pub use self::table::Route;
use self::table::{Anyone, Table};

/// Every route.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut table = Table::default();
    add_openai_door(&mut table);
    add_registry(&mut table);
    add_apps(&mut table);
    add_events(&mut table);
    add_experiments(&mut table);
    add_administration(&mut table);
    table.routes
}

fn add_openai_door(table: &mut Table) {
    table.group = "The OpenAI door";
    let path = "/v1/chat/completions";
    table.post(
        path,
        Call,
        "Call an app or a model",
        openai::create_chat_completion,
    );
    let path = "/v1/embeddings";
    table.post(
        path,
        Call,
        "Embed texts with a model",
        openai::create_embeddings,
    );
    let path = "/v1/models";
    table.get(
        path,
        Call,
        "List what can be called",
        openai::list_callable_models,
    );
}

fn add_registry(table: &mut Table) {
    table.group = "Registry";
    let path = "/api/v1/push";
    table.post(
        path,
        Change,
        "Register prompts and models, all or none",
        prompts::push_registry,
    );
    let path = "/api/v1/prompts";
    table.get(path, Read, "List prompts", prompts::list_prompts);
    let path = "/api/v1/prompts/{prompt}/versions";
    table.get(
        path,
        Read,
        "List a prompt's versions, newest first",
        prompts::list_prompt_versions,
    );
    table.post(
        path,
        Change,
        "Register a version",
        prompts::register_prompt_version,
    );
    let path = "/api/v1/prompts/{prompt}/versions/{version}";
    table.get(
        path,
        Read,
        "Show a version with its uses and scores",
        prompts::get_prompt_version,
    );
    let path = "/api/v1/prompts/{prompt}/versions/{version}/scores";
    table.post(path, Change, "Add a score", prompts::add_prompt_score);
    let path = "/api/v1/prompts/{prompt}/diff";
    table.get(
        path,
        Read,
        "Compare two versions",
        prompts::diff_prompt_versions,
    );
    let path = "/api/v1/prompts/{prompt}/uses";
    table.get(
        path,
        Read,
        "List where a prompt is or was deployed",
        prompts::list_prompt_uses,
    );
    let path = "/api/v1/prompts/{prompt}/labels/{label}";
    table.put(
        path,
        Change,
        "Put a label on a version",
        prompts::put_prompt_label,
    );
    table.delete(path, Change, "Remove a label", prompts::remove_prompt_label);
    let path = "/api/v1/models";
    table.get(path, Read, "List registered models", models::list_models);
    let path = "/api/v1/models/{model}/versions/{version}";
    table.put(
        path,
        Change,
        "Register or correct a model version",
        models::put_model,
    );
    let path = "/api/v1/models/{model}/aliases/{alias}";
    table.put(
        path,
        Change,
        "Point an alias at a model version",
        models::put_model_alias,
    );
    let path = "/api/v1/indexes";
    table.get(path, Read, "List retriever indexes", indexes::list_indexes);
    let path = "/api/v1/indexes/{version}";
    table.put(
        path,
        Change,
        "Register a retriever index or change its state",
        indexes::put_index,
    );
}

fn add_apps(table: &mut Table) {
    table.group = "Apps and deployments";
    let path = "/api/v1/apps";
    table.get(
        path,
        Read,
        "List apps with what they serve",
        apps::list_apps,
    );
    let path = "/api/v1/apps/{app}";
    table.get(path, Read, "Show an app", apps::get_app);
    table.put(path, Change, "Make or change an app", apps::put_app);
    let path = "/api/v1/apps/{app}/metrics";
    table.get(path, Read, "List the metrics of an app", apps::list_metrics);
    let path = "/api/v1/apps/{app}/deploy";
    table.post(
        path,
        Change,
        "Deploy a prompt version or a manifest",
        deployments::deploy_app,
    );
    let path = "/api/v1/apps/{app}/rollback";
    table.post(
        path,
        Change,
        "Go back to an earlier manifest",
        deployments::roll_back_app,
    );
    let path = "/api/v1/apps/{app}/rehearse";
    table.post(
        path,
        Change,
        "Check that the last manifests can be served",
        deployments::rehearse_app,
    );
    let path = "/api/v1/apps/{app}/resolve";
    table.post(
        path,
        Call,
        "Render the request for an app that calls its provider itself",
        deployments::resolve_app,
    );
    let path = "/api/v1/apps/{app}/deployments";
    table.get(
        path,
        Read,
        "List deployments, newest first",
        deployments::list_deployments,
    );
    let path = "/api/v1/manifests/{manifest}";
    table.get(path, Read, "Show a manifest", manifests::get_manifest);
    let path = "/api/v1/manifest-diff";
    table.get(
        path,
        Read,
        "Compare two manifests",
        manifests::diff_two_manifests,
    );
}

fn add_events(table: &mut Table) {
    table.group = "Calls and feedback";
    let path = "/api/v1/calls";
    table.get(
        path,
        Read,
        "List recorded calls, newest first",
        calls::list_calls,
    );
    table.post(
        path,
        Call,
        "Log calls that an app made itself",
        calls::log_calls,
    );
    let path = "/api/v1/calls/{call}";
    table.get(
        path,
        Read,
        "Show a call with its texts and feedback",
        calls::get_call,
    );
    let path = "/api/v1/feedback";
    table.get(path, Read, "List feedback", feedback::list::list_feedback);
    table.post(
        path,
        Call,
        "Send feedback on calls",
        feedback::send_feedback,
    );
    let path = "/api/v1/feedback/summary";
    table.get(
        path,
        Read,
        "Sum up feedback",
        feedback::summary::summarize_feedback,
    );
}

fn add_experiments(table: &mut Table) {
    table.group = "Experiments";
    let path = "/api/v1/experiments";
    table.get(
        path,
        Read,
        "List experiments",
        experiments::list_experiments,
    );
    table.post(
        path,
        Change,
        "Make an experiment",
        experiments::create_experiment,
    );
    let path = "/api/v1/experiments/{experiment}";
    table.get(
        path,
        Read,
        "Show an experiment with a summary by arm",
        experiments::get_experiment,
    );
    table.patch(
        path,
        Change,
        "Change what is allocated, or the plan",
        experiments::change_experiment,
    );
    let path = "/api/v1/experiments/{experiment}/readout";
    table.get(
        path,
        Read,
        "Read what an experiment says so far",
        experiments::get_readout,
    );
    let path = "/api/v1/experiments/{experiment}/units";
    table.get(
        path,
        Read,
        "List the units of an experiment with their sums",
        experiments::list_units,
    );
    let path = "/api/v1/experiments/{experiment}/sums";
    table.get(
        path,
        Read,
        "List the sums of an experiment at the end of each day",
        experiments::list_sums,
    );
    let path = "/api/v1/experiments/{experiment}/histograms";
    table.get(
        path,
        Read,
        "List how the values of an experiment's metrics are distributed",
        experiments::list_histograms,
    );
    let path = "/api/v1/experiments/{experiment}/promote";
    table.post(
        path,
        Change,
        "Deploy an arm of an experiment and stop it",
        experiments::promote_arm,
    );
    let path = "/api/v1/experiments/{experiment}/rebuild";
    table.post(
        path,
        Change,
        "Make the statistics of an experiment again from its events",
        experiments::rebuild_statistics,
    );
    let path = "/api/v1/experiments/{experiment}/start";
    table.post(
        path,
        Change,
        "Start an experiment",
        experiments::start_experiment,
    );
    let path = "/api/v1/experiments/{experiment}/archive";
    table.post(
        path,
        Change,
        "Put a stopped experiment away with its statistics as they are",
        experiments::archive_experiment,
    );
    let path = "/api/v1/experiments/{experiment}/stop";
    table.post(
        path,
        Change,
        "Stop an experiment",
        experiments::stop_experiment,
    );
}

fn add_administration(table: &mut Table) {
    table.group = "Administration";
    let path = "/api/v1/keys";
    table.get(path, Administer, "List keys", keys::list_keys);
    table.post(
        path,
        Administer,
        "Make a key, shown this once",
        keys::create_key,
    );
    let path = "/api/v1/keys/{key}";
    table.delete(path, Administer, "Revoke a key", keys::revoke_key);
    let path = "/api/v1/audit";
    table.get(
        path,
        Read,
        "List the audit log, newest first",
        audit::list_audit_entries,
    );
    let path = "/api/v1/audit/verify";
    table.get(
        path,
        Read,
        "Walk the hash chain of the audit log",
        audit::verify_audit_log,
    );
    let path = "/metrics";
    table.get(path, Read, "Metrics for Prometheus", health::get_metrics);
    let path = "/healthz";
    table.get(
        path,
        Anyone,
        "Tell that the process answers",
        health::get_health,
    );
    let path = "/readyz";
    table.get(
        path,
        Anyone,
        "Tell whether the store answers too",
        health::get_readiness,
    );
    let path = "/openapi.json";
    table.get(
        path,
        Anyone,
        "Describe this API",
        openapi::get_openapi_document,
    );
}

/// The server's router.
pub fn router(context: &Context) -> Router {
    // Made now, so that whoever asks first need not wait.
    LazyLock::force(&openapi::DOCUMENT);
    let mut router = Router::new();
    for route in routes() {
        let known = openapi::query_names(&route);
        let mut handler = route.handler;
        // Clients of the other doors add what they like.
        if route.path.starts_with("/api/") {
            let known: Arc<[String]> = known.into();
            handler = handler.layer(middleware::from_fn_with_state(known, check_parameters));
        }
        if let Some(permission) = route.permission {
            let needed = (context.clone(), permission);
            handler = handler.layer(middleware::from_fn_with_state(needed, authorise));
        }
        router = router.route(route.path, handler);
    }
    router
        .merge(console::router(context))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(context.options.largest_body))
        .layer(middleware::from_fn(unread::see_to_rest))
        .with_state(context.clone())
}

async fn check_parameters(
    State(known): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Response {
    match extract::check_parameters(request.uri(), &known) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn not_found(State(context): State<Context>, uri: Uri, headers: HeaderMap) -> Response {
    let problem = Problem::not_found(format!("there is nothing at `{}`", uri.path()));
    refuse(&context, &uri, &headers, problem)
}

async fn method_not_allowed(
    State(context): State<Context>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let detail = format!("`{}` does not take {method}", uri.path());
    let status = http::StatusCode::METHOD_NOT_ALLOWED;
    let problem = Problem::new(status, "method_not_allowed", detail);
    refuse(&context, &uri, &headers, problem)
}

/// In the form that whoever asks can read.
fn refuse(context: &Context, uri: &Uri, headers: &HeaderMap, problem: Problem) -> Response {
    if uri.path().starts_with("/v1/") {
        openai::refuse(&problem)
    } else if console::is_for_reading(headers) {
        console::refuse(context, headers, uri.path(), problem)
    } else {
        problem.into_response()
    }
}

#[cfg(test)]
mod tests {
    use flywheel_core::key::Permission;

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
                    let needed = permission.map_or("anyone", Permission::as_str);
                    format!("{method} {path} {needed}")
                },
            )
            .collect();
        documented.sort();
        served.sort();
        assert_eq!(documented, served);
    }
}
