//! Streamed answers: split anywhere, passed on as they come, their end held back until the call is recorded.

use flywheel_core::call::CallStatus;
use flywheel_gateway::testsuite::{Gate, Reply, samples};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::collect::{DONE, joined, stream};

const WORDS: [&str; 4] = ["Hel", "lo 👩‍👩‍👧", " 用户", "!"];
const TEXT: &str = "Hello 👩‍👩‍👧 用户!";

fn streaming(further: Value) -> Value {
    let mut request = json!({"stream": true});
    for (name, value) in further.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

#[tokio::test(start_paused = true)]
async fn wherever_it_is_split_it_says_the_same() {
    let events = samples::stream_of(&WORDS);
    for bytes in [1, 2, 3, 7, 50, 100_000] {
        let app = TestApp::new([Reply::stream(events.clone()).in_pieces_of(bytes)]).await;
        let lines = stream(app.ask(streaming(json!({}))).await);
        let id = lines.about.call_id.clone();
        let chunks = lines.until_done().await;
        assert_eq!(joined(&chunks, 0), TEXT, "pieces of {bytes} bytes");
        assert!(chunks.iter().all(|chunk| chunk["id"] == id.as_str()));
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk["object"] == "chat.completion.chunk")
        );
        let (last, before) = chunks.split_last().unwrap();
        assert!(
            before.iter().all(|chunk| chunk.get("flywheel").is_none()),
            "{before:?}"
        );
        assert_eq!(last["choices"][0]["finish_reason"], "stop");
        assert_eq!(last["flywheel"]["recorded"], true);
        assert_eq!(last["flywheel"]["manifest"], app.manifest.to_string());
        let call = app.store.call(1).await;
        assert_eq!(call.id, id);
        assert_eq!(call.content.output.as_deref(), Some(TEXT));
        assert_eq!(
            (call.facts.status, call.facts.streamed),
            (CallStatus::Ok, true)
        );
        assert_eq!(call.facts.finish_reason.as_deref(), Some("stop"));
        assert_eq!(call.facts.usage.unwrap().output_tokens, 7);
        assert!(call.facts.first_byte_us.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn line_ends_comments_and_fields_of_every_kind_are_understood() {
    let events = samples::stream_of(&WORDS);
    let spelled: [String; 4] = [
        events.replace('\n', "\r\n"),
        events.replace('\n', "\r"),
        format!(": comment\n\nevent: x\nid: 1\nretry: 5\n{events}"),
        format!("\u{feff}{}", events.replace("data: ", "data:")),
    ];
    for (number, events) in spelled.into_iter().enumerate() {
        let app = TestApp::new([Reply::stream(events).in_pieces_of(5)]).await;
        let chunks = stream(app.ask(streaming(json!({}))).await)
            .until_done()
            .await;
        assert_eq!(joined(&chunks, 0), TEXT, "spelling {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_usage_is_always_asked_for_and_passed_on_if_wanted() {
    for wanted in [false, true] {
        let app = TestApp::new([Reply::stream(samples::stream_of(&WORDS))]).await;
        let options = json!({"stream_options": {"include_usage": wanted}});
        let chunks = stream(app.ask(streaming(options)).await).until_done().await;
        let sent = app.provider.request(1).await.json();
        assert_eq!(sent["stream_options"], json!({"include_usage": true}));
        assert_eq!(sent["stream"], true);
        let usages: Vec<_> = chunks
            .iter()
            .filter(|chunk| chunk["usage"].is_object())
            .collect();
        assert_eq!(usages.len(), usize::from(wanted), "{chunks:?}");
        let last = chunks.last().unwrap();
        assert_eq!(last["flywheel"]["recorded"], true);
        if wanted {
            assert_eq!(
                (&last["usage"], &last["choices"]),
                (&samples::usage(), &json!([]))
            );
        }
        assert!(
            app.store.call(1).await.facts.usage.is_some(),
            "recorded in any case"
        );
    }
}

/// Nothing after the chunk that ends the answer leaves before the call is stored.
#[tokio::test(start_paused = true)]
async fn the_end_is_held_back_until_the_commit() {
    for wanted in [false, true] {
        let app = TestApp::new([Reply::stream(samples::stream_of(&WORDS))]).await;
        let gate = Gate::default();
        app.store.wait_for(&gate);
        let options = json!({"stream_options": {"include_usage": wanted}});
        let mut lines = stream(app.ask(streaming(options)).await);
        for _ in 0..=WORDS.len() {
            let chunk = lines.chunk().await;
            assert_eq!(chunk["choices"][0]["finish_reason"], Value::Null, "{chunk}");
        }
        // The store has been asked and does not answer: the end must not have left.
        app.store.groups(1).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
            assert!(lines.is_waiting());
        }
        assert!(app.store.calls().is_empty());
        gate.open();
        let chunk = lines.chunk().await;
        assert_eq!(app.store.calls().len(), 1, "stored before the end left");
        assert_eq!(chunk["choices"][0]["finish_reason"], "stop");
        let last = if wanted { lines.chunk().await } else { chunk };
        assert_eq!(last["flywheel"]["recorded"], true);
        assert_eq!(lines.next().await.as_deref(), Some(DONE));
        assert_eq!(lines.next().await, None);
    }
}

/// Each chunk is passed on when it comes, not when the next one does.
#[tokio::test(start_paused = true)]
async fn chunks_are_passed_on_as_they_come() {
    let gate = Gate::default();
    let reply = Reply::stream(samples::stream_of(&["a", "b"]))
        .event_by_event()
        .gated_by(&gate);
    let app = TestApp::new([reply]).await;
    gate.open();
    let mut lines = stream(app.ask(streaming(json!({}))).await);
    assert_eq!(
        lines.chunk().await["choices"][0]["delta"]["role"],
        "assistant"
    );
    for word in ["a", "b"] {
        assert!(lines.is_waiting());
        gate.open();
        assert_eq!(lines.chunk().await["choices"][0]["delta"]["content"], word);
    }
    gate.open_for(10);
    assert_eq!(lines.until_done().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn tool_calls_are_passed_on_in_fragments_and_recorded_whole() {
    let delta = |call: Value| {
        let delta = json!({"tool_calls": [call]});
        samples::chunk(&[json!({"index": 0, "delta": delta, "finish_reason": null})])
    };
    let end = json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"});
    let chunks = [
        delta(json!({"index": 0, "id": "c1", "type": "function",
            "function": {"name": "look_up", "arguments": ""}})),
        delta(json!({"index": 0, "function": {"arguments": "{\"q\": "}})),
        delta(json!({"index": 1, "id": "c2", "type": "function",
            "function": {"name": "call", "arguments": "{}"}})),
        delta(json!({"index": 0, "function": {"arguments": "\"用\"}"}})),
        samples::chunk(&[end]),
    ];
    let events = samples::events(&chunks) + "data: [DONE]\n\n";
    let app = TestApp::new([Reply::stream(events).in_pieces_of(9)]).await;
    let offered = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let tools = json!([offered("look_up"), offered("call")]);
    let passed_on = stream(app.ask(streaming(json!({"tools": tools}))).await)
        .until_done()
        .await;
    assert_eq!(passed_on.len(), chunks.len());
    assert_eq!(passed_on[1]["choices"], chunks[1]["choices"]);
    let call = app.store.call(1).await;
    assert_eq!(
        call.content.tool_calls.unwrap(),
        json!([
            {"id": "c1", "type": "function",
             "function": {"name": "look_up", "arguments": "{\"q\": \"用\"}"}},
            {"id": "c2", "type": "function", "function": {"name": "call", "arguments": "{}"}},
        ])
    );
    assert_eq!(call.facts.finish_reason.as_deref(), Some("tool_calls"));
    assert_eq!(call.facts.tool_success, Some(true));
}

/// Of two choices that end one after the other, only the very last chunk is the end.
#[tokio::test(start_paused = true)]
async fn two_choices_end_when_the_last_of_them_does() {
    let choice = |index: u64, text: Option<&str>| {
        let reason = if text.is_some() {
            Value::Null
        } else {
            json!("stop")
        };
        let delta = text.map_or_else(|| json!({}), |text| json!({"content": text}));
        samples::chunk(&[json!({"index": index, "delta": delta, "finish_reason": reason})])
    };
    let chunks = [
        choice(0, Some("Hi")),
        choice(1, Some("Hel")),
        choice(0, None),
        choice(1, Some("lo")),
        choice(1, None),
    ];
    let events = samples::events(&chunks) + "data: [DONE]\n\n";
    let app = TestApp::new([Reply::stream(events)]).await;
    let passed_on = stream(app.ask(streaming(json!({"n": 2}))).await)
        .until_done()
        .await;
    assert_eq!(
        (joined(&passed_on, 0), joined(&passed_on, 1)),
        ("Hi".into(), "Hello".into())
    );
    assert_eq!(passed_on.len(), chunks.len());
    let marked: Vec<_> = passed_on
        .iter()
        .map(|chunk| chunk.get("flywheel").is_some())
        .collect();
    assert_eq!(marked, [false, false, false, false, true]);
    assert_eq!(
        app.store.call(1).await.content.output.unwrap(),
        r#"["Hi","Hello"]"#
    );
}

/// Some servers close the connection instead of saying `[DONE]`.
#[tokio::test(start_paused = true)]
async fn done_may_be_missing_after_a_finished_answer() {
    let events = samples::stream_of(&WORDS).replace("data: [DONE]\n\n", "");
    let app = TestApp::new([Reply::stream(events)]).await;
    let chunks = stream(app.ask(streaming(json!({}))).await)
        .until_done()
        .await;
    assert_eq!(chunks.last().unwrap()["flywheel"]["recorded"], true);
    assert_eq!(app.store.call(1).await.facts.status, CallStatus::Ok);
}

/// Some servers never give a finish reason. Whether the call was recorded is told all the same.
#[tokio::test(start_paused = true)]
async fn a_finish_reason_may_be_missing_before_done() {
    let choice = json!({"index": 0, "delta": {"content": "Hi"}, "finish_reason": null});
    let events = samples::events(&[samples::chunk(&[choice])]) + "data: [DONE]\n\n";
    let app = TestApp::new([Reply::stream(events)]).await;
    let chunks = stream(app.ask(streaming(json!({}))).await)
        .until_done()
        .await;
    assert_eq!(joined(&chunks, 0), "Hi");
    assert_eq!(
        chunks.last().unwrap()["flywheel"]["recorded"],
        true,
        "{chunks:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_not_begun_again() {
    let begun = samples::stream_of(&WORDS);
    let begun = &begun[..begun.find(" 用户").unwrap()];
    let error = json!({"error": {"message": "server melted", "type": "server_error"}});
    for (reply, part) in [
        (
            Reply::stream(begun.to_owned()).then_cut(),
            "in the middle of",
        ),
        (Reply::stream(begun.to_owned()), "in the middle of"),
        (Reply::stream(format!("{begun}\"}}]}}\n\ndata: {{")), ""),
        (
            Reply::stream(samples::stream_of(&WORDS).replace("data: [DONE]", "data: {]")),
            "",
        ),
        (Reply::stream(insert_error(&error)), "server melted"),
    ] {
        let spare = Reply::stream(samples::stream_of(&WORDS));
        let app = TestApp::new([reply.event_by_event(), spare]).await;
        let events = stream(app.ask(streaming(json!({}))).await)
            .whatever_comes()
            .await;
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        let message = last["error"]["message"]
            .as_str()
            .unwrap_or_else(|| panic!("{last}"));
        assert!(message.contains(part), "{message}");
        let call = app.store.call(1).await;
        assert_eq!(last["error"]["call_id"], call.id.as_str());
        assert_eq!(call.facts.status, CallStatus::ProviderError, "{message}");
        assert!(call.content.output.unwrap().starts_with("Hello 👩‍👩‍👧"));
        assert_eq!(call.facts.attempts, 1);
        assert_eq!(app.provider.received().len(), 1, "{message}");
    }
}

fn insert_error(error: &Value) -> String {
    let whole = samples::stream_of(&WORDS);
    let at = whole.find("data: [DONE]").unwrap();
    let usage = whole[..at].rfind("data: ").unwrap();
    let end = whole[..usage].rfind("data: ").unwrap();
    format!("{}data: {error}\n\n", &whole[..end])
}

/// The end of the body comes after the end of the stream. A connection on which it was read can be used again.
#[tokio::test(start_paused = true)]
async fn the_connection_serves_the_next_call() {
    let gate = Gate::default();
    let events = samples::stream_of(&["Hello"]);
    let pieces = events.matches("\n\n").count();
    let reply = || {
        Reply::stream(events.clone())
            .event_by_event()
            .gated_by(&gate)
    };
    let app = TestApp::new([reply(), reply(), reply()]).await;
    for number in 1..=3 {
        gate.open_for(pieces);
        stream(app.ask(json!({"stream": true})).await)
            .until_done()
            .await;
        gate.open();
        for _ in 0..2000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(app.provider.received().len(), number);
    }
    assert_eq!(app.provider.connections(), 1);
}
