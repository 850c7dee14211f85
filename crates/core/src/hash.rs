//! Content hashes: SHA-256 over RFC 8785 canonical JSON, in lower-case hex.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The shortest prefix of a hash that stands for it.
pub const SHORTEST_PREFIX: usize = 12;

/// The SHA-256 of some content, shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

/// A text that is not a content hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a content hash of 64 lower-case hexadecimal digits")]
pub struct InvalidHash(String);

impl ContentHash {
    /// Hashes bytes as they are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes a JSON value in its canonical form.
    ///
    /// Members that are null count as absent; the caller decides with [`without_nulls`] where that holds, because
    /// inside a JSON Schema null is a value like any other.
    #[must_use]
    pub fn of_json(value: &Value) -> Self {
        Self::of_bytes(canonical(value).as_bytes())
    }

    /// The first twelve digits, which is what people see.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(SHORTEST_PREFIX);
        text
    }

    /// The hash as its 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The RFC 8785 form of a JSON value.
#[must_use]
pub fn canonical(value: &Value) -> String {
    // A `Value` has string keys and finite numbers only, which is all that canonicalisation can refuse.
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// The value with every null member of every object removed, except below members named in `opaque`.
#[must_use]
pub fn without_nulls(value: Value, opaque: &[&str]) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| {
                let kept = if opaque.contains(&name.as_str()) {
                    member
                } else {
                    without_nulls(member, opaque)
                };
                (name, kept)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| without_nulls(item, opaque))
            .collect::<Vec<_>>()
            .into(),
        other => other,
    }
}

/// Whether `text` may be the beginning of a hash that a person typed.
#[must_use]
pub fn is_hash_prefix(text: &str) -> bool {
    (SHORTEST_PREFIX..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 64];
        for (position, byte) in self.0.iter().enumerate() {
            text[2 * position] = DIGITS[usize::from(byte >> 4)];
            text[2 * position + 1] = DIGITS[usize::from(byte & 15)];
        }
        formatter.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ContentHash({self})")
    }
}

impl FromStr for ContentHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let invalid = || InvalidHash(text.to_owned());
        if text.len() != 64 || !is_hash_prefix(text) {
            return Err(invalid());
        }
        let mut bytes = [0_u8; 32];
        for (position, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * position..2 * position + 2], 16)
                .map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ContentHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ContentHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The SHA-256 of some content.",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_round_trips() {
        let hash = ContentHash::of_bytes(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.short().len(), 12);
        for wrong in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert!(wrong.parse::<ContentHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn nulls_count_as_absent_outside_opaque_members() {
        let value = json!({"a": null, "b": [{"c": null}], "schema": {"const": null}});
        assert_eq!(
            without_nulls(value, &["schema"]),
            json!({"b": [{}], "schema": {"const": null}})
        );
    }

    #[test]
    fn canonical_form_sorts_members_and_shortens_numbers() {
        assert_eq!(
            canonical(&json!({"b": 1.0, "a": "€"})),
            r#"{"a":"€","b":1}"#
        );
    }
}
