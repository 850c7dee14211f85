//! What operations ask: is it alive, is it ready, what does it measure.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use crate::context::Context;
use crate::openapi::{Answer, Operation};

const METRICS_TYPE: &str = "text/plain; version=0.0.4";

/// `GET /healthz`: the process answers.
pub async fn get_health() -> &'static str {
    "ok\n"
}

/// Whether the store answers.
pub struct Readiness(bool);

/// `GET /readyz`: the store answers too.
pub async fn get_readiness(State(context): State<Context>) -> Readiness {
    let revision = context.state.revision().await;
    if let Err(error) = &revision {
        tracing::warn!(error.message = %error, "not ready");
    }
    Readiness(revision.is_ok())
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        if self.0 {
            "ready\n".into_response()
        } else {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            (status, "the store does not answer\n").into_response()
        }
    }
}

impl Answer for Readiness {
    fn describe(operation: &mut Operation<'_>) {
        for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE] {
            operation.answer(status, &[("text/plain", json!({"type": "string"}))]);
        }
    }
}

/// The metrics in Prometheus's text format, if they are measured.
pub struct Metrics(Option<String>);

/// `GET /metrics`
pub async fn get_metrics(State(context): State<Context>) -> Metrics {
    Metrics(context.metrics.as_ref().map(|metrics| metrics.render()))
}

impl IntoResponse for Metrics {
    fn into_response(self) -> Response {
        match self.0 {
            Some(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl Answer for Metrics {
    fn describe(operation: &mut Operation<'_>) {
        let text = json!({"type": "string"});
        operation.answer(StatusCode::OK, &[(METRICS_TYPE, text)]);
        operation.answer(StatusCode::NOT_FOUND, &[]);
    }
}
