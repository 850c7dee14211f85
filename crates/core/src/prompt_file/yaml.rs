//! YAML read into JSON values that remember where they stood.

mod node;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, UserMessageFormatter};

use super::PromptFileError;
use crate::name::{InvalidName, ModelName, VersionName, nearest};

use node::{Document, IntoValue as _};

/// How deep lists and members may be nested, so that a thread's stack of two megabytes suffices.
const DEEPEST: usize = 64;

/// A place in a file; both count from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    line: usize,
    column: usize,
}

impl Place {
    pub(super) fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }

    pub(super) fn line(self) -> usize {
        self.line
    }

    pub(super) fn error(self, message: impl Into<String>) -> PromptFileError {
        PromptFileError {
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }
}

/// The mistakes found so far. Reading goes on behind one, so that a person can mend all of them at once.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<PromptFileError>);

impl Mistakes {
    /// The value, or nothing and one mistake more.
    pub(super) fn take<T>(&mut self, result: Result<T, PromptFileError>) -> Option<T> {
        result.map_err(|mistake| self.0.push(mistake)).ok()
    }

    /// The value, or nothing and some mistakes more.
    pub(super) fn take_all<T>(&mut self, result: Result<T, Vec<PromptFileError>>) -> Option<T> {
        result.map_err(|mistakes| self.0.extend(mistakes)).ok()
    }

    /// What was read if it is whole and nothing was wrong; otherwise the mistakes in the order of the file.
    pub(super) fn or<T>(mut self, read: Option<T>) -> Result<T, Vec<PromptFileError>> {
        match read {
            Some(read) if self.0.is_empty() => Ok(read),
            _ => {
                self.0.sort_by_key(|mistake| (mistake.line, mistake.column));
                Err(self.0)
            }
        }
    }
}

/// A YAML document.
#[derive(Debug)]
pub(super) struct Yaml {
    /// The document as JSON, members in the order in which they stand.
    pub(super) value: Value,
    /// Where each member's key and each list item stands, by a path such as `tools[0].type`.
    places: HashMap<String, Place>,
}

impl Yaml {
    /// Reads a document that begins on line `first_line` of its file.
    pub(super) fn parse(text: &str, first_line: usize) -> Result<Self, PromptFileError> {
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: DEEPEST },
            duplicate_keys: DuplicateKeyPolicy::Error,
            leading_zero_numbers_as_strings: true,
            strict_booleans: true,
            with_snippet: false,
        };
        let place = |location: Location| Place {
            line: usize::try_from(location.line()).unwrap_or(1).max(1) - 1 + first_line,
            column: usize::try_from(location.column()).unwrap_or(1).max(1),
        };
        let node: Document =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| {
                let rendered = match error {
                    serde_saphyr::Error::Budget {
                        breach: BudgetBreach::Depth { .. },
                        ..
                    } => {
                        format!("nested more than {DEEPEST} deep")
                    }
                    _ => error.render_with_formatter(&UserMessageFormatter),
                };
                let Some(location) = error.location() else {
                    return Place::new(first_line, 1).error(rendered);
                };
                let suffix = format!(" at line {}, column {}", location.line(), location.column());
                let message = rendered.strip_suffix(&suffix).unwrap_or(&rendered);
                place(location).error(message)
            })?;
        let mut places = HashMap::new();
        let value = node.into_value("", &mut |path, location| {
            places.insert(path, place(location));
        });
        Ok(Self { value, places })
    }

    /// Where the member or the item at `path` stands; where its parent stands if it is not in the file.
    pub(super) fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return Place::new(1, 1),
            }
        }
    }

    /// A mistake in the member or the item at `path`.
    pub(super) fn error(&self, path: &str, message: impl Into<String>) -> PromptFileError {
        self.place(path).error(message)
    }

    /// Refuses members that are not in `known`, and suggests for each one that was probably meant.
    pub(super) fn check_members(
        &self,
        path: &str,
        members: &Map<String, Value>,
        known: &[&str],
        other_names: &[(&str, &str)],
    ) -> Result<(), Vec<PromptFileError>> {
        let unknown = members
            .keys()
            .filter(|name| !known.contains(&name.as_str()));
        let mistakes: Vec<_> = unknown
            .map(|unknown| {
                let meant = other_names
                    .iter()
                    .find(|(other, _)| other == unknown)
                    .map(|(_, name)| *name)
                    .or_else(|| nearest(unknown, known));
                let advice = match meant {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("known are {}", quoted(known)),
                };
                let message = format!("unknown member `{unknown}`; {advice}");
                self.error(&join(path, unknown), message)
            })
            .collect();
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }

    /// The text at `path`.
    pub(super) fn text<'a>(
        &self,
        path: &str,
        value: &'a Value,
    ) -> Result<&'a str, PromptFileError> {
        value.as_str().ok_or_else(|| {
            let hint = if value.is_number() || value.is_boolean() {
                "; put it in quotes"
            } else {
                ""
            };
            self.error(path, format!("`{path}` must be a text{hint}"))
        })
    }

    /// The text at `path`, read as a name.
    pub(super) fn parsed_text<T>(&self, path: &str, value: &Value) -> Result<T, PromptFileError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text(path, value)?
            .parse()
            .map_err(|error: T::Err| self.error(path, error.to_string()))
    }

    /// The items of the list at `path` with their paths; none if it is absent.
    pub(super) fn items<'a>(
        &self,
        path: &str,
        value: Option<&'a Value>,
    ) -> Result<Vec<(String, &'a Value)>, PromptFileError> {
        match value {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => Ok(items
                .iter()
                .enumerate()
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect()),
            Some(_) => Err(self.error(path, format!("`{path}` must be a list"))),
        }
    }

    /// A model and its version: `model:version`, split at the last colon, or the members `id` and `version`.
    pub(super) fn model_reference(
        &self,
        path: &str,
        value: &Value,
    ) -> Result<(ModelName, VersionName), PromptFileError> {
        if let Value::Object(members) = value {
            self.check_members(path, members, &["id", "version"], &[])
                .map_err(|mut mistakes| mistakes.swap_remove(0))?;
            let member = |name: &str| {
                members.get(name).ok_or_else(|| {
                    self.error(path, format!("`{path}` must have the member `{name}`"))
                })
            };
            let id = self.parsed_text(&join(path, "id"), member("id")?)?;
            let version = self.parsed_text(&join(path, "version"), member("version")?)?;
            return Ok((id, version));
        }
        let text = self.text(path, value)?;
        let (id, version) = text.rsplit_once(':').ok_or_else(|| {
            let message = format!("`{text}` names no version; write the model as `{text}:version`");
            self.error(path, message)
        })?;
        let located = |error: InvalidName| self.error(path, error.to_string());
        Ok((
            id.parse().map_err(located)?,
            version.parse().map_err(located)?,
        ))
    }
}

/// The path of a member below `path`.
pub(super) fn join(path: &str, member: &str) -> String {
    if path.is_empty() {
        member.to_owned()
    } else {
        format!("{path}.{member}")
    }
}

/// A value as a YAML document that ends with a newline.
pub(super) fn write(value: &Value) -> String {
    // JSON is YAML as well, should the writer ever refuse a value.
    let mut text = serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string());
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
