//! A wall clock that is set back, as happens when a machine's clock was wrong: nothing is lost, repeated or stuck.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use flywheel_core::key::Role;
use flywheel_server::jobs::{JobOptions, enforce_retention};
use serde_json::{Value, json};

use crate::app::{Options, TestApp};
use crate::samples::{each, items};

const CALLS: &str = "/api/v1/calls";
const HOUR: i64 = 3600;

/// An answered call and a logged one. Returns their ids.
async fn two_calls(app: &TestApp) -> [String; 2] {
    let answered = app.chat("u1").await["id"].as_str().unwrap().to_owned();
    let logged = json!({"app": "support", "output": "x"});
    let logged = app.caller().post(CALLS, &logged).await.ok();
    [answered, each(&logged, "id").remove(0)]
}

#[tokio::test]
async fn ids_stay_unique_and_pages_miss_nothing() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.extend(two_calls(&app).await);
        app.clock.advance_seconds(1);
        ids.extend(two_calls(&app).await);
        // The same moments come again.
        app.clock.advance_seconds(-2);
    }
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40);
    let mut seen = Vec::new();
    let mut times: Vec<String> = Vec::new();
    let mut path = format!("{CALLS}?limit=3");
    let mut late = Vec::new();
    loop {
        let page = app.viewer().get(&path).await.ok();
        seen.extend(each(&page, "id"));
        times.extend(each(&page, "started_at"));
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        path = format!("{CALLS}?limit=3&cursor={cursor}");
        if seen.len() == 9 {
            // While somebody turns the pages the clock is set to before everything else.
            app.clock.advance_seconds(-HOUR);
            late.extend(two_calls(&app).await);
        }
    }
    assert!(
        times.is_sorted_by(|newer, older| newer >= older),
        "{times:?}"
    );
    let mut expected = [ids, late].concat();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected, "each once");
}

#[tokio::test]
async fn the_audit_log_and_the_history_keep_the_order_of_what_was_done() {
    let app = TestApp::furnished().await;
    let mut deployed = Vec::new();
    for ordinal in [1, 2, 3] {
        deployed.push(app.deploy_greeting(ordinal).await);
        app.clock.advance_seconds(-HOUR);
    }
    let history = app.viewer().get("/api/v1/apps/support/deployments").await;
    let mut manifests = each(&history.ok(), "manifest");
    manifests.reverse();
    assert_eq!(manifests, deployed);
    assert_eq!(app.current_manifest().await.as_ref(), deployed.last());
    let rollback = json!({"reason": "test"});
    app.editor()
        .post("/api/v1/apps/support/rollback", &rollback)
        .await
        .ok();
    assert_eq!(app.current_manifest().await.as_ref(), Some(&deployed[1]));

    let verified = app.viewer().get("/api/v1/audit/verify").await.ok();
    assert_eq!(verified["verified"], true);
    let log = app.viewer().get("/api/v1/audit").await.ok();
    assert_eq!(each(&log, "number"), ["7", "6", "5", "4", "3", "2", "1"]);
    let times = each(&log, "at");
    assert_eq!(times[0], "2025-12-31T21:00:00Z", "as the clock stood then");
    assert!(times[0] < times[6]);
}

/// Nobody is locked out for as long as the clock was set back, and nobody is let through.
#[tokio::test]
async fn rate_limits_do_not_follow_the_wall_clock() {
    let app = TestApp::furnished_with(Options {
        // So few that even a machine that is very busy asks too often.
        requests_per_second: NonZeroU32::new(3),
        ..Options::default()
    })
    .await;
    for seconds in [-HOUR, 2 * HOUR, -HOUR] {
        app.clock.advance_seconds(seconds);
        let mut answers = Vec::new();
        for _ in 0..60 {
            answers.push(app.viewer().get("/api/v1/apps").await.status.as_u16());
        }
        assert!(answers.contains(&429), "{answers:?}");
        assert_eq!(
            app.limited(Role::Viewer, "support")
                .get("/api/v1/apps")
                .await
                .status,
            200
        );
    }
}

/// Calls from a time that is yet to come are not old.
#[tokio::test]
async fn retention_removes_nothing_that_is_not_old() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let options = JobOptions {
        retain_for: Some(Duration::from_secs(600)),
        ..JobOptions::default()
    };
    for (seconds, expected) in [(0, 2), (-HOUR, 4), (0, 6), (HOUR, 4), (HOUR, 2)] {
        app.clock.advance_seconds(seconds);
        two_calls(&app).await;
        enforce_retention(&app.context, &options).await.unwrap();
        let list = app.viewer().get(CALLS).await.ok();
        assert_eq!(items(&list).len(), expected, "after {seconds} s more");
    }
}

/// An idempotency key finds the call that it names, however old that seems.
#[tokio::test]
async fn a_repeated_request_gets_its_answer() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let body = json!({"model": "flywheel/support",
        "flywheel": {"variables": {"name": "Ada"}, "idempotency_key": "k"}});
    let mut answers: Vec<Value> = Vec::new();
    for _ in 0..3 {
        let answer = app.caller().post("/v1/chat/completions", &body).await;
        answers.push(answer.ok()["id"].clone());
        app.clock.advance_seconds(-HOUR);
    }
    assert!(answers.iter().all(|id| *id == answers[0]), "{answers:?}");
}
