//! Feedback: what a person or an app says of a call afterwards. How it is sent is in [`sent`].

pub mod sent;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One piece of feedback as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Feedback {
    /// Its id; the same id again changes nothing.
    pub id: String,
    /// The call it is about, which may not be known yet.
    pub call_id: String,
    /// What is said.
    #[serde(flatten)]
    pub body: FeedbackBody,
    /// Who says it, if the app tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// When it was said.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
}

/// What is said of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeedbackBody {
    /// Up or down.
    Thumbs {
        /// Whether it was up.
        value: bool,
    },
    /// A grade on a scale.
    Rating {
        /// The grade.
        value: f64,
        /// The scale's ends, 1 to 5 unless declared.
        #[serde(default)]
        scale: RatingScale,
    },
    /// Words.
    Comment {
        /// The words.
        text: String,
    },
    /// The answer as it should have been.
    Correction {
        /// The edited output.
        text: String,
    },
    /// What came of it: `task_completed`, `escalated`, `handle_time`.
    Outcome {
        /// The outcome's name.
        name: String,
        /// Its value; yes and no are 1 and 0.
        #[cfg_attr(
            feature = "schema",
            schemars(schema_with = "crate::schema::number_or_bool")
        )]
        value: f64,
    },
}

/// The kinds of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FeedbackKind {
    /// Up or down.
    Thumbs,
    /// A grade on a scale.
    Rating,
    /// Words.
    Comment,
    /// The answer as it should have been.
    Correction,
    /// What came of it.
    Outcome,
}

impl FeedbackKind {
    /// The kind as records spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Thumbs => "thumbs",
            Self::Rating => "rating",
            Self::Comment => "comment",
            Self::Correction => "correction",
            Self::Outcome => "outcome",
        }
    }
}

/// The ends of a rating's scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RatingScale {
    /// The worst grade.
    pub min: f64,
    /// The best grade.
    pub max: f64,
}

impl Default for RatingScale {
    fn default() -> Self {
        Self { min: 1.0, max: 5.0 }
    }
}

/// Why feedback is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidFeedback {
    /// An id is missing or too long.
    #[error("`{0}` must have 1 to {1} characters")]
    Id(&'static str, usize),
    /// A member that the kind must have.
    #[error("`{1}` is missing, which feedback of kind `{0}` must have")]
    Missing(&'static str, &'static str),
    /// A member that belongs to other kinds.
    #[error("feedback of kind `{kind}` has no `{member}`{what_to_do}")]
    Foreign {
        /// The kind.
        kind: &'static str,
        /// The member.
        member: &'static str,
        /// How to say it instead.
        what_to_do: &'static str,
    },
    /// A value of another type than the kind's.
    #[error("`value` of kind `{kind}` must be {expected}, not `{found}`")]
    Value {
        /// The kind.
        kind: &'static str,
        /// What values it has.
        expected: &'static str,
        /// The value, shortened.
        found: String,
    },
    /// A grade outside its scale.
    #[error(
        "rating `{value}` lies outside its scale from {min} to {max}; declare another with `scale`"
    )]
    Rating {
        /// The grade.
        value: f64,
        /// The scale's lower end.
        min: f64,
        /// The scale's upper end.
        max: f64,
    },
    /// A scale without extent.
    #[error("the scale's `min` must lie below its `max`")]
    Scale,
    /// Text that is empty or too long.
    #[error("`text` must have 1 to {LONGEST_TEXT} bytes")]
    Text,
    /// An outcome that is no number.
    #[error("outcome `{0}` must be true, false or a number between -1e100 and 1e100")]
    Outcome(String),
}

/// The longest comment or correction, in bytes.
pub const LONGEST_TEXT: usize = 1 << 20;

impl FeedbackBody {
    /// The kind as records spell it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        let kind = match self {
            Self::Thumbs { .. } => FeedbackKind::Thumbs,
            Self::Rating { .. } => FeedbackKind::Rating,
            Self::Comment { .. } => FeedbackKind::Comment,
            Self::Correction { .. } => FeedbackKind::Correction,
            Self::Outcome { .. } => FeedbackKind::Outcome,
        };
        kind.as_str()
    }

    /// What is counted together: the kind, and the name where one kind has several.
    #[must_use]
    pub fn series(&self) -> String {
        match self {
            Self::Outcome { name, .. } => format!("outcome:{name}"),
            other => other.kind().to_owned(),
        }
    }

    /// The number in it, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Thumbs { value } => Some(f64::from(u8::from(*value))),
            Self::Rating { value, .. } | Self::Outcome { value, .. } => Some(*value),
            Self::Comment { .. } | Self::Correction { .. } => None,
        }
    }

    /// The words in it, if there are some.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Comment { text } | Self::Correction { text } => Some(text),
            _ => None,
        }
    }

    /// Checks ranges and lengths.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidFeedback> {
        match self {
            Self::Thumbs { .. } => Ok(()),
            Self::Rating {
                value,
                scale: RatingScale { min, max },
            } => {
                if !(min.is_finite() && max.is_finite() && min < max) {
                    return Err(InvalidFeedback::Scale);
                }
                if !(*min..=*max).contains(value) {
                    return Err(InvalidFeedback::Rating {
                        value: *value,
                        min: *min,
                        max: *max,
                    });
                }
                Ok(())
            }
            Self::Comment { text } | Self::Correction { text } => {
                if text.is_empty() || text.len() > LONGEST_TEXT {
                    return Err(InvalidFeedback::Text);
                }
                Ok(())
            }
            Self::Outcome { name, value } => {
                if name.is_empty() || name.len() > LONGEST_ID {
                    return Err(InvalidFeedback::Id("name", LONGEST_ID));
                }
                if !(-LARGEST_OUTCOME..=LARGEST_OUTCOME).contains(value) {
                    return Err(InvalidFeedback::Outcome(name.clone()));
                }
                Ok(())
            }
        }
    }
}

/// Beyond this sums of squares over many units, and with them variances, are more than a number holds.
pub const LARGEST_OUTCOME: f64 = 1e100;

/// How long an id that a sender chooses may be.
const LONGEST_ID: usize = 200;

impl Feedback {
    /// Checks ids and content.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidFeedback> {
        // The id of a logged call may have the name of its app before what its sender chose.
        let longest_call_id = LONGEST_ID + 1 + crate::name::LONGEST;
        for (name, id, longest) in [
            ("id", &self.id, LONGEST_ID),
            ("call_id", &self.call_id, longest_call_id),
        ] {
            if id.is_empty() || id.chars().count() > longest {
                return Err(InvalidFeedback::Id(name, longest));
            }
        }
        self.body.check()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(body: Value) -> Result<(), String> {
        let body: FeedbackBody = serde_json::from_value(body).map_err(|error| error.to_string())?;
        body.check().map_err(|error| error.to_string())
    }

    #[test]
    fn ranges_are_checked() {
        for (body, expected) in [
            (json!({"kind": "thumbs", "value": true}), None),
            (json!({"kind": "rating", "value": 5}), None),
            (
                json!({"kind": "rating", "value": 9, "scale": {"min": 0, "max": 10}}),
                None,
            ),
            (
                json!({"kind": "rating", "value": 6}),
                Some("rating `6` lies outside its scale"),
            ),
            (
                json!({"kind": "rating", "value": 1, "scale": {"min": 2, "max": 2}}),
                Some("the scale's"),
            ),
            (
                json!({"kind": "comment", "text": ""}),
                Some("`text` must have"),
            ),
            (
                json!({"kind": "outcome", "name": "escalated", "value": 0}),
                None,
            ),
            (
                json!({"kind": "outcome", "name": "handle_time", "value": 12.5}),
                None,
            ),
            (
                json!({"kind": "outcome", "name": "", "value": 1}),
                Some("`name` must have"),
            ),
            (
                json!({"kind": "applause"}),
                Some("unknown variant `applause`"),
            ),
        ] {
            match (check(body.clone()), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(start)) if error.starts_with(start) => {}
                (other, _) => panic!("{body}: {other:?}"),
            }
        }
    }
}
