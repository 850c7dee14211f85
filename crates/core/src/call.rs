//! Calls: one request through an app, or logged by an app that calls its provider itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hash::ContentHash;
use crate::manifest::ManifestId;
use crate::model::{NanoUsd, Usage};
use crate::name::{
    AppName, ArmName, EnvironmentName, ExperimentName, ModelName, PromptName, VersionName,
};
use crate::prompt::PromptVersionId;

/// A call as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Call {
    /// The id of the response, to which feedback refers.
    pub id: String,
    /// When the request arrived.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub started_at: Timestamp,
    /// What can be listed and filtered.
    #[serde(flatten)]
    pub facts: CallFacts,
    /// The texts, which make up most of a call's size.
    #[serde(flatten)]
    pub content: CallContent,
}

/// What is known of a call beside its texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallFacts {
    /// The app, absent when a registered model was called by its own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// What was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestId>,
    /// The prompt of that manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptName>,
    /// The version of that prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<PromptVersionId>,
    /// The model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<ModelName>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<VersionName>,
    /// The experiment the unit took part in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ExperimentName>,
    /// The arm the unit got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<ArmName>,
    /// What is randomised: the user's id as the app sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Tags the app put on the call.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub tags: Map<String, Value>,
    /// The key under which the app may repeat the request without a second record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What was asked for under that key, so that the key cannot be used for anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_hash: Option<ContentHash>,
    /// Whether redaction changed the answer that is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// How it ended.
    pub status: CallStatus,
    /// Which failure it was, when it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<String>,
    /// Why the model stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Whether every tool that the answer calls was offered and takes the arguments it gets; absent where none is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_success: Option<bool>,
    /// Whether the answer was streamed.
    #[serde(default)]
    pub streamed: bool,
    /// Whether another manifest answered than the one that should have: the fallback, or for an arm what is deployed.
    #[serde(default)]
    pub fallback: bool,
    /// How often the provider was asked; 1 without a retry.
    #[serde(default = "one")]
    pub attempts: u32,
    /// From the request's arrival to the end of the answer; absent when an app logged a call that it did not time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// From the request's arrival to the provider's first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// The gateway's own part of the latency, waiting for the provider left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead_us: Option<u64>,
    /// The tokens it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost, if the model has a price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_nano_usd: Option<NanoUsd>,
}

fn one() -> u32 {
    1
}

/// The texts of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallContent {
    /// The variables the prompt was rendered with.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub variables: Map<String, Value>,
    /// The messages that were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Value>,
    /// The answer's text, or the texts of its choices, after post-processing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The answer's text before post-processing, where that changed or refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_output: Option<String>,
    /// The tool calls in the answer, in OpenAI's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// What failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CallStatus {
    /// The answer arrived whole.
    Ok,
    /// The provider failed: a hard failure.
    ProviderError,
    /// The answer did not pass the prompt's post-processing.
    InvalidOutput,
    /// The client went away before the answer was complete.
    ClientClosed,
    /// The request was wrong: a variable was missing, or the provider refused it.
    BadRequest,
    /// What is deployed could not be served: its provider is no longer configured, for example. A hard failure.
    GatewayError,
}

impl CallStatus {
    /// Every status, for filters and tests.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::ProviderError,
        Self::InvalidOutput,
        Self::ClientClosed,
        Self::BadRequest,
        Self::GatewayError,
    ];

    /// The status as records spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ProviderError => "provider_error",
            Self::InvalidOutput => "invalid_output",
            Self::ClientClosed => "client_closed",
            Self::BadRequest => "bad_request",
            Self::GatewayError => "gateway_error",
        }
    }

    /// Reads a status as records spell it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}
