//! The path of a request: from an OpenAI chat completion to a provider and back, recorded before it is acknowledged.
//!
//! [`Gateway`] ties the parts together: [`routing`] says what serves a request, [`provider`] translates and sends it,
//! [`recorder`] stores it. Nothing on this path reads the database, except a request that brings an idempotency key.

pub mod answer;
mod attempts;
pub mod breaker;
pub mod chat;
pub mod clock;
pub mod connect;
pub mod embeddings;
pub mod endpoint;
pub mod error;
mod idempotency;
pub mod limiter;
pub mod plan;
pub mod provider;
mod record;
pub mod recorder;
pub mod request;
pub mod retry;
pub mod routing;
mod run;
pub mod secret;
pub mod sse;
pub mod stream;
#[cfg(feature = "testsuite")]
pub mod testsuite;
pub mod trial;

pub use chat::{Gateway, GatewayOptions};
pub use error::GatewayError;
