//! Our own API, a file for each resource. Handlers extract, call one operation, and convert.

pub mod apps;
pub mod audit;
pub mod calls;
pub mod deployments;
pub mod experiments;
pub mod feedback;
pub mod health;
pub mod indexes;
pub mod keys;
pub mod manifests;
pub mod models;
pub mod prompts;

use serde::Serialize;
use serde_json::Value;

/// A value as JSON. What we serialise are our own types, which always can be.
fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
