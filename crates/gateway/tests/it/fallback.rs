//! The fallback manifest, which answers when the provider of the first one cannot.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::json;

use crate::app::{Setup, TestApp, content, request};
use crate::collect::{complete, failure, joined, stream};

fn with_fallback() -> Setup {
    let mut setup = Setup {
        with_fallback: true,
        ..Setup::default()
    };
    setup.endpoint.retry.attempts = 1;
    setup
}

#[tokio::test(start_paused = true)]
async fn it_answers_when_the_provider_fails() {
    let app = TestApp::with(with_fallback(), [Reply::failure(500, "oops")]).await;
    app.backup
        .then(Reply::json(200, &samples::completion("from the backup")));
    let (completion, _) = complete(app.ask(json!({})).await);
    let call = app.store.call(1).await;
    assert_eq!(
        completion["choices"][0]["message"]["content"],
        "from the backup"
    );
    assert_eq!(completion["flywheel"]["fallback"], true);
    let manifest = call.facts.manifest.unwrap();
    assert_ne!(manifest, app.manifest);
    assert_eq!(completion["flywheel"]["manifest"], manifest.to_string());
    assert_eq!(call.facts.model_id.unwrap().as_str(), "backup");
    assert_eq!(
        (call.facts.status, call.facts.fallback),
        (CallStatus::Ok, true)
    );
    assert_eq!(call.facts.attempts, 2);
    let sent = app.backup.request(1).await.json();
    assert_eq!(sent["model"], "backup-at-provider");
    assert_eq!(sent["messages"][1]["content"], "Greet Ada");
    assert_eq!(app.store.calls().len(), 1, "one request, one record");
}

#[tokio::test(start_paused = true)]
async fn it_streams_too() {
    let app = TestApp::with(with_fallback(), [Reply::hang_up()]).await;
    app.backup
        .then(Reply::stream(samples::stream_of(&["back", "up"])));
    let chunks = stream(app.ask(json!({"stream": true})).await)
        .until_done()
        .await;
    assert_eq!(joined(&chunks, 0), "backup");
    assert_eq!(chunks.last().unwrap()["flywheel"]["fallback"], true);
}

/// What the first provider refused, the second would refuse too; what it began, the second cannot go on with.
#[tokio::test(start_paused = true)]
async fn it_is_not_asked_for_what_is_wrong_with_the_request() {
    let app = TestApp::with(with_fallback(), [Reply::failure(400, "too long")]).await;
    assert_eq!(
        failure(app.ask(json!({})).await).failure.status().as_u16(),
        400
    );
    let events = samples::stream_of(&["Hel", "lo"]);
    let begun = &events[..events.find("lo").unwrap()];
    app.provider
        .then(Reply::stream(begun.to_owned()).then_cut());
    stream(app.ask(json!({"stream": true})).await)
        .whatever_comes()
        .await;
    assert!(app.backup.received().is_empty());
    assert!(app.store.calls().iter().all(|call| !call.facts.fallback));
}

#[tokio::test(start_paused = true)]
async fn it_takes_over_at_once_while_the_breaker_is_open() {
    let mut setup = with_fallback();
    setup.endpoint.breaker.failures = 1;
    let app = TestApp::with(setup, [Reply::failure(500, "oops")]).await;
    for text in ["one", "two"] {
        app.backup
            .then(Reply::json(200, &samples::completion(text)));
        let (completion, _) = complete(app.ask(json!({})).await);
        assert_eq!(completion["choices"][0]["message"]["content"], text);
    }
    assert_eq!(app.provider.received().len(), 1);
    assert_eq!(app.backup.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_the_last_failure_is_told() {
    let app = TestApp::with(with_fallback(), [Reply::failure(500, "first")]).await;
    app.backup.then(Reply::failure(503, "second"));
    let error = failure(app.ask(json!({})).await);
    assert!(error.to_string().ends_with("second"), "{error}");
    let call = app.store.call(1).await;
    assert_eq!(error.call_id, Some(call.id));
    assert!(call.facts.fallback);
    assert_eq!(call.facts.attempts, 2);
}

/// Both together keep within the total time of the first; a quarter of it is the fallback's.
#[tokio::test(start_paused = true)]
async fn it_takes_over_from_a_provider_that_hangs_and_keeps_within_the_total_time() {
    let mut setup = with_fallback();
    setup.endpoint.timeouts.total = Duration::from_secs(100);
    let app = TestApp::with(setup, [Reply::silence()]).await;
    app.backup.then(Reply::silence());
    let asking = app.begin(json!({}));
    app.provider.request(1).await;
    tokio::time::advance(Duration::from_secs(74)).await;
    assert!(app.backup.received().is_empty());
    tokio::time::advance(Duration::from_secs(2)).await;
    app.backup.request(1).await;
    tokio::time::advance(Duration::from_secs(25)).await;
    let error = failure(asking.await.unwrap());
    assert_eq!(error.failure.code(), "total_timeout");
    let call = app.store.call(1).await;
    assert!(call.facts.fallback);
    let latency = call.facts.latency_us.unwrap();
    assert!((100_000_000..102_000_000).contains(&latency), "{latency}");
}

/// A stream that began is not replaced, and has the whole time.
#[tokio::test(start_paused = true)]
async fn a_stream_that_began_has_the_time_that_was_kept_for_it() {
    let mut setup = with_fallback();
    setup.endpoint.timeouts.total = Duration::from_secs(100);
    let gate = Gate::default();
    let reply = Reply::stream(samples::stream_of(&["Hel", "lo"]))
        .event_by_event()
        .gated_by(&gate);
    let app = TestApp::with(setup, [reply]).await;
    gate.open_for(2);
    let mut lines = stream(app.ask(json!({"stream": true})).await);
    lines.chunk().await;
    lines.chunk().await;
    tokio::time::advance(Duration::from_secs(95)).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(lines.is_waiting());
    gate.open_for(10);
    lines.until_done().await;
    assert!(app.backup.received().is_empty());
}

/// The caller can do something about the provider's failure, and nothing about the fallback's template.
#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_rendered_does_not_hide_what_the_provider_did() {
    let mut setup = with_fallback();
    setup.content = content(json!({"messages": [{"role": "user", "content": "Hello"}]}));
    let app = TestApp::with(setup, [Reply::failure(500, "oops")]).await;
    let mut body = request(json!({}));
    body.flywheel.variables.clear();
    let error = failure(app.gateway.chat(body).await);
    assert_eq!(error.failure.code(), "server_error");
    assert_eq!(error.failure.status().as_u16(), 502);
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::ProviderError);
    assert_eq!(call.facts.manifest, Some(app.manifest));
    assert!(!call.facts.fallback);
    assert!(app.backup.received().is_empty());
}
