//! Prompt files: one readable file per prompt version, YAML front matter and then the messages.
//!
//! ```text
//! ---
//! prompt: support/summary
//! model: gpt-4o-mini:2024-07-18      # the model and, after the last colon, its version
//! format: fstring                    # or jinja
//! description: Ask for two sentences
//! params: {temperature: 0.7, max_tokens: 200}
//! ---
//!
//! # system
//! You are terse.
//!
//! # user
//! Summarize: {text}
//! ```
//!
//! A message begins with a line that is `# system`, `# developer`, `# user` or `# assistant`, if need be with options
//! in parentheses, and goes on to the next such line. The rules by which its text is cut out, so that every content
//! can be written and read back unchanged, are in [`messages`]. YAML values may be nested 64 deep, which the reader's
//! stack bears.

pub mod messages;
pub mod models;
mod yaml;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde_json::{Map, Value, json};

use crate::hash;
use crate::name::{Label, PromptName};
use crate::postprocess::PostProcess;
use crate::prompt::{
    InvalidPrompt, OPAQUE_MEMBERS, PromptContent, PromptVersion, SamplingParams, TemplateFormat,
};
use crate::template::line_and_column;

use messages::LocatedMessage;
use yaml::{Mistakes, Place, Yaml};

/// The members of the front matter.
const MEMBERS: [&str; 11] = [
    "prompt",
    "model",
    "format",
    "description",
    "labels",
    "params",
    "tools",
    "tool_choice",
    "response_format",
    "postprocess",
    "variables_schema",
];

/// Names that people try for a member, and what to write.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("name", "prompt"),
    ("model_id", "model"),
    ("model_version", "model"),
    ("template_format", "format"),
    ("parameters", "params"),
    ("temperature", "params.temperature"),
    ("top_p", "params.top_p"),
    ("max_tokens", "params.max_tokens"),
    ("stop", "params.stop"),
    ("seed", "params.seed"),
    ("schema", "variables_schema"),
    ("functions", "tools"),
];

/// What a prompt file says.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptFile {
    /// The prompt it is a version of.
    pub name: PromptName,
    /// What changed and why.
    pub description: Option<String>,
    /// Labels to put on the version.
    pub labels: Vec<Label>,
    /// The content itself.
    pub content: PromptContent,
}

impl From<&PromptVersion> for PromptFile {
    fn from(version: &PromptVersion) -> Self {
        Self {
            name: version.prompt.clone(),
            description: (!version.description.is_empty()).then(|| version.description.clone()),
            labels: version.labels.clone(),
            content: version.content.clone(),
        }
    }
}

/// A mistake in a prompt file or a model file, with its place. Lines and columns count from 1; columns count
/// characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFileError {
    /// The line in the file.
    pub line: usize,
    /// The column in that line.
    pub column: usize,
    /// What is wrong, without the place.
    pub message: String,
}

impl fmt::Display for PromptFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )
    }
}

impl std::error::Error for PromptFileError {}

/// Reads a prompt file. A byte order mark and Windows line ends are accepted.
///
/// # Errors
/// The first mistake, with its place in the file.
pub fn parse(text: &str) -> Result<PromptFile, PromptFileError> {
    parse_all(text).map_err(|mut mistakes| mistakes.swap_remove(0))
}

/// Reads a prompt file as [`parse`] does.
///
/// # Errors
/// Every mistake that does not follow from another, in the order of the file.
pub fn parse_all(text: &str) -> Result<PromptFile, Vec<PromptFileError>> {
    let text = normalized(text);
    let (front_matter, body, body_line) =
        split_front_matter(&text).map_err(|mistake| vec![mistake])?;
    let mut mistakes = Mistakes::default();
    let messages = mistakes.take_all(messages::parse(body, body_line));
    let file = mistakes
        .take(Yaml::parse(front_matter, 2))
        .and_then(|yaml| read(&yaml, messages, &mut mistakes));
    mistakes.or(file)
}

/// What the front matter says, with the messages if they could be read.
fn read(
    yaml: &Yaml,
    messages: Option<Vec<LocatedMessage>>,
    mistakes: &mut Mistakes,
) -> Option<PromptFile> {
    let members = match &yaml.value {
        Value::Null => &Map::new(),
        Value::Object(members) => members,
        _ => {
            let message = "the front matter must have members, such as `prompt: summary`";
            return mistakes.take(Err(Place::new(2, 1).error(message)));
        }
    };
    mistakes.take_all(yaml.check_members("", members, &MEMBERS, &OTHER_NAMES));
    let required = |member: &str| {
        members.get(member).ok_or_else(|| {
            Place::new(1, 1).error(format!("the front matter must have the member `{member}`"))
        })
    };
    let name = required("prompt").and_then(|name| yaml.parsed_text("prompt", name));
    let name: Option<PromptName> = mistakes.take(name);
    let model = required("model").and_then(|model| yaml.model_reference("model", model));
    let model = mistakes.take(model);
    let format = mistakes.take(match members.get("format") {
        None | Some(Value::Null) => Ok(TemplateFormat::Fstring),
        Some(format) => serde_json::from_value(format.clone())
            .map_err(|_| yaml.error("format", "`format` must be `fstring` or `jinja`")),
    });
    let description = match members.get("description") {
        None | Some(Value::Null) => None,
        Some(description) => mistakes.take(yaml.text("description", description)),
    };
    let mut labels = Vec::new();
    for (path, label) in mistakes.take(yaml.items("labels", members.get("labels")))? {
        labels.extend(mistakes.take(yaml.parsed_text(&path, label)));
    }
    // What stands in for members that are wrong breaks no rule, so that the others can be checked all the same.
    let stand_in = || json!([{"role": "user", "content": "", "literal": true}]);
    let messages_json = messages.as_ref().map_or_else(stand_in, |messages| {
        let messages = messages.iter().map(|located| json!(located.message));
        messages.collect()
    });
    let (model_id, model_version) = match &model {
        Some((id, version)) => (id.as_str(), version.as_str()),
        None => ("model", "version"),
    };
    let mut content = Map::from_iter([
        ("template_format".to_owned(), json!(format?)),
        ("messages".to_owned(), messages_json),
        ("model_id".to_owned(), json!(model_id)),
        ("model_version".to_owned(), json!(model_version)),
    ]);
    for name in &MEMBERS[5..] {
        if let Some(value) = members.get(*name) {
            content.insert((*name).to_owned(), value.clone());
        }
    }
    let content = hash::without_nulls(Value::Object(content), &OPAQUE_MEMBERS);
    mistakes.take_all(check_forms(yaml, &content))?;
    let messages = messages.unwrap_or_default();
    if members.get("format").is_none_or(Value::is_null) {
        mistakes.take_all(check_braces(&messages))?;
    }
    let located = |error| located_error(error, yaml, &messages);
    let content = mistakes.take(PromptContent::unchecked(content).map_err(located))?;
    let broken: Vec<_> = content.mistakes().into_iter().map(located).collect();
    if !broken.is_empty() {
        return mistakes.take_all(Err(broken));
    }
    Some(PromptFile {
        name: name?,
        description: description.map(str::to_owned),
        labels,
        content,
    })
}

/// Refuses what looks like a Jinja variable in a file that does not say which format it is in: it would be sent as text.
fn check_braces(messages: &[LocatedMessage]) -> Result<(), Vec<PromptFileError>> {
    let mistakes: Vec<_> = messages
        .iter()
        .filter(|located| located.message.literal != Some(true))
        .filter_map(|located| {
            let content = &located.message.content;
            let found = jinja_variable(content)?;
            let (line, column) = line_and_column(content, found.start);
            let message = format!(
                "`{}` is a variable in Jinja, and text in the format `fstring`; add `format: jinja` or `format: fstring` \
                 to the front matter",
                &content[found]
            );
            Some(located.place(line, column).error(message))
        })
        .collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

/// Where `{{ name }}` first stands in a text.
fn jinja_variable(text: &str) -> Option<Range<usize>> {
    text.match_indices("{{").find_map(|(start, _)| {
        let inside = &text[start + 2..];
        let end = inside.find("}}")?;
        let name = inside[..end].trim();
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_name.then_some(start..start + 2 + end + 2)
    })
}

/// Writes a prompt file. Reading it back gives the same content.
#[must_use]
pub fn format(file: &PromptFile) -> String {
    let content = &file.content;
    let (id, version) = (content.model_id.as_str(), content.model_version.as_str());
    let model = if version.contains(':') {
        json!({"id": id, "version": version})
    } else {
        json!(format!("{id}:{version}"))
    };
    let mut members = Map::from_iter([
        ("prompt".to_owned(), json!(file.name)),
        ("model".to_owned(), model),
        ("format".to_owned(), json!(content.template_format)),
    ]);
    if let Some(description) = &file.description {
        members.insert("description".into(), json!(description));
    }
    if !file.labels.is_empty() {
        members.insert("labels".into(), json!(file.labels));
    }
    let mut json = content.to_json();
    for name in &MEMBERS[5..] {
        if let Some(value) = json.get_mut(*name) {
            members.insert((*name).to_owned(), value.take());
        }
    }
    format!(
        "---\n{}---\n\n{}",
        yaml::write(&members.into()),
        messages::format(&content.messages)
    )
}

/// The text with `\n` as its line end and without a byte order mark.
fn normalized(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains("\r\n") {
        Cow::Owned(text.replace("\r\n", "\n"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The front matter, what follows it, and the line on which that begins.
fn split_front_matter(text: &str) -> Result<(&str, &str, usize), PromptFileError> {
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let is_fence = line.trim_end() == "---";
        if index == 0 && !is_fence {
            let message = "a prompt file begins with a line `---`, followed by its front matter";
            return Err(Place::new(1, 1).error(message));
        }
        let end = offset + line.len();
        if index > 0 && is_fence {
            let start = text.find('\n').map_or(0, |newline| newline + 1);
            return Ok((&text[start..offset], &text[end..], index + 2));
        }
        offset = end;
    }
    let message = if text.is_empty() {
        "the file is empty; a prompt file begins with a line `---`"
    } else {
        "the front matter is not closed; end it with a line `---`"
    };
    Err(Place::new(1, 1).error(message))
}

/// Checks the forms of members one by one, so that a mistake is reported where it stands.
fn check_forms(yaml: &Yaml, content: &Value) -> Result<(), Vec<PromptFileError>> {
    let mut mistakes = Mistakes::default();
    match content.get("params") {
        None => {}
        Some(Value::Object(params)) => {
            for (name, value) in params {
                let path = format!("params.{name}");
                let form = serde_json::from_value::<SamplingParams>(json!({name: value}));
                mistakes
                    .take(form.map_err(|error| yaml.error(&path, format!("`{path}`: {error}"))));
            }
        }
        Some(_) => {
            let message = "`params` must have members, such as `seed: 7`";
            mistakes.take::<()>(Err(yaml.error("params", message)));
        }
    }
    mistakes.take(yaml.items("tools", content.get("tools")));
    let steps = mistakes.take(yaml.items("postprocess", content.get("postprocess")));
    for (path, step) in steps.unwrap_or_default() {
        let form = serde_json::from_value::<PostProcess>(step.clone());
        mistakes.take(form.map_err(|error| yaml.error(&path, format!("`{path}`: {error}"))));
    }
    mistakes.or(Some(()))
}

/// Gives a mistake in the content its place in the file.
fn located_error(
    error: InvalidPrompt,
    yaml: &Yaml,
    messages: &[LocatedMessage],
) -> PromptFileError {
    match error {
        InvalidPrompt::Template(template) => {
            let place = messages
                .get(template.message_index)
                .map_or(Place::new(1, 1), |message| {
                    message.place(template.line, template.column)
                });
            place.error(template.problem)
        }
        InvalidPrompt::Member { ref member, .. } => yaml.error(member, error.to_string()),
        InvalidPrompt::PostProcess { index, .. } => {
            yaml.error(&format!("postprocess[{index}]"), error.to_string())
        }
        InvalidPrompt::Shape(problem) => Place::new(1, 1).error(problem),
    }
}

#[cfg(test)]
mod tests;
