//! Manifests: the deployable unit, five ids and the version of its guards, identified by its hash.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hash::{self, ContentHash};
use crate::name::{ModelName, PromptName, VersionName};
use crate::prompt::PromptVersionId;

/// Identifies a manifest: the hash of its members.
pub type ManifestId = ContentHash;

/// What is deployed. The model is the one named in the prompt version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model.
    pub model_id: ModelName,
    /// Its version.
    pub model_version: VersionName,
    /// The prompt.
    pub prompt_id: PromptName,
    /// Its version.
    pub prompt_version: PromptVersionId,
    /// The version of the retriever index the app is to read, for apps that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retriever_index_version: Option<VersionName>,
    /// The version of the soft-failure guards, for apps that have some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guards_version: Option<VersionName>,
}

impl Manifest {
    /// The manifest as JSON, absent members left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        hash::without_nulls(serde_json::to_value(self).unwrap_or_default(), &[])
    }

    /// The manifest's identity.
    #[must_use]
    pub fn id(&self) -> ManifestId {
        ContentHash::of_json(&self.to_json())
    }

    /// The members as `(name, value)` in a fixed order, for differences and tables.
    #[must_use]
    pub fn members(&self) -> [(&'static str, Option<String>); 6] {
        [
            ("model_id", Some(self.model_id.to_string())),
            ("model_version", Some(self.model_version.to_string())),
            ("prompt_id", Some(self.prompt_id.to_string())),
            ("prompt_version", Some(self.prompt_version.to_string())),
            (
                "retriever_index_version",
                self.retriever_index_version
                    .as_ref()
                    .map(ToString::to_string),
            ),
            (
                "guards_version",
                self.guards_version.as_ref().map(ToString::to_string),
            ),
        ]
    }
}

/// A member of a manifest that an app can demand beyond the four that every manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum RequiredMember {
    /// The app reads a retriever index.
    RetrieverIndexVersion,
    /// The app's answers are checked by guards.
    GuardsVersion,
}

impl RequiredMember {
    /// The member's name in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetrieverIndexVersion => "retriever_index_version",
            Self::GuardsVersion => "guards_version",
        }
    }

    /// Whether a manifest has the member.
    #[must_use]
    pub fn is_present(self, manifest: &Manifest) -> bool {
        match self {
            Self::RetrieverIndexVersion => manifest.retriever_index_version.is_some(),
            Self::GuardsVersion => manifest.guards_version.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            model_id: "gpt-4o-mini".parse().unwrap(),
            model_version: "2024-07-18".parse().unwrap(),
            prompt_id: "summary".parse().unwrap(),
            prompt_version: ContentHash::of_bytes(b"x"),
            retriever_index_version: None,
            guards_version: None,
        }
    }

    #[test]
    fn absent_and_null_are_the_same_manifest() {
        let mut json = manifest().to_json();
        json["guards_version"] = Value::Null;
        let read: Manifest = serde_json::from_value(json).unwrap();
        assert_eq!(read.id(), manifest().id());
    }

    #[test]
    fn each_member_changes_the_identity() {
        let index = Manifest {
            retriever_index_version: Some("7".parse().unwrap()),
            ..manifest()
        };
        let guards = Manifest {
            guards_version: Some("7".parse().unwrap()),
            ..manifest()
        };
        assert_ne!(index.id(), manifest().id());
        assert_ne!(index.id(), guards.id());
    }
}
