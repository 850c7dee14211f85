//! Whole answers: what is sent, what comes back, what is recorded.

use flywheel_core::call::CallStatus;
use flywheel_core::model::Usage;
use flywheel_gateway::error::Culprit;
use flywheel_gateway::testsuite::{Reply, samples};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, content, request};
use crate::clock::NOW;
use crate::collect::{complete, failure, text};

fn hello() -> Reply {
    Reply::json(200, &samples::completion("Hello Ada"))
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_back_with_our_id_and_is_recorded() {
    let app = TestApp::new([hello()]).await;
    let further = json!({"user": "u1", "flywheel": {"session": "s1", "tags": {"team": "a"}}});
    let (completion, recorded) = complete(app.ask(further).await);
    let call = app.store.call(1).await;
    assert!(recorded);
    assert_eq!(completion["id"], call.id.as_str());
    assert_eq!(
        completion["created"], 1_735_689_600,
        "the provider's own time is kept"
    );
    assert_eq!(completion["usage"], samples::usage());
    assert_eq!(
        completion["choices"],
        samples::completion("Hello Ada")["choices"]
    );
    let manifest = app.manifest.to_string();
    assert_eq!(
        completion["flywheel"],
        json!({
            "app": "support", "environment": "production", "manifest": manifest,
            "prompt": "greeting", "prompt_version": call.facts.prompt_version, "recorded": true,
        })
    );
    let facts = &call.facts;
    assert_eq!(call.started_at.as_second(), NOW);
    assert_eq!(
        (facts.status, facts.attempts, facts.streamed),
        (CallStatus::Ok, 1, false)
    );
    assert_eq!(facts.manifest, Some(app.manifest));
    assert_eq!(
        (facts.unit.as_deref(), facts.session.as_deref()),
        (Some("u1"), Some("s1"))
    );
    assert_eq!(facts.tags["team"], "a");
    assert_eq!(facts.model_id.as_ref().unwrap().as_str(), "m");
    assert_eq!(facts.finish_reason.as_deref(), Some("stop"));
    let usage = Usage {
        input_tokens: 11,
        output_tokens: 7,
        cached_input_tokens: 3,
    };
    assert_eq!(facts.usage, Some(usage));
    // 8 input tokens at 1 dollar a million, 3 cached ones at 0.5, 7 output tokens at 2.
    assert_eq!(facts.cost_nano_usd, Some(8000 + 1500 + 14_000));
    assert_eq!(call.content.output.as_deref(), Some("Hello Ada"));
    assert_eq!(call.content.raw_output, None);
    assert_eq!(call.content.variables["name"], "Ada");
}

#[tokio::test(start_paused = true)]
async fn the_rendered_messages_go_first_and_the_prompt_decides() {
    let params = json!({"temperature": 0.5, "max_tokens": 20});
    let setup = Setup {
        content: content(json!({"params": params})),
        ..Setup::default()
    };
    let app = TestApp::with(setup, [hello()]).await;
    let further = json!({
        "user": "u1",
        "messages": [{"role": "user", "content": "and Bob"}],
        "temperature": 2.0,
        "max_completion_tokens": 9000,
        "presence_penalty": 0.1,
        "logit_bias": null,
    });
    complete(app.ask(further).await);
    let sent = app.provider.request(1).await;
    assert_eq!(sent.path_and_query, "/v1/chat/completions");
    let mut body = sent.json();
    let messages = body["messages"].take();
    let expected = json!([
        {"role": "system", "content": "You greet."},
        {"role": "user", "content": "Greet Ada"},
        {"role": "user", "content": "and Bob"},
    ]);
    assert_eq!(messages, expected);
    body.as_object_mut().unwrap().remove("messages");
    assert_eq!(
        body,
        json!({"model": "m-at-provider", "temperature": 0.5, "max_tokens": 20,
            "presence_penalty": 0.1, "user": "u1"})
    );
    assert_eq!(json!(app.store.call(1).await.content.messages), expected);
}

#[tokio::test(start_paused = true)]
async fn tools_and_response_format_come_from_the_prompt() {
    let tools = json!([{"type": "function", "function": {"name": "look_up", "parameters": {}}}]);
    let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": {
        "type": "object", "properties": {"z": {}, "a": {}}}}});
    let further = json!({"tools": tools, "tool_choice": "auto", "response_format": format});
    let setup = Setup {
        content: content(further),
        ..Setup::default()
    };
    let calls = json!([{"id": "call_1", "type": "function",
        "function": {"name": "look_up", "arguments": "{\"q\": \"Ada\"}"}}]);
    let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    let reply = Reply::json(200, &samples::completion_of(&[choice]));
    let app = TestApp::with(setup, [reply]).await;
    let caller = json!({"tools": [], "tool_choice": "none", "response_format": {"type": "text"}});
    let (completion, _) = complete(app.ask(caller).await);
    let sent = app.provider.request(1).await;
    assert_eq!(sent.json()["tools"], tools);
    assert_eq!(sent.json()["tool_choice"], "auto");
    let text = String::from_utf8(sent.body.to_vec()).unwrap();
    let order = (text.find("\"z\"").unwrap(), text.find("\"a\"").unwrap());
    assert!(
        order.0 < order.1,
        "the schema's members keep their order: {text}"
    );
    assert_eq!(completion["choices"][0]["message"]["tool_calls"], calls);
    let call = app.store.call(1).await;
    assert_eq!(call.content.tool_calls, Some(calls));
    assert_eq!(call.content.output, None);
    assert_eq!(call.facts.finish_reason.as_deref(), Some("tool_calls"));
    assert_eq!(call.facts.tool_success, Some(true));
}

/// The tools are the caller's here; one that was not offered fits nothing.
#[tokio::test(start_paused = true)]
async fn tools_are_held_against_those_that_were_offered() {
    for (offered, called, reason, expected) in [
        ("look_up", "look_up", "tool_calls", Some(true)),
        ("look_up", "other", "tool_calls", Some(false)),
        // What was cut off says nothing.
        ("look_up", "other", "length", None),
    ] {
        let tools = json!([{"type": "function", "function": {"name": offered}}]);
        let calls = json!([{"id": "c", "type": "function", "function": {"name": called, "arguments": "{}"}}]);
        let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
        let choice = json!({"index": 0, "message": message, "finish_reason": reason});
        let app = TestApp::new([Reply::json(200, &samples::completion_of(&[choice]))]).await;
        complete(app.ask(json!({"tools": tools})).await);
        assert_eq!(app.store.call(1).await.facts.tool_success, expected);
    }
    let app = TestApp::new([Reply::json(200, &samples::completion("Hi"))]).await;
    complete(app.ask(json!({})).await);
    assert_eq!(app.store.call(1).await.facts.tool_success, None);
}

#[tokio::test(start_paused = true)]
async fn several_choices_are_all_kept() {
    let choice = |index: u64, text: &str| {
        json!({"index": index, "message": {"role": "assistant", "content": text},
            "finish_reason": "stop"})
    };
    let reply = samples::completion_of(&[choice(0, "Hi"), choice(1, "Hello")]);
    let app = TestApp::new([Reply::json(200, &reply)]).await;
    let (completion, _) = complete(app.ask(json!({"n": 2})).await);
    assert_eq!(app.provider.request(1).await.json()["n"], 2);
    assert_eq!(completion["choices"].as_array().unwrap().len(), 2);
    let output = app.store.call(1).await.content.output.unwrap();
    assert_eq!(output, r#"["Hi","Hello"]"#);
}

#[tokio::test(start_paused = true)]
async fn large_images_are_sent_but_not_recorded() {
    let app = TestApp::new([hello()]).await;
    let image = format!("data:image/png;base64,{}", "QUJD".repeat(1000));
    let small = "data:image/png;base64,QUJD";
    let parts = json!([
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "image_url", "image_url": {"url": small}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]);
    let further = json!({"messages": [{"role": "user", "content": parts}]});
    complete(app.ask(further).await);
    assert_eq!(
        app.provider.request(1).await.json()["messages"][2]["content"],
        parts
    );
    let call = app.store.call(1).await;
    let recorded = &call.content.messages[2]["content"];
    let url = |index: usize| recorded[index]["image_url"]["url"].as_str().unwrap();
    assert!(
        url(1).starts_with("data:image/png;elided,4022 bytes, sha256 "),
        "{}",
        url(1)
    );
    assert_eq!((url(2), url(3)), (small, "https://example.org/a.png"));
}

#[tokio::test(start_paused = true)]
async fn a_registered_model_is_passed_through_and_recorded() {
    let app = TestApp::new([hello(), hello(), hello()]).await;
    for (number, model) in ["m", "m:1"].into_iter().enumerate() {
        let messages = json!([{"role": "user", "content": "hi"}]);
        let (completion, _) =
            complete(app.ask(json!({"model": model, "messages": messages})).await);
        let call = app.store.call(number + 1).await;
        assert_eq!(completion["flywheel"], json!({"recorded": true}));
        assert_eq!((call.facts.app, call.facts.manifest), (None, None));
        assert_eq!(call.facts.model_version.unwrap().as_str(), "1");
        assert_eq!(
            app.provider.request(number + 1).await.json()["messages"],
            messages
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_served_is_refused_and_says_why() {
    let app = TestApp::new([]).await;
    for (further, status, code, part) in [
        (
            json!({"model": "nothing"}),
            404,
            "not_found",
            "model `nothing` is not registered; name an app as `flywheel/<app>`",
        ),
        (
            json!({"model": "support"}),
            404,
            "not_found",
            "the app of that name is `flywheel/support`",
        ),
        (
            json!({"model": "support@staging"}),
            404,
            "not_found",
            "the app of that name is `flywheel/support@staging`",
        ),
        (
            json!({"model": "flywheel/nothing"}),
            404,
            "not_found",
            "app `nothing` does not exist",
        ),
        (
            json!({"model": "flywheel/support@moon"}),
            404,
            "not_found",
            "app `support` has no environment `moon`",
        ),
        (
            json!({"model": "flywheel/support@staging"}),
            404,
            "not_found",
            "nothing is deployed for app `support` in `staging`",
        ),
        (
            json!({"flywheel": {"variables": {}}}),
            400,
            "missing_variable",
            "`name`",
        ),
    ] {
        let error = failure(app.ask(further).await);
        let failure = &error.failure;
        assert_eq!(
            (failure.status().as_u16(), failure.code()),
            (status, code),
            "{failure}"
        );
        assert!(failure.to_string().contains(part), "{failure}");
        assert_eq!(failure.culprit(), Culprit::Client);
    }
    assert!(app.provider.received().is_empty());
    // Only the last of them got so far as to have a manifest; what was wrong with it can be looked up.
    let call = app.store.call(1).await;
    assert_eq!(call.facts.status, CallStatus::BadRequest);
    assert_eq!(call.facts.error_kind.as_deref(), Some("missing_variable"));
    assert_eq!(app.store.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_providers_refuse_is_passed_on_without_a_retry() {
    for (reply, status, kind, culprit) in [
        (
            Reply::failure(400, "too long"),
            400,
            "refused",
            Culprit::Client,
        ),
        (
            Reply::failure(404, "no such model"),
            404,
            "refused",
            Culprit::Client,
        ),
        (Reply::failure(422, "bad"), 422, "refused", Culprit::Client),
        (
            Reply::failure(401, "bad key sk-123"),
            502,
            "credentials",
            Culprit::Provider,
        ),
        (
            Reply::failure(403, "not yours"),
            502,
            "credentials",
            Culprit::Provider,
        ),
    ] {
        let app = TestApp::new([reply]).await;
        let error = failure(app.ask(json!({})).await);
        assert_eq!(error.failure.status().as_u16(), status, "{error}");
        assert_eq!(error.failure.culprit(), culprit, "{error}");
        assert!(!error.to_string().contains("sk-123"), "{error}");
        let call = app.store.call(1).await;
        assert_eq!(error.call_id, Some(call.id));
        let expected = match culprit {
            Culprit::Client => CallStatus::BadRequest,
            _ => CallStatus::ProviderError,
        };
        assert_eq!(call.facts.status, expected);
        assert_eq!(call.facts.error_kind.as_deref(), Some(kind));
        assert_eq!(call.facts.attempts, 1);
        assert!(!call.content.error.unwrap().contains("sk-123"));
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_none_are_malformed() {
    for body in [
        "<html>Bad gateway</html>",
        "",
        "{",
        "[]",
        "{\"choices\": 3}",
        "null",
    ] {
        let garbage = || Reply::new(200, "application/json", body);
        let setup = no_retries();
        let app = TestApp::with(setup, [garbage()]).await;
        let error = failure(app.ask(json!({})).await);
        assert_eq!(error.failure.status().as_u16(), 502, "{body}: {error}");
        let call = app.store.call(1).await;
        assert_eq!(
            call.facts.error_kind.as_deref(),
            Some("malformed"),
            "{body}"
        );
        assert!(!error.to_string().contains("html"), "{error}");
    }
}

fn no_retries() -> Setup {
    let mut setup = Setup::default();
    setup.endpoint.retry.attempts = 1;
    setup
}

#[tokio::test(start_paused = true)]
async fn an_error_inside_a_success_is_an_error() {
    let body = json!({"error": {"message": "overloaded", "type": "server_error", "code": 503}});
    let app = TestApp::with(no_retries(), [Reply::json(200, &body)]).await;
    let error = failure(app.ask(json!({})).await);
    assert!(error.to_string().contains("overloaded"), "{error}");
    assert_eq!(
        app.store.call(1).await.facts.status,
        CallStatus::ProviderError
    );
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_share_a_group_and_get_ids_of_their_own() {
    let app = TestApp::new((0..8).map(|_| hello())).await;
    let answers = (0..8).map(|_| app.ask(json!({})));
    let mut ids: Vec<Value> = futures_util::future::join_all(answers)
        .await
        .into_iter()
        .map(|answered| complete(answered).0["id"].clone())
        .collect();
    ids.sort_by_key(Value::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 8);
    assert_eq!(app.store.calls().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn awkward_text_arrives_as_it_was_sent() {
    let awkward = "naïve 用户 👩‍👩‍👧 \u{202e}rtl \"q\" \\ \r\n\t \0 \u{1f} e\u{301} data: [DONE]\n\n";
    let reply = Reply::json(200, &samples::completion(awkward)).in_pieces_of(1);
    let app = TestApp::new([reply]).await;
    assert_eq!(text(app.ask(json!({})).await), awkward);
    assert_eq!(
        app.store.call(1).await.content.output.as_deref(),
        Some(awkward)
    );
}

#[tokio::test(start_paused = true)]
async fn a_trial_asks_but_records_nothing() {
    let app = TestApp::new([hello(), Reply::failure(400, "no")]).await;
    let target = request(json!({}));
    let table = app.gateway.table.load();
    let destination = flywheel_gateway::plan::destination(&table, &target, "x").unwrap();
    let served = destination.chosen.unwrap().served.unwrap();
    let variables = target.flywheel.variables;
    let trial = app
        .gateway
        .try_out(&served, &variables, Vec::new())
        .await
        .unwrap();
    assert_eq!(trial.output.as_deref(), Some("Hello Ada"));
    let problem = app
        .gateway
        .try_out(&served, &variables, Vec::new())
        .await
        .unwrap_err();
    assert!(problem.ends_with("no"), "{problem}");
    assert!(app.store.calls().is_empty());
}

/// Its model is not registered, and there is no fallback.
#[tokio::test(start_paused = true)]
async fn what_is_deployed_and_cannot_be_served_is_a_recorded_failure() {
    let content = content(json!({"model_id": "gone"}));
    let setup = Setup {
        content,
        ..Setup::default()
    };
    let app = TestApp::with(setup, []).await;
    let error = failure(app.ask(json!({"user": "user_101"})).await);
    assert_eq!(error.failure.status().as_u16(), 503);
    assert_eq!(error.failure.culprit(), Culprit::Gateway);
    let call = app.store.call(1).await;
    assert_eq!(error.call_id, Some(call.id));
    assert_eq!(call.facts.status, CallStatus::GatewayError);
    assert_eq!(
        call.facts.error_kind.as_deref(),
        Some("unservable_manifest")
    );
    assert_eq!(call.facts.manifest, Some(app.manifest));
    assert_eq!(call.facts.unit.as_deref(), Some("user_101"));
    let text = call.content.error.unwrap();
    assert!(text.contains("model `gone:"), "{text}");
}
