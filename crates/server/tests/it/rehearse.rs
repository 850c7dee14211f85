//! Rehearsing the way back, and resolving a request for apps that call their provider themselves.

use flywheel_core::call::CallStatus;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{each, items};

const REHEARSE: &str = "/api/v1/apps/support/rehearse";
const RESOLVE: &str = "/api/v1/apps/support/resolve";

#[tokio::test]
async fn the_last_manifests_are_checked_newest_first() {
    let app = TestApp::furnished().await;
    let [first, second] = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    app.deploy_greeting(1).await;
    let rehearsed = app.editor().post(REHEARSE, &json!({})).await.ok();
    assert_eq!(rehearsed["passed"], true);
    assert_eq!(each(&rehearsed, "manifest"), [first.clone(), second]);
    assert_eq!(each(&rehearsed, "deployment_number"), ["3", "2"]);
    assert!(
        items(&rehearsed)
            .iter()
            .all(|item| item["preflight"]["passed"] == true)
    );
    assert!(
        items(&rehearsed)
            .iter()
            .all(|item| item.get("probe").is_none())
    );
    let one = app.editor().post(REHEARSE, &json!({"last": 1})).await.ok();
    assert_eq!(each(&one, "manifest"), [first]);
    let staging = app
        .editor()
        .post(REHEARSE, &json!({"environment": "staging"}))
        .await
        .ok();
    assert_eq!(staging["items"], json!([]));
    app.editor()
        .post(REHEARSE, &json!({"environment": "moon"}))
        .await
        .problem(404, "not_found");
    app.editor()
        .post(REHEARSE, &json!({"lats": 1}))
        .await
        .problem_saying(422, "invalid", "`lats`");
}

/// A probe makes a real call with the variables given, or else with those of the newest call; it is not recorded.
#[tokio::test]
async fn a_probe_makes_a_real_call() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    app.deploy_greeting(2).await;
    let bare = app
        .editor()
        .post(REHEARSE, &json!({"probe": true}))
        .await
        .ok();
    assert_eq!(
        bare["passed"], false,
        "there is nothing to render the prompt with"
    );
    assert!(
        bare["items"][0]["probe"]["problem"]
            .as_str()
            .unwrap()
            .contains("`name`")
    );

    let given = json!({"probe": true, "variables": {"name": "Bob"}});
    let rehearsed = app.editor().post(REHEARSE, &given).await.ok();
    assert_eq!(rehearsed["passed"], true, "{rehearsed}");
    let outputs: Vec<_> = items(&rehearsed)
        .iter()
        .map(|item| item["probe"]["output"].clone())
        .collect();
    assert_eq!(
        outputs,
        ["[simulated] Good day Bob", "[simulated] Hello Bob"]
    );

    app.chat("u1").await;
    let rehearsed = app
        .editor()
        .post(REHEARSE, &json!({"probe": true}))
        .await
        .ok();
    assert_eq!(
        rehearsed["items"][0]["probe"]["output"],
        "[simulated] Good day Ada"
    );
    let calls = app.viewer().get("/api/v1/calls").await.ok();
    assert_eq!(items(&calls).len(), 1);
}

#[tokio::test]
async fn a_way_back_that_is_barred_shows() {
    let app = TestApp::furnished().await;
    let index = "kb";
    app.put_index(index, "available").await;
    let body = json!({"prompt": "greeting", "version": "1", "retriever_index_version": "kb", "reason": "r"});
    app.editor()
        .post("/api/v1/apps/support/deploy", &body)
        .await
        .ok();
    let body = json!({"prompt": "greeting", "version": "2", "retriever_index_version": null, "reason": "r"});
    app.editor()
        .post("/api/v1/apps/support/deploy", &body)
        .await
        .ok();
    app.put_index(index, "dropped").await;
    let body = json!({"probe": true, "variables": {"name": "Bob"}});
    let rehearsed = app.editor().post(REHEARSE, &body).await.ok();
    assert_eq!(rehearsed["passed"], false);
    let passed: Vec<_> = items(&rehearsed)
        .iter()
        .map(|item| item["preflight"]["passed"].clone())
        .collect();
    assert_eq!(passed, [true, false]);
    assert!(
        rehearsed["items"][1].get("probe").is_none(),
        "no call is wasted on it"
    );
}

#[tokio::test]
async fn what_is_resolved_can_be_sent_and_logged() {
    let app = TestApp::furnished().await;
    let manifest = app.deploy_greeting(1).await;
    let body = json!({"user": "u1", "session": "s1", "variables": {"name": "Ada"},
        "messages": [{"role": "user", "content": "hi"}]});
    let resolved = app.caller().post(RESOLVE, &body).await.ok();
    for (member, expected) in [
        ("app", json!("support")),
        ("environment", json!("production")),
        ("manifest", json!(manifest)),
        ("prompt", json!("greeting")),
        ("model_id", json!("m")),
        ("provider", json!("simulated")),
        ("experiment", Value::Null),
        (
            "request",
            json!({"model": "m", "user": "u1", "messages": [
                {"role": "user", "content": "Hello Ada"}, {"role": "user", "content": "hi"}]}),
        ),
    ] {
        assert_eq!(resolved[member], expected, "{member}");
    }
    let logged = json!({"id": resolved["call_id"], "app": "support", "manifest": manifest,
        "user": "u1", "variables": {"name": "Ada"}, "messages": resolved["request"]["messages"],
        "output": "Hi", "latency_ms": 12.5,
        "usage": {"input_tokens": 10, "output_tokens": 20}});
    let stored = app
        .caller()
        .post("/api/v1/calls", &logged)
        .await
        .with_status(201);
    assert_eq!(
        stored["items"],
        json!([{"id": resolved["call_id"], "stored": "stored"}])
    );
    let call = format!("/api/v1/calls/{}", resolved["call_id"].as_str().unwrap());
    let call = app.viewer().get(&call).await.ok();
    for (member, expected) in [
        ("environment", json!("production")),
        ("prompt", json!("greeting")),
        ("prompt_version", resolved["prompt_version"].clone()),
        ("model_version", json!("1")),
        ("unit", json!("u1")),
        ("status", json!(CallStatus::Ok.as_str())),
        ("latency_us", json!(12_500)),
        ("cost_nano_usd", json!(10_000 + 40_000)),
        ("started_at", json!("2026-01-01T00:00:00Z")),
        ("feedback", json!([])),
    ] {
        assert_eq!(call[member], expected, "{member}");
    }
}

#[tokio::test]
async fn what_cannot_be_resolved_says_why() {
    let app = TestApp::furnished().await;
    let variables = json!({"variables": {"name": "Ada"}});
    let nothing = app.caller().post(RESOLVE, &variables).await;
    nothing.problem_saying(404, "not_found", "nothing is deployed");
    app.deploy_greeting(1).await;
    let missing = app.caller().post(RESOLVE, &json!({})).await;
    missing.problem_saying(400, "invalid_variables", "`name`");
    let wrong = app.caller().post(RESOLVE, &json!({"vars": {}})).await;
    wrong.problem_saying(422, "invalid", "`vars`");
    let elsewhere = app
        .caller()
        .post("/api/v1/apps/nothing/resolve", &variables)
        .await;
    elsewhere.problem_saying(404, "not_found", "app `nothing`");
}
