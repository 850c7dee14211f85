//! The OpenAPI document of every route, made from the table of routes and the types of their handlers.

mod operation;
mod schemas;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flywheel_core::key::Permission;
use http::{StatusCode, header};
use serde_json::{Value, json};

pub use self::operation::{Answer, Argument, Documented, Operation};
use self::schemas::Schemas;
use crate::auth::roles_with;
use crate::openai::OpenAiProblem;
use crate::problem::ProblemDocument;
use crate::router::{Route, routes};

/// The document. It depends on nothing but the program.
static DESCRIBED: LazyLock<Value> = LazyLock::new(|| describe(&routes()));

/// The document as text.
pub static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| format!("{:#}\n", *DESCRIBED).into());

/// The document as an answer.
pub struct OpenApiDocument;

/// `GET /openapi.json`
pub async fn get_openapi_document() -> OpenApiDocument {
    OpenApiDocument
}

impl IntoResponse for OpenApiDocument {
    fn into_response(self) -> Response {
        let document = LazyLock::force(&DOCUMENT).clone();
        ([(header::CONTENT_TYPE, "application/json")], document).into_response()
    }
}

impl Answer for OpenApiDocument {
    fn describe(operation: &mut Operation<'_>) {
        let schema = json!({"type": "object"});
        operation.answer(StatusCode::OK, &[("application/json", schema)]);
    }
}

/// The names of the parameters that a route's query may have.
#[must_use]
pub fn query_names(route: &Route) -> Vec<String> {
    let operation = &DESCRIBED["paths"][route.path][key_of_method(route)];
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
        .collect()
}

fn key_of_method(route: &Route) -> String {
    route.method.as_str().to_ascii_lowercase()
}

fn describe(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Flywheel",
            "description": "The operations layer for LLM applications.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {},
        "components": {
            "securitySchemes": {"key": {
                "type": "http",
                "scheme": "bearer",
                "description": "A key as `flywheel key create` makes it. While none was made, requests from the server's own machine need none.",
            }},
        },
    });
    let mut groups: Vec<&str> = Vec::new();
    for route in routes {
        if !groups.contains(&route.group) {
            groups.push(route.group);
        }
        document["paths"][route.path][key_of_method(route)] = describe_route(route, &mut schemas);
    }
    document["tags"] = groups.iter().map(|name| json!({"name": name})).collect();
    schemas.complete(&mut document);
    document
}

fn describe_route(route: &Route, schemas: &mut Schemas) -> Value {
    let mut operation = Operation::new(schemas, route.path);
    (route.describe)(&mut operation);
    if route.path.starts_with("/v1/") {
        operation.answer_otherwise::<OpenAiProblem>("application/json");
    } else if route.permission.is_some() {
        operation.answer_otherwise::<ProblemDocument>("application/problem+json");
    }
    let mut described = json!({
        "tags": [route.group],
        "operationId": route.name,
        "summary": route.summary,
    });
    match route.permission {
        None => described["security"] = json!([]),
        Some(permission) => {
            described["description"] = demand(permission).into();
            described["x-flywheel-permission"] = permission.as_str().into();
            described["security"] = json!([{"key": []}]);
        }
    }
    if let Some(members) = described.as_object_mut() {
        members.extend(operation.into_members());
    }
    described
}

fn demand(permission: Permission) -> String {
    let roles: Vec<_> = roles_with(permission)
        .into_iter()
        .map(|role| format!("`{}`", role.as_str()))
        .collect();
    format!(
        "Takes the permission `{}`, which keys of these roles have: {}.",
        permission.as_str(),
        roles.join(", ")
    )
}
