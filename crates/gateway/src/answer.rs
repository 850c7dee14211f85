//! Answers in OpenAI's shape: what is read out of them, what is put into them, and how a whole one becomes a stream.

use std::collections::BTreeMap;

use flywheel_core::call::Call;
use flywheel_core::model::Usage;
use flywheel_core::postprocess::{PostProcessError, PreparedStep, apply_all};
use serde_json::{Map, Value, json};

/// What a record keeps of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    choices: BTreeMap<u64, Choice>,
    /// The tokens, as the provider counted them.
    pub usage: Option<Usage>,
    bytes: usize,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Choice {
    content: Option<String>,
    tool_calls: BTreeMap<u64, Map<String, Value>>,
    finish_reason: Option<String>,
}

impl Transcript {
    /// Reads a whole `chat.completion`.
    #[must_use]
    pub fn of_completion(completion: &Map<String, Value>) -> Self {
        let mut transcript = Self {
            usage: read_usage(completion),
            ..Self::default()
        };
        transcript.add_choices(completion, "message");
        transcript
    }

    /// Takes in the next `chat.completion.chunk`.
    pub fn add_chunk(&mut self, chunk: &Map<String, Value>) {
        if let Some(usage) = read_usage(chunk) {
            self.usage = Some(usage);
        }
        self.add_choices(chunk, "delta");
    }

    fn add_choices(&mut self, source: &Map<String, Value>, member: &str) {
        for (position, choice) in array(source.get("choices")).iter().enumerate() {
            let index = choice
                .get("index")
                .and_then(Value::as_u64)
                .unwrap_or(position as u64);
            let kept = self.choices.entry(index).or_default();
            if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
                kept.finish_reason = Some(reason.to_owned());
            }
            let Some(message) = choice.get(member) else {
                continue;
            };
            if let Some(text) = message.get("content").and_then(Value::as_str) {
                self.bytes += text.len();
                kept.content.get_or_insert_default().push_str(text);
            }
            for (position, call) in array(message.get("tool_calls")).iter().enumerate() {
                let index = call
                    .get("index")
                    .and_then(Value::as_u64)
                    .unwrap_or(position as u64);
                self.bytes += merge_tool_call(kept.tool_calls.entry(index).or_default(), call);
            }
        }
    }

    /// The bytes of text taken in so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether every choice seen so far has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.choices.is_empty()
            && self
                .choices
                .values()
                .all(|choice| choice.finish_reason.is_some())
    }

    /// The first choice's reason for its end.
    #[must_use]
    pub fn finish_reason(&self) -> Option<String> {
        self.choices
            .values()
            .find_map(|choice| choice.finish_reason.clone())
    }

    /// The text; of several choices, a JSON array of their texts.
    #[must_use]
    pub fn output(&self) -> Option<String> {
        let texts: Vec<_> = self
            .choices
            .values()
            .filter_map(|choice| choice.content.as_deref())
            .collect();
        match texts.as_slice() {
            [] => None,
            [text] => Some((*text).to_owned()),
            several => Some(json!(several).to_string()),
        }
    }

    /// The tool calls of all choices.
    #[must_use]
    pub fn tool_calls(&self) -> Option<Value> {
        let calls: Vec<_> = self
            .choices
            .values()
            .flat_map(|choice| choice.tool_calls.values())
            .map(|call| Value::Object(call.clone()))
            .collect();
        (!calls.is_empty()).then(|| calls.into())
    }
}

/// Joins a fragment of a tool call to what came before, and tells how many bytes it brought.
fn merge_tool_call(call: &mut Map<String, Value>, fragment: &Value) -> usize {
    let mut bytes = 0;
    for (name, value) in fragment.as_object().into_iter().flatten() {
        match (name.as_str(), value) {
            ("index", _) | (_, Value::Null) => {}
            ("function", Value::Object(members)) => {
                let function = call.entry("function").or_insert_with(|| json!({}));
                for (name, value) in members {
                    let piece = value.as_str().unwrap_or_default();
                    bytes += piece.len();
                    match function.get_mut(name) {
                        Some(Value::String(text)) => text.push_str(piece),
                        _ => function[name] = value.clone(),
                    }
                }
            }
            (name, value) => {
                call.insert(name.to_owned(), value.clone());
            }
        }
    }
    bytes
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn read_usage(source: &Map<String, Value>) -> Option<Usage> {
    let usage = source.get("usage")?.as_object()?;
    let count = |name: &str| usage.get(name).and_then(Value::as_u64);
    let cached = usage
        .get("prompt_tokens_details")
        .and_then(|details| details.get("cached_tokens"));
    Some(Usage {
        input_tokens: count("prompt_tokens")?,
        output_tokens: count("completion_tokens").unwrap_or(0),
        cached_input_tokens: cached.and_then(Value::as_u64).unwrap_or(0),
    })
}

/// Applies post-processing to the text of every choice.
///
/// # Errors
/// The first step that a text does not pass.
pub fn post_process(
    completion: &mut Map<String, Value>,
    steps: &[PreparedStep],
) -> Result<(), PostProcessError> {
    let Some(Value::Array(choices)) = completion.get_mut("choices") else {
        return Ok(());
    };
    for choice in choices {
        if let Some(Value::String(content)) = choice.pointer_mut("/message/content") {
            *content = apply_all(steps, std::mem::take(content))?;
        }
    }
    Ok(())
}

/// A whole answer as the chunks of a stream: one with everything, one with the end.
#[must_use]
pub fn into_chunks(completion: Map<String, Value>, include_usage: bool) -> Vec<Map<String, Value>> {
    let mut frame = completion;
    frame.insert("object".into(), "chat.completion.chunk".into());
    let usage = frame.shift_remove("usage");
    let choices = match frame.shift_remove("choices") {
        Some(Value::Array(choices)) => choices,
        _ => Vec::new(),
    };
    let (mut contents, mut ends) = (Vec::new(), Vec::new());
    for (position, mut choice) in choices.into_iter().enumerate() {
        let index = choice
            .get("index")
            .cloned()
            .unwrap_or_else(|| position.into());
        let reason = choice
            .get("finish_reason")
            .cloned()
            .unwrap_or_else(|| "stop".into());
        let mut delta = choice
            .get_mut("message")
            .map(Value::take)
            .unwrap_or_else(|| json!({}));
        if let Some(Value::Array(calls)) = delta.get_mut("tool_calls") {
            for (position, call) in calls.iter_mut().enumerate() {
                call["index"] = position.into();
            }
        }
        contents.push(json!({"index": index, "delta": delta, "finish_reason": null}));
        ends.push(json!({"index": index, "delta": {}, "finish_reason": reason}));
    }
    let with_choices = |choices: Vec<Value>| {
        let mut chunk = frame.clone();
        chunk.insert("choices".into(), choices.into());
        chunk
    };
    let mut chunks = vec![with_choices(contents), with_choices(ends)];
    if include_usage {
        let mut last = with_choices(Vec::new());
        last.insert("usage".into(), usage.unwrap_or(Value::Null));
        chunks.push(last);
    }
    chunks
}

/// The answer that a recorded call gave, for a request that is repeated under its idempotency key.
#[must_use]
pub fn of_call(call: &Call) -> Map<String, Value> {
    let mut message = json!({"role": "assistant", "content": call.content.output});
    if let Some(calls) = &call.content.tool_calls {
        message["tool_calls"] = calls.clone();
    }
    let reason = call.facts.finish_reason.as_deref().unwrap_or("stop");
    let mut completion = Map::new();
    completion.insert("id".into(), call.id.as_str().into());
    completion.insert("object".into(), "chat.completion".into());
    completion.insert("created".into(), call.started_at.as_second().into());
    let model = call.facts.model_id.as_ref().map(ToString::to_string);
    completion.insert("model".into(), model.into());
    let choice = json!({"index": 0, "message": message, "finish_reason": reason});
    completion.insert("choices".into(), json!([choice]));
    if let Some(usage) = call.facts.usage {
        let usage = json!({
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        });
        completion.insert("usage".into(), usage);
    }
    completion
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_stream_and_a_whole_answer_leave_the_same_transcript() {
        let completion = object(json!({
            "id": "x", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
                {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                 "finish_reason": "tool_calls"},
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}},
        }));
        let whole = Transcript::of_completion(&completion);
        let mut streamed = Transcript::default();
        for chunk in into_chunks(completion, true) {
            streamed.add_chunk(&chunk);
        }
        assert_eq!(whole, streamed);
        assert_eq!(whole.output().as_deref(), Some("Hello"));
        assert!(whole.is_finished());
        assert_eq!(whole.usage.unwrap().cached_input_tokens, 2);
    }

    #[test]
    fn fragments_of_tool_calls_are_joined() {
        let mut transcript = Transcript::default();
        for fragment in [
            json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}),
            json!({"index": 0, "function": {"arguments": "{\"a\""}}),
            json!({"index": 0, "function": {"arguments": ": 1}"}}),
        ] {
            let chunk = json!({"choices": [{"index": 0, "delta": {"tool_calls": [fragment]}}]});
            transcript.add_chunk(&object(chunk));
        }
        let expected = json!([{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]);
        assert_eq!(transcript.tool_calls(), Some(expected));
        assert!(!transcript.is_finished());
    }
}
