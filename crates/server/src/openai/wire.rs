//! The OpenAI door's bodies, as far as they concern us. Requests and completions are taken apart by the gateway, which
//! leaves the provider's members as they are; the types here describe them.

use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, ManifestId, PromptName, PromptVersionId};
use flywheel_gateway::request::FlywheelMember;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

/// A chat request: OpenAI's, with a member of ours. What the prompt version sets, the caller cannot change.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what the gateway reads")]
pub struct ChatRequest {
    /// An app as `flywheel/<app>` or `flywheel/<app>@<environment>`; or a model as `name`, `name:version` or
    /// `name@alias`.
    model: String,
    /// The caller's own messages, which follow the rendered ones.
    messages: Option<Vec<Message>>,
    /// The unit that experiments randomise.
    user: Option<String>,
    /// Whether the answer is to be streamed.
    stream: Option<bool>,
    /// What is meant for Flywheel.
    flywheel: Option<FlywheelMember>,
    /// OpenAI's other members, for the provider.
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// A message in OpenAI's shape.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what the gateway reads")]
struct Message {
    /// Who speaks.
    role: String,
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// OpenAI's chat completion, with a member of ours.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what the gateway makes")]
pub(super) struct ChatCompletion {
    /// The call's id, to which feedback refers.
    id: String,
    object: String,
    created: i64,
    model: String,
    choices: Vec<Map<String, Value>>,
    /// What was served.
    flywheel: AboutCall,
    /// OpenAI's other members, as the provider sent them.
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// What was served.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what the gateway makes")]
struct AboutCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<AppName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvironmentName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<ManifestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<PromptName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_version: Option<PromptVersionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<ExperimentName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<ArmName>,
    /// Whether the fallback manifest answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<bool>,
    /// Whether this repeats the answer to an earlier request with the same idempotency key.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
    /// Whether the call was stored.
    recorded: bool,
}

/// A request for embeddings, passed through.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes what the gateway reads")]
pub struct EmbeddingsRequest {
    /// A registered model, as `name`, `name:version` or `name@alias`.
    model: String,
    /// OpenAI's other members, for the provider.
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// What can be called, as OpenAI lists models.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListedModels {
    pub(super) object: &'static str,
    pub(super) data: Vec<ListedModel>,
}

/// An app or a model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ListedModel {
    /// What to name as `model`.
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'static str,
}

impl ListedModel {
    pub(super) fn new(name: &str) -> Self {
        Self {
            id: name.to_owned(),
            object: "model",
            created: 0,
            owned_by: "flywheel",
        }
    }
}

/// An error in OpenAI's form.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OpenAiProblem {
    pub(super) error: OpenAiError,
}

/// What an error says.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OpenAiError {
    pub(super) message: String,
    /// Who failed, such as `invalid_request_error` or `provider_error`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Names the error; stable.
    pub(super) code: String,
    /// The member of the request that is to blame.
    pub(super) param: Option<String>,
}
