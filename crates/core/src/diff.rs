//! Differences between two prompt versions and between two manifests, by meaning and not by spelling.
//!
//! Messages are aligned before they are compared, tools are compared by name, texts by line and inside of changed
//! lines by word. The result suits JSON as well as a page or a terminal.

mod json_values;
mod messages;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::manifest::Manifest;
use crate::prompt::PromptContent;

pub use text::{DiffLine, DiffLineKind, Span, diff_texts};

/// What differs between two prompt versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PromptDiff {
    /// The changes, in the order of the fields in a prompt.
    pub changes: Vec<Change>,
}

impl PromptDiff {
    /// Whether both are the same content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Change {
    /// The field's path, such as `params.temperature`, `messages[1].content` or `tools.look_up.function.strict`.
    /// Messages are counted as in the newer version, removed ones as in the older; tools go by name.
    pub field: String,
    /// The older value; absent if the field was added.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub before: Option<Value>,
    /// The newer value; absent if the field was removed.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub after: Option<Value>,
    /// For texts, the difference line by line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Vec<DiffLine>>,
}

/// Reads null as a value that is there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A member of a manifest that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MemberChange {
    /// The member, such as `prompt_version`.
    pub member: String,
    /// The older value, if it had one.
    pub before: Option<String>,
    /// The newer value, if it has one.
    pub after: Option<String>,
}

/// What differs between the content of an older and a newer prompt version.
#[must_use]
pub fn diff_prompts(before: &PromptContent, after: &PromptContent) -> PromptDiff {
    let mut changes = Vec::new();
    let scalars = |content: &PromptContent| {
        [
            ("model_id", json!(content.model_id)),
            ("model_version", json!(content.model_version)),
            ("template_format", json!(content.template_format)),
        ]
    };
    for ((field, older), (_, newer)) in scalars(before).iter().zip(&scalars(after)) {
        json_values::compare(field, Some(older), Some(newer), &mut changes);
    }
    messages::compare(&before.messages, &after.messages, &mut changes);
    let (older, newer) = (before.to_json(), after.to_json());
    json_values::compare_members("params", &older["params"], &newer["params"], &mut changes);
    json_values::compare_tools(&older["tools"], &newer["tools"], &mut changes);
    for field in ["tool_choice", "response_format"] {
        json_values::compare(field, older.get(field), newer.get(field), &mut changes);
    }
    let field = "postprocess";
    json_values::compare_items(field, &older[field], &newer[field], &mut changes);
    let field = "variables_schema";
    json_values::compare(field, older.get(field), newer.get(field), &mut changes);
    PromptDiff { changes }
}

/// The members in which two manifests differ, in the order of [`Manifest::members`].
#[must_use]
pub fn diff_manifests(before: &Manifest, after: &Manifest) -> Vec<MemberChange> {
    before
        .members()
        .into_iter()
        .zip(after.members())
        .filter(|((_, before), (_, after))| before != after)
        .map(|((member, before), (_, after))| MemberChange {
            member: member.to_owned(),
            before,
            after,
        })
        .collect()
}

#[cfg(test)]
mod tests;
