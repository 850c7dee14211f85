//! A store that fails, or does not answer in time.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_gateway::GatewayOptions;
use flywheel_gateway::chat::OnStoreFailure;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};
use crate::collect::{complete, failure, joined, stream};

fn script() -> [Reply; 2] {
    [
        Reply::json(200, &samples::completion("Hello")),
        Reply::stream(samples::stream_of(&["Hel", "lo"])),
    ]
}

fn refusing() -> Setup {
    let on_store_failure = OnStoreFailure::Refuse;
    Setup {
        gateway: GatewayOptions {
            on_store_failure,
            ..GatewayOptions::default()
        },
        ..Setup::default()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_served_and_say_that_they_were_not_recorded() {
    let app = TestApp::new(script()).await;
    app.store.fail();
    let (completion, recorded) = complete(app.ask(json!({})).await);
    assert!(!recorded);
    assert_eq!(completion["flywheel"]["recorded"], false);
    let chunks = stream(app.ask(json!({"stream": true})).await)
        .until_done()
        .await;
    assert_eq!(joined(&chunks, 0), "Hello");
    assert_eq!(chunks.last().unwrap()["flywheel"]["recorded"], false);
    // As soon as the store works again, so does recording.
    app.store.recover();
    app.provider
        .then(Reply::json(200, &samples::completion("Hello")));
    assert!(complete(app.ask(json!({})).await).1);
    assert_eq!(app.store.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_are_refused_if_so_configured() {
    let app = TestApp::with(refusing(), script()).await;
    app.store.fail();
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.failure.status().as_u16(), 503);
    assert_eq!(error.failure.code(), "store_unavailable");
    assert_eq!(error.failure.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(error.call_id, None, "there is no record to refer to");
    let events = stream(app.ask(json!({"stream": true})).await)
        .whatever_comes()
        .await;
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "store_unavailable");
    assert!(
        events.iter().all(|event| !event.contains("\"stop\"")),
        "the end did not leave"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_not_waited_for_longer_than_patience_lasts() {
    let app = TestApp::new(script()).await;
    let gate = Gate::default();
    app.store.wait_for(&gate);
    let answered = app.begin(json!({}));
    app.store.groups(1).await;
    tokio::time::advance(Duration::from_millis(1990)).await;
    tokio::task::yield_now().await;
    assert!(!answered.is_finished());
    tokio::time::advance(Duration::from_millis(20)).await;
    let (completion, recorded) = complete(answered.await.unwrap());
    assert!(!recorded);
    assert_eq!(completion["flywheel"]["recorded"], false);
    // It was late, not lost.
    gate.open();
    assert_eq!(app.store.call(1).await.facts.status, CallStatus::Ok);
}

/// A failure of the provider is told whether or not it could be recorded.
#[tokio::test(start_paused = true)]
async fn the_providers_failure_is_told_all_the_same() {
    let app = TestApp::with(refusing(), [Reply::failure(400, "too long")]).await;
    app.store.fail();
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.failure.status().as_u16(), 400);
    assert_eq!(error.call_id, None);
}

/// While one group is being committed, the next one gathers.
#[tokio::test(start_paused = true)]
async fn calls_that_arrive_during_a_commit_share_the_next_one() {
    let replies = (0..5).map(|_| Reply::json(200, &samples::completion("Hello")));
    let app = TestApp::new(replies).await;
    let gate = Gate::default();
    app.store.wait_for(&gate);
    let first = app.begin(json!({}));
    app.store.groups(1).await;
    let others: Vec<_> = (0..4).map(|_| app.begin(json!({}))).collect();
    app.provider.request(5).await;
    // Their answers arrive and wait behind the first group.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    gate.open_for(2);
    assert!(complete(first.await.unwrap()).1);
    for other in others {
        assert!(complete(other.await.unwrap()).1);
    }
    assert_eq!(app.store.groups(2).await, [1, 4]);
}
