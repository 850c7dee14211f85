//! The OpenAPI document: what is in it, and that the server does what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use flywheel_server::router;
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::authorisation::cases::World;
use crate::contract::{self, OPENAPI};

/// Each operation with its path and method.
fn operations() -> Vec<(&'static str, &'static str, &'static Value)> {
    let paths = OPENAPI["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[tokio::test]
async fn anyone_gets_the_committed_document() {
    let app = TestApp::new().await;
    let answer = app.nobody().get("/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.ok()["openapi"], "3.1.0");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, &answer.body).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == answer.text(),
        "the API is not what docs/openapi.json says; if that is right, run the tests with UPDATE_SNAPSHOTS=1 and read the difference"
    );
}

#[test]
fn the_document_has_every_route_with_its_permission_and_no_other() {
    let documented: BTreeSet<_> = operations()
        .into_iter()
        .map(|(path, method, operation)| {
            let permission = operation["x-flywheel-permission"].as_str();
            (path, method.to_ascii_uppercase(), permission)
        })
        .collect();
    let routes = router::routes();
    let served: BTreeSet<_> = routes
        .iter()
        .map(|route| {
            let permission = route.permission.map(|permission| permission.as_str());
            (route.path, route.method.to_string(), permission)
        })
        .collect();
    assert_eq!(documented, served);
    assert_eq!(routes.len(), served.len(), "a route is served twice");
}

#[test]
fn every_operation_is_complete() {
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations() {
        let what = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id), "{what}: `{id}` names another operation too");
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{what}: {id}"
        );
        let summary = operation["summary"].as_str().unwrap();
        assert!(
            !summary.is_empty() && !summary.ends_with('.'),
            "{what}: {summary}"
        );
        let no_parameters = Vec::new();
        let parameters = operation["parameters"].as_array().unwrap_or(&no_parameters);
        let in_path: Vec<_> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let named: Vec<_> = path
            .split('{')
            .skip(1)
            .map(|rest| rest.split_once('}').unwrap().0)
            .collect();
        assert_eq!(in_path, named, "{what}");
        let is_open = operation["x-flywheel-permission"].is_null();
        let security = if is_open {
            json!([])
        } else {
            json!([{"key": []}])
        };
        assert_eq!(operation["security"], security, "{what}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(
            answers.keys().any(|status| status.starts_with('2')),
            "{what}"
        );
        if !is_open {
            let (door, media_type) = if path.starts_with("/v1/") {
                ("OpenAiProblem", "application/json")
            } else {
                ("ProblemDocument", "application/problem+json")
            };
            let schema = &answers["default"]["content"][media_type]["schema"]["$ref"];
            assert_eq!(
                schema,
                &json!(format!("#/components/schemas/{door}")),
                "{what}"
            );
        }
    }
}

#[test]
fn schemas_are_valid_and_refer_to_what_is_there() {
    let schemas = OPENAPI["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        assert!(
            jsonschema::draft202012::meta::is_valid(schema),
            "{name}: {schema}"
        );
        // Where two types have one name, the second gets a number.
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphabetic()),
            "{name}"
        );
    }
    let mut used = BTreeSet::new();
    collect_references(&OPENAPI, &mut used);
    let there: BTreeSet<_> = schemas
        .keys()
        .map(|name| format!("#/components/schemas/{name}"))
        .collect();
    assert_eq!(used, there, "what is referred to, and what is there");
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get("$ref") {
                found.insert(target.clone());
            }
            members
                .values()
                .for_each(|member| collect_references(member, found));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

/// Whoever sends requests has the contract checked, see `requests.rs`. Here every operation gets a request that works.
#[tokio::test]
async fn every_operation_answers_as_it_says() {
    let world = World::new().await;
    world.app.clock.advance_seconds(1);
    let mut asked = BTreeSet::new();
    for case in world.cases() {
        let (method, _) = case.route.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let body = if case.body.is_null() {
            String::new()
        } else {
            case.body.to_string()
        };
        let answer = world.app.admin().send(method, &case.path, body, &[]).await;
        // The tests' server measures nothing, and its provider embeds nothing.
        if !["/metrics", "/v1/embeddings"].contains(&case.path.as_str()) {
            assert!(
                answer.status.is_success(),
                "{}: {}",
                answer.request,
                answer.text()
            );
        }
        asked.insert(case.route.to_owned());
    }
    let described: BTreeSet<_> = operations()
        .into_iter()
        .map(|(path, method, _)| format!("{} {path}", method.to_ascii_uppercase()))
        .collect();
    assert_eq!(asked, described);
}

/// A contract that lets anything pass would make the tests above worthless.
#[tokio::test]
async fn the_contract_notices_what_is_missing_or_wrong() {
    let world = World::new().await;
    let path = "/api/v1/apps/support";
    let mut answer = world.app.admin().get(path).await;
    let check = |answer: &_| contract::check(&Method::GET, path, b"", answer);
    assert_eq!(check(&answer), Ok(()));
    let right = answer.json();
    for (pointer, wrong) in [
        ("/name", json!("not a name")),
        ("/created_at", json!("yesterday")),
        ("/current/0/manifest", json!("abc")),
        ("/current/0/kind", json!("guess")),
        ("/current/0/number", json!(-1)),
        ("/current/0/prompt", Value::Null),
        ("/environments", json!("production")),
    ] {
        let mut body = right.clone();
        *body.pointer_mut(pointer).unwrap() = wrong;
        answer.body = body.to_string().into();
        assert!(check(&answer).is_err(), "{pointer} in {body}");
    }
    for member in ["name", "environments", "current"] {
        let mut body = right.clone();
        body.as_object_mut().unwrap().remove(member);
        answer.body = body.to_string().into();
        assert!(check(&answer).is_err(), "without `{member}`: {body}");
    }
    let mut body = right;
    body["further"] = json!(1);
    answer.body = body.to_string().into();
    assert!(check(&answer).is_err(), "{body}");
}

#[test]
fn requests_are_described_as_they_are_taken() {
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let deploy = json!({"prompt": "greeting", "reason": "x"});
    assert_eq!(
        contract::check_sent_value(&schema("DeployBody"), &deploy),
        Ok(())
    );
    for (name, body) in [
        ("DeployBody", json!({"prompt": "greeting", "dry-run": true})),
        ("NewFeedback", json!({"call_id": "c", "kind": "thumbs"})),
        ("NewFeedback", json!({"kind": "comment", "text": "x"})),
        (
            "IndexBody",
            json!({"index": "kb", "state": "migrated_forward"}),
        ),
        ("NewExperiment", json!({"name": "e", "app": "support"})),
        ("AppBody", json!({"environment": "production"})),
    ] {
        assert!(
            contract::check_sent_value(&schema(name), &body).is_err(),
            "{name}: {body}"
        );
    }
    for (name, body) in [
        (
            "NewFeedback",
            json!({"call_id": "c", "kind": "outcome", "name": "n", "value": true}),
        ),
        ("AppBody", json!({"fallback_manifest": null})),
        ("Push", json!({})),
    ] {
        assert_eq!(contract::check_sent_value(&schema(name), &body), Ok(()));
    }
}
