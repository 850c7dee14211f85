//! A store that has no room left: calls are served, feedback is refused, and both say so.

use serde_json::json;

use crate::app::{Options, TestApp};

#[tokio::test]
async fn calls_go_on_and_feedback_is_told_to_come_back() {
    let largest_file_bytes = Some(600 << 10);
    let app = TestApp::furnished_with(Options {
        largest_file_bytes,
        ..Options::default()
    })
    .await;
    app.deploy_greeting(1).await;
    let filler = "x".repeat(50 << 10);
    let call = json!({"app": "support", "output": filler});
    let mut stored = 0;
    let refused = loop {
        let answer = app.caller().post("/api/v1/calls", &call).await;
        if !answer.status.is_success() {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "the store does not keep to its size");
    };
    let problem = refused.problem(503, "store_unavailable");
    assert!(
        problem["hint"]
            .as_str()
            .unwrap()
            .contains("ids make that safe"),
        "{problem}"
    );
    assert_eq!(refused.header("retry-after"), Some("1"));

    let comment = json!({"call_id": "support:c1", "kind": "comment", "text": "x".repeat(62 << 10)});
    let refused = app.caller().post("/api/v1/feedback", &comment).await;
    refused.problem(503, "store_unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));

    let body = json!({"model": "flywheel/support", "flywheel": {"variables": {"name": filler}}});
    let answer = app.caller().post("/v1/chat/completions", &body).await;
    assert_eq!(answer.ok()["flywheel"]["recorded"], false);
    assert_eq!(answer.header("flywheel-recorded"), Some("false"));

    // What was acknowledged is there.
    let calls = app.viewer().get("/api/v1/calls?limit=1000").await.ok();
    assert_eq!(calls["items"].as_array().unwrap().len(), stored);
}
