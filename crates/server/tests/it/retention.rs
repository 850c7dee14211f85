//! Removing old events.

use std::time::Duration;

use flywheel_server::jobs::{JobOptions, enforce_retention};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::items;

const CALLS: &str = "/api/v1/calls";

async fn kept(app: &TestApp) -> usize {
    items(&app.viewer().get(&format!("{CALLS}?limit=1000")).await.ok()).len()
}

async fn with_large_calls() -> TestApp {
    let app = TestApp::furnished().await;
    let output = "x".repeat(30_000);
    for _ in 0..50 {
        let calls: Vec<Value> = (0..2)
            .map(|_| json!({"app": "support", "output": output}))
            .collect();
        app.caller().post(CALLS, &json!(calls)).await.ok();
        app.clock.advance_seconds(1);
    }
    app
}

#[tokio::test]
async fn events_are_kept_for_a_time() {
    let app = with_large_calls().await;
    for (seconds, expected) in [(1000, 100), (25, 50), (0, 0)] {
        let options = JobOptions {
            retain_for: Some(Duration::from_secs(seconds)),
            ..JobOptions::default()
        };
        enforce_retention(&app.context, &options).await.unwrap();
        assert_eq!(kept(&app).await, expected);
    }
}

/// What is no event takes more than the bound: removing every event, time and again, would not meet it.
#[tokio::test]
async fn a_bound_that_the_state_exceeds_removes_nothing() {
    let app = with_large_calls().await;
    let lasting = app.context.events.lasting_bytes().await.unwrap();
    let live = app.context.events.live_bytes().await.unwrap();
    assert!(
        lasting < live / 2,
        "{lasting} of {live} bytes are no events"
    );
    for (bytes, is_bounded) in [(1, false), (lasting, false), (live / 2, true)] {
        let options = JobOptions {
            retain_bytes: Some(bytes),
            ..JobOptions::default()
        };
        enforce_retention(&app.context, &options).await.unwrap();
        let left = kept(&app).await;
        assert!(left > 0, "{bytes}");
        assert_eq!(left < 100, is_bounded, "{bytes}");
    }
}
