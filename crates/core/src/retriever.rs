//! Retriever indexes: what a manifest's `retriever_index_version` refers to, and whether it is still there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{RetrieverName, VersionName};

/// A registered version of a retriever index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RetrieverIndex {
    /// The version, unique among all indexes, as manifests name it.
    pub version: VersionName,
    /// The index it is a version of.
    pub index: RetrieverName,
    /// Whether it can still be read.
    #[serde(flatten)]
    pub state: IndexState,
    /// When it was registered.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
}

/// Whether a version of an index can still be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum IndexState {
    /// It can be read.
    Available,
    /// Its content has moved into a newer version, and it can no longer be read itself.
    MigratedForward {
        /// The version that has the content now.
        to: VersionName,
    },
    /// It is gone.
    Dropped,
}
