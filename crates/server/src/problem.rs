//! Errors of our own API: RFC 9457 problem documents. Errors of the domain become HTTP here and nowhere else.

use axum::response::{IntoResponse, Response};
use flywheel_storage::StorageError;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What a caller of the API is told when its request was not carried out.
#[derive(Debug)]
pub struct Problem(Box<Document>);

#[derive(Debug)]
struct Document {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    further: Map<String, Value>,
}

/// Why a request was not carried out, as RFC 9457 has it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProblemDocument {
    /// The code as a URI.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: Option<&'static str>,
    /// The status.
    status: u16,
    /// Names the problem; stable.
    code: &'static str,
    /// What happened.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Further members, such as `errors` for what is wrong with a batch.
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// What handlers return.
pub type ApiResult<T> = Result<T, Problem>;

impl Problem {
    /// A problem with its stable short name and what happened.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Document {
            status,
            code,
            detail: detail.into(),
            hint: None,
            further: Map::new(),
        }))
    }

    /// The request is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// Some of the items that one request brought are wrong: by which numbers, counted from 0, and why.
    pub fn invalid_items(of: usize, errors: Vec<(usize, String)>) -> Self {
        let detail = match errors.first() {
            Some((index, detail)) if of > 1 => format!("item {index}, counted from 0: {detail}"),
            Some((_, detail)) => detail.clone(),
            None => String::new(),
        };
        let errors = errors.into_iter();
        let errors = errors.map(|(index, detail)| json!({"index": index, "detail": detail}));
        Self::invalid(detail).with("errors", errors.collect())
    }

    /// Nothing of that name is there.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The key does not allow it.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// Something else stands in the way.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.further.insert(name.to_owned(), value);
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What happened, in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }
}

impl Problem {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        if let StorageError::TooLong { .. } = error {
            return Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "search_too_long",
                error.to_string(),
            )
            .hint("narrow it by time with `since` and `until`, or by `app`, `unit` or `session`");
        }
        tracing::error!(error.message = %error.chain(), "the store failed");
        match error {
            StorageError::Unavailable { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                error.to_string(),
            )
            .hint("look whether the change was made before you repeat it; if this persists, look at the server's disk"),
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the store could not carry this out; the server's log says why",
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Document {
            status,
            code,
            detail,
            hint,
            further,
        } = *self.0;
        let document = ProblemDocument {
            kind: format!("https://flywheel.dev/errors/{code}"),
            title: status.canonical_reason(),
            status: status.as_u16(),
            code,
            detail,
            hint,
            further,
        };
        let mut response = (status, json!(document).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
