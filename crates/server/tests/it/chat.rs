//! The OpenAI door: chat completions, models and embeddings, with OpenAI's errors.

use flywheel_gateway::GatewayOptions;
use flywheel_gateway::endpoint::EndpointOptions;
use flywheel_gateway::limiter::Share;
use flywheel_gateway::provider::openai::{OpenAiFormat, OpenAiOptions};
use flywheel_gateway::testsuite::{FakeProvider, Gate, Reply, samples};
use http::Method;
use serde_json::{Value, json};

use crate::app::{Options, TestApp};
use crate::samples::{each, items};

const CHAT: &str = "/v1/chat/completions";

fn ask(further: Value) -> Value {
    let mut body = json!({"model": "flywheel/support", "user": "u1",
        "flywheel": {"variables": {"name": "Ada"}}});
    for (name, value) in further.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn an_answer_names_what_gave_it_and_can_be_found() {
    let app = TestApp::furnished().await;
    let manifest = app.deploy_greeting(1).await;
    let answer = app.caller().post(CHAT, &ask(json!({}))).await;
    let completion = answer.ok();
    let id = completion["id"].as_str().unwrap();
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert_eq!(answer.header("flywheel-manifest"), Some(manifest.as_str()));
    assert_eq!(answer.header("flywheel-recorded"), Some("true"));
    assert_eq!(answer.header("flywheel-arm"), None);
    let call = app.viewer().get(&format!("/api/v1/calls/{id}")).await.ok();
    assert_eq!(
        (&call["unit"], &call["output"]),
        (&json!("u1"), &json!("[simulated] Hello Ada"))
    );
    let thumbs = json!({"call_id": id, "kind": "thumbs", "value": true});
    app.caller().post("/api/v1/feedback", &thumbs).await.ok();
}

#[tokio::test]
async fn a_stream_is_one_of_events() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let answer = app.caller().post(CHAT, &ask(json!({"stream": true}))).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let text = answer.text();
    let events: Vec<&str> = text
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .collect();
    let (done, chunks) = events.split_last().unwrap();
    assert_eq!(*done, "data: [DONE]");
    let last: Value =
        serde_json::from_str(chunks.last().unwrap().trim_start_matches("data: ")).unwrap();
    assert_eq!(last["flywheel"]["recorded"], true);
    assert_eq!(last["id"], answer.header("x-request-id").unwrap());
}

#[tokio::test]
async fn errors_have_the_form_of_openai() {
    let app = TestApp::furnished().await;
    let nothing = app
        .caller()
        .post(CHAT, &ask(json!({})))
        .await
        .openai_error(404, "not_found");
    assert_eq!(nothing["type"], "invalid_request_error");
    app.deploy_greeting(1).await;
    for (body, status, code, param) in [
        (
            ask(json!({"flywheel": {}})),
            400,
            "missing_variable",
            json!("flywheel.variables"),
        ),
        (
            ask(json!({"flywheel": {"vars": {}}})),
            400,
            "invalid_request",
            json!("flywheel"),
        ),
        (
            ask(json!({"model": "nothing"})),
            404,
            "not_found",
            Value::Null,
        ),
        (
            ask(json!({"model": "flywheel/a b"})),
            400,
            "invalid_request",
            json!("model"),
        ),
        (
            ask(json!({"model": null})),
            400,
            "invalid_request",
            json!("model"),
        ),
        (
            ask(json!({"messages": "x"})),
            400,
            "invalid_request",
            json!("messages"),
        ),
        (
            ask(json!({"messages": [{}]})),
            400,
            "invalid_request",
            json!("messages[0].role"),
        ),
        (
            ask(json!({"user": "u".repeat(600)})),
            400,
            "invalid_request",
            json!("user"),
        ),
    ] {
        let error = app
            .caller()
            .post(CHAT, &body)
            .await
            .openai_error(status, code);
        assert_eq!(error["param"], param, "{body}");
    }
    for body in [&b"{"[..], b"{\"model\": \"\xff\"}", b"", b"[]"] {
        let answer = app
            .caller()
            .send(Method::POST, CHAT, body.to_vec(), &[])
            .await;
        answer.openai_error(400, "invalid_request");
    }
    let large = ask(json!({"x": "x".repeat(70 << 10)}));
    let refused = app.caller().post(CHAT, &large).await;
    let error = refused.openai_error(413, "body_too_large");
    let message = error["message"].as_str().unwrap();
    for part in ["65536 bytes", "`limits.body_bytes`"] {
        assert!(message.contains(part), "{message}");
    }
    let calls = app.viewer().get("/api/v1/calls").await.ok();
    assert_eq!(
        each(&calls, "status"),
        ["bad_request"],
        "only the first got as far as a manifest"
    );
}

#[tokio::test]
async fn what_can_be_called_is_listed() {
    let app = TestApp::furnished().await;
    let names = async |app: &TestApp| {
        let list = app.caller().get("/v1/models").await.ok();
        assert_eq!(list["object"], "list");
        each(&json!({"items": list["data"]}), "id")
    };
    assert!(
        !names(&app)
            .await
            .contains(&"flywheel/support@production".to_owned())
    );
    app.deploy_greeting(1).await;
    let listed = names(&app).await;
    for name in [
        "flywheel/support",
        "flywheel/support@production",
        "m",
        "m:1",
    ] {
        assert!(listed.contains(&name.to_owned()), "{name} in {listed:?}");
    }
    assert!(
        !listed.iter().any(|name| name.starts_with("broken")),
        "its provider has no key"
    );
}

async fn app_before(provider: &FakeProvider) -> TestApp {
    let mut options = EndpointOptions::default();
    options.retry.attempts = 1;
    let format = OpenAiFormat::new(OpenAiOptions::default()).unwrap();
    let endpoint = provider.endpoint("remote", format, options);
    let app = TestApp::furnished_with(Options {
        endpoints: vec![endpoint],
        ..Options::default()
    })
    .await;
    let path = "/api/v1/models/m/versions/1";
    app.admin()
        .put(path, &json!({"provider": "remote"}))
        .await
        .ok();
    app.deploy_greeting(1).await;
    app
}

#[tokio::test]
async fn failures_of_the_provider_are_passed_on_with_their_waits() {
    let busy = Reply::failure(429, "slow down").header("retry-after", "30");
    let provider =
        FakeProvider::start([busy, Reply::failure(500, "oops"), Reply::failure(400, "no")]).await;
    let app = app_before(&provider).await;
    for (status, code, kind, wait, recorded) in [
        (
            429,
            "rate_limited",
            "provider_error",
            Some("30"),
            "provider_error",
        ),
        (
            502,
            "server_error",
            "provider_error",
            None,
            "provider_error",
        ),
        (400, "refused", "invalid_request_error", None, "bad_request"),
    ] {
        let answer = app.caller().post(CHAT, &ask(json!({}))).await;
        assert_eq!(answer.openai_error(status, code)["type"], kind);
        assert_eq!(answer.header("retry-after"), wait);
        let call = format!("/api/v1/calls/{}", answer.header("x-request-id").unwrap());
        assert_eq!(app.viewer().get(&call).await.ok()["status"], recorded);
    }
}

/// A key that failed may be used until it succeeds; from then on the success is repeated.
#[tokio::test]
async fn an_idempotency_key_repeats_the_first_success() {
    let hello = |text: &str| Reply::json(200, &samples::completion(text));
    let provider =
        FakeProvider::start([Reply::failure(500, "oops"), hello("one"), hello("two")]).await;
    let app = app_before(&provider).await;
    let keyed = ask(json!({"flywheel": {"variables": {"name": "Ada"}, "idempotency_key": "k1"}}));
    app.caller()
        .post(CHAT, &keyed)
        .await
        .openai_error(502, "server_error");
    let first = app.caller().post(CHAT, &keyed).await.ok();
    let again = app.caller().post(CHAT, &keyed).await.ok();
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["choices"][0]["message"]["content"], "one");
    assert_eq!(again["flywheel"]["replayed"], true);
    let mut other = keyed.clone();
    other["temperature"] = json!(1);
    app.caller()
        .post(CHAT, &other)
        .await
        .openai_error(422, "idempotency_key_reused");
    assert_eq!(
        items(&app.viewer().get("/api/v1/calls").await.ok()).len(),
        2
    );
}

/// A call holds the bytes of its request until it has come to its end.
#[tokio::test]
async fn beyond_the_bytes_that_calls_may_hold_the_caller_is_told_to_come_back() {
    let gate = Gate::default();
    let hello = Reply::json(200, &samples::completion("Hello"));
    let provider = FakeProvider::start([hello.clone().held_by(&gate), hello]).await;
    let app = app_before(&provider).await;
    let body = ask(json!({}));
    let room = &app.context.gateway.room;
    let mut others = Share::default();
    let taken = GatewayOptions::default().request_bytes - body.to_string().len();
    room.add(&mut others, taken).unwrap();
    let caller = app.caller();
    let first = caller.post(CHAT, &body);
    let second = async {
        provider.request(1).await;
        for path in [CHAT, "/v1/embeddings"] {
            let refused = app.caller().post(path, &body).await;
            assert_eq!(
                refused.openai_error(429, "overloaded")["type"],
                "gateway_error"
            );
            assert_eq!(refused.header("retry-after"), Some("1"));
        }
        gate.open();
    };
    let (first, ()) = tokio::join!(first, second);
    first.ok();
    app.caller().post(CHAT, &body).await.ok();
}

#[tokio::test]
async fn embeddings_are_passed_through() {
    let vectors = json!({"object": "list", "data": [{"embedding": [0.5], "index": 0}]});
    let provider =
        FakeProvider::start([Reply::json(200, &vectors), Reply::failure(400, "no")]).await;
    let app = app_before(&provider).await;
    let body = json!({"model": "m:1", "input": "x"});
    assert_eq!(
        app.caller().post("/v1/embeddings", &body).await.ok(),
        vectors
    );
    let sent = provider.request(1).await;
    assert_eq!(
        (sent.path_and_query.as_str(), sent.json()),
        ("/v1/embeddings", json!({"model": "m", "input": "x"}))
    );
    app.caller()
        .post("/v1/embeddings", &body)
        .await
        .openai_error(400, "refused");
    let unknown = json!({"model": "nothing", "input": "x"});
    app.caller()
        .post("/v1/embeddings", &unknown)
        .await
        .openai_error(404, "not_found");
    app.caller()
        .post("/v1/embeddings", &json!({}))
        .await
        .openai_error(400, "invalid_request");
}
