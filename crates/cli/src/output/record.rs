//! A view of the server's JSON that reads members without insisting on them: newer and older servers can differ.

use jiff::Timestamp;
use serde_json::Value;

use super::amounts;

/// A JSON object, or anything else, which then has no members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a>(pub(crate) &'a Value);

impl<'a> Record<'a> {
    /// A member that is there and not null.
    pub(crate) fn member(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A member that is an object.
    pub(crate) fn record(self, name: &str) -> Option<Record<'a>> {
        self.member(name)
            .filter(|value| value.is_object())
            .map(Record)
    }

    /// A text member.
    pub(crate) fn optional(self, name: &str) -> Option<&'a str> {
        self.member(name).and_then(Value::as_str)
    }

    /// A text member, empty if it is not there.
    pub(crate) fn text(self, name: &str) -> &'a str {
        self.optional(name).unwrap_or_default()
    }

    /// A member of any type as text, empty if it is not there.
    pub(crate) fn shown(self, name: &str) -> String {
        self.member(name).map_or_else(String::new, plain)
    }

    /// An id, shortened if it is a hash.
    pub(crate) fn short(self, name: &str) -> String {
        amounts::short_id(self.text(name)).to_owned()
    }

    /// A number member.
    pub(crate) fn number(self, name: &str) -> Option<f64> {
        self.member(name).and_then(Value::as_f64)
    }

    /// Whether a member is true.
    pub(crate) fn flag(self, name: &str) -> bool {
        self.member(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A time member.
    pub(crate) fn time(self, name: &str) -> Option<Timestamp> {
        self.optional(name)?.parse().ok()
    }

    /// The items of a list member.
    pub(crate) fn items(self, name: &str) -> impl Iterator<Item = Record<'a>> + use<'a> {
        self.member(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(Record)
    }

    /// The items of a list member as one text.
    pub(crate) fn joined(self, name: &str) -> String {
        let items: Vec<String> = self.items(name).map(|item| plain(item.0)).collect();
        items.join(", ")
    }

    /// `name@ordinal` of the prompt version that a deployment or a version tells of.
    pub(crate) fn prompt_reference(self) -> String {
        let prompt = self.text("prompt");
        let ordinal = self
            .member("prompt_ordinal")
            .or_else(|| self.member("ordinal"));
        match ordinal {
            Some(ordinal) => format!("{prompt}@{}", plain(ordinal)),
            None => prompt.to_owned(),
        }
    }
}

/// Text without its quotes; everything else as JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_is_empty() {
        let value = json!({"a": null, "b": 3, "labels": ["x", "y"], "prompt": "p", "ordinal": 2});
        let record = Record(&value);
        assert_eq!(record.text("a"), "");
        assert_eq!(record.text("b"), "");
        assert_eq!(record.shown("b"), "3");
        assert_eq!(record.joined("labels"), "x, y");
        assert_eq!(record.joined("none"), "");
        assert_eq!(record.prompt_reference(), "p@2");
        assert_eq!(Record(&json!("text")).text("a"), "");
    }
}
