//! What every provider's wire format must be able to do: turn a chat request in OpenAI's shape into HTTP, and HTTP back.
//!
//! A format is pure: it holds no connection and reads no clock, so each one is tested with tables of bytes.

use http::HeaderMap;
use http::StatusCode;
use serde_json::{Map, Value};

use crate::error::ProviderError;

/// A chat request as the gateway forms it: OpenAI's chat-completions body, without `model` and `stream`,
/// which the format sets for its provider.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The provider's own name for the model.
    pub model: String,
    /// Every other member of the body, `messages` included.
    pub body: Map<String, Value>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
}

impl ChatRequest {
    /// Takes the messages out, for the record.
    pub fn take_messages(&mut self) -> Vec<Value> {
        match self.body.get_mut("messages").map(Value::take) {
            Some(Value::Array(messages)) => messages,
            _ => Vec::new(),
        }
    }
}

/// An HTTP request that is complete but for the connection.
#[derive(Debug, Clone)]
pub struct WireRequest {
    /// The path below the endpoint's base URL, with its query, starting with `/`.
    pub path_and_query: String,
    /// Headers of this format, the provider key's among them.
    pub headers: HeaderMap,
    /// The JSON body.
    pub body: bytes::Bytes,
}

/// One thing a provider's stream said, in OpenAI's shape.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamEvent {
    /// A `chat.completion.chunk` object.
    Chunk(Map<String, Value>),
    /// The provider said that the answer is complete.
    Done,
}

/// Decodes one streamed answer. Bytes arrive split anywhere, even inside a UTF-8 sequence.
pub trait StreamDecoder: Send {
    /// Takes the next bytes and appends what they complete to `events`.
    ///
    /// # Errors
    /// When the provider reports a failure inside the stream, or sends what its format does not allow.
    fn feed(&mut self, bytes: &[u8], events: &mut Vec<StreamEvent>) -> Result<(), ProviderError>;
}

/// A provider's wire format.
pub trait ProviderFormat: Send + Sync {
    /// The HTTP request for `chat`.
    ///
    /// # Errors
    /// When the request holds something this provider cannot be asked for; the message names the member.
    fn chat_request(&self, chat: &ChatRequest) -> Result<WireRequest, ProviderError>;

    /// A complete answer as OpenAI's `chat.completion` object.
    ///
    /// # Errors
    /// When the body is not what the format promises.
    fn chat_response(&self, body: &[u8]) -> Result<Map<String, Value>, ProviderError>;

    /// A decoder for one streamed answer.
    fn stream_decoder(&self) -> Box<dyn StreamDecoder>;

    /// The request for `/v1/embeddings` passed through, or an error when the provider has none.
    ///
    /// # Errors
    /// When the provider offers no embeddings in OpenAI's shape.
    fn embeddings_request(
        &self,
        model: &str,
        body: &Map<String, Value>,
    ) -> Result<WireRequest, ProviderError>;

    /// The failure that an answer with an error status stands for.
    fn failure(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ProviderError;
}
