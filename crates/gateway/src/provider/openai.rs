//! The format of OpenAI and of every server that speaks it: vLLM, llama.cpp, TGI, Ollama and the hosted ones.
//!
//! Requests and answers pass through nearly as they are. What this module adds is the usage in streams and one
//! reading of the many ways in which such servers say that something failed.

pub(crate) mod failure;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::error::{ProviderError, ProviderErrorKind};
use crate::provider::format::{
    ChatRequest, ProviderFormat, StreamDecoder, StreamEvent, WireRequest,
};
use crate::provider::openai::failure::{failure_of, is_error, reported_error};
use crate::secret::Secret;
use crate::sse::SseDecoder;

/// How an OpenAI-compatible server is spoken to.
#[derive(Debug, Clone)]
pub struct OpenAiOptions {
    /// Sent as a bearer token; servers of one's own often want none.
    pub api_key: Option<Secret>,
    /// The `OpenAI-Organization` to bill.
    pub organization: Option<String>,
    /// Whether streams are asked for their usage. Some servers refuse the member that asks.
    pub stream_usage: bool,
    /// Headers to send besides, by name. Their values are kept secret: they may hold keys too.
    pub extra_headers: BTreeMap<String, Secret>,
}

impl Default for OpenAiOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            organization: None,
            stream_usage: true,
            extra_headers: BTreeMap::new(),
        }
    }
}

/// A header of the configuration that HTTP does not allow. It does not say the value, which may be a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name or the value of header `{0}` holds a character that headers may not hold")]
pub struct InvalidHeader(pub String);

/// The format of OpenAI-compatible servers, below a base URL that ends in `/v1`.
#[derive(Debug, Clone)]
pub struct OpenAiFormat {
    headers: HeaderMap,
    api_key: Option<Secret>,
    stream_usage: bool,
}

impl OpenAiFormat {
    /// A format with these options.
    ///
    /// # Errors
    /// When a key or another header value cannot stand in a header.
    pub fn new(options: OpenAiOptions) -> Result<Self, InvalidHeader> {
        let mut headers = json_headers();
        if let Some(key) = options.api_key.as_ref().filter(|key| !key.is_empty()) {
            insert_header(
                &mut headers,
                AUTHORIZATION,
                &format!("Bearer {}", key.expose()),
            )?;
        }
        if let Some(organization) = &options.organization {
            let name = HeaderName::from_static("openai-organization");
            insert_header(&mut headers, name, organization)?;
        }
        insert_extra_headers(&mut headers, &options.extra_headers)?;
        Ok(Self {
            headers,
            api_key: options.api_key,
            stream_usage: options.stream_usage,
        })
    }
}

impl ProviderFormat for OpenAiFormat {
    fn chat_request(&self, chat: &ChatRequest) -> Result<WireRequest, ProviderError> {
        Ok(WireRequest {
            path_and_query: "/chat/completions".to_owned(),
            headers: self.headers.clone(),
            body: chat_body(Some(&chat.model), chat, self.stream_usage)?,
        })
    }

    fn chat_response(&self, body: &[u8]) -> Result<Map<String, Value>, ProviderError> {
        chat_completion(body, self.api_key.as_ref())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(ChunkDecoder::new(self.api_key.clone()))
    }

    fn embeddings_request(
        &self,
        model: &str,
        body: &Map<String, Value>,
    ) -> Result<WireRequest, ProviderError> {
        Ok(WireRequest {
            path_and_query: "/embeddings".to_owned(),
            headers: self.headers.clone(),
            body: encode(&RequestBody {
                model: Some(model),
                stream: false,
                usage: None,
                rest: body,
            })?,
        })
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        let mut failure = failure_of(status, headers, body, self.api_key.as_ref());
        // A server that knows the path names the model that it does not have.
        if status == StatusCode::NOT_FOUND && !failure.message.contains("model") {
            failure.message +=
                "; does the provider's `base_url` have its whole path, such as `/v1`?";
        }
        failure
    }
}

pub(crate) fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// Sets a header whose value no `Debug` of a request prints.
pub(crate) fn insert_header(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: &str,
) -> Result<(), InvalidHeader> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| InvalidHeader(name.as_str().to_owned()))?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

pub(crate) fn insert_extra_headers(
    headers: &mut HeaderMap,
    extra: &BTreeMap<String, Secret>,
) -> Result<(), InvalidHeader> {
    for (name, value) in extra {
        let parsed =
            HeaderName::try_from(name.as_str()).map_err(|_| InvalidHeader(name.clone()))?;
        insert_header(headers, parsed, value.expose())?;
    }
    Ok(())
}

/// The body of a chat request, with `model` unless the path names it.
pub(crate) fn chat_body(
    model: Option<&str>,
    chat: &ChatRequest,
    stream_usage: bool,
) -> Result<Bytes, ProviderError> {
    let usage = (chat.stream && stream_usage).then(|| {
        let given = chat.body.get("stream_options").and_then(Value::as_object);
        let mut options = given.cloned().unwrap_or_default();
        options.insert("include_usage".to_owned(), Value::Bool(true));
        options
    });
    encode(&RequestBody {
        model,
        stream: chat.stream,
        usage,
        rest: &chat.body,
    })
}

/// The body of an embeddings request whose path names the model.
pub(crate) fn embeddings_body_without_model(
    body: &Map<String, Value>,
) -> Result<Bytes, ProviderError> {
    encode(&RequestBody {
        model: None,
        stream: false,
        usage: None,
        rest: body,
    })
}

/// A body that is written straight from the caller's members, whose messages may be large, without a copy.
struct RequestBody<'a> {
    model: Option<&'a str>,
    stream: bool,
    /// The `stream_options`, when the usage is asked for.
    usage: Option<Map<String, Value>>,
    rest: &'a Map<String, Value>,
}

impl Serialize for RequestBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(model) = self.model {
            map.serialize_entry("model", model)?;
        }
        // Null means absent to OpenAI, and some servers refuse it.
        let is_ours = |name: &str| matches!(name, "model" | "stream" | "stream_options");
        for (name, value) in self
            .rest
            .iter()
            .filter(|(name, value)| !is_ours(name) && !value.is_null())
        {
            map.serialize_entry(name, value)?;
        }
        if self.stream {
            map.serialize_entry("stream", &true)?;
        }
        if let Some(usage) = &self.usage {
            map.serialize_entry("stream_options", usage)?;
        }
        map.end()
    }
}

pub(crate) fn encode(body: &impl Serialize) -> Result<Bytes, ProviderError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| {
        let message = format!("the request cannot be written as JSON: {error}");
        ProviderError::new(ProviderErrorKind::Unsupported, message)
    })
}

pub(crate) fn malformed(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, message)
}

/// Reads what must be JSON. The message tells where it is not, and nothing of what it holds.
pub(crate) fn decode<'a, T: serde::Deserialize<'a>>(
    what: &str,
    json: &'a [u8],
) -> Result<T, ProviderError> {
    serde_json::from_slice(json).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let fault = if error.is_data() {
            "not of the expected shape"
        } else {
            "not valid JSON"
        };
        malformed(format!("{what} is {fault} at line {line} column {column}"))
    })
}

/// A complete answer; some servers send an error with status 200.
pub(crate) fn chat_completion(
    body: &[u8],
    api_key: Option<&Secret>,
) -> Result<Map<String, Value>, ProviderError> {
    let completion: Map<String, Value> = decode("the answer", body)?;
    if completion.get("choices").is_some_and(Value::is_array) {
        return Ok(completion);
    }
    if is_error(&completion) {
        return Err(reported_error(&Value::Object(completion), api_key));
    }
    Err(malformed("the answer has no array of `choices`"))
}

/// Decodes streams of `chat.completion.chunk` objects that end in `[DONE]`.
pub(crate) struct ChunkDecoder {
    events: SseDecoder,
    api_key: Option<Secret>,
    is_started: bool,
    is_done: bool,
}

impl ChunkDecoder {
    pub(crate) fn new(api_key: Option<Secret>) -> Self {
        Self {
            events: SseDecoder::new(),
            api_key,
            is_started: false,
            is_done: false,
        }
    }
}

impl StreamDecoder for ChunkDecoder {
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<(), ProviderError> {
        // An error page or an answer that ignored `stream` would otherwise pass as lines of unknown fields.
        if !self.is_started
            && let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace())
        {
            self.is_started = true;
            if matches!(first, b'{' | b'[' | b'<') {
                return Err(malformed(
                    "the answer is not a stream of server-sent events",
                ));
            }
        }
        let (is_done, api_key) = (&mut self.is_done, self.api_key.as_ref());
        self.events.feed(bytes, |name, data| {
            let data = data.trim();
            if *is_done || data.is_empty() {
                return Ok(());
            }
            if data == "[DONE]" {
                *is_done = true;
                events.push(StreamEvent::Done);
                return Ok(());
            }
            if name == "error" {
                let value = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
                return Err(reported_error(&value, api_key));
            }
            let chunk: Map<String, Value> = decode("a chunk of the stream", data.as_bytes())?;
            if is_error(&chunk) {
                return Err(reported_error(&Value::Object(chunk), api_key));
            }
            events.push(StreamEvent::Chunk(chunk));
            Ok(())
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_that_is_not_there_may_be_the_base_urls_fault() {
        let format = OpenAiFormat::new(OpenAiOptions::default()).unwrap();
        let said = |status, body: &str| {
            let failure = format.failure(status, &HeaderMap::new(), body.as_bytes());
            failure.message
        };
        for (status, body, is_asked) in [
            (
                StatusCode::NOT_FOUND,
                r#"{"error": {"message": "File Not Found", "type": "not_found_error"}}"#,
                true,
            ),
            (StatusCode::NOT_FOUND, "<h1>Not Found</h1>", true),
            (
                StatusCode::NOT_FOUND,
                r#"{"error": {"message": "The model `x` does not exist"}}"#,
                false,
            ),
            (StatusCode::BAD_REQUEST, "", false),
        ] {
            let message = said(status, body);
            assert_eq!(message.contains("`base_url`"), is_asked, "{message}");
        }
    }

    pub(crate) fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else {
            unreachable!("not an object: {value}")
        };
        object
    }

    pub(crate) fn chat(stream: bool, body: Value) -> ChatRequest {
        ChatRequest {
            model: "m-1".to_owned(),
            body: object(body),
            stream,
        }
    }

    pub(crate) fn body_of(request: &WireRequest) -> Value {
        serde_json::from_slice(&request.body).unwrap()
    }

    fn decode_pieces(
        format: &dyn ProviderFormat,
        pieces: &[&[u8]],
    ) -> (Vec<StreamEvent>, Option<ProviderError>) {
        let mut decoder = format.stream_decoder();
        let mut events = Vec::new();
        for piece in pieces {
            if let Err(error) = decoder.feed(piece, &mut events) {
                return (events, Some(error));
            }
        }
        (events, None)
    }

    /// Decodes a stream whole, and holds byte by byte and every split in two equal to that.
    pub(crate) fn decode_stream(
        format: &dyn ProviderFormat,
        stream: &str,
    ) -> (Vec<StreamEvent>, Option<ProviderError>) {
        let comparable = |(events, error): (Vec<StreamEvent>, Option<ProviderError>)| {
            (
                events,
                error.map(|error| (error.kind, error.message, error.code)),
            )
        };
        let bytes = stream.as_bytes();
        let whole = decode_pieces(format, &[bytes]);
        let expected = comparable(whole.clone());
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(
            comparable(decode_pieces(format, &single)),
            expected,
            "single bytes"
        );
        for middle in 0..bytes.len() {
            let (left, right) = bytes.split_at(middle);
            let split = comparable(decode_pieces(format, &[left, right]));
            assert_eq!(split, expected, "split at {middle}");
        }
        whole
    }

    fn format(options: OpenAiOptions) -> OpenAiFormat {
        OpenAiFormat::new(options).unwrap()
    }

    #[test]
    fn requests() {
        let messages = json!([{"role": "user", "content": "hi"}]);
        for (stream, stream_usage, given, expected) in [
            (
                false,
                true,
                json!({"messages": messages, "temperature": 0.5, "stop": null, "stream_options": {}}),
                json!({"model": "m-1", "messages": messages, "temperature": 0.5}),
            ),
            (
                true,
                true,
                json!({"messages": messages, "model": "other", "stream": false}),
                json!({"model": "m-1", "messages": messages, "stream": true,
                    "stream_options": {"include_usage": true}}),
            ),
            (
                true,
                true,
                json!({"stream_options": {"include_usage": false, "include_obfuscation": false}}),
                json!({"model": "m-1", "stream": true,
                    "stream_options": {"include_usage": true, "include_obfuscation": false}}),
            ),
            (
                true,
                false,
                json!({"stream_options": {"include_usage": true}}),
                json!({"model": "m-1", "stream": true}),
            ),
        ] {
            let format = format(OpenAiOptions {
                stream_usage,
                ..OpenAiOptions::default()
            });
            let request = format.chat_request(&chat(stream, given)).unwrap();
            assert_eq!(request.path_and_query, "/chat/completions");
            assert_eq!(body_of(&request), expected);
            let written = String::from_utf8_lossy(&request.body);
            assert_eq!(written.matches("\"model\"").count(), 1, "{written}");
        }
        let request = format(OpenAiOptions::default())
            .embeddings_request("e-1", &object(json!({"input": ["a"], "dimensions": null})))
            .unwrap();
        assert_eq!(request.path_and_query, "/embeddings");
        assert_eq!(body_of(&request), json!({"model": "e-1", "input": ["a"]}));
    }

    #[test]
    fn headers_carry_the_key_and_hide_it() {
        let options = OpenAiOptions {
            api_key: Some(Secret::new("sk-one\n")),
            organization: Some("org-1".to_owned()),
            extra_headers: BTreeMap::from([("X-Gate".to_owned(), Secret::new("pass-9"))]),
            ..OpenAiOptions::default()
        };
        let shown = format!("{options:?}");
        let format = format(options);
        let request = format.chat_request(&chat(false, json!({}))).unwrap();
        for (name, value) in [
            ("authorization", "Bearer sk-one"),
            ("openai-organization", "org-1"),
            ("x-gate", "pass-9"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(request.headers.get(name).unwrap(), value);
        }
        let shown = format!("{shown} {format:?} {request:?}");
        assert!(
            !shown.contains("sk-one") && !shown.contains("pass-9"),
            "{shown}"
        );

        let keyless = OpenAiFormat::new(OpenAiOptions {
            api_key: Some(Secret::new("")),
            ..OpenAiOptions::default()
        });
        assert!(!keyless.unwrap().headers.contains_key(AUTHORIZATION));

        let bad = OpenAiFormat::new(OpenAiOptions {
            api_key: Some(Secret::new("sk-a\nb")),
            ..OpenAiOptions::default()
        });
        assert_eq!(
            bad.unwrap_err().to_string(),
            "the name or the value of header `authorization` holds a character that headers may not hold"
        );
        let bad = OpenAiFormat::new(OpenAiOptions {
            extra_headers: BTreeMap::from([("a b".to_owned(), Secret::new("c"))]),
            ..OpenAiOptions::default()
        });
        assert_eq!(bad.unwrap_err(), InvalidHeader("a b".to_owned()));
    }

    #[test]
    fn responses() {
        let format = format(OpenAiOptions::default());
        let completion = json!({
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1_741_569_952,
            "model": "gpt-4.1-2025-04-14",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!", "refusal": null},
                "logprobs": null, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
        });
        let response = format
            .chat_response(completion.to_string().as_bytes())
            .unwrap();
        assert_eq!(Value::Object(response), completion);
        for (body, kind, message) in [
            (
                "",
                ProviderErrorKind::Malformed,
                "the answer is not valid JSON at line 1 column 0",
            ),
            (
                "<html>",
                ProviderErrorKind::Malformed,
                "the answer is not valid JSON at line 1 column 1",
            ),
            (
                "[]",
                ProviderErrorKind::Malformed,
                "the answer is not of the expected shape at line 1 column 0",
            ),
            (
                "{}",
                ProviderErrorKind::Malformed,
                "the answer has no array of `choices`",
            ),
            (
                r#"{"error":{"message":"busy","code":503}}"#,
                ProviderErrorKind::Server,
                "the provider reported an error: busy",
            ),
        ] {
            let error = format.chat_response(body.as_bytes()).unwrap_err();
            assert_eq!(
                (error.kind, error.message.as_str()),
                (kind, message),
                "{body}"
            );
        }
    }

    #[test]
    fn a_recorded_stream() {
        let stream = concat!(
            r#"data: {"id":"chatcmpl-9x","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aB"}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-9x","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"delta":{"content":"Grüße 🙂"},"finish_reason":null}],"usage":null}"#,
            "\n\n: keep-alive\n\n",
            r#"data: {"id":"chatcmpl-9x","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null,"error":null}"#,
            "\n\n",
            r#"data: {"id":"chatcmpl-9x","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4o-mini-2024-07-18","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#,
            "\n\ndata: [DONE]\n\ndata: after\n\n",
        );
        let format = format(OpenAiOptions::default());
        for stream in [stream.to_owned(), stream.replace('\n', "\r\n")] {
            let (events, error) = decode_stream(&format, &stream);
            assert!(error.is_none(), "{error:?}");
            let [
                StreamEvent::Chunk(_),
                StreamEvent::Chunk(second),
                _,
                StreamEvent::Chunk(usage),
                StreamEvent::Done,
            ] = &events[..]
            else {
                panic!("{events:?}")
            };
            assert_eq!(second["choices"][0]["delta"]["content"], "Grüße 🙂");
            assert_eq!(usage["usage"]["total_tokens"], 12);
        }
    }

    #[test]
    fn streams_that_fail() {
        use ProviderErrorKind::{Malformed, Refused, Server};
        let format = format(OpenAiOptions {
            api_key: Some(Secret::new("live-key-1")),
            ..OpenAiOptions::default()
        });
        let chunk = "data: {\"choices\":[]}\n\n";
        for (stream, count, kind, message) in [
            (
                format!(
                    "{chunk}data: {{\"error\":{{\"message\":\"boom live-key-1\",\"type\":\"server_error\"}}}}\n\n"
                ),
                1,
                Server,
                "the provider reported an error: boom [redacted]",
            ),
            (
                format!("{chunk}event: error\ndata: {{\"message\":\"no\",\"code\":400}}\n\n"),
                1,
                Refused,
                "the provider reported an error: no",
            ),
            (
                "event: error\ndata: out of memory\n\n".to_owned(),
                0,
                Server,
                "the provider reported an error: out of memory",
            ),
            (
                "data: {\"error\":\"Request failed\",\"error_type\":\"generation\"}\n\n".to_owned(),
                0,
                Server,
                "the provider reported an error: Request failed",
            ),
            (
                format!("{chunk}data: {{\"choices\":[\n\n"),
                1,
                Malformed,
                "a chunk of the stream is not valid JSON at line 1 column 12",
            ),
            (
                "data: 7\n\n".to_owned(),
                0,
                Malformed,
                "a chunk of the stream is not of the expected shape at line 1 column 1",
            ),
            (
                "\n<!doctype html>\n\n".to_owned(),
                0,
                Malformed,
                "the answer is not a stream of server-sent events",
            ),
            (
                "{\"choices\":[]}".to_owned(),
                0,
                Malformed,
                "the answer is not a stream of server-sent events",
            ),
        ] {
            let (events, error) = decode_stream(&format, &stream);
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
