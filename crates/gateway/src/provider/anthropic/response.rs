//! An Anthropic message as OpenAI's `chat.completion` object.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::error::ProviderError;
use crate::provider::openai::failure::{is_error, reported_error};
use crate::provider::openai::{decode, malformed};
use crate::secret::Secret;

/// A complete message.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    /// Absent from an error object, which is told apart by that.
    content: Option<Vec<Block>>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

/// A content block of any type, of which only some members are there.
#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    /// Kept as it was written: a tool's arguments are a string of JSON to OpenAI.
    input: Option<Box<RawValue>>,
}

/// The tokens that a message used. In a stream they come in parts, of which the later ones replace the earlier.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputTokensDetails>,
}

#[derive(Debug, Deserialize)]
struct OutputTokensDetails {
    thinking_tokens: Option<u64>,
}

impl Usage {
    /// Takes over every count that `later` has; the counts of a stream are cumulative.
    pub(super) fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens = later
            .cache_creation_input_tokens
            .or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = later
            .cache_read_input_tokens
            .or(self.cache_read_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.output_tokens_details = later
            .output_tokens_details
            .or(self.output_tokens_details.take());
    }

    /// OpenAI's usage, whose prompt includes what was read from and written to the cache.
    pub(super) fn to_openai(&self) -> Value {
        let cached = self.cache_read_input_tokens.unwrap_or(0);
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let prompt = self
            .input_tokens
            .unwrap_or(0)
            .saturating_add(cached)
            .saturating_add(written);
        let completion = self.output_tokens.unwrap_or(0);
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt.saturating_add(completion),
            "prompt_tokens_details": {"cached_tokens": cached},
        });
        // OpenAI has no such count, but these tokens have a price of their own.
        if written > 0 {
            usage["prompt_tokens_details"]["cache_write_tokens"] = Value::from(written);
        }
        if let Some(thinking) = self
            .output_tokens_details
            .as_ref()
            .and_then(|details| details.thinking_tokens)
        {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": thinking});
        }
        usage
    }
}

/// OpenAI's reason to finish.
pub(super) fn finish_reason(stop_reason: Option<&str>) -> &'static str {
    match stop_reason {
        Some("max_tokens" | "model_context_window_exceeded") => "length",
        Some("tool_use") => "tool_calls",
        Some("refusal") => "content_filter",
        _ => "stop",
    }
}

/// Reads a complete answer.
pub(super) fn chat_completion(
    body: &[u8],
    api_key: Option<&Secret>,
) -> Result<Map<String, Value>, ProviderError> {
    let message: Message = decode("the answer", body)?;
    let Some(blocks) = message.content else {
        let value: Map<String, Value> = decode("the answer", body)?;
        if is_error(&value) {
            return Err(reported_error(&Value::Object(value), api_key));
        }
        return Err(malformed("the answer has no array of `content`"));
    };
    let mut text: Option<String> = None;
    let mut reasoning = String::new();
    let mut tool_calls = Vec::new();
    for block in blocks {
        match block.kind.as_str() {
            "text" => text
                .get_or_insert_default()
                .push_str(&block.text.unwrap_or_default()),
            "thinking" => reasoning.push_str(&block.thinking.unwrap_or_default()),
            "tool_use" => tool_calls.push(json!({
                "id": block.id,
                "type": "function",
                "function": {
                    "name": block.name,
                    "arguments": block.input.as_ref().map_or("{}", |input| input.get()),
                },
            })),
            // Redacted thinking, and the blocks of tools that run at the provider.
            _ => {}
        }
    }
    let mut answer = json!({"role": "assistant", "refusal": null});
    answer["content"] = match text {
        Some(text) => Value::String(text),
        None if tool_calls.is_empty() => Value::String(String::new()),
        None => Value::Null,
    };
    if !reasoning.is_empty() {
        answer["reasoning_content"] = Value::String(reasoning);
    }
    if !tool_calls.is_empty() {
        answer["tool_calls"] = Value::Array(tool_calls);
    }
    let mut completion = Map::from_iter([
        ("id".to_owned(), Value::String(message.id)),
        ("object".to_owned(), Value::from("chat.completion")),
        // Anthropic tells no time, and a format reads no clock.
        ("created".to_owned(), Value::from(0)),
        ("model".to_owned(), Value::String(message.model)),
    ]);
    let reason = finish_reason(message.stop_reason.as_deref());
    let choice = json!({"index": 0, "message": answer, "logprobs": null, "finish_reason": reason});
    completion.insert("choices".to_owned(), Value::Array(vec![choice]));
    if let Some(usage) = message.usage {
        completion.insert("usage".to_owned(), usage.to_openai());
    }
    Ok(completion)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProviderErrorKind;

    fn complete(body: &Value) -> Value {
        Value::Object(chat_completion(body.to_string().as_bytes(), None).unwrap())
    }

    #[test]
    fn a_recorded_answer_with_tools_and_thinking() {
        let body = r#"{"model":"claude-sonnet-4-5-20250929","id":"msg_01","type":"message","role":"assistant",
            "content":[{"type":"thinking","thinking":"Weather, then.","signature":"EqQB"},
                {"type":"redacted_thinking","data":"x"},
                {"type":"text","text":"I will "},{"type":"text","text":"look.","citations":null},
                {"type":"tool_use","id":"toolu_1","name":"get_weather","input":{"unit": "c", "city": "Zürich"}},
                {"type":"tool_use","id":"toolu_2","name":"now","input":{}}],
            "stop_reason":"tool_use","stop_sequence":null,
            "usage":{"input_tokens":10,"cache_creation_input_tokens":7,"cache_read_input_tokens":100,
                "output_tokens":20,"output_tokens_details":{"thinking_tokens":5},"service_tier":"standard"}}"#;
        let completion = Value::Object(chat_completion(body.as_bytes(), None).unwrap());
        assert_eq!(
            completion,
            json!({
                "id": "msg_01", "object": "chat.completion", "created": 0, "model": "claude-sonnet-4-5-20250929",
                "choices": [{"index": 0, "finish_reason": "tool_calls", "logprobs": null, "message": {
                    "role": "assistant", "content": "I will look.", "refusal": null,
                    "reasoning_content": "Weather, then.",
                    "tool_calls": [
                        {"id": "toolu_1", "type": "function", "function": {
                            "name": "get_weather", "arguments": "{\"unit\": \"c\", \"city\": \"Zürich\"}"}},
                        {"id": "toolu_2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
                    ]}}],
                "usage": {"prompt_tokens": 117, "completion_tokens": 20, "total_tokens": 137,
                    "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 7},
                    "completion_tokens_details": {"reasoning_tokens": 5}}
            })
        );
    }

    #[test]
    fn contents_and_reasons() {
        let text = json!([{"type": "text", "text": "a"}]);
        let tool = json!([{"type": "tool_use", "id": "t", "name": "n", "input": {}}]);
        let unknown = json!([{"type": "server_tool_use", "id": "s", "name": "n", "input": {}}]);
        for (content, stop_reason, expected_content, reason) in [
            (&text, json!("end_turn"), json!("a"), "stop"),
            (&text, json!("stop_sequence"), json!("a"), "stop"),
            (&text, json!("max_tokens"), json!("a"), "length"),
            (
                &text,
                json!("model_context_window_exceeded"),
                json!("a"),
                "length",
            ),
            (&text, json!("pause_turn"), json!("a"), "stop"),
            (&text, json!("something_new"), json!("a"), "stop"),
            (&text, json!(null), json!("a"), "stop"),
            (&tool, json!("tool_use"), json!(null), "tool_calls"),
            (&unknown, json!("end_turn"), json!(""), "stop"),
            (&json!([]), json!("refusal"), json!(""), "content_filter"),
        ] {
            let completion = complete(&json!({"content": content, "stop_reason": stop_reason}));
            let choice = &completion["choices"][0];
            assert_eq!(
                choice["message"]["content"], expected_content,
                "{stop_reason}"
            );
            assert_eq!(choice["finish_reason"], reason, "{stop_reason}");
            assert!(completion.get("usage").is_none());
        }
    }

    #[test]
    fn answers_that_are_none() {
        for (body, kind, message) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                ProviderErrorKind::Server,
                "the provider reported an error: Overloaded",
            ),
            (
                "{}",
                ProviderErrorKind::Malformed,
                "the answer has no array of `content`",
            ),
            (
                r#"{"content":"text"}"#,
                ProviderErrorKind::Malformed,
                "the answer is not of the expected shape at line 1 column 17",
            ),
            (
                "",
                ProviderErrorKind::Malformed,
                "the answer is not valid JSON at line 1 column 0",
            ),
        ] {
            let error = chat_completion(body.as_bytes(), None)
                .map(|_| ())
                .unwrap_err();
            assert_eq!(
                (error.kind, error.message.as_str()),
                (kind, message),
                "{body}"
            );
        }
    }
}
