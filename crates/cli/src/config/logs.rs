//! `[log]`: how the server logs.

use serde::Deserialize;

/// The log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    /// `text` for people, `json` for machines.
    pub(crate) format: LogFormat,
    /// What is logged, such as `info` or `warn,flywheel_gateway=debug`; `FLYWHEEL_LOG` goes before it.
    pub(crate) filter: Option<String>,
}

/// See [`Logs::format`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}
