//! Requests that are repeated under an idempotency key.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_core::redaction::Redactor;
use flywheel_gateway::GatewayOptions;
use flywheel_gateway::chat::OnStoreFailure;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};
use crate::collect::{complete, failure, joined, stream};

fn keyed(key: &str) -> Value {
    json!({"flywheel": {"idempotency_key": key}})
}

fn hello(text: &str) -> Reply {
    Reply::json(200, &samples::completion(text))
}

#[tokio::test(start_paused = true)]
async fn a_repetition_gets_the_same_answer_without_a_second_call() {
    let app = TestApp::new([hello("one"), hello("two")]).await;
    let (first, _) = complete(app.ask(keyed("k1")).await);
    let (again, recorded) = complete(app.ask(keyed("k1")).await);
    assert!(recorded);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["choices"][0]["message"]["content"], "one");
    assert_eq!(again["usage"]["total_tokens"], 18);
    assert_eq!(again["flywheel"]["replayed"], true);
    assert_eq!(again["flywheel"]["manifest"], first["flywheel"]["manifest"]);
    assert_eq!(app.provider.received().len(), 1);
    assert_eq!(app.store.calls().len(), 1);

    let mut streamed = keyed("k1");
    streamed["stream"] = json!(true);
    let chunks = stream(app.ask(streamed).await).until_done().await;
    assert_eq!(joined(&chunks, 0), "one");
    assert!(chunks.iter().all(|chunk| chunk["id"] == first["id"]));
    assert_eq!(chunks.last().unwrap()["flywheel"]["replayed"], true);

    let (other, _) = complete(app.ask(keyed("k2")).await);
    assert_ne!(other["id"], first["id"]);
    assert_eq!(app.provider.received().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_during_the_first_is_told_to_wait() {
    let gate = Gate::default();
    let app = TestApp::new([hello("one").held_by(&gate)]).await;
    let first = app.begin(keyed("k1"));
    app.provider.request(1).await;
    let error = failure(app.ask(keyed("k1")).await);
    assert_eq!(error.failure.status().as_u16(), 409);
    assert_eq!(error.failure.code(), "request_in_flight");
    assert!(error.failure.retry_after().is_some());
    gate.open();
    let (first, _) = complete(first.await.unwrap());
    let (again, _) = complete(app.ask(keyed("k1")).await);
    assert_eq!(again["id"], first["id"]);
}

/// It may be repeated until it succeeds; then the success is what is repeated.
#[tokio::test(start_paused = true)]
async fn after_a_failure_it_runs_again() {
    let app = TestApp::new([Reply::failure(400, "no"), hello("two"), hello("three")]).await;
    failure(app.ask(keyed("k1")).await);
    let (second, _) = complete(app.ask(keyed("k1")).await);
    let (third, _) = complete(app.ask(keyed("k1")).await);
    assert_eq!(third["id"], second["id"]);
    assert_eq!(third["choices"][0]["message"]["content"], "two");
    assert_eq!(app.provider.received().len(), 2);
    let statuses: Vec<_> = app
        .store
        .calls()
        .iter()
        .map(|call| call.facts.status)
        .collect();
    assert_eq!(statuses, [CallStatus::BadRequest, CallStatus::Ok]);
}

/// A key names one request. What the caller then gets would be the answer to something else.
#[tokio::test(start_paused = true)]
async fn another_request_cannot_use_the_key() {
    let gate = Gate::default();
    let app = TestApp::new([hello("one").held_by(&gate)]).await;
    let other = || {
        let ours = json!({"idempotency_key": "k1", "variables": {"name": "Bob"}});
        json!({"flywheel": ours})
    };
    let first = app.begin(keyed("k1"));
    app.provider.request(1).await;
    let during = failure(app.ask(other()).await);
    gate.open();
    complete(first.await.unwrap());
    let after = failure(app.ask(other()).await);
    let mut hotter = keyed("k1");
    hotter["temperature"] = json!(1.5);
    let further = failure(app.ask(hotter).await);
    for error in [during, after, further] {
        assert_eq!(error.failure.status().as_u16(), 422);
        assert_eq!(error.failure.code(), "idempotency_key_reused");
        assert_eq!(error.failure.param(), Some("flywheel.idempotency_key"));
        assert!(!error.failure.should_retry());
    }
    assert_eq!(app.provider.received().len(), 1);
}

/// Each environment has its own keys; one that is not named is the same as the default one named.
#[tokio::test(start_paused = true)]
async fn a_key_holds_in_one_environment() {
    let app = TestApp::new([hello("one"), hello("two")]).await;
    let (first, _) = complete(app.ask(keyed("k1")).await);
    let mut named = keyed("k1");
    named["model"] = json!("flywheel/support@production");
    let (again, _) = complete(app.ask(named).await);
    assert_eq!(again["id"], first["id"]);
    let mut staging = app.store.call(1).await;
    staging.id = "other".to_owned();
    staging.facts.environment = Some("staging".parse().unwrap());
    staging.facts.idempotency_key = Some("k2".to_owned());
    app.store.append_call(staging).await;
    let (second, _) = complete(app.ask(keyed("k2")).await);
    assert_eq!(second["choices"][0]["message"]["content"], "two");
}

#[tokio::test(start_paused = true)]
async fn several_choices_cannot_be_repeated() {
    let app = TestApp::new([hello("one")]).await;
    let mut several = keyed("k1");
    several["n"] = json!(2);
    let error = failure(app.ask(several).await);
    assert_eq!(error.failure.status().as_u16(), 400);
    assert_eq!(error.failure.param(), Some("n"));
    let text = error.to_string();
    assert!(text.contains("`n`") && text.contains("`flywheel.idempotency_key`"));
    let mut one = keyed("k1");
    one["n"] = json!(1);
    complete(app.ask(one).await);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_says_that_the_answer_was_redacted() {
    let custom = [("ticket".to_owned(), "TCK-[0-9]+".to_owned())];
    let setup = Setup {
        redactor: Redactor::new(&[], &custom).unwrap(),
        ..Setup::default()
    };
    let app = TestApp::with(setup, [hello("see TCK-17"), hello("see nothing")]).await;
    for (key, text, redacted) in [
        ("k1", "see [ticket]", json!(true)),
        ("k2", "see nothing", Value::Null),
    ] {
        complete(app.ask(keyed(key)).await);
        let (again, _) = complete(app.ask(keyed(key)).await);
        assert_eq!(again["choices"][0]["message"]["content"], text);
        assert_eq!(json!(again["flywheel"])["redacted"], redacted);
    }
}

/// A record that is late may still come; until that is known, a repetition could be a second call.
#[tokio::test(start_paused = true)]
async fn a_late_record_keeps_the_key_held() {
    let app = TestApp::new([hello("one")]).await;
    let gate = Gate::default();
    app.store.wait_for(&gate);
    let asking = app.begin(keyed("k1"));
    app.store.groups(1).await;
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(!complete(asking.await.unwrap()).1, "it is late");
    let error = failure(app.ask(keyed("k1")).await);
    assert_eq!(error.failure.code(), "request_in_flight");
    gate.open();
    let recorded = app.store.call(1).await;
    let (again, _) = loop {
        match app.ask(keyed("k1")).await {
            // The recorder has yet to hear of it.
            Err(error) if error.failure.code() == "request_in_flight" => {
                tokio::task::yield_now().await;
            }
            answered => break complete(answered),
        }
    };
    assert_eq!(again["id"], recorded.id.as_str());
    assert_eq!(app.provider.received().len(), 1);
}

/// A key is free again when its request could not even begin.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_refused_does_not_hold_its_key() {
    let app = TestApp::new([hello("one")]).await;
    let mut nowhere = keyed("k1");
    nowhere["model"] = json!("flywheel/support@staging");
    assert_eq!(failure(app.ask(nowhere).await).failure.code(), "not_found");
    complete(app.ask(keyed("k1")).await);
}

/// A client that goes away and asks again gets the answer to its first request.
#[tokio::test(start_paused = true)]
async fn an_abandoned_request_is_answered_when_it_is_repeated() {
    let gate = Gate::default();
    let app = TestApp::new([hello("one").held_by(&gate)]).await;
    let asking = app.begin(keyed("k1"));
    app.provider.request(1).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(
        failure(app.ask(keyed("k1")).await).failure.code(),
        "request_in_flight"
    );
    gate.open();
    let recorded = app.store.call(1).await;
    let (again, _) = complete(app.ask(keyed("k1")).await);
    assert_eq!(again["id"], recorded.id.as_str());
    assert_eq!(app.provider.received().len(), 1);
}

/// Whether a request was made before cannot be known without the store. It is made, unless the configuration says
/// that nothing is to happen without a record.
#[tokio::test(start_paused = true)]
async fn without_the_store_it_is_made_unless_it_must_be_recorded() {
    let app = TestApp::new([hello("one")]).await;
    app.store.fail();
    assert!(!complete(app.ask(keyed("k1")).await).1);

    let on_store_failure = OnStoreFailure::Refuse;
    let gateway = GatewayOptions {
        on_store_failure,
        ..GatewayOptions::default()
    };
    let setup = Setup {
        gateway,
        ..Setup::default()
    };
    let app = TestApp::with(setup, [hello("one")]).await;
    app.store.fail();
    let error = failure(app.ask(keyed("k1")).await);
    assert_eq!(error.failure.status().as_u16(), 503);
    assert!(app.provider.received().is_empty());
    app.store.recover();
    complete(app.ask(keyed("k1")).await);
}

#[tokio::test(start_paused = true)]
async fn tool_calls_are_repeated_too() {
    let calls = json!([{"id": "c1", "type": "function",
        "function": {"name": "look_up", "arguments": "{}"}}]);
    let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    let app = TestApp::new([Reply::json(200, &samples::completion_of(&[choice]))]).await;
    complete(app.ask(keyed("k1")).await);
    let (again, _) = complete(app.ask(keyed("k1")).await);
    assert_eq!(again["choices"][0]["message"]["tool_calls"], calls);
    assert_eq!(again["choices"][0]["finish_reason"], "tool_calls");
}
