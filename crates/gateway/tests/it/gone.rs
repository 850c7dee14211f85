//! Clients that go away before they have their answer.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::json;

use crate::app::TestApp;
use crate::collect::stream;

/// The provider's connection is closed, which stops the generation, and what came so far is recorded.
#[tokio::test(start_paused = true)]
async fn in_the_middle_of_a_stream() {
    let events = samples::stream_of(&["Hel", "lo"]);
    let begun = events[..events.find("lo").unwrap()].to_owned();
    let app = TestApp::new([Reply::stream(begun).event_by_event().then_stall()]).await;
    let mut lines = stream(app.ask(json!({"stream": true, "user": "u1"})).await);
    lines.chunk().await;
    lines.chunk().await;
    drop(lines);
    app.provider.abandoned(1).await;
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::ClientClosed);
    assert_eq!(call.content.output.as_deref(), Some("Hel"));
    assert_eq!(call.facts.unit.as_deref(), Some("u1"));
    assert!(!app.endpoint.breaker.is_open());
}

#[tokio::test(start_paused = true)]
async fn before_the_first_event_of_a_stream() {
    let gate = Gate::default();
    let reply = Reply::stream(samples::stream_of(&["Hel", "lo"]))
        .event_by_event()
        .gated_by(&gate);
    let app = TestApp::new([reply]).await;
    let asking = app.begin(json!({"stream": true}));
    app.provider.request(1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    gate.open();
    app.provider.abandoned(1).await;
    assert_eq!(
        app.store.call(1).await.facts.status,
        CallStatus::ClientClosed
    );
}

/// It may go away while the end is held back. The record that was begun is made.
#[tokio::test(start_paused = true)]
async fn while_the_call_is_recorded() {
    let app = TestApp::new([Reply::stream(samples::stream_of(&["Hello"]))]).await;
    let gate = Gate::default();
    app.store.wait_for(&gate);
    let lines = stream(app.ask(json!({"stream": true})).await);
    app.store.groups(1).await;
    drop(lines);
    gate.open();
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::Ok);
    assert_eq!(call.content.output.as_deref(), Some("Hello"));
}

/// A whole answer has been paid for; it is recorded as if it had been read.
#[tokio::test(start_paused = true)]
async fn before_a_whole_answer() {
    let gate = Gate::default();
    let app = TestApp::new([Reply::json(200, &samples::completion("Hello")).held_by(&gate)]).await;
    let asking = app.begin(json!({}));
    app.provider.request(1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    gate.open();
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::Ok);
    assert_eq!(call.content.output.as_deref(), Some("Hello"));
    assert_eq!(app.provider.received().len(), 1);
}

/// A client that reads slowly makes the provider wait instead of filling our memory.
#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_the_provider_back() {
    let words: Vec<String> = (0..3000)
        .map(|n| format!("{n} {}", "x".repeat(2000)))
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let reply = Reply::stream(samples::stream_of(&words)).event_by_event();
    let app = TestApp::new([reply]).await;
    let lines = stream(app.ask(json!({"stream": true})).await);
    for _ in 0..20_000 {
        tokio::task::yield_now().await;
    }
    assert!(
        app.store.calls().is_empty(),
        "six megabytes were read that nobody wanted yet"
    );
    assert_eq!(lines.until_done().await.len(), words.len() + 2);
}

/// Sixty-four lines wait for a client, so that these fill what there is and more.
fn many_words() -> String {
    let words: Vec<String> = (0..100).map(|n| format!("{n} ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    samples::stream_of(&words)
}

async fn let_everything_run() {
    for _ in 0..5000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_counts_as_gone() {
    let app = TestApp::new([Reply::stream(many_words()).event_by_event().then_stall()]).await;
    let lines = stream(app.ask(json!({"stream": true})).await);
    let_everything_run().await;
    tokio::time::advance(Duration::from_secs(59)).await;
    let_everything_run().await;
    assert!(app.store.calls().is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    app.provider.abandoned(1).await;
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::ClientClosed);
    assert_eq!(call.facts.error_kind.as_deref(), Some("client_stalled"));
    assert!(call.content.output.unwrap().starts_with("0 1 2 3 "));
    assert!(call.facts.overhead_us < Some(1_000_000));
    assert!(!app.endpoint.breaker.is_open());
    drop(lines);
}

/// The provider has the whole of its time, whatever the client took of it.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_slow_client_is_not_the_providers() {
    let gate = Gate::default();
    let reply = Reply::stream(many_words()).event_by_event().gated_by(&gate);
    let app = TestApp::new([reply]).await;
    gate.open_for(90);
    let mut lines = stream(app.ask(json!({"stream": true})).await);
    // 200 seconds of the client's.
    for _ in 0..4 {
        let_everything_run().await;
        tokio::time::advance(Duration::from_secs(50)).await;
        lines.chunk().await;
    }
    let_everything_run().await;
    for _ in 4..90 {
        lines.chunk().await;
        let_everything_run().await;
    }
    // 200 seconds of the provider's, which has 300.
    tokio::time::advance(Duration::from_secs(200)).await;
    gate.open_for(100);
    lines.until_done().await;
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::Ok);
    assert!(call.facts.latency_us >= Some(400_000_000));
    assert!(
        call.facts.overhead_us < Some(1_000_000),
        "{:?}",
        call.facts.overhead_us
    );
}
