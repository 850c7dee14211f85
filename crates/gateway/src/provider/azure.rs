//! The format of Azure OpenAI: OpenAI's bodies, with the deployment and the API version in the URL.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Map, Value};

use crate::error::ProviderError;
use crate::provider::format::{ChatRequest, ProviderFormat, StreamDecoder, WireRequest};
use crate::provider::openai::failure::failure_of;
use crate::provider::openai::{
    ChunkDecoder, InvalidHeader, chat_body, chat_completion, embeddings_body_without_model,
    insert_extra_headers, insert_header, json_headers,
};
use crate::secret::Secret;

/// The newest API version that Azure calls stable for deployments.
pub const DEFAULT_API_VERSION: &str = "2024-10-21";

/// How an Azure OpenAI resource is spoken to.
#[derive(Debug, Clone)]
pub struct AzureOptions {
    /// Sent as `api-key`. Without one, an extra `Authorization` header may carry an Entra token.
    pub api_key: Option<Secret>,
    /// The `api-version` of every request.
    pub api_version: String,
    /// Whether streams are asked for their usage, which API versions older than the default may refuse.
    pub stream_usage: bool,
    /// Headers to send besides, by name; their values are kept secret.
    pub extra_headers: BTreeMap<String, Secret>,
}

impl Default for AzureOptions {
    fn default() -> Self {
        Self {
            api_key: None,
            api_version: DEFAULT_API_VERSION.to_owned(),
            stream_usage: true,
            extra_headers: BTreeMap::new(),
        }
    }
}

/// The format of Azure OpenAI, below a base URL such as `https://resource.openai.azure.com`. The provider's name of
/// a model is the name of its deployment.
#[derive(Debug, Clone)]
pub struct AzureFormat {
    headers: HeaderMap,
    api_key: Option<Secret>,
    api_version: String,
    stream_usage: bool,
}

impl AzureFormat {
    /// A format with these options.
    ///
    /// # Errors
    /// When a key or another header value cannot stand in a header.
    pub fn new(options: AzureOptions) -> Result<Self, InvalidHeader> {
        let mut headers = json_headers();
        if let Some(key) = options.api_key.as_ref().filter(|key| !key.is_empty()) {
            insert_header(
                &mut headers,
                HeaderName::from_static("api-key"),
                key.expose(),
            )?;
        }
        insert_extra_headers(&mut headers, &options.extra_headers)?;
        Ok(Self {
            headers,
            api_key: options.api_key,
            api_version: percent_encoded(&options.api_version),
            stream_usage: options.stream_usage,
        })
    }

    fn path(&self, deployment: &str, operation: &str) -> String {
        let (deployment, version) = (percent_encoded(deployment), &self.api_version);
        format!("/openai/deployments/{deployment}/{operation}?api-version={version}")
    }
}

impl ProviderFormat for AzureFormat {
    fn chat_request(&self, chat: &ChatRequest) -> Result<WireRequest, ProviderError> {
        Ok(WireRequest {
            path_and_query: self.path(&chat.model, "chat/completions"),
            headers: self.headers.clone(),
            body: chat_body(None, chat, self.stream_usage)?,
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
            path_and_query: self.path(model, "embeddings"),
            headers: self.headers.clone(),
            body: embeddings_body_without_model(body)?,
        })
    }

    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError {
        failure_of(status, headers, body, self.api_key.as_ref())
    }
}

/// A path segment or a query value in which only what RFC 3986 calls unreserved stands for itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ProviderErrorKind;
    use crate::provider::format::StreamEvent;
    use crate::provider::openai::tests::{body_of, chat, decode_stream, object};

    fn format() -> AzureFormat {
        AzureFormat::new(AzureOptions {
            api_key: Some(Secret::new("azure-key-1")),
            ..AzureOptions::default()
        })
        .unwrap()
    }

    #[test]
    fn requests() {
        let request = format()
            .chat_request(&chat(true, json!({"messages": [], "model": "x"})))
            .unwrap();
        assert_eq!(
            request.path_and_query,
            "/openai/deployments/m-1/chat/completions?api-version=2024-10-21"
        );
        assert_eq!(request.headers.get("api-key").unwrap(), "azure-key-1");
        assert_eq!(
            body_of(&request),
            json!({"messages": [], "stream": true, "stream_options": {"include_usage": true}})
        );
        assert!(!format!("{request:?}").contains("azure-key"));

        let embeddings = format()
            .embeddings_request("ä/b c?", &object(json!({"input": "a"})))
            .unwrap();
        assert_eq!(
            embeddings.path_and_query,
            "/openai/deployments/%C3%A4%2Fb%20c%3F/embeddings?api-version=2024-10-21"
        );
        assert_eq!(body_of(&embeddings), json!({"input": "a"}));
        let path = http::uri::PathAndQuery::try_from(embeddings.path_and_query);
        assert!(path.is_ok());
    }

    #[test]
    fn a_recorded_stream() {
        let stream = concat!(
            r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"},"jailbreak":{"filtered":false,"detected":false}}}]}"#,
            "\n\n",
            r#"data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":1757499916,"id":"chatcmpl-C","model":"gpt-5-mini-2025-08-07","object":"chat.completion.chunk","usage":null}"#,
            "\n\n",
            r#"data: {"choices":[{"content_filter_results":{},"delta":{"content":"The"},"finish_reason":"stop","index":0}],"created":1757499916,"id":"chatcmpl-C","model":"gpt-5-mini-2025-08-07","object":"chat.completion.chunk"}"#,
            "\n\ndata: [DONE]\n\n",
        );
        let (events, error) = decode_stream(&format(), stream);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(events.len(), 4);
        assert!(matches!(&events[0], StreamEvent::Chunk(chunk) if chunk["choices"] == json!([])));
        assert_eq!(events[3], StreamEvent::Done);
    }

    #[test]
    fn failures() {
        use ProviderErrorKind::{Credentials, RateLimited, Refused};
        for (status, body, kind, message) in [
            (
                400,
                r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"violence":{"filtered":true,"severity":"medium"}}}}}"#,
                Refused,
                "the provider answered 400 Bad Request: The response was filtered due to the prompt triggering Azure OpenAI's content management policy",
            ),
            (
                404,
                r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
                Refused,
                "the provider answered 404 Not Found: The API deployment for this resource does not exist",
            ),
            (
                401,
                r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key azure-key-1."}}"#,
                Credentials,
                "the provider answered 401 Unauthorized",
            ),
            (
                429,
                r#"{"error":{"code":"429","message":"Requests have exceeded the token rate limit. Please retry after 7 seconds."}}"#,
                RateLimited,
                "the provider answered 429 Too Many Requests: Requests have exceeded the token rate limit. Please retry after 7 seconds",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = format().failure(status, &HeaderMap::new(), body.as_bytes());
            assert_eq!((error.kind, error.message.as_str()), (kind, message));
        }
        let (_, error) = decode_stream(
            &format(),
            "data: {\"error\":{\"message\":\"filtered\",\"code\":\"content_filter\"}}\n\n",
        );
        assert_eq!(error.unwrap().kind, Refused);
    }
}
