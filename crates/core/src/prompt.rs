//! Prompt versions: everything that decides a model's behaviour, identified by its content.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::hash::{self, ContentHash};
use crate::name::{Label, ModelName, PromptName, VersionName};
use crate::postprocess::{PostProcess, PostProcessError};
use crate::template::{CompiledPrompt, TemplateError};

/// Identifies a prompt version: the hash of its [`PromptContent`].
pub type PromptVersionId = ContentHash;

/// Members whose value is a JSON document of its own, in which null is a value and not an absence.
pub(crate) const OPAQUE_MEMBERS: [&str; 3] = ["variables_schema", "parameters", "schema"];

/// What decides the model's behaviour. The hash of this, and nothing else, is the version's identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromptContent {
    /// How `{name}` or `{{ name }}` in the messages is read.
    pub template_format: TemplateFormat,
    /// System prompt, few-shot examples and the user's template, in the order they are sent.
    pub messages: Vec<PromptMessage>,
    /// The registered model that answers.
    pub model_id: ModelName,
    /// The version of that model.
    pub model_version: VersionName,
    /// Sampling parameters.
    #[serde(default, skip_serializing_if = "SamplingParams::is_empty")]
    pub params: SamplingParams,
    /// Tools in OpenAI's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Value>>,
    /// Which tool the model must or may call, in OpenAI's shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<Value>,
    /// The form of the answer, in OpenAI's shape (`{"type": "json_schema", …}`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_format: Option<Value>,
    /// What is done to the answer's text before it leaves, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postprocess: Option<Vec<PostProcess>>,
    /// A JSON Schema that the variables must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables_schema: Option<Value>,
}

/// The two ways of writing a variable into a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TemplateFormat {
    /// `{name}`, with `{{` and `}}` for braces.
    Fstring,
    /// Jinja: `{{ name }}`, `{% if %}`, filters.
    Jinja,
}

/// One message of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromptMessage {
    /// Who speaks.
    pub role: Role,
    /// The text, a template unless `literal` is set.
    pub content: String,
    /// The name of the speaker, for models that tell several apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Sent as it is written: braces in it mean nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub literal: Option<bool>,
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "MessageRole")
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// Instructions to the model, in the newer OpenAI spelling.
    Developer,
    /// The person, or the example of one.
    User,
    /// The model, in few-shot examples.
    Assistant,
}

impl Role {
    /// The role as the wire spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// Sampling parameters. What is absent is left to the provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SamplingParams {
    /// Randomness, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The longest answer, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Texts at which the answer ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// For providers that can repeat an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Further parameters of the provider, such as `reasoning_effort`, sent as they are.
    #[serde(flatten)]
    pub further: BTreeMap<String, Value>,
}

/// Parameters that providers have, under the names they have there.
const WELL_KNOWN_PARAMS: [&str; 26] = [
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "seed",
    "top_k",
    "top_a",
    "min_p",
    "typical_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "length_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "reasoning_effort",
    "max_completion_tokens",
    "min_tokens",
    "parallel_tool_calls",
    "verbosity",
    "service_tier",
    "safe_prompt",
    "prompt_cache_key",
    "safety_identifier",
];

impl SamplingParams {
    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Further parameters whose names are likely slips of the finger, each with the one that was probably meant. They may
    /// also be a provider's own, so they are no mistakes.
    #[must_use]
    pub fn probably_misspelt(&self) -> Vec<(&str, &'static str)> {
        /// Shorter names are near each other too often: `top_a` is one, and `top_p` another.
        const SHORTEST: usize = 6;
        let is_known = |name: &&String| WELL_KNOWN_PARAMS.contains(&name.as_str());
        let unknown = self.further.keys().filter(|name| !is_known(name));
        unknown
            .filter(|name| name.len() >= SHORTEST)
            .filter_map(|name| {
                let meant = crate::name::nearest(&name.to_lowercase(), &WELL_KNOWN_PARAMS)?;
                let apart = name.len().abs_diff(meant.len());
                (apart <= 2).then_some((name.as_str(), meant))
            })
            .collect()
    }
}

/// A registered prompt version with what is known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptVersion {
    /// The prompt it is a version of.
    pub prompt: PromptName,
    /// Its identity.
    pub version: PromptVersionId,
    /// 1, 2, 3… in order of registration; an alias, never an identity.
    pub ordinal: u64,
    /// Who registered it.
    pub author: String,
    /// What changed and why.
    pub description: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Labels people put on it.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// The content itself.
    pub content: PromptContent,
}

/// One score that an evaluation gave to a prompt version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EvaluationScore {
    /// What was measured, such as `exact_match`.
    pub metric: String,
    /// The value.
    pub value: f64,
    /// Over how many examples.
    pub n: u64,
    /// What it was measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// When it was recorded.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub recorded_at: Timestamp,
}

/// Why some content cannot be a prompt version.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPrompt {
    /// The JSON does not have the shape of a prompt.
    #[error("the prompt does not have the expected form: {0}")]
    Shape(String),
    /// A member has a value it may not have.
    #[error("`{member}` {rule}")]
    Member {
        /// The member's path, such as `params.top_p`.
        member: String,
        /// The rule it breaks.
        rule: String,
    },
    /// A template does not compile.
    #[error("{0}")]
    Template(TemplateError),
    /// A post-processing step cannot be prepared.
    #[error("`postprocess[{index}]`: {error}")]
    PostProcess {
        /// Which step.
        index: usize,
        /// What is wrong with it.
        error: PostProcessError,
    },
}

impl PromptContent {
    /// Reads and checks content from JSON.
    ///
    /// # Errors
    /// When a member is missing, unknown or out of range, or a template does not compile.
    pub fn from_json(value: Value) -> Result<Self, InvalidPrompt> {
        let content = Self::unchecked(value)?;
        content.check()?;
        Ok(content)
    }

    /// Content that has the form of a prompt and may still break its rules.
    pub(crate) fn unchecked(value: Value) -> Result<Self, InvalidPrompt> {
        serde_json::from_value(hash::without_nulls(value, &OPAQUE_MEMBERS))
            .map_err(|error| InvalidPrompt::Shape(error.to_string()))
    }

    /// The content as JSON, nulls left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let value = serde_json::to_value(self).unwrap_or_default();
        hash::without_nulls(value, &OPAQUE_MEMBERS)
    }

    /// The version's identity.
    #[must_use]
    pub fn id(&self) -> PromptVersionId {
        ContentHash::of_json(&self.to_json())
    }

    /// Checks ranges, templates, schemas and post-processing.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidPrompt> {
        match self.mistakes().into_iter().next() {
            Some(mistake) => Err(mistake),
            None => Ok(()),
        }
    }

    /// Everything that is wrong with ranges, templates, schemas and post-processing.
    #[must_use]
    pub fn mistakes(&self) -> Vec<InvalidPrompt> {
        let mut mistakes = self.params_mistakes();
        let mut member = |member: &str, rule: &str| mistakes.push(broken(member, rule));
        if self.messages.is_empty() {
            member("messages", "must have at least one message");
        }
        for (index, tool) in self.tools.iter().flatten().enumerate() {
            if tool.get("type").and_then(Value::as_str).is_none() {
                let path = format!("tools[{index}].type");
                member(&path, "must be given, such as `function`");
            }
        }
        if let Some(schema) = &self.variables_schema
            && let Err(error) = jsonschema::validator_for(schema)
        {
            let rule = format!("is not a valid JSON Schema: {error}");
            member("variables_schema", &rule);
        }
        for (index, step) in self.postprocess.iter().flatten().enumerate() {
            if let Err(error) = step.prepare() {
                mistakes.push(InvalidPrompt::PostProcess { index, error });
            }
        }
        let undescribed = self.undescribed_variables();
        if !undescribed.is_empty() {
            let rule = format!(
                "describes no {}, which the messages use; add it to `properties`, or correct its name",
                undescribed.join(", ")
            );
            mistakes.push(broken("variables_schema", &rule));
        }
        let templates = CompiledPrompt::mistakes(self);
        mistakes.extend(templates.into_iter().map(InvalidPrompt::Template));
        mistakes
    }

    /// Variables of the templates that the schema leaves out, in backticks, where it lists what there is.
    fn undescribed_variables(&self) -> Vec<String> {
        const OPEN: [&str; 6] = [
            "patternProperties",
            "$ref",
            "allOf",
            "anyOf",
            "oneOf",
            "unevaluatedProperties",
        ];
        let Some(schema) = self.variables_schema.as_ref().and_then(Value::as_object) else {
            return Vec::new();
        };
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return Vec::new();
        };
        let further = schema.get("additionalProperties");
        if OPEN.iter().any(|keyword| schema.contains_key(*keyword))
            || further.is_some_and(|further| *further != Value::Bool(false))
        {
            return Vec::new();
        }
        let Ok(compiled) = CompiledPrompt::compile(self) else {
            return Vec::new();
        };
        let used = compiled.variables().iter();
        used.filter(|name| !properties.contains_key(*name))
            .map(|name| format!("`{name}`"))
            .collect()
    }

    fn params_mistakes(&self) -> Vec<InvalidPrompt> {
        let params = &self.params;
        let mut mistakes = Vec::new();
        let mut member = |member: &str, rule: &str| mistakes.push(broken(member, rule));
        if params
            .temperature
            .is_some_and(|value| !(0.0..=2.0).contains(&value))
        {
            member("params.temperature", "must lie between 0 and 2");
        }
        if params
            .top_p
            .is_some_and(|value| !(value > 0.0 && value <= 1.0))
        {
            member("params.top_p", "must lie above 0 and at most 1");
        }
        if params.max_tokens == Some(0) {
            member("params.max_tokens", "must be at least 1");
        }
        for reserved in [
            "messages",
            "model",
            "stream",
            "stream_options",
            "tools",
            "tool_choice",
            "response_format",
            "user",
            "n",
        ] {
            if params.further.contains_key(reserved) {
                member(&format!("params.{reserved}"), "is not a sampling parameter");
            }
        }
        mistakes
    }

    /// The request body that this content asks for beside its messages, in OpenAI's shape.
    #[must_use]
    pub fn request_members(&self) -> Map<String, Value> {
        let mut members = match serde_json::to_value(&self.params) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        if let Some(tools) = &self.tools {
            members.insert("tools".into(), tools.clone().into());
        }
        if let Some(choice) = &self.tool_choice {
            members.insert("tool_choice".into(), choice.clone());
        }
        if let Some(format) = &self.response_format {
            members.insert("response_format".into(), format.clone());
        }
        members
    }
}

fn broken(member: &str, rule: &str) -> InvalidPrompt {
    InvalidPrompt::Member {
        member: member.into(),
        rule: rule.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({"messages": [{"role": "user", "content": "Summarize: {text}"}],
               "model_id": "gpt-4o-mini", "model_version": "2024-07-18",
               "params": {"temperature": 0.7, "max_tokens": 200}, "template_format": "fstring"})
    }

    #[test]
    fn the_published_check_value_holds() {
        let content = PromptContent::from_json(minimal()).unwrap();
        assert_eq!(
            content.id().to_string(),
            "dc7f6dd968799b603741618b04006b044f30af4baa0849b9ce77da25ea984f5c"
        );
    }

    #[test]
    fn order_nulls_and_number_spelling_do_not_change_the_identity() {
        let mut other = minimal();
        other["tools"] = Value::Null;
        other["params"]["top_p"] = Value::Null;
        other["params"]["max_tokens"] = json!(200);
        assert_eq!(
            PromptContent::from_json(other).unwrap().id(),
            PromptContent::from_json(minimal()).unwrap().id()
        );
    }

    #[test]
    fn every_member_changes_the_identity() {
        let base = PromptContent::from_json(minimal()).unwrap().id();
        let variations: [(&str, Value); 8] = [
            ("template_format", json!("jinja")),
            ("model_version", json!("2024-08-06")),
            ("params", json!({"temperature": 0.7, "max_tokens": 201})),
            (
                "params",
                json!({"temperature": 0.7, "max_tokens": 200, "reasoning_effort": "low"}),
            ),
            (
                "tools",
                json!([{"type": "function", "function": {"name": "f"}}]),
            ),
            ("response_format", json!({"type": "json_object"})),
            ("postprocess", json!([{"step": "trim"}])),
            (
                "variables_schema",
                json!({"properties": {"text": {"const": null}}}),
            ),
        ];
        for (member, value) in variations {
            let mut changed = minimal();
            changed[member] = value;
            assert_ne!(
                PromptContent::from_json(changed).unwrap().id(),
                base,
                "{member}"
            );
        }
    }

    #[test]
    fn a_schema_that_lists_the_variables_lists_all_that_are_used() {
        for (schema, is_wrong) in [
            (json!({"properties": {"text": {}}}), false),
            (json!({"properties": {"txt": {}}}), true),
            (
                json!({"properties": {}, "additionalProperties": false}),
                true,
            ),
            (
                json!({"properties": {}, "additionalProperties": true}),
                false,
            ),
            (
                json!({"properties": {}, "patternProperties": {"^t": {}}}),
                false,
            ),
            (json!({"required": ["txt"]}), false),
            (json!(true), false),
        ] {
            let mut content = minimal();
            content["variables_schema"] = schema.clone();
            let found = PromptContent::from_json(content).map_err(|error| error.to_string());
            assert_eq!(found.is_err(), is_wrong, "{schema}: {found:?}");
            if let Err(error) = found {
                assert!(
                    error.contains("describes no `text`, which the messages use"),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn slips_of_the_finger_are_noticed_and_providers_own_are_not() {
        for (name, meant) in [
            ("temprature", Some("temperature")),
            ("Temperature", Some("temperature")),
            ("max_token", Some("max_tokens")),
            ("presense_penalty", Some("presence_penalty")),
            ("reasoning_effort", None),
            ("min_p", None),
            ("top_n", None),
            ("guided_json", None),
            ("thinking", None),
        ] {
            let params: SamplingParams = serde_json::from_value(json!({name: 1})).unwrap();
            let found: Vec<_> = params.probably_misspelt();
            let expected: Vec<_> = meant.map(|meant| (name, meant)).into_iter().collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (member, value, expected) in [
            (
                "messages",
                json!([]),
                "`messages` must have at least one message",
            ),
            (
                "params",
                json!({"top_p": 1.5}),
                "`params.top_p` must lie above 0 and at most 1",
            ),
            (
                "params",
                json!({"stream": true}),
                "`params.stream` is not a sampling parameter",
            ),
            (
                "temprature",
                json!(1),
                "the prompt does not have the expected form: unknown field `temprature`",
            ),
            (
                "postprocess",
                json!([{"step": "extract", "pattern": "("}]),
                "`postprocess[0]`: ",
            ),
            (
                "variables_schema",
                json!({"type": "strin"}),
                "`variables_schema` is not a valid JSON Schema",
            ),
        ] {
            let mut wrong = minimal();
            wrong[member] = value;
            let error = PromptContent::from_json(wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
