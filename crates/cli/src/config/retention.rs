//! `[retention]`: how long calls and feedback are kept.

use serde::Deserialize;

use super::ConfigDuration;

/// Retention. What is left out sets no bound.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retention {
    /// Calls and feedback older than this are removed.
    pub(crate) age: Option<ConfigDuration>,
    /// The oldest calls and feedback are removed when the store holds more bytes than this.
    pub(crate) bytes: Option<u64>,
}
