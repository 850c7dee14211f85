//! What operations ask: is it alive, is it ready, what does it measure.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};

use crate::context::Context;

/// `GET /healthz`: the process answers.
pub async fn get_health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the store answers too.
pub async fn get_readiness(State(context): State<Context>) -> Response {
    match context.state.revision().await {
        Ok(_) => "ready\n".into_response(),
        Err(error) => {
            tracing::warn!(error.message = %error, "not ready");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the store does not answer\n",
            )
                .into_response()
        }
    }
}

/// `GET /metrics`
pub async fn get_metrics(State(context): State<Context>) -> Response {
    match &context.metrics {
        Some(metrics) => (
            [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
            metrics.render(),
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
