//! The path of a request: through the gateway to a fake provider and back, with a fake store.

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
