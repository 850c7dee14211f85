//! The format of Anthropic's Messages API, translated from and to OpenAI's chat completions.
//!
//! What Anthropic cannot do is refused by name rather than dropped: an experiment that sets `seed` must not believe
//! that it had one.

mod request;
mod response;
mod stream;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::error::{ProviderError, ProviderErrorKind};
use crate::provider::format::{ChatRequest, ProviderFormat, StreamDecoder, WireRequest};
use crate::provider::openai::failure::failure_of;
use crate::provider::openai::{
    InvalidHeader, encode, insert_extra_headers, insert_header, json_headers,
};
use crate::secret::Secret;

/// The version of the API that this format speaks.
pub const ANTHROPIC_VERSION: &str = "2023-06-01";

/// The `max_tokens` of a request that names none, which OpenAI allows and Anthropic does not.
pub const DEFAULT_MAX_TOKENS: u64 = 4096;

/// How Anthropic, or a server that speaks its format, is spoken to.
#[derive(Debug, Clone)]
pub struct AnthropicOptions {
    /// Sent as `x-api-key`.
    pub api_key: Option<Secret>,
    /// The `max_tokens` of requests that name none.
    pub default_max_tokens: u64,
    /// Headers to send besides, by name, such as `anthropic-beta`; their values are kept secret.
    pub extra_headers: BTreeMap<String, Secret>,
}

impl Default for AnthropicOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            default_max_tokens: DEFAULT_MAX_TOKENS,
            extra_headers: BTreeMap::new(),
        }
    }
}

/// The format of Anthropic's Messages API, below a base URL that ends in `/v1`.
#[derive(Debug, Clone)]
pub struct AnthropicFormat {
    headers: HeaderMap,
    api_key: Option<Secret>,
    default_max_tokens: u64,
}

impl AnthropicFormat {
    /// A format with these options.
    ///
    /// # Errors
    /// When a key or another header value cannot stand in a header.
    pub fn new(options: AnthropicOptions) -> Result<Self, InvalidHeader> {
        let mut headers = json_headers();
        headers.insert(
            "anthropic-version",
            HeaderValue::from_static(ANTHROPIC_VERSION),
        );
        if let Some(key) = options.api_key.as_ref().filter(|key| !key.is_empty()) {
            insert_header(
                &mut headers,
                HeaderName::from_static("x-api-key"),
                key.expose(),
            )?;
        }
        insert_extra_headers(&mut headers, &options.extra_headers)?;
        Ok(Self {
            headers,
            api_key: options.api_key,
            default_max_tokens: options.default_max_tokens,
        })
    }
}

impl ProviderFormat for AnthropicFormat {
    fn chat_request(&self, chat: &ChatRequest) -> Result<WireRequest, ProviderError> {
        let body = request::messages_body(chat, self.default_max_tokens)?;
        Ok(WireRequest {
            path_and_query: "/messages".to_owned(),
            headers: self.headers.clone(),
            body: encode(&body)?,
        })
    }

    fn chat_response(&self, body: &[u8]) -> Result<Map<String, Value>, ProviderError> {
        response::chat_completion(body, self.api_key.as_ref())
    }

    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        Box::new(stream::MessageDecoder::new(self.api_key.clone()))
    }

    fn embeddings_request(
        &self,
        _model: &str,
        _body: &Map<String, Value>,
    ) -> Result<WireRequest, ProviderError> {
        Err(ProviderError::new(
            ProviderErrorKind::Unsupported,
            "anthropic offers no embeddings",
        ))
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        failure_of(status, headers, body, self.api_key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provider::openai::tests::{body_of, chat, object};

    fn format() -> AnthropicFormat {
        AnthropicFormat::new(AnthropicOptions {
            api_key: Some(Secret::new("sk-ant-1")),
            extra_headers: BTreeMap::from([("anthropic-beta".to_owned(), Secret::new("b-1"))]),
            ..AnthropicOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn a_request() {
        let body = json!({"messages": [{"role": "user", "content": "hi"}]});
        let request = format().chat_request(&chat(true, body)).unwrap();
        assert_eq!(request.path_and_query, "/messages");
        for (name, value) in [
            ("x-api-key", "sk-ant-1"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "b-1"),
            ("content-type", "application/json"),
        ] {
            assert_eq!(request.headers.get(name).unwrap(), value);
        }
        assert!(!request.headers.contains_key("authorization"));
        assert_eq!(
            body_of(&request),
            json!({"model": "m-1", "max_tokens": 4096, "stream": true,
                "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]})
        );
        assert!(!format!("{request:?} {:?}", format()).contains("sk-ant"));
        let error = format()
            .embeddings_request("m", &object(json!({})))
            .unwrap_err();
        assert_eq!(error.kind, ProviderErrorKind::Unsupported);
    }

    #[test]
    fn failures() {
        use ProviderErrorKind::{Credentials, RateLimited, Refused, Server};
        for (status, code, kind) in [
            (400, "invalid_request_error", Refused),
            (401, "authentication_error", Credentials),
            (402, "billing_error", Refused),
            (403, "permission_error", Credentials),
            (404, "not_found_error", Refused),
            (413, "request_too_large", Refused),
            (429, "rate_limit_error", RateLimited),
            (500, "api_error", Server),
            (504, "timeout_error", Server),
            (529, "overloaded_error", Server),
        ] {
            let body = json!({"type": "error", "error": {"type": code, "message": "why"}, "request_id": "req_1"});
            let status = StatusCode::from_u16(status).unwrap();
            let error = format().failure(status, &HeaderMap::new(), body.to_string().as_bytes());
            assert_eq!((error.kind, error.code.as_deref()), (kind, Some(code)));
            assert_eq!(
                error.kind.is_retryable(),
                matches!(kind, RateLimited | Server)
            );
            assert_eq!(
                error.message.ends_with(": why"),
                status != StatusCode::UNAUTHORIZED
            );
        }
    }
}
