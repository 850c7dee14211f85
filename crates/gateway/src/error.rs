//! Errors of the gateway: each says who failed and whether the same request may be sent again.
//!
//! [`ProviderError`] is what a provider did; [`GatewayError`] is what the caller is told.

use std::time::Duration;

use flywheel_core::postprocess::PostProcessError;
use flywheel_core::template::RenderError;
use http::StatusCode;

use crate::request::InvalidRequest;
use crate::routing::Unservable;

/// What went wrong between the gateway and a provider.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// What kind of failure it was.
    pub kind: ProviderErrorKind,
    /// What happened, fit for the caller's eyes: never a key, never a URL with credentials.
    pub message: String,
    /// The status the provider answered with, if it answered.
    pub status: Option<StatusCode>,
    /// How long the provider asked to be left alone.
    pub retry_after: Option<Duration>,
    /// The provider's own error code, such as `context_length_exceeded`.
    pub code: Option<String>,
}

/// The ways in which a provider can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// No connection could be made.
    Connect,
    /// The first byte did not come in time.
    FirstByteTimeout,
    /// The whole answer did not come in time.
    TotalTimeout,
    /// 429.
    RateLimited,
    /// 5xx, or an error inside a stream.
    Server,
    /// 4xx other than 429: the request was refused, and would be again.
    Refused,
    /// 401 or 403: our key, not the caller's request.
    Credentials,
    /// An answer that its format does not allow.
    Malformed,
    /// The connection broke, or the stream ended before the answer did.
    Interrupted,
    /// The request holds something that this provider cannot be asked for.
    Unsupported,
    /// The circuit breaker of this endpoint is open.
    CircuitOpen,
}

impl ProviderErrorKind {
    /// Whether the same request may succeed if it is sent again, to this provider or another.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::Refused | Self::Unsupported | Self::Credentials)
    }

    /// The name under which records and metrics count this failure.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::TotalTimeout => "total_timeout",
            Self::RateLimited => "rate_limited",
            Self::Server => "server_error",
            Self::Refused => "refused",
            Self::Credentials => "credentials",
            Self::Malformed => "malformed",
            Self::Interrupted => "interrupted",
            Self::Unsupported => "unsupported",
            Self::CircuitOpen => "circuit_open",
        }
    }
}

impl ProviderError {
    /// A failure without an answer from the provider.
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            code: None,
        }
    }
}

/// What the caller of the gateway is told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{failure}")]
pub struct GatewayError {
    /// What failed.
    pub failure: Failure,
    /// The id under which the failed call was recorded, if it was.
    pub call_id: Option<String>,
}

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Culprit {
    /// The caller: its request is wrong.
    Client,
    /// The provider gave no answer.
    Provider,
    /// The model gave an answer that the prompt version does not allow.
    Model,
    /// We.
    Gateway,
}

impl Culprit {
    /// The `type` of an error in OpenAI's form.
    #[must_use]
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Client => "invalid_request_error",
            Self::Provider => "provider_error",
            Self::Model => "model_error",
            Self::Gateway => "gateway_error",
        }
    }
}

/// Who failed, and how.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The client: its request is wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The client: its variables do not fit the prompt.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The client: nothing of that name can be called.
    #[error("{0}")]
    NotFound(String),
    /// The client: a request with this idempotency key is still being answered.
    #[error("a request with idempotency key `{0}` is still being answered")]
    InFlight(String),
    /// The client: another request was made under this idempotency key.
    #[error(
        "idempotency key `{0}` was used for another request; a request that differs needs a key of its own"
    )]
    KeyReused(String),
    /// We: what is deployed cannot be served.
    #[error(transparent)]
    Unservable(#[from] Unservable),
    /// We: as many calls are running and waiting as may be.
    #[error("too many calls are running and waiting; try again shortly")]
    Overloaded,
    /// We: the bodies of the requests under way take all the memory they may.
    #[error("the requests under way hold as many bytes as they may; try again shortly")]
    NoRoom,
    /// We: the call could not be recorded, and the configuration demands that it is.
    #[error("the call could not be recorded: {0}")]
    NotRecorded(String),
    /// We: the store could not be asked.
    #[error("the store could not be asked")]
    Store,
    /// The provider.
    #[error("{error}")]
    Provider {
        /// Its name in the configuration.
        provider: String,
        /// What it did.
        error: ProviderError,
    },
    /// The model: its answer does not pass the prompt's post-processing.
    #[error("the model's answer does not pass post-processing: {0}")]
    InvalidOutput(PostProcessError),
}

impl Failure {
    /// The failure without a recorded call.
    #[must_use]
    pub fn unrecorded(self) -> GatewayError {
        GatewayError {
            failure: self,
            call_id: None,
        }
    }

    /// The status to answer with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) | Self::Render(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::InFlight(_) => StatusCode::CONFLICT,
            Self::KeyReused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Overloaded | Self::NoRoom => StatusCode::TOO_MANY_REQUESTS,
            Self::Unservable(_) | Self::NotRecorded(_) | Self::Store => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::InvalidOutput(_) => StatusCode::BAD_GATEWAY,
            Self::Provider { error, .. } => match error.kind {
                ProviderErrorKind::FirstByteTimeout | ProviderErrorKind::TotalTimeout => {
                    StatusCode::GATEWAY_TIMEOUT
                }
                ProviderErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                ProviderErrorKind::CircuitOpen => StatusCode::SERVICE_UNAVAILABLE,
                ProviderErrorKind::Unsupported => StatusCode::BAD_REQUEST,
                ProviderErrorKind::Refused => error
                    .status
                    .filter(StatusCode::is_client_error)
                    .unwrap_or(StatusCode::BAD_REQUEST),
                _ => StatusCode::BAD_GATEWAY,
            },
        }
    }

    /// Who failed.
    #[must_use]
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Invalid(_)
            | Self::Render(_)
            | Self::NotFound(_)
            | Self::InFlight(_)
            | Self::KeyReused(_) => Culprit::Client,
            Self::Unservable(_)
            | Self::Overloaded
            | Self::NoRoom
            | Self::NotRecorded(_)
            | Self::Store => Culprit::Gateway,
            Self::InvalidOutput(_) => Culprit::Model,
            Self::Provider { error, .. } => match error.kind {
                ProviderErrorKind::Refused | ProviderErrorKind::Unsupported => Culprit::Client,
                _ => Culprit::Provider,
            },
        }
    }

    /// A short name for the failure, stable across releases.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Invalid(_) => "invalid_request",
            Self::Render(RenderError::MissingVariables(_)) => "missing_variable",
            Self::Render(_) => "invalid_variables",
            Self::NotFound(_) => "not_found",
            Self::InFlight(_) => "request_in_flight",
            Self::KeyReused(_) => "idempotency_key_reused",
            Self::Unservable(_) => "unservable_manifest",
            Self::Overloaded | Self::NoRoom => "overloaded",
            Self::NotRecorded(_) | Self::Store => "store_unavailable",
            Self::InvalidOutput(_) => "invalid_output",
            Self::Provider { error, .. } => error.code.as_deref().unwrap_or(error.kind.as_str()),
        }
    }

    /// The request's member to blame, if there is one.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        match self {
            Self::Invalid(invalid) => invalid.param.as_deref(),
            Self::Render(_) => Some("flywheel.variables"),
            Self::InFlight(_) | Self::KeyReused(_) => Some("flywheel.idempotency_key"),
            _ => None,
        }
    }

    /// Whether the caller should send the request again as it is. OpenAI's clients repeat every 5xx unless they are told;
    /// where the model has answered already, that would cost another call each time.
    #[must_use]
    pub fn should_retry(&self) -> bool {
        match self {
            Self::Overloaded | Self::NoRoom | Self::InFlight(_) => true,
            // What was retried here already, or may have been paid for, is not repeated by the client as well.
            Self::Provider { error, .. } => matches!(
                error.kind,
                ProviderErrorKind::Connect
                    | ProviderErrorKind::RateLimited
                    | ProviderErrorKind::CircuitOpen
            ),
            _ => false,
        }
    }

    /// How long the caller should wait before it tries again, where trying again makes sense.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded
            | Self::NoRoom
            | Self::InFlight(_)
            | Self::NotRecorded(_)
            | Self::Store => Some(Duration::from_secs(1)),
            Self::Provider { error, .. } => error.retry_after,
            _ => None,
        }
    }
}
