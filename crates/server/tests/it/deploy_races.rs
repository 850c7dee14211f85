//! Deployments that meet: expectations, races, and what many at once leave behind.

use serde_json::json;

use crate::app::TestApp;
use crate::deploy::{DEPLOY, greeting, with};
use crate::samples::items;

#[tokio::test]
async fn an_expectation_that_fails_names_the_winner() {
    let app = TestApp::furnished().await;
    let expecting = |version: &str, expected: &str| {
        with(greeting(version), "expected_manifest", json!(expected))
    };
    let first = app
        .editor()
        .post(DEPLOY, &expecting("1", "none"))
        .await
        .ok();
    let first = first["manifest"]["id"].as_str().unwrap();
    let second = app
        .admin()
        .post(DEPLOY, &expecting("2", &first[..12]))
        .await
        .ok();
    for expected in [&first[..12], "none"] {
        let lost = app.editor().post(DEPLOY, &expecting("3", expected)).await;
        let lost = lost.problem_saying(409, "lost_race", "by admin_all");
        assert!(lost["hint"].is_string());
        assert_eq!(lost["current"]["manifest"], second["manifest"]["id"]);
        assert_eq!(lost["current"]["actor"], "admin_all");
        assert_eq!(lost["current"]["number"], 2);
    }
}

#[tokio::test]
async fn of_two_deployments_with_one_expectation_one_wins() {
    let app = TestApp::furnished().await;
    let current = app.deploy_greeting(1).await;
    let body = |version: &str| with(greeting(version), "expected_manifest", json!(current));
    let (bodies, users) = ([body("2"), body("3")], [app.editor(), app.admin()]);
    let (left, right) = tokio::join!(
        users[0].post(DEPLOY, &bodies[0]),
        users[1].post(DEPLOY, &bodies[1])
    );
    let (won, lost) = if left.status.is_success() {
        (left, right)
    } else {
        (right, left)
    };
    let won = won.ok();
    let lost = lost.problem(409, "lost_race");
    assert_eq!(lost["current"]["manifest"], won["manifest"]["id"]);
    let served = app.current_manifest().await.unwrap();
    assert_eq!(won["manifest"]["id"], served.as_str());
}

#[tokio::test]
async fn many_deployments_at_once_leave_one_history_and_an_unbroken_log() {
    let app = TestApp::furnished().await;
    let bodies: Vec<_> = (1..=3)
        .cycle()
        .take(12)
        .map(|n| greeting(&n.to_string()))
        .collect();
    let user = app.editor();
    let answers = bodies.iter().map(|body| user.post(DEPLOY, body));
    for answer in futures_util::future::join_all(answers).await {
        answer.ok();
    }
    let history = app
        .viewer()
        .get("/api/v1/apps/support/deployments?limit=1000")
        .await
        .ok();
    let history = items(&history);
    let numbers: Vec<_> = history
        .iter()
        .map(|item| item["number"].as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (1..=history.len() as u64).rev().collect();
    assert_eq!(numbers, expected);
    for pair in history.windows(2) {
        assert_eq!(pair[0]["previous_manifest"], pair[1]["manifest"]);
    }
    let verified = app.viewer().get("/api/v1/audit/verify").await.ok();
    assert_eq!(verified["verified"], true, "{verified}");
}
