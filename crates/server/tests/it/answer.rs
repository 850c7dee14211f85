//! What the router answered, with the expectations that tests have of it.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

/// An answer whose body has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The request, for messages.
    pub(crate) request: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(request: String, response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            request,
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{}: {} is not JSON: {error}", self.request, self.text()),
        }
    }

    /// The body of an answer that must be a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(
            self.status.is_success(),
            "{}: {} {}",
            self.request,
            self.status,
            self.text()
        );
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn with_status(&self, status: u16) -> Value {
        assert_eq!(
            self.status.as_u16(),
            status,
            "{}: {}",
            self.request,
            self.text()
        );
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// The problem document of an answer that must be one, with its status and code.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.with_status(status);
        assert_eq!(
            self.headers["content-type"], "application/problem+json",
            "{}",
            self.request
        );
        assert_eq!(body["code"], code, "{}: {body}", self.request);
        assert_eq!(body["status"], status, "{}: {body}", self.request);
        assert_eq!(
            body["type"],
            format!("https://flywheel.dev/errors/{code}"),
            "{}",
            self.request
        );
        for member in ["title", "detail"] {
            let text = body[member].as_str().unwrap_or_default();
            assert!(
                !text.is_empty(),
                "{}: no `{member}` in {body}",
                self.request
            );
        }
        body
    }

    /// A problem document whose detail contains a text, and which has a hint if that is demanded.
    #[track_caller]
    pub(crate) fn problem_saying(&self, status: u16, code: &str, part: &str) -> Value {
        let body = self.problem(status, code);
        let detail = body["detail"].as_str().unwrap();
        assert!(
            detail.contains(part),
            "{}: `{part}` is not in `{detail}`",
            self.request
        );
        body
    }

    /// The error in OpenAI's form, with its status and code.
    #[track_caller]
    pub(crate) fn openai_error(&self, status: u16, code: &str) -> Value {
        let body = self.with_status(status);
        let error = &body["error"];
        assert_eq!(error["code"], code, "{}: {body}", self.request);
        for member in ["message", "type"] {
            let text = error[member].as_str().unwrap_or_default();
            assert!(
                !text.is_empty(),
                "{}: no `{member}` in {body}",
                self.request
            );
        }
        error.clone()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
