//! `[limits]`: what the server takes at a time.

use std::num::{NonZeroU32, NonZeroUsize};

use flywheel_gateway::GatewayOptions;
use serde::Deserialize;

use super::ConfigDuration;

/// Limits. What is left out has the value shown by `Default`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The largest body of a request, in bytes.
    pub(crate) body_bytes: usize,
    /// Calls at a time.
    pub(crate) concurrent_calls: NonZeroUsize,
    /// Calls that may wait for a place; beyond them the answer is 429.
    pub(crate) queued_calls: usize,
    /// How long a call may wait for a place.
    pub(crate) queue_wait: ConfigDuration,
    /// How long the client of a stream may take nothing of it before it counts as gone.
    pub(crate) client_wait: ConfigDuration,
    /// Bytes of requests that calls may hold at a time; beyond them the answer is 429.
    pub(crate) request_bytes: usize,
    /// Requests each key may make in a second; no limit if left out.
    pub(crate) requests_per_second: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        let gateway = GatewayOptions::default();
        Self {
            body_bytes: 20 << 20,
            concurrent_calls: NonZeroUsize::new(gateway.concurrent_calls)
                .unwrap_or(NonZeroUsize::MIN),
            queued_calls: gateway.queued_calls,
            queue_wait: ConfigDuration(gateway.longest_queue_wait),
            client_wait: ConfigDuration(gateway.client_wait),
            request_bytes: gateway.request_bytes,
            requests_per_second: None,
        }
    }
}
