//! The simulated provider, for demo and tests: it answers in OpenAI's shape without any model.
//!
//! Nothing mistakes it for a real one: every answer begins with `[simulated]`, its usage is counted in words, and its
//! system fingerprint is `simulated`.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Map, Value, json};

use crate::endpoint::AnswerBody;
use crate::error::ProviderError;
use crate::provider::format::WireRequest;

/// How many words of the last message an answer repeats at most.
const LONGEST_ANSWER: usize = 60;

/// Answers with the beginning of the last message, marked as simulated; of at most `max_tokens` words.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated {
    /// How long each word takes.
    pub pace: Duration,
}

impl Simulated {
    /// The answer to a request in OpenAI's shape.
    pub async fn answer(&self, request: &WireRequest) -> Response<AnswerBody> {
        let body: Map<String, Value> = serde_json::from_slice(&request.body).unwrap_or_default();
        if request.path_and_query.ends_with("/embeddings") {
            let error = json!({"error": {"message": "the simulated provider has no embeddings", "type": "invalid_request_error"}});
            return respond(StatusCode::BAD_REQUEST, whole(&error));
        }
        let (words, reason) = answer_words(&body);
        let usage = usage_of(&body, words.len());
        let body = if body.get("stream") == Some(&Value::Bool(true)) {
            streamed(&words, reason, &usage, self.pace)
        } else {
            tokio::time::sleep(self.pace * u32::try_from(words.len()).unwrap_or(u32::MAX)).await;
            let mut completion = frame("chat.completion");
            let message = json!({"role": "assistant", "content": words.concat()});
            completion["choices"] =
                json!([{"index": 0, "message": message, "finish_reason": reason}]);
            completion["usage"] = usage;
            whole(&completion)
        };
        respond(StatusCode::OK, body)
    }
}

fn frame(object: &str) -> Value {
    json!({"id": "simulated", "object": object, "created": 0, "model": "simulated", "system_fingerprint": "simulated"})
}

/// The words of the answer, its mark among them, and why it ends.
fn answer_words(body: &Map<String, Value>) -> (Vec<String>, &'static str) {
    let last = body
        .get("messages")
        .and_then(Value::as_array)
        .and_then(|messages| messages.last());
    let text = last
        .and_then(|message| message.get("content"))
        .and_then(Value::as_str);
    let asked = body.get("max_tokens").and_then(Value::as_u64);
    let asked = asked.map_or(usize::MAX, |asked| {
        usize::try_from(asked).unwrap_or(usize::MAX)
    });
    let words = text.unwrap_or_default().split_whitespace();
    let answer: Vec<String> = std::iter::once("[simulated]".to_owned())
        .chain(words.take(LONGEST_ANSWER).map(|word| format!(" {word}")))
        .collect();
    let is_cut = answer.len() > asked;
    let reason = if is_cut { "length" } else { "stop" };
    // The mark stays, however little is asked for.
    (answer.into_iter().take(asked.max(1)).collect(), reason)
}

fn usage_of(body: &Map<String, Value>, answered: usize) -> Value {
    let messages = body.get("messages").and_then(Value::as_array);
    let asked: usize = messages
        .into_iter()
        .flatten()
        .filter_map(|message| message.get("content")?.as_str())
        .map(|text| text.split_whitespace().count())
        .sum();
    json!({"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered})
}

fn streamed(words: &[String], reason: &str, usage: &Value, pace: Duration) -> AnswerBody {
    let choice = |delta: Value, reason: Value| {
        let mut chunk = frame("chat.completion.chunk");
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
        chunk
    };
    let mut chunks = vec![choice(
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    )];
    chunks.extend(
        words
            .iter()
            .map(|word| choice(json!({"content": word}), Value::Null)),
    );
    chunks.push(choice(json!({}), reason.into()));
    let mut last = frame("chat.completion.chunk");
    last["choices"] = json!([]);
    last["usage"] = usage.clone();
    chunks.push(last);
    let lines = chunks.into_iter().map(|chunk| format!("data: {chunk}\n\n"));
    let lines: Vec<_> = lines.chain(["data: [DONE]\n\n".to_owned()]).collect();
    let frames = stream::iter(lines).then(move |line| async move {
        tokio::time::sleep(pace).await;
        Ok(Frame::data(Bytes::from(line)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn whole(value: &Value) -> AnswerBody {
    Full::new(Bytes::from(value.to_string()))
        .map_err(|never| -> ProviderError { match never {} })
        .boxed_unsync()
}

fn respond(status: StatusCode, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
