//! `[rehearsal]`: how often the way back is rehearsed.

use serde::Deserialize;

use super::ConfigDuration;

/// Rehearsal. Without `every`, only `flywheel rehearse` rehearses.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rehearsal {
    /// How often every app's last manifests are checked.
    pub(crate) every: Option<ConfigDuration>,
    /// Whether each is to answer a real call, which costs what a call costs.
    pub(crate) probe: bool,
}
