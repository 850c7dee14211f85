//! The path of a request: through the gateway to a fake provider and back, with a fake store.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, not the functions beside them"
)]

mod app;
mod clock;
mod collect;
mod store;

mod admission;
mod experiments;
mod fallback;
mod formats;
mod gone;
mod idempotency;
mod postprocessing;
mod redaction;
mod retries;
mod store_failures;
mod streamed;
mod timeouts;
mod whole;
