//! Feedback as it is sent.
//!
//! It is read as the members of all kinds together, so that a member which its kind does not have is refused. Read by
//! kind, it would be dropped: a comment sent along with thumbs would be lost, and its sender told that all is stored.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{FeedbackBody, FeedbackKind, InvalidFeedback, RatingScale};
use crate::name::AppName;

/// One piece of feedback as it came.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewFeedback {
    /// The same id on the same call again changes nothing; drawn here if absent.
    pub id: Option<String>,
    /// The call it is about.
    pub call_id: String,
    /// The app that logged it under that id.
    pub app: Option<AppName>,
    /// Who says it.
    pub author: Option<String>,
    /// When it was said; now if absent.
    pub created_at: Option<Timestamp>,
    kind: FeedbackKind,
    value: Option<Value>,
    scale: Option<RatingScale>,
    text: Option<String>,
    name: Option<String>,
}

impl FeedbackKind {
    /// Whether feedback of this kind has a member.
    fn has(self, member: &str) -> bool {
        match self {
            Self::Thumbs => member == "value",
            Self::Rating => matches!(member, "value" | "scale"),
            Self::Comment | Self::Correction => member == "text",
            Self::Outcome => matches!(member, "name" | "value"),
        }
    }
}

impl NewFeedback {
    /// What it says.
    ///
    /// # Errors
    /// When a member of its kind is missing or of another type, or there is one that its kind does not have.
    pub fn body(&mut self) -> Result<FeedbackBody, InvalidFeedback> {
        let kind = self.kind;
        for (member, given) in [
            ("value", self.value.is_some()),
            ("scale", self.scale.is_some()),
            ("text", self.text.is_some()),
            ("name", self.name.is_some()),
        ] {
            if given && !kind.has(member) {
                return Err(InvalidFeedback::Foreign {
                    kind: kind.as_str(),
                    member,
                    what_to_do: match (member, kind) {
                        ("text", _) => {
                            "; send the words as a piece of their own, of kind `comment`"
                        }
                        ("value", _) => "; its words are in `text`",
                        _ => "",
                    },
                });
            }
        }
        let text = |text: Option<String>| text.ok_or_else(|| missing(kind, "text"));
        Ok(match kind {
            FeedbackKind::Thumbs => FeedbackBody::Thumbs {
                value: match self.value.take() {
                    Some(Value::Bool(value)) => value,
                    Some(other) => return Err(wrong(kind, &other, "true or false")),
                    None => return Err(missing(kind, "value")),
                },
            },
            FeedbackKind::Rating => FeedbackBody::Rating {
                value: match self.value.take() {
                    Some(Value::Number(value)) => value.as_f64().unwrap_or(f64::NAN),
                    Some(other) => return Err(wrong(kind, &other, "a number")),
                    None => return Err(missing(kind, "value")),
                },
                scale: self.scale.unwrap_or_default(),
            },
            FeedbackKind::Comment => FeedbackBody::Comment {
                text: text(self.text.take())?,
            },
            FeedbackKind::Correction => FeedbackBody::Correction {
                text: text(self.text.take())?,
            },
            FeedbackKind::Outcome => FeedbackBody::Outcome {
                name: self.name.take().ok_or_else(|| missing(kind, "name"))?,
                value: match self.value.take() {
                    Some(Value::Number(value)) => value.as_f64().unwrap_or(f64::NAN),
                    Some(Value::Bool(value)) => f64::from(u8::from(value)),
                    Some(other) => return Err(wrong(kind, &other, "a number, true or false")),
                    None => return Err(missing(kind, "value")),
                },
            },
        })
    }
}

fn missing(kind: FeedbackKind, member: &'static str) -> InvalidFeedback {
    InvalidFeedback::Missing(kind.as_str(), member)
}

fn wrong(kind: FeedbackKind, found: &Value, expected: &'static str) -> InvalidFeedback {
    InvalidFeedback::Value {
        kind: kind.as_str(),
        expected,
        found: found.to_string().chars().take(60).collect(),
    }
}

/// What clients are told: each kind with the members it has.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(rename = "NewFeedback")]
#[expect(dead_code, reason = "it is read for its schema alone")]
struct Described {
    /// The same id on the same call again changes nothing; drawn here if absent.
    id: Option<String>,
    /// The call it is about: the `id` of the answer, or the id under which an app logged it.
    call_id: String,
    /// The app that logged it under that id.
    app: Option<AppName>,
    #[schemars(flatten)]
    body: FeedbackBody,
    /// Who says it.
    author: Option<String>,
    /// When it was said; now if absent.
    #[schemars(with = "Option<crate::schema::DateTime>")]
    created_at: Option<Timestamp>,
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for NewFeedback {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Described::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = Described::json_schema(generator);
        schema.insert("unevaluatedProperties".into(), false.into());
        schema
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<FeedbackBody, String> {
        let mut sent: NewFeedback =
            serde_json::from_value(body).map_err(|error| error.to_string())?;
        sent.body().map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_has_its_own_members() {
        for (body, expected) in [
            (json!({"kind": "thumbs", "value": true}), ""),
            (
                json!({"kind": "outcome", "name": "escalated", "value": false}),
                "",
            ),
            (
                json!({"kind": "outcome", "name": "handle_time", "value": 12.5}),
                "",
            ),
            (
                json!({"kind": "thumbs", "value": null}),
                "`value` is missing",
            ),
            (
                json!({"kind": "thumbs", "value": true, "comment": "slow"}),
                "unknown field `comment`",
            ),
            (
                json!({"kind": "thumbs", "value": true, "text": "slow"}),
                "feedback of kind `thumbs` has no `text`; send the words",
            ),
            (
                json!({"kind": "thumbs", "value": true, "scale": {"min": 0, "max": 1}}),
                "feedback of kind `thumbs` has no `scale`",
            ),
            (
                json!({"kind": "comment", "text": "x", "value": 1}),
                "feedback of kind `comment` has no `value`",
            ),
            (
                json!({"kind": "rating", "value": 4, "name": "x"}),
                "feedback of kind `rating` has no `name`",
            ),
            (
                json!({"kind": "thumbs", "value": 1}),
                "`value` of kind `thumbs` must be true or false, not `1`",
            ),
            (
                json!({"kind": "rating", "value": "5"}),
                "`value` of kind `rating` must be a number, not `\"5\"`",
            ),
            (
                json!({"kind": "outcome", "name": "done", "value": "yes"}),
                "`value` of kind `outcome` must be a number, true or false, not `\"yes\"`",
            ),
            (json!({"kind": "outcome", "value": 1}), "`name` is missing"),
            (json!({"kind": "correction"}), "`text` is missing"),
            (json!({"kind": "applause"}), "unknown variant `applause`"),
            (json!({"value": true}), "missing field `kind`"),
        ] {
            let mut sent = body.clone();
            sent["call_id"] = json!("c");
            match read(sent) {
                Ok(_) if expected.is_empty() => {}
                Err(error) if !expected.is_empty() && error.starts_with(expected) => {}
                other => panic!("{body}: {other:?}"),
            }
        }
    }
}
