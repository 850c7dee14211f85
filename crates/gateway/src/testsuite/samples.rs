//! Answers in OpenAI's form for the fake provider's script.

use serde_json::{Value, json};

/// A whole answer with this text.
#[must_use]
pub fn completion(text: &str) -> Value {
    completion_of(&[json!({
        "index": 0,
        "message": {"role": "assistant", "content": text, "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    })])
}

/// A whole answer with these choices.
#[must_use]
pub fn completion_of(choices: &[Value]) -> Value {
    json!({
        "id": "chatcmpl-provider",
        "object": "chat.completion",
        "created": 1_735_689_600,
        "model": "provider-model-1",
        "choices": choices,
        "usage": usage(),
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    })
}

/// The usage in every answer of these samples.
#[must_use]
pub fn usage() -> Value {
    json!({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18,
        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0}})
}

/// One chunk of a stream, with these choices.
#[must_use]
pub fn chunk(choices: &[Value]) -> Value {
    json!({
        "id": "chatcmpl-provider",
        "object": "chat.completion.chunk",
        "created": 1_735_689_600,
        "model": "provider-model-1",
        "choices": choices,
    })
}

/// A stream that says these words: a chunk with the role, one for each word, the end, the usage, `[DONE]`.
#[must_use]
pub fn stream_of(words: &[&str]) -> String {
    let choice = |delta: Value, reason: Value| {
        chunk(&[json!({"index": 0, "delta": delta, "finish_reason": reason})])
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
    chunks.push(choice(json!({}), json!("stop")));
    let mut last = chunk(&[]);
    last["usage"] = usage();
    chunks.push(last);
    events(&chunks) + "data: [DONE]\n\n"
}

/// Chunks as server-sent events, without the end.
#[must_use]
pub fn events(chunks: &[Value]) -> String {
    chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect()
}
