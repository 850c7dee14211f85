//! Rolling back: by steps, to a manifest, and when there is no way back.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{each, items};

const ROLLBACK: &str = "/api/v1/apps/support/rollback";

async fn roll_back(app: &TestApp, mut body: Value) -> Value {
    body["reason"] = json!("worse");
    app.editor().post(ROLLBACK, &body).await.ok()
}

#[tokio::test]
async fn it_goes_back_by_steps_along_what_was_served() {
    let app = TestApp::furnished().await;
    let [first, second, third] = [
        app.deploy_greeting(1).await,
        app.deploy_greeting(2).await,
        app.deploy_greeting(3).await,
    ];
    let moved = roll_back(&app, json!({})).await;
    assert_eq!(moved["deployment"]["kind"], "rollback");
    assert_eq!(moved["deployment"]["reason"], "worse");
    assert_eq!(moved["deployment"]["previous_manifest"], third.as_str());
    assert_eq!(moved["manifest"]["id"], second.as_str());
    let answer = app.chat("u").await;
    assert_eq!(
        answer["choices"][0]["message"]["content"],
        "[simulated] Good day Ada"
    );
    assert_eq!(answer["flywheel"]["manifest"], second.as_str());

    // A second rollback goes further back, not forward again.
    let moved = roll_back(&app, json!({})).await;
    assert_eq!(moved["manifest"]["id"], first.as_str());
    let body = json!({"reason": "r"});
    let refused = app.editor().post(ROLLBACK, &body).await;
    let refused = refused.problem_saying(409, "no_rollback_target", "no earlier manifest is left");
    let hint = refused["hint"].as_str().unwrap();
    for part in ["flywheel history support", &second[..12], &third[..12]] {
        assert!(hint.contains(part), "{hint}");
    }

    let history = app
        .viewer()
        .get("/api/v1/apps/support/deployments")
        .await
        .ok();
    assert_eq!(
        each(&history, "kind"),
        ["rollback", "rollback", "deploy", "deploy", "deploy"]
    );
    let audited = app.audited_actions().await;
    assert_eq!(
        audited[audited.len() - 2..],
        ["app.rollback", "app.rollback"]
    );
}

#[tokio::test]
async fn several_steps_at_once_and_to_a_manifest() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    app.deploy_greeting(2).await;
    let third = app.deploy_greeting(3).await;
    let moved = roll_back(&app, json!({"steps": 2})).await;
    assert_eq!(moved["manifest"]["id"], first.as_str());
    let moved = roll_back(&app, json!({"to": &third[..12]})).await;
    assert_eq!(moved["manifest"]["id"], third.as_str());
    assert_eq!(app.current_manifest().await, Some(third));
}

#[tokio::test]
async fn wrong_requests_are_refused_and_say_why() {
    let app = TestApp::furnished().await;
    let none = app.editor().post(ROLLBACK, &json!({"reason": "r"})).await;
    none.problem_saying(409, "no_rollback_target", "nothing is deployed");
    let current = app.deploy_greeting(1).await;
    app.deploy_greeting(2).await;
    let current_now = app.current_manifest().await.unwrap();
    let staging_only =
        json!({"prompt": "greeting", "version": "3", "environment": "staging", "reason": "r"});
    let staged = app
        .editor()
        .post("/api/v1/apps/support/deploy", &staging_only)
        .await
        .ok();
    let before = app.revision().await;
    for (body, status, code, part) in [
        (
            json!({"steps": 2}),
            409,
            "no_rollback_target",
            "only 1 earlier manifest is left on the way back, not 2",
        ),
        (
            json!({"steps": 0}),
            422,
            "invalid",
            "`steps` must be at least 1",
        ),
        (json!({"steps": -1}), 422, "invalid", "invalid value"),
        (
            json!({"steps": 1, "to": current}),
            422,
            "invalid",
            "cannot both be given",
        ),
        (json!({"to": "abc"}), 422, "invalid", "at least 12 digits"),
        (
            json!({"to": "0123456789ab"}),
            404,
            "not_found",
            "no manifest",
        ),
        (
            json!({"to": current_now}),
            409,
            "no_rollback_target",
            "deployed now",
        ),
        (
            json!({"to": staged["manifest"]["id"]}),
            409,
            "no_rollback_target",
            "was never deployed here",
        ),
        (
            json!({"environment": "moon"}),
            404,
            "not_found",
            "no environment `moon`",
        ),
        (json!({"step": 1}), 422, "invalid", "`step`"),
        (json!({"reason": ""}), 422, "invalid", "`reason`"),
    ] {
        let mut body = body;
        if body.get("reason").is_none() {
            body["reason"] = json!("r");
        }
        app.editor()
            .post(ROLLBACK, &body)
            .await
            .problem_saying(status, code, part);
    }
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    let second = app.deploy_greeting(2).await;
    let before = app.revision().await;
    let moved = app
        .editor()
        .post(ROLLBACK, &json!({"dry_run": true}))
        .await
        .ok();
    assert_eq!(
        (&moved["dry_run"], &moved["deployment"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(moved["manifest"]["id"], first.as_str());
    assert_eq!(moved["previous"]["id"], second.as_str());
    assert_eq!(moved["changes"][0]["member"], "prompt_version");
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn a_dropped_index_bars_the_way_unless_forced() {
    let app = TestApp::furnished().await;
    let index = "kb-7";
    app.put_index(index, "available").await;
    let body = json!({"prompt": "greeting", "version": "1", "retriever_index_version": "kb-7", "reason": "r"});
    app.editor()
        .post("/api/v1/apps/support/deploy", &body)
        .await
        .ok();
    let current = app.deploy_greeting(2).await;
    app.put_index(index, "dropped").await;

    let refused = app.editor().post(ROLLBACK, &json!({"reason": "r"})).await;
    let refused = refused.problem_saying(422, "preflight_failed", "`kb-7` was dropped");
    assert!(
        refused["hint"]
            .as_str()
            .unwrap()
            .contains("rebuild the index"),
        "{refused}"
    );
    assert_eq!(app.current_manifest().await, Some(current));

    let moved = roll_back(&app, json!({"force": true})).await;
    let forced_over = items(&json!({"items": moved["deployment"]["forced_over"]}));
    assert_eq!(forced_over, ["retriever index version `kb-7` was dropped"]);
    assert_eq!(moved["preflight"]["passed"], false);
    let log = app.viewer().get("/api/v1/audit?limit=1").await.ok();
    assert_eq!(items(&log)[0]["detail"]["forced_over"], json!(forced_over));
}

#[tokio::test]
async fn an_expectation_guards_it_too() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    let second = app.deploy_greeting(2).await;
    let body = json!({"reason": "r", "expected_manifest": first});
    let lost = app
        .editor()
        .post(ROLLBACK, &body)
        .await
        .problem(409, "lost_race");
    assert_eq!(lost["current"]["manifest"], second.as_str());
    let body = json!({"reason": "r", "expected_manifest": second});
    app.editor().post(ROLLBACK, &body).await.ok();
}

/// Every request that begins after the acknowledgement is served by the older manifest.
#[tokio::test]
async fn it_is_in_force_when_it_is_acknowledged() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    let second = app.deploy_greeting(2).await;
    for _ in 0..5 {
        roll_back(&app, json!({"to": first})).await;
        assert_eq!(app.chat("u").await["flywheel"]["manifest"], first.as_str());
        roll_back(&app, json!({"to": second})).await;
        assert_eq!(app.chat("u").await["flywheel"]["manifest"], second.as_str());
    }
}
