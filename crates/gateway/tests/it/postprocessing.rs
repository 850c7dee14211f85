//! Answers that are worked on before they leave, and answers that do not pass.

use flywheel_core::call::CallStatus;
use flywheel_gateway::error::Culprit;
use flywheel_gateway::testsuite::{Reply, samples};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, content};
use crate::collect::{complete, failure, joined, stream, text};

fn json_answers() -> Setup {
    let schema = json!({"type": "object", "required": ["mood"]});
    let steps = json!([{"step": "strip_code_fences"}, {"step": "json", "schema": schema}]);
    Setup {
        content: content(json!({"postprocess": steps})),
        ..Setup::default()
    }
}

const FENCED: &str = "Sure!\n```json\n{\"mood\": \"good\"}\n```\n";

#[tokio::test(start_paused = true)]
async fn a_whole_answer_is_worked_on_and_both_texts_are_kept() {
    let reply = Reply::json(200, &samples::completion(FENCED));
    let app = TestApp::with(json_answers(), [reply]).await;
    let answer = text(app.ask(json!({})).await);
    assert_eq!(
        serde_json::from_str::<Value>(&answer).unwrap(),
        json!({"mood": "good"})
    );
    let call = app.store.call(1).await;
    assert_eq!(call.content.output, Some(answer));
    assert_eq!(call.content.raw_output.as_deref(), Some(FENCED));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_right_already_is_kept_once() {
    let right = r#"{"mood":"good"}"#;
    let app = TestApp::with(
        json_answers(),
        [Reply::json(200, &samples::completion(right))],
    )
    .await;
    assert_eq!(text(app.ask(json!({})).await), right);
    assert_eq!(app.store.call(1).await.content.raw_output, None);
}

/// The steps need the whole text, so the provider is asked for all of it at once and the stream is made here.
#[tokio::test(start_paused = true)]
async fn a_stream_is_made_of_the_worked_on_answer() {
    for wanted in [false, true] {
        let reply = Reply::json(200, &samples::completion(FENCED));
        let app = TestApp::with(json_answers(), [reply]).await;
        let further = json!({"stream": true, "stream_options": {"include_usage": wanted}});
        let chunks = stream(app.ask(further).await).until_done().await;
        let sent = app.provider.request(1).await.json();
        assert_eq!(
            (sent.get("stream"), sent.get("stream_options")),
            (None, None)
        );
        let answer: Value = serde_json::from_str(&joined(&chunks, 0)).unwrap();
        assert_eq!(answer, json!({"mood": "good"}));
        let last = chunks.last().unwrap();
        assert_eq!(last["flywheel"]["recorded"], true);
        assert_eq!(last["usage"].is_object(), wanted, "{chunks:?}");
        let ends = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop");
        assert_eq!(ends.count(), 1);
        assert!(app.store.call(1).await.facts.streamed);
    }
}

#[tokio::test(start_paused = true)]
async fn every_choice_is_worked_on() {
    let choice = |index: u64, text: &str| {
        json!({"index": index, "message": {"role": "assistant", "content": text},
            "finish_reason": "stop"})
    };
    let choices = [choice(0, FENCED), choice(1, "```\n{\"mood\": 2}\n```")];
    let reply = Reply::json(200, &samples::completion_of(&choices));
    let app = TestApp::with(json_answers(), [reply]).await;
    let (completion, _) = complete(app.ask(json!({"n": 2})).await);
    for index in 0..2 {
        let text = completion["choices"][index]["message"]["content"]
            .as_str()
            .unwrap();
        assert!(
            serde_json::from_str::<Value>(text).unwrap()["mood"] != Value::Null,
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_pass_is_a_failure_of_the_model() {
    for (answer, part) in [
        ("no JSON at all", "not valid JSON"),
        ("```json\n{\"mod\": 1}\n```", "does not satisfy its schema"),
        ("", "not valid JSON"),
    ] {
        for streamed in [false, true] {
            let reply = Reply::json(200, &samples::completion(answer));
            let app = TestApp::with(json_answers(), [reply]).await;
            let error = failure(app.ask(json!({"stream": streamed})).await);
            assert_eq!(error.failure.status().as_u16(), 502);
            assert_eq!(
                (error.failure.code(), error.failure.culprit()),
                ("invalid_output", Culprit::Model)
            );
            assert!(error.to_string().contains(part), "{error}");
            let call = app.store.call(1).await;
            assert_eq!(error.call_id.as_ref(), Some(&call.id));
            assert_eq!(call.facts.status, CallStatus::InvalidOutput);
            assert_eq!(call.facts.error_kind.as_deref(), Some("invalid_output"));
            assert_eq!(call.content.raw_output.as_deref(), Some(answer));
            assert_eq!(call.content.output, None);
            assert!(call.facts.cost_nano_usd.is_some(), "it was paid for");
            assert_eq!(
                app.provider.received().len(),
                1,
                "the provider did what it was asked"
            );
        }
    }
}

/// Steps work on texts; an answer that only calls tools has none.
#[tokio::test(start_paused = true)]
async fn an_answer_without_text_is_left_alone() {
    let calls = json!([{"id": "c1", "type": "function",
        "function": {"name": "look_up", "arguments": "{}"}}]);
    let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
    let choice = json!({"index": 0, "message": message, "finish_reason": "tool_calls"});
    let reply = Reply::json(200, &samples::completion_of(&[choice]));
    let app = TestApp::with(json_answers(), [reply]).await;
    let (completion, _) = complete(app.ask(json!({})).await);
    assert_eq!(completion["choices"][0]["message"]["tool_calls"], calls);
}
