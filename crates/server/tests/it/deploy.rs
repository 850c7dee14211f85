//! Deploying: dry runs, refusals, force, races.

use flywheel_core::key::Role;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{content, each, items};

pub(crate) const DEPLOY: &str = "/api/v1/apps/support/deploy";

pub(crate) fn greeting(version: &str) -> Value {
    json!({"prompt": "greeting", "version": version, "reason": "because"})
}

pub(crate) fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

#[tokio::test]
async fn a_deployment_is_recorded_and_serves() {
    let app = TestApp::furnished().await;
    let moved = app.editor().post(DEPLOY, &greeting("1")).await.ok();
    assert_eq!(
        (&moved["dry_run"], &moved["unchanged"]),
        (&json!(false), &json!(false)),
        "{moved}"
    );
    assert_eq!(moved["previous"], Value::Null);
    assert_eq!(moved["changes"], json!([]));
    assert_eq!(moved["preflight"]["passed"], true);
    let deployment = &moved["deployment"];
    for (member, expected) in [
        ("app", json!("support")),
        ("environment", json!("production")),
        ("kind", json!("deploy")),
        ("actor", json!("editor_all")),
        ("reason", json!("because")),
        ("created_at", json!("2026-01-01T00:00:00Z")),
        ("forced_over", json!([])),
        ("prompt", json!("greeting")),
        ("prompt_ordinal", json!(1)),
        ("model", json!("m:1")),
        ("manifest", moved["manifest"]["id"].clone()),
    ] {
        assert_eq!(deployment[member], expected, "{member} in {deployment}");
    }
    let answer = app.chat("u1").await;
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "[simulated] Hello Ada"
    );
    assert_eq!(answer["flywheel"]["manifest"], moved["manifest"]["id"]);

    let moved = app.editor().post(DEPLOY, &greeting("2")).await.ok();
    assert_eq!(
        each(&json!({"items": moved["changes"]}), "member"),
        ["prompt_version"]
    );
    assert_eq!(moved["previous"]["id"], deployment["manifest"]);
    assert_eq!(
        moved["deployment"]["previous_manifest"],
        deployment["manifest"]
    );
    let answer = app.chat("u1").await;
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "[simulated] Good day Ada"
    );
    let audited = app.audited_actions().await;
    assert_eq!(
        audited
            .iter()
            .filter(|action| *action == "app.deploy")
            .count(),
        2,
        "{audited:?}"
    );
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let before = app.revision().await;
    let body = json!({"prompt": "greeting", "dry_run": true});
    let moved = app.editor().post(DEPLOY, &body).await.ok();
    assert_eq!(
        (&moved["dry_run"], &moved["deployment"]),
        (&json!(true), &Value::Null)
    );
    let latest = app
        .viewer()
        .get("/api/v1/prompts/greeting/versions/3")
        .await
        .ok();
    assert_eq!(
        moved["manifest"]["prompt_version"], latest["version"],
        "the latest, as none is named"
    );
    assert_eq!(moved["changes"][0]["after"], latest["version"]);

    // What a real deployment would be refused for, a dry run tells.
    let body = json!({"prompt": "greeting", "retriever_index_version": "kb-1", "dry_run": true});
    let moved = app.editor().post(DEPLOY, &body).await.ok();
    assert_eq!(moved["preflight"]["passed"], false);
    assert_eq!(app.revision().await, before);
    let history = app
        .viewer()
        .get("/api/v1/apps/support/deployments")
        .await
        .ok();
    assert_eq!(items(&history).len(), 1);
}

#[tokio::test]
async fn what_is_served_already_is_not_deployed_again() {
    let app = TestApp::furnished().await;
    let manifest = app.deploy_greeting(1).await;
    let before = app.revision().await;
    for body in [
        greeting("1"),
        json!({"manifest": &manifest[..12], "reason": "again"}),
    ] {
        let moved = app.editor().post(DEPLOY, &body).await.ok();
        assert_eq!(moved["unchanged"], true, "{moved}");
        assert_eq!(moved["deployment"]["number"], 1);
    }
    assert_eq!(app.revision().await, before);
}

/// Registers what stands in the way of a deployment: models that cannot be served, indexes that are gone.
async fn make_obstacles(app: &TestApp) {
    let admin = app.admin();
    let mut unregistered = content("x");
    unregistered["model_id"] = json!("nowhere");
    let mut broken = content("x");
    broken["model_id"] = json!("broken");
    let prompts = json!([
        {"prompt": "on-unregistered", "content": unregistered},
        {"prompt": "on-broken", "content": broken},
    ]);
    admin
        .post("/api/v1/push", &json!({"prompts": prompts}))
        .await
        .ok();
    let index = |version: &str| format!("/api/v1/indexes/{version}");
    let available = json!({"index": "kb", "state": "available"});
    for version in ["kb-1", "kb-2", "kb-3"] {
        admin.put(&index(version), &available).await.ok();
    }
    let migrated = json!({"index": "kb", "state": "migrated_forward", "to": "kb-3"});
    admin.put(&index("kb-1"), &migrated).await.ok();
    admin
        .put(&index("kb-2"), &json!({"index": "kb", "state": "dropped"}))
        .await
        .ok();
}

#[tokio::test]
async fn the_preflight_refuses_with_a_hint_unless_forced() {
    let app = TestApp::furnished().await;
    make_obstacles(&app).await;
    for (prompt, retriever, problem, hint) in [
        (
            "on-unregistered",
            None,
            "model `nowhere:1` is not registered",
            "flywheel model register",
        ),
        (
            "on-broken",
            None,
            "the variable `KEY` is not set",
            "configuration",
        ),
        (
            "greeting",
            Some("kb-0"),
            "`kb-0` is not registered",
            "flywheel index register kb-0",
        ),
        (
            "greeting",
            Some("kb-1"),
            "migrated forward to `kb-3`",
            "--retriever-index-version kb-3",
        ),
        (
            "greeting",
            Some("kb-2"),
            "`kb-2` was dropped",
            "rebuild the index",
        ),
    ] {
        let before = app.revision().await;
        let body = json!({"prompt": prompt, "retriever_index_version": retriever, "reason": "r"});
        let refused = app.editor().post(DEPLOY, &body).await;
        let refused = refused.problem_saying(422, "preflight_failed", problem);
        let given = refused["hint"].as_str().unwrap_or_default();
        assert!(
            given.contains(hint) && given.contains("--force"),
            "{refused}"
        );
        let checks = refused["preflight"]["checks"].as_array().unwrap();
        assert_eq!(refused["preflight"]["passed"], false);
        assert_eq!(
            checks
                .iter()
                .filter(|check| check["problem"].is_string())
                .count(),
            1
        );
        assert_eq!(
            app.revision().await,
            before,
            "{prompt}: a refusal changed something"
        );

        let moved = app
            .editor()
            .post(DEPLOY, &with(body, "force", json!(true)))
            .await
            .ok();
        let forced_over = moved["deployment"]["forced_over"].as_array().unwrap();
        assert!(
            forced_over[0].as_str().unwrap().contains(problem),
            "{moved}"
        );
    }
    let history = app
        .viewer()
        .get("/api/v1/apps/support/deployments")
        .await
        .ok();
    assert!(
        items(&history)
            .iter()
            .all(|item| item["forced_over"] != json!([])),
        "{history}"
    );
    // The usable index is no obstacle.
    let body = json!({"prompt": "greeting", "retriever_index_version": "kb-3", "reason": "r"});
    app.editor().post(DEPLOY, &body).await.ok();
}

#[tokio::test]
async fn required_members_are_demanded() {
    let app = TestApp::furnished().await;
    let required = json!({"required_members": ["retriever_index_version", "guards_version"]});
    app.editor()
        .put("/api/v1/apps/support", &required)
        .await
        .ok();
    let refused = app.editor().post(DEPLOY, &greeting("1")).await;
    let refused = refused.problem_saying(422, "preflight_failed", "`retriever_index_version`");
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("`guards_version`"),
        "{refused}"
    );
    app.editor()
        .put(
            "/api/v1/indexes/kb",
            &json!({"index": "kb", "state": "available"}),
        )
        .await
        .ok();
    let body = with(greeting("1"), "retriever_index_version", json!("kb"));
    let moved = app
        .editor()
        .post(DEPLOY, &with(body, "guards_version", json!("g1")))
        .await
        .ok();
    assert_eq!(moved["manifest"]["guards_version"], "g1");
}

#[tokio::test]
async fn what_a_deployment_does_not_speak_of_stays() {
    let app = TestApp::furnished().await;
    let index = "kb";
    app.put_index(index, "available").await;
    let deployed = async |body| app.editor().post(DEPLOY, &body).await.ok()["manifest"].clone();
    let body = with(greeting("1"), "retriever_index_version", json!("kb"));
    deployed(with(body, "guards_version", json!("g1"))).await;
    let kept = deployed(greeting("2")).await;
    assert_eq!(kept["retriever_index_version"], "kb");
    assert_eq!(kept["guards_version"], "g1");
    let without = deployed(with(greeting("2"), "guards_version", json!(null))).await;
    assert_eq!(without["retriever_index_version"], "kb");
    assert_eq!(without["guards_version"], json!(null));
}

#[tokio::test]
async fn wrong_requests_are_refused_and_say_why() {
    let app = TestApp::furnished().await;
    let before = app.revision().await;
    for (body, status, code, part) in [
        (json!({"prompt": "greeting"}), 422, "invalid", "`reason`"),
        (
            json!({"prompt": "greeting", "reason": "  "}),
            422,
            "invalid",
            "`reason`",
        ),
        (
            json!({"reason": "r"}),
            422,
            "invalid",
            "name what to deploy",
        ),
        (
            json!({"prompt": "greeting", "manifest": "0123456789ab", "reason": "r"}),
            422,
            "invalid",
            "cannot both be given",
        ),
        (
            json!({"prompt": "nothing", "reason": "r"}),
            404,
            "not_found",
            "prompt `nothing`",
        ),
        (greeting("9"), 404, "not_found", "has no version 9"),
        (greeting("nolabel"), 404, "not_found", "`nolabel`"),
        (
            json!({"manifest": "abc", "reason": "r"}),
            422,
            "invalid",
            "at least 12 digits",
        ),
        (
            json!({"manifest": "0123456789ab", "reason": "r"}),
            404,
            "not_found",
            "no manifest",
        ),
        (
            with(greeting("1"), "environment", json!("moon")),
            404,
            "not_found",
            "no environment `moon`",
        ),
        (
            with(greeting("1"), "environment", json!("a b")),
            422,
            "invalid",
            "environment `a b`",
        ),
        (
            with(greeting("1"), "force", json!("yes")),
            422,
            "invalid",
            "expected a boolean",
        ),
        // A misspelt `dry_run` must not deploy.
        (
            with(greeting("1"), "dryrun", json!(true)),
            422,
            "invalid",
            "`dryrun`",
        ),
        (
            with(greeting("1"), "expected", json!("none")),
            422,
            "invalid",
            "`expected`",
        ),
        (
            with(greeting("1"), "expected_manifest", json!("abc")),
            422,
            "invalid",
            "at least 12 digits",
        ),
    ] {
        app.editor()
            .post(DEPLOY, &body)
            .await
            .problem_saying(status, code, part);
    }
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn what_does_not_exist_is_answered_with_what_does() {
    let app = TestApp::furnished().await;
    let before = app.revision().await;
    let unknown = app
        .editor()
        .post("/api/v1/apps/nothing/deploy", &greeting("1"))
        .await;
    let unknown = unknown.problem_saying(404, "not_found", "app `nothing`");
    assert!(
        unknown["hint"]
            .as_str()
            .unwrap()
            .contains("flywheel app create nothing")
    );
    let moon = with(greeting("1"), "environment", json!("moon"));
    let moon = app
        .editor()
        .post(DEPLOY, &moon)
        .await
        .problem(404, "not_found");
    assert_eq!(moon["hint"], "it has `staging`, `production`");
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn environments_are_separate_and_history_is_paged() {
    let app = TestApp::furnished().await;
    for (version, environment) in [("1", "staging"), ("2", "staging"), ("1", "production")] {
        let body = with(greeting(version), "environment", json!(environment));
        app.editor().post(DEPLOY, &body).await.ok();
    }
    let ask = |user: &str| {
        json!({"model": "flywheel/support@staging", "user": user,
            "flywheel": {"variables": {"name": "Ada"}}})
    };
    let answer = app
        .caller()
        .post("/v1/chat/completions", &ask("u"))
        .await
        .ok();
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "[simulated] Good day Ada"
    );
    let path = "/api/v1/apps/support/deployments";
    let staging = app
        .viewer()
        .get(&format!("{path}?environment=staging"))
        .await
        .ok();
    assert_eq!(each(&staging, "number"), ["2", "1"]);
    let mut seen = Vec::new();
    let mut next = format!("{path}?limit=2");
    loop {
        let page = app.viewer().get(&next).await.ok();
        seen.extend(each(&page, "number"));
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        next = format!("{path}?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["3", "2", "1"]);
    let wrong = app.viewer().get(&format!("{path}?cursor=x")).await;
    wrong.problem_saying(422, "invalid", "cursor `x`");
}

#[tokio::test]
async fn the_deployer_may_be_limited_to_the_app() {
    let app = TestApp::furnished().await;
    let limited = app.limited(Role::Editor, "support");
    let moved = limited.post(DEPLOY, &greeting("1")).await.ok();
    assert_eq!(moved["deployment"]["actor"], "editor_support");
}
