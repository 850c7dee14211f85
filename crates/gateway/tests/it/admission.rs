//! How many calls run and wait at a time.

use std::time::Duration;

use flywheel_gateway::GatewayOptions;
use flywheel_gateway::error::Culprit;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::json;

use crate::app::{Setup, TestApp};
use crate::collect::{complete, failure, stream};

fn one_at_a_time() -> Setup {
    let gateway = GatewayOptions {
        concurrent_calls: 1,
        queued_calls: 1,
        longest_queue_wait: Duration::from_secs(10),
        ..GatewayOptions::default()
    };
    Setup {
        gateway,
        ..Setup::default()
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_queue_callers_are_told_to_come_back() {
    let gate = Gate::default();
    let held = || Reply::json(200, &samples::completion("Hello")).held_by(&gate);
    let app = TestApp::with(one_at_a_time(), [held(), held(), held()]).await;
    let running = app.begin(json!({}));
    app.provider.request(1).await;
    let queued = app.begin(json!({}));
    tokio::task::yield_now().await;
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.failure.status().as_u16(), 429);
    assert_eq!(error.failure.code(), "overloaded");
    assert_eq!(error.failure.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(error.failure.culprit(), Culprit::Gateway);
    gate.open();
    complete(running.await.unwrap());
    app.provider.request(2).await;

    // The second runs; a third waits, and gives up when it has waited long enough.
    let third = app.begin(json!({}));
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(failure(third.await.unwrap()).failure.code(), "overloaded");
    gate.open();
    complete(queued.await.unwrap());
    assert_eq!(app.provider.received().len(), 2);
}

/// A stream takes its place until its last line has left.
#[tokio::test(start_paused = true)]
async fn a_stream_keeps_its_place_until_done() {
    let gate = Gate::default();
    let reply = Reply::stream(samples::stream_of(&["Hello"]))
        .event_by_event()
        .gated_by(&gate);
    let app = TestApp::with(one_at_a_time(), [reply]).await;
    app.provider
        .then(Reply::json(200, &samples::completion("next")));
    gate.open();
    let lines = stream(app.ask(json!({"stream": true})).await);
    let next = app.begin(json!({}));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(app.provider.received().len(), 1);
    gate.open_for(10);
    lines.until_done().await;
    complete(next.await.unwrap());
}
