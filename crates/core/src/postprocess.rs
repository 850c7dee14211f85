//! What is done to an answer's text before it leaves: a small pipeline declared with the prompt.

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One step, applied to the text that the step before it left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum PostProcess {
    /// Removes white space at both ends.
    Trim,
    /// Takes the inside of a Markdown code fence, if the text is or holds one.
    StripCodeFences,
    /// Keeps what a regular expression finds: its group `1` if it has one, else the whole match.
    Extract {
        /// The expression, in the syntax of the Rust `regex` crate.
        pattern: String,
    },
    /// Parses the text as JSON and writes it back in compact form, checked against a schema if there is one.
    Json {
        /// The JSON Schema that the value must satisfy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schema: Option<Value>,
    },
}

/// Why a step cannot be prepared, or an answer does not pass it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostProcessError {
    /// The pattern does not compile.
    #[error("pattern `{pattern}` is not a valid regular expression: {problem}")]
    Pattern {
        /// The pattern as it was given.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The schema does not compile.
    #[error("the JSON Schema is not valid: {0}")]
    Schema(String),
    /// The pattern matches nowhere in the answer.
    #[error("pattern `{0}` does not match the answer")]
    NoMatch(String),
    /// The answer is not JSON.
    #[error("the answer is not valid JSON: {0}")]
    NotJson(String),
    /// The answer is JSON and breaks the schema.
    #[error("the answer does not satisfy its schema: {0}")]
    Violation(String),
}

/// A step with its expression or schema compiled.
#[derive(Debug)]
pub enum PreparedStep {
    /// See [`PostProcess::Trim`].
    Trim,
    /// See [`PostProcess::StripCodeFences`].
    StripCodeFences,
    /// See [`PostProcess::Extract`].
    Extract(Regex),
    /// See [`PostProcess::Json`].
    Json(Option<Box<jsonschema::Validator>>),
}

impl PostProcess {
    /// Compiles the step.
    ///
    /// # Errors
    /// When its pattern or schema is not valid.
    pub fn prepare(&self) -> Result<PreparedStep, PostProcessError> {
        Ok(match self {
            Self::Trim => PreparedStep::Trim,
            Self::StripCodeFences => PreparedStep::StripCodeFences,
            Self::Extract { pattern } => {
                PreparedStep::Extract(Regex::new(pattern).map_err(|error| {
                    PostProcessError::Pattern {
                        pattern: pattern.clone(),
                        problem: last_line(&error.to_string()),
                    }
                })?)
            }
            Self::Json { schema: None } => PreparedStep::Json(None),
            Self::Json {
                schema: Some(schema),
            } => PreparedStep::Json(Some(Box::new(
                jsonschema::validator_for(schema)
                    .map_err(|error| PostProcessError::Schema(error.to_string()))?,
            ))),
        })
    }
}

impl PreparedStep {
    /// Applies the step to a text.
    ///
    /// # Errors
    /// When the answer does not have what the step demands.
    pub fn apply(&self, text: String) -> Result<String, PostProcessError> {
        match self {
            Self::Trim => Ok(text.trim().to_owned()),
            Self::StripCodeFences => Ok(inside_code_fence(&text).unwrap_or(&text).to_owned()),
            Self::Extract(pattern) => {
                let found = pattern
                    .captures(&text)
                    .ok_or_else(|| PostProcessError::NoMatch(pattern.as_str().to_owned()))?;
                Ok(found
                    .get(1)
                    .or(found.get(0))
                    .map_or("", |part| part.as_str())
                    .to_owned())
            }
            Self::Json(schema) => {
                let value: Value = serde_json::from_str(&text)
                    .map_err(|error| PostProcessError::NotJson(error.to_string()))?;
                if let Some(error) = schema
                    .as_ref()
                    .and_then(|schema| schema.iter_errors(&value).next())
                {
                    let path = error.instance_path().to_string();
                    let at = if path.is_empty() {
                        String::new()
                    } else {
                        format!(" (at `{path}`)")
                    };
                    return Err(PostProcessError::Violation(format!("{error}{at}")));
                }
                Ok(value.to_string())
            }
        }
    }
}

/// Applies steps in order.
///
/// # Errors
/// The first step that the answer does not pass.
pub fn apply_all(steps: &[PreparedStep], text: String) -> Result<String, PostProcessError> {
    steps.iter().try_fold(text, |text, step| step.apply(text))
}

fn inside_code_fence(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("```")?;
    let (_language, body) = after.split_once('\n')?;
    let (inside, _) = body.split_once("```")?;
    Some(inside.strip_suffix('\n').unwrap_or(inside))
}

fn last_line(text: &str) -> String {
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(steps: Value, text: &str) -> Result<String, String> {
        let steps: Vec<PostProcess> = serde_json::from_value(steps).unwrap();
        let prepared: Vec<_> = steps.iter().map(|step| step.prepare().unwrap()).collect();
        apply_all(&prepared, text.to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn steps() {
        let schema = json!({"type": "object", "required": ["a"]});
        for (steps, text, expected) in [
            (json!([{"step": "trim"}]), " x\n", Ok("x")),
            (
                json!([{"step": "strip_code_fences"}]),
                "Sure:\n```json\n{\"a\": 1}\n```\nBye",
                Ok("{\"a\": 1}"),
            ),
            (
                json!([{"step": "strip_code_fences"}]),
                "no ``` fence",
                Ok("no ``` fence"),
            ),
            (
                json!([{"step": "extract", "pattern": "Answer: (\\w+)"}]),
                "Answer: yes.",
                Ok("yes"),
            ),
            (
                json!([{"step": "extract", "pattern": "\\d+"}]),
                "about 42 of 50",
                Ok("42"),
            ),
            (
                json!([{"step": "extract", "pattern": "\\d+"}]),
                "none",
                Err("pattern `\\d+` does not match the answer"),
            ),
            (
                json!([{"step": "strip_code_fences"}, {"step": "json", "schema": schema}]),
                "```\n{ \"a\": [1] }\n```",
                Ok("{\"a\":[1]}"),
            ),
            (
                json!([{"step": "json", "schema": schema}]),
                "{}",
                Err("the answer does not satisfy its schema: \"a\" is a required property"),
            ),
            (
                json!([{"step": "json"}]),
                "{",
                Err("the answer is not valid JSON: EOF while parsing an object at line 1 column 1"),
            ),
        ] {
            assert_eq!(
                run(steps, text).as_deref().map_err(String::as_str),
                expected,
                "{text}"
            );
        }
    }
}
