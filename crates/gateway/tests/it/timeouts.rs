//! Providers that are slow or silent, and the circuit breaker that leaves them alone.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_gateway::endpoint::{Endpoint, http_client};
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, open_ai};
use crate::clock::BackwardsClock;
use crate::collect::{failure, stream, text};

const FIRST_BYTE: Duration = Duration::from_secs(60);
const TOTAL: Duration = Duration::from_secs(300);
const MOMENT: Duration = Duration::from_millis(2);

fn one_attempt() -> Setup {
    let mut setup = Setup::default();
    setup.endpoint.retry.attempts = 1;
    setup
}

fn hello() -> Reply {
    Reply::json(200, &samples::completion("Hello"))
}

/// A whole answer has only the total time: nothing of it comes before all of it is there.
#[tokio::test(start_paused = true)]
async fn a_whole_answer_has_the_total_time() {
    let begun = &samples::completion("Hello").to_string()[..40];
    for reply in [
        Reply::silence(),
        Reply::new(200, "application/json", begun.to_owned()).then_stall(),
    ] {
        let app = TestApp::with(one_attempt(), [reply]).await;
        let answered = app.begin(json!({}));
        app.provider.request(1).await;
        tokio::time::advance(TOTAL - MOMENT).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert!(!answered.is_finished(), "not before the time is over");
        tokio::time::advance(2 * MOMENT).await;
        let error = failure(answered.await.unwrap());
        assert_eq!(
            error.to_string(),
            "provider `fake` did not finish within 300s"
        );
        assert_eq!(error.failure.status().as_u16(), 504);
        let call = app.store.call(1).await;
        assert_eq!(call.facts.error_kind.as_deref(), Some("total_timeout"));
        assert!(
            call.facts.latency_us >= Some(300_000_000) && call.facts.overhead_us < Some(1_000_000)
        );
        app.provider.abandoned(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_must_begin_in_time() {
    for reply in [
        Reply::silence(),
        Reply::stream("").then_stall(),
        Reply::stream(": nothing yet\n\n").then_stall(),
        Reply::stream("data: {\"cho").then_stall(),
    ] {
        let app = TestApp::with(one_attempt(), [reply]).await;
        let answered = app.begin(json!({"stream": true}));
        app.provider.request(1).await;
        tokio::time::advance(FIRST_BYTE + MOMENT).await;
        let error = failure(answered.await.unwrap());
        assert_eq!(error.to_string(), "provider `fake` sent nothing within 60s");
        assert_eq!(error.failure.status().as_u16(), 504);
        let call = app.store.call(1).await;
        assert_eq!(call.facts.error_kind.as_deref(), Some("first_byte_timeout"));
        app.provider.abandoned(1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_began_must_end_in_time() {
    let events = samples::stream_of(&["Hel", "lo"]);
    let begun = &events[..events.find("lo").unwrap()];
    let reply = Reply::stream(begun.to_owned())
        .event_by_event()
        .then_stall();
    let app = TestApp::new([reply, hello()]).await;
    let mut lines = stream(app.ask(json!({"stream": true})).await);
    lines.chunk().await;
    assert_eq!(lines.chunk().await["choices"][0]["delta"]["content"], "Hel");
    tokio::time::advance(FIRST_BYTE + MOMENT).await;
    assert!(
        lines.is_waiting(),
        "the time for the first byte no longer counts"
    );
    tokio::time::advance(TOTAL - FIRST_BYTE).await;
    let error: Value = lines.chunk().await;
    assert_eq!(error["error"]["code"], "total_timeout");
    assert_eq!(lines.next().await, None);
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::ProviderError);
    assert_eq!(call.content.output.as_deref(), Some("Hel"));
    app.provider.abandoned(1).await;
}

/// The time for a connection is for TLS as well: this server takes connections and says nothing.
#[tokio::test(start_paused = true)]
async fn a_connection_must_stand_in_time() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("https://{}/v1", silent.local_addr().unwrap());
    let mut setup = one_attempt();
    setup.connect = Box::new(move |_, options| {
        let client = http_client(Duration::from_secs(5)).unwrap();
        Endpoint::http(
            "fake",
            Box::new(open_ai()),
            url.parse().unwrap(),
            client,
            options,
        )
    });
    let app = TestApp::with(setup, []).await;
    let asking = app.begin(json!({}));
    for _ in 0..6 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(asking.is_finished());
    let error = failure(asking.await.unwrap());
    assert_eq!(error.failure.code(), "connect");
    assert_eq!(error.to_string(), "provider `fake` cannot be reached");
}

/// No attempt is begun that would have to end after the total time.
#[tokio::test(start_paused = true)]
async fn retries_do_not_outlast_the_total_time() {
    let mut setup = Setup::default();
    setup.endpoint.timeouts.total = Duration::from_secs(1);
    let busy = Reply::failure(429, "slow down").header("retry-after", "2");
    let app = TestApp::with(setup, [busy, hello()]).await;
    let error = failure(app.ask(json!({})).await);
    assert_eq!(error.failure.status().as_u16(), 429);
    assert_eq!(app.provider.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_lets_one_call_probe_and_closes() {
    let mut setup = one_attempt();
    setup.endpoint.breaker.failures = 2;
    let open_for = setup.endpoint.breaker.open_for;
    let gate = Gate::default();
    let script = [
        Reply::failure(500, "oops"),
        Reply::failure(400, "your fault, which says nothing against the provider"),
        Reply::failure(500, "oops"),
        Reply::failure(500, "oops"),
        Reply::failure(500, "the probe fails"),
        hello().held_by(&gate),
        hello(),
    ];
    let app = TestApp::with(setup, script).await;
    for status in [502, 400, 502, 502] {
        let error = failure(app.ask(json!({})).await);
        assert_eq!(error.failure.status().as_u16(), status, "{error}");
    }
    assert!(app.endpoint.breaker.is_open());
    let refused = failure(app.ask(json!({})).await);
    assert_eq!(refused.failure.code(), "circuit_open");
    assert_eq!(refused.failure.status().as_u16(), 503);
    assert_eq!(refused.failure.retry_after(), Some(open_for));
    assert_eq!(
        app.provider.received().len(),
        4,
        "the provider was left alone"
    );
    let call = app.store.call(5).await;
    assert_eq!(call.facts.error_kind.as_deref(), Some("circuit_open"));
    assert_eq!(call.facts.attempts, 0);

    tokio::time::advance(open_for).await;
    assert_eq!(
        failure(app.ask(json!({})).await).failure.code(),
        "server_error"
    );
    assert_eq!(
        failure(app.ask(json!({})).await).failure.code(),
        "circuit_open"
    );

    tokio::time::advance(open_for).await;
    let probe = app.begin(json!({}));
    app.provider.request(6).await;
    assert_eq!(
        failure(app.ask(json!({})).await).failure.code(),
        "circuit_open",
        "only one"
    );
    gate.open();
    assert_eq!(text(probe.await.unwrap()), "Hello");
    assert!(!app.endpoint.breaker.is_open());
    assert_eq!(text(app.ask(json!({})).await), "Hello");
}

/// How long the breaker stays open and how long calls take is not measured on the wall clock, which may be set back.
#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_goes_backwards_holds_nothing_up() {
    let mut setup = one_attempt();
    setup.clock = BackwardsClock::new();
    setup.endpoint.breaker.failures = 1;
    let open_for = setup.endpoint.breaker.open_for;
    let app = TestApp::with(setup, [Reply::failure(500, "oops"), hello(), hello()]).await;
    for code in ["server_error", "circuit_open"] {
        let error = failure(app.ask(json!({})).await);
        assert_eq!(error.failure.code(), code);
    }
    tokio::time::advance(open_for).await;
    for _ in 0..2 {
        assert_eq!(text(app.ask(json!({})).await), "Hello");
    }
    let calls = app.store.calls();
    assert!(calls.is_sorted_by(|one, next| one.started_at > next.started_at));
    for (index, call) in calls.iter().enumerate() {
        let others = &calls[index + 1..];
        assert!(others.iter().all(|other| other.id != call.id));
        assert!(call.facts.latency_us < Some(60_000_000), "{:?}", call.facts);
    }
}
