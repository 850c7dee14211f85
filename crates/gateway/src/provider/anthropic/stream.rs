//! Anthropic's stream of events as OpenAI's stream of chunks.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::ProviderError;
use crate::provider::anthropic::response::{Usage, finish_reason};
use crate::provider::format::{StreamDecoder, StreamEvent};
use crate::provider::openai::failure::reported_error;
use crate::provider::openai::{decode, malformed};
use crate::secret::Secret;
use crate::sse::SseDecoder;

/// Decodes one streamed message.
pub(super) struct MessageDecoder {
    events: SseDecoder,
    message: MessageState,
}

impl MessageDecoder {
    pub(super) fn new(api_key: Option<Secret>) -> Self {
        let message = MessageState {
            api_key,
            ..MessageState::default()
        };
        Self {
            events: SseDecoder::new(),
            message,
        }
    }
}

impl StreamDecoder for MessageDecoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        let message = &mut self.message;
        self.events
            .feed(bytes, |_, data| message.take_event(data, events))
    }
}

/// What is known of the message so far.
#[derive(Default)]
struct MessageState {
    api_key: Option<Secret>,
    phase: Phase,
    id: String,
    model: String,
    stop_reason: Option<String>,
    usage: Usage,
    has_usage: bool,
    /// The tool calls that have started, by the index of their content block.
    tools: BTreeMap<u64, ToolCall>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Started,
    Done,
}

/// A tool call, whose index among the calls is not its index among the blocks.
struct ToolCall {
    index: usize,
    /// What to send at the end of the block if no arguments came in parts.
    whole_input: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    index: u64,
    message: Option<MessageStart>,
    content_block: Option<ContentBlock>,
    delta: Option<Delta>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct MessageStart {
    #[serde(default)]
    id: String,
    #[serde(default)]
    model: String,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ContentBlock {
    #[serde(rename = "type")]
    kind: String,
    id: Option<String>,
    name: Option<String>,
    text: Option<String>,
    thinking: Option<String>,
    input: Option<Value>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(rename = "type", default)]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    partial_json: Option<String>,
    stop_reason: Option<String>,
}

/// The events that are part of a message. Others may come at any time, and new ones may be invented.
const MESSAGE_EVENTS: [&str; 6] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
];

/// The one member that says how to read the rest.
#[derive(Deserialize)]
struct EventKind<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
}

impl MessageState {
    fn take_event(
        &mut self,
        data: &str,
        events: &mut Vec<StreamEvent>,
    ) -> Result<(), ProviderError> {
        if self.phase == Phase::Done || data.is_empty() {
            return Ok(());
        }
        let what = "an event of the stream";
        let EventKind { kind } = decode(what, data.as_bytes())?;
        if kind == "error" {
            let value = decode(what, data.as_bytes())?;
            return Err(reported_error(&value, self.api_key.as_ref()));
        }
        if !MESSAGE_EVENTS.contains(&kind.as_ref()) {
            return Ok(());
        }
        match (kind == "message_start", self.phase == Phase::Before) {
            (true, false) => return Err(malformed("the stream has a second `message_start`")),
            (false, true) => {
                return Err(malformed(format!(
                    "the stream has `{kind}` before `message_start`"
                )));
            }
            _ => {}
        }
        let event: Event = decode(what, data.as_bytes())?;
        self.translate(event, events);
        Ok(())
    }

    fn translate(&mut self, event: Event, events: &mut Vec<StreamEvent>) {
        if let Some(usage) = event.usage {
            self.usage.update(usage);
            self.has_usage = true;
        }
        match event.kind.as_str() {
            "message_start" => {
                self.phase = Phase::Started;
                if let Some(message) = event.message {
                    (self.id, self.model) = (message.id, message.model);
                    self.has_usage |= message.usage.is_some();
                    self.usage.update(message.usage.unwrap_or_default());
                }
                events.push(self.delta(json!({"role": "assistant", "content": ""})));
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.start_block(event.index, block, events);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    self.continue_block(event.index, delta, events);
                }
            }
            "content_block_stop" => {
                if let Some(call) = self.tools.get_mut(&event.index)
                    && let Some(input) = call.whole_input.take()
                {
                    let index = call.index;
                    events.push(self.arguments(index, input));
                }
            }
            "message_delta" => {
                self.stop_reason = event
                    .delta
                    .and_then(|delta| delta.stop_reason)
                    .or(self.stop_reason.take());
            }
            _ => self.finish(events),
        }
    }

    fn start_block(
        &mut self,
        block_index: u64,
        block: ContentBlock,
        events: &mut Vec<StreamEvent>,
    ) {
        match block.kind.as_str() {
            "tool_use" => {
                let index = self.tools.len();
                let input = block.input.filter(Value::is_object);
                let whole_input = Some(input.map_or("{}".to_owned(), |input| input.to_string()));
                self.tools
                    .insert(block_index, ToolCall { index, whole_input });
                events.push(self.delta(json!({"tool_calls": [{
                    "index": index,
                    "id": block.id,
                    "type": "function",
                    "function": {"name": block.name, "arguments": ""},
                }]})));
            }
            "text" => self.push_text("content", block.text, events),
            "thinking" => self.push_text("reasoning_content", block.thinking, events),
            _ => {}
        }
    }

    fn continue_block(&mut self, block_index: u64, delta: Delta, events: &mut Vec<StreamEvent>) {
        match delta.kind.as_str() {
            "text_delta" => self.push_text("content", delta.text, events),
            "thinking_delta" => self.push_text("reasoning_content", delta.thinking, events),
            "input_json_delta" => {
                let part = delta.partial_json.filter(|part| !part.is_empty());
                // The input of tools that run at the provider belongs to no call of ours.
                if let Some(call) = self.tools.get_mut(&block_index)
                    && let Some(part) = part
                {
                    call.whole_input = None;
                    let index = call.index;
                    events.push(self.arguments(index, part));
                }
            }
            // Signatures and citations have no place in OpenAI's chunks.
            _ => {}
        }
    }

    fn push_text(&self, member: &str, text: Option<String>, events: &mut Vec<StreamEvent>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            events.push(self.delta(json!({member: text})));
        }
    }

    fn arguments(&self, index: usize, arguments: String) -> StreamEvent {
        self.delta(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}))
    }

    fn delta(&self, delta: Value) -> StreamEvent {
        self.chunk(json!([{"index": 0, "delta": delta, "finish_reason": null}]))
    }

    fn chunk(&self, choices: Value) -> StreamEvent {
        StreamEvent::Chunk(Map::from_iter([
            ("id".to_owned(), Value::from(self.id.as_str())),
            ("object".to_owned(), Value::from("chat.completion.chunk")),
            // Anthropic tells no time, and a format reads no clock.
            ("created".to_owned(), Value::from(0)),
            ("model".to_owned(), Value::from(self.model.as_str())),
            ("choices".to_owned(), choices),
        ]))
    }

    fn finish(&mut self, events: &mut Vec<StreamEvent>) {
        self.phase = Phase::Done;
        let reason = finish_reason(self.stop_reason.as_deref());
        events.push(self.chunk(json!([{"index": 0, "delta": {}, "finish_reason": reason}])));
        if self.has_usage
            && let StreamEvent::Chunk(mut chunk) = self.chunk(json!([]))
        {
            chunk.insert("usage".to_owned(), self.usage.to_openai());
            events.push(StreamEvent::Chunk(chunk));
        }
        events.push(StreamEvent::Done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProviderErrorKind;
    use crate::provider::anthropic::{AnthropicFormat, AnthropicOptions};
    use crate::provider::openai::tests::decode_stream;

    fn format() -> AnthropicFormat {
        let api_key = Some(Secret::new("live-key-1"));
        AnthropicFormat::new(AnthropicOptions {
            api_key,
            ..AnthropicOptions::default()
        })
        .unwrap()
    }

    /// Events as Anthropic frames them.
    fn stream_of(events: &[&str]) -> String {
        let mut stream = String::new();
        for event in events {
            let value: Value = serde_json::from_str(event).unwrap();
            let name = value["type"].as_str().unwrap();
            stream.push_str(&format!("event: {name}\ndata: {event}\n\n"));
        }
        stream
    }

    fn choice(delta: Value) -> Value {
        json!([{"index": 0, "delta": delta, "finish_reason": null}])
    }

    fn check(stream: &[&str], expected: &[Value], usage: Option<Value>) {
        let (events, error) = decode_stream(&format(), &stream_of(stream));
        assert!(error.is_none(), "{error:?}");
        let mut chunks = Vec::new();
        for event in &events {
            let StreamEvent::Chunk(chunk) = event else {
                continue;
            };
            assert_eq!(chunk["id"], "msg_1");
            assert_eq!(chunk["object"], "chat.completion.chunk");
            assert_eq!(chunk["model"], "claude-x");
            chunks.push(chunk.clone());
        }
        assert_eq!(events.last(), Some(&StreamEvent::Done));
        if let Some(usage) = usage {
            let last = chunks.pop().unwrap();
            assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &usage));
        }
        let choices: Vec<Value> = chunks
            .iter()
            .map(|chunk| chunk["choices"].clone())
            .collect();
        assert_eq!(choices, expected);
    }

    const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":472,"cache_creation_input_tokens":8,"cache_read_input_tokens":20,"output_tokens":2,"service_tier":"standard"}}}"#;
    const STOP: &str = r#"{"type":"message_stop"}"#;

    #[test]
    fn a_recorded_stream_with_text_and_tools() {
        check(
            &[
                START,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type": "ping"}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Grüße"}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 🙂"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{}}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"location\":"}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \"Bern\"}"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"now","input":{}}}"#,
                r#"{"type":"content_block_stop","index":2}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89,"output_tokens_details":{"thinking_tokens":0}}}"#,
                STOP,
            ],
            &[
                choice(json!({"role": "assistant", "content": ""})),
                choice(json!({"content": "Grüße"})),
                choice(json!({"content": " 🙂"})),
                choice(
                    json!({"tool_calls": [{"index": 0, "id": "toolu_1", "type": "function",
                    "function": {"name": "get_weather", "arguments": ""}}]}),
                ),
                choice(
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"location\":"}}]}),
                ),
                choice(
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": " \"Bern\"}"}}]}),
                ),
                choice(
                    json!({"tool_calls": [{"index": 1, "id": "toolu_2", "type": "function",
                    "function": {"name": "now", "arguments": ""}}]}),
                ),
                choice(json!({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]})),
                json!([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]),
            ],
            Some(json!({
                "prompt_tokens": 500, "completion_tokens": 89, "total_tokens": 589,
                "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 0},
            })),
        );
    }

    #[test]
    fn thinking_and_what_is_unknown() {
        check(
            &[
                r#"{"type":"ping"}"#,
                r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x"}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Hm."}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"s","name":"web_search","input":{}}}"#,
                r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"query\":1}"}}"#,
                r#"{"type":"content_block_stop","index":1}"#,
                r#"{"type":"invented_later","message":"not an object","delta":7}"#,
                r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"A"}}"#,
                r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{}}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#,
                STOP,
                r#"{"type":"error","error":{"type":"api_error","message":"after the end"}}"#,
            ],
            &[
                choice(json!({"role": "assistant", "content": ""})),
                choice(json!({"reasoning_content": "Hm."})),
                choice(json!({"content": "A"})),
                json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
            ],
            None,
        );
    }

    #[test]
    fn the_input_of_a_tool_that_comes_whole() {
        check(
            &[
                START,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#,
                r#"{"type":"content_block_stop","index":0}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"},"usage":{"input_tokens":5,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":1}}"#,
                STOP,
            ],
            &[
                choice(json!({"role": "assistant", "content": ""})),
                choice(
                    json!({"tool_calls": [{"index": 0, "id": "t", "type": "function",
                    "function": {"name": "f", "arguments": ""}}]}),
                ),
                choice(
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":1}"}}]}),
                ),
                json!([{"index": 0, "delta": {}, "finish_reason": "length"}]),
            ],
            Some(
                json!({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6,
                "prompt_tokens_details": {"cached_tokens": 0}}),
            ),
        );
    }

    #[test]
    fn streams_that_fail() {
        use ProviderErrorKind::{Malformed, RateLimited, Server};
        for (stream, count, kind, message) in [
            (
                stream_of(&[
                    START,
                    r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded live-key-1"}}"#,
                ]),
                1,
                Server,
                "the provider reported an error: Overloaded [redacted]",
            ),
            (
                stream_of(&[
                    r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}"#,
                ]),
                0,
                RateLimited,
                "the provider reported an error: Slow down",
            ),
            (
                "data: nonsense\n\n".to_owned(),
                0,
                Malformed,
                "an event of the stream is not valid JSON at line 1 column 2",
            ),
            (
                stream_of(&[
                    START,
                    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":7}}"#,
                ]),
                1,
                Malformed,
                "an event of the stream is not of the expected shape at line 1 column 77",
            ),
            (
                stream_of(&[STOP]),
                0,
                Malformed,
                "the stream has `message_stop` before `message_start`",
            ),
            (
                stream_of(&[START, START]),
                1,
                Malformed,
                "the stream has a second `message_start`",
            ),
        ] {
            let (events, error) = decode_stream(&format(), &stream);
            let error = error.unwrap();
            assert_eq!(
                (error.kind, error.message.as_str()),
                (kind, message),
                "{stream}"
            );
            assert_eq!(events.len(), count, "{stream}");
        }
    }
}
