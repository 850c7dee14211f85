//! Names that people choose, each checked once, where it enters.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that breaks the rule for its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{name}` is not valid: {rule}")]
pub struct InvalidName {
    /// What the name was for, such as `app`.
    pub kind: &'static str,
    /// The name as it came, cut to a length fit for a message.
    pub name: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

const RULE: &str =
    "use 1 to 128 letters, digits, `.`, `_` or `-`, beginning with a letter or a digit";
const RULE_WITH_SLASH: &str =
    "use 1 to 128 letters, digits, `.`, `_`, `-`, `:` or `/`, beginning with a letter or a digit";

/// How many bytes a name may have.
pub(crate) const LONGEST: usize = 128;

fn is_valid(name: &str, further: &[u8]) -> bool {
    (1..=LONGEST).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || further.contains(&byte))
}

macro_rules! name_type {
    ($(#[doc = $doc:literal])* $type:ident, $kind:literal, $further:literal, $rule:expr) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks a name.
            ///
            /// # Errors
            /// When the name is empty, too long, or has a character that names may not have.
            pub fn new(name: &str) -> Result<Self, InvalidName> {
                if is_valid(name, $further) {
                    Ok(Self(name.into()))
                } else {
                    let name = name.chars().take(140).collect();
                    Err(InvalidName { kind: $kind, name, rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, formatter)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&name).map_err(D::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::schema::name(concat!($($doc),*), $further)
            }
        }
    };
}

name_type!(
    /// The name of an app, one LLM feature.
    AppName, "app", b"._-", RULE
);
name_type!(
    /// The name of an app's environment, such as `production`.
    EnvironmentName, "environment", b"._-", RULE
);
name_type!(
    /// The name of a prompt, under which its versions are kept.
    PromptName, "prompt", b"._-:/", RULE_WITH_SLASH
);
name_type!(
    /// The name of a registered model.
    ModelName, "model", b"._-:/", RULE_WITH_SLASH
);
name_type!(
    /// The version of a model, of a retriever index or of a set of guards.
    VersionName, "version", b"._-:/", RULE_WITH_SLASH
);
name_type!(
    /// The name of a provider in the configuration.
    ProviderName, "provider", b"._-", RULE
);
name_type!(
    /// The name of a retriever index.
    RetrieverName, "retriever index", b"._-:/", RULE_WITH_SLASH
);
name_type!(
    /// The name of an experiment or of one of its arms.
    ExperimentName, "experiment", b"._-", RULE
);
name_type!(
    /// The name of an experiment's arm.
    ArmName, "arm", b"._-", RULE
);
name_type!(
    /// The name of a metric.
    MetricName, "metric", b"._-", RULE
);
name_type!(
    /// A label that people put on a prompt version.
    Label, "label", b"._-:/", RULE_WITH_SLASH
);

/// The name that a person probably meant by one that is not known.
#[must_use]
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    // A longer word is no slip of the finger, and comparing it would take time.
    (typed.len() <= 40)
        .then(|| similar::get_close_matches(typed, known, 1, 0.6))?
        .first()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (name, valid) in [
            ("support-summarizer", true),
            ("A.b_c-9", true),
            ("", false),
            ("-a", false),
            ("a b", false),
            ("a/b", false),
            ("naïve", false),
            (&"a".repeat(128), true),
            (&"a".repeat(129), false),
        ] {
            assert_eq!(AppName::new(name).is_ok(), valid, "{name}");
        }
        assert!(PromptName::new("team/summary:v2").is_ok());
        let error = AppName::new("a b").unwrap_err().to_string();
        assert!(
            error.starts_with("app `a b` is not valid: use 1 to 128"),
            "{error}"
        );
    }
}
