//! What is tried again, when, and how often.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_gateway::testsuite::{Reply, samples};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::{Setup, TestApp};
use crate::collect::{complete, failure, joined, stream, text};

fn hello() -> Reply {
    Reply::json(200, &samples::completion("Hello"))
}

fn hello_stream() -> Reply {
    Reply::stream(samples::stream_of(&["Hel", "lo"]))
}

/// 3 attempts; the jitter of the tests is the largest, so the first wait is 200 ms, the second 400 ms.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const SECOND_WAIT: Duration = Duration::from_millis(400);

#[tokio::test(start_paused = true)]
async fn failures_that_may_pass_are_tried_again_with_growing_waits() {
    let failures = [
        Reply::failure(500, "oops"),
        Reply::failure(503, "busy"),
        Reply::failure(529, "overloaded"),
        Reply::failure(429, "slow down"),
        Reply::hang_up(),
        Reply::new(200, "application/json", "<html>"),
    ];
    for failed in failures {
        let app = TestApp::new([failed.clone(), failed, hello()]).await;
        let answered = app.begin(json!({}));
        for (attempt, wait) in [(1, FIRST_WAIT), (2, SECOND_WAIT)] {
            app.jitter.drawn(attempt).await;
            tokio::time::advance(wait - Duration::from_millis(2)).await;
            assert_eq!(
                app.provider.received().len(),
                attempt,
                "not before the wait is over"
            );
            tokio::time::advance(Duration::from_millis(3)).await;
            app.provider.request(attempt + 1).await;
        }
        assert_eq!(text(answered.await.unwrap()), "Hello");
        let call = app.store.call(1).await;
        assert_eq!(
            (call.facts.status, call.facts.attempts),
            (CallStatus::Ok, 3)
        );
        let overhead = Duration::from_micros(call.facts.overhead_us.unwrap());
        assert!(
            overhead < FIRST_WAIT,
            "waiting to try again is not our overhead"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_tried_again_only_before_its_first_event() {
    for failed in [
        Reply::failure(500, "oops"),
        Reply::hang_up(),
        Reply::stream(""),
        Reply::stream(": only a comment\n\n"),
        Reply::stream("data: {\"error\": {\"message\": \"overloaded\"}}\n\n"),
        Reply::new(200, "text/html", "<html>no stream</html>"),
    ] {
        let app = TestApp::new([failed, hello_stream()]).await;
        let answered = app.begin(json!({"stream": true}));
        app.jitter.drawn(1).await;
        tokio::time::advance(FIRST_WAIT).await;
        let chunks = stream(answered.await.unwrap()).until_done().await;
        assert_eq!(joined(&chunks, 0), "Hello");
        assert_eq!(app.store.call(1).await.facts.attempts, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_come_to_an_end() {
    let app = TestApp::new((0..4).map(|n| Reply::failure(500, &format!("failure {n}")))).await;
    let answered = app.begin(json!({}));
    for attempt in 1..=2 {
        app.jitter.drawn(attempt).await;
        tokio::time::advance(SECOND_WAIT).await;
    }
    let error = failure(answered.await.unwrap());
    assert_eq!(error.failure.status().as_u16(), 502);
    assert!(
        error.to_string().ends_with("failure 2"),
        "the last failure is told: {error}"
    );
    let call = app.store.call(1).await;
    assert_eq!(
        (call.facts.status, call.facts.attempts),
        (CallStatus::ProviderError, 3)
    );
    assert_eq!(call.facts.error_kind.as_deref(), Some("server_error"));
    assert_eq!(app.provider.received().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_provider_may_say_how_long_to_wait() {
    for (status, seconds) in [(429, 1), (503, 3), (529, 5)] {
        let wait = Duration::from_secs(seconds);
        let busy = Reply::failure(status, "busy").header("retry-after", &seconds.to_string());
        let app = TestApp::new([busy, hello()]).await;
        let answered = app.begin(json!({}));
        app.jitter.drawn(1).await;
        tokio::time::advance(wait - Duration::from_millis(2)).await;
        assert_eq!(app.provider.received().len(), 1, "{status}: too early");
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(text(answered.await.unwrap()), "Hello");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_too_long_is_passed_on_to_the_caller() {
    let busy = Reply::failure(429, "slow down").header("retry-after", "30");
    let app = TestApp::new([busy, hello()]).await;
    let began = Instant::now();
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.failure.status().as_u16(), 429);
    assert_eq!(error.failure.retry_after(), Some(Duration::from_secs(30)));
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(app.provider.received().len(), 1);
    assert_eq!(
        app.store.call(1).await.facts.error_kind.as_deref(),
        Some("rate_limited")
    );
}

/// Ten retries are saved up; then every request earns a fifth of one.
#[tokio::test(start_paused = true)]
async fn retries_have_a_budget() {
    let mut setup = Setup::default();
    setup.endpoint.retry.attempts = 2;
    setup.endpoint.retry.base_delay = Duration::ZERO;
    setup.endpoint.breaker.failures = 0;
    let app = TestApp::with(setup, (0..40).map(|_| Reply::failure(500, "oops"))).await;
    let mut attempts = Vec::new();
    for number in 1..=20 {
        let answered = app.begin(json!({}));
        while !answered.is_finished() {
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        failure(answered.await.unwrap());
        attempts.push(app.store.call(number).await.facts.attempts);
    }
    // The ten that were saved and what the first requests earned, then one for every five requests.
    let retried: Vec<_> = (0..20).filter(|index| attempts[*index] == 2).collect();
    assert_eq!(
        retried,
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15],
        "{attempts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_cannot_be_reached_is_named_without_its_address() {
    let mut setup = Setup::default();
    setup.endpoint.retry.attempts = 1;
    setup.connect = Box::new(|_, options| {
        let nobody = "http://127.0.0.1:1/v1?key=secret".parse().unwrap();
        let client = flywheel_gateway::endpoint::http_client(Duration::from_secs(5)).unwrap();
        let format = Box::new(crate::app::open_ai());
        flywheel_gateway::endpoint::Endpoint::http("fake", format, nobody, client, options)
    });
    let app = TestApp::with(setup, []).await;
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.to_string(), "provider `fake` cannot be reached");
    assert_eq!(error.failure.status().as_u16(), 502);
    let call = app.store.call(1).await;
    assert_eq!(call.facts.error_kind.as_deref(), Some("connect"));
}

#[tokio::test(start_paused = true)]
async fn every_attempt_sends_the_same_body() {
    let app = TestApp::new([Reply::failure(500, "oops"), hello()]).await;
    let answered = app.begin(json!({"messages": [{"role": "user", "content": "x".repeat(1000)}]}));
    app.jitter.drawn(1).await;
    tokio::time::advance(FIRST_WAIT).await;
    complete(answered.await.unwrap());
    let bodies: Vec<Value> = app
        .provider
        .received()
        .iter()
        .map(|sent| sent.json())
        .collect();
    assert_eq!(bodies[0], bodies[1]);
}
