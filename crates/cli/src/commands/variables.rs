//! Template variables as they are typed: `name=value`, `name=@file`, `name:=JSON`.

use std::fs;
use std::io::{self, Read as _};
use std::str::FromStr;

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::failure::Refusal;

/// A variable and where its value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    name: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq)]
enum Source {
    Given(Value),
    /// A file, or stdin if it is `-`.
    File(String),
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected NAME=VALUE, NAME=@FILE, NAME=@- for stdin, or NAME:=JSON";
        let (name, value) = text.split_once('=').ok_or(expected)?;
        let (name, source) = match (name.strip_suffix(':'), value.strip_prefix('@')) {
            (Some(name), _) => (name, Source::Given(parse_json(name, value)?)),
            (None, Some(path)) => (name, Source::File(path.to_owned())),
            (None, None) => (name, Source::Given(value.into())),
        };
        if name.is_empty() {
            return Err(expected.to_owned());
        }
        let name = name.to_owned();
        Ok(Self { name, source })
    }
}

fn parse_json(name: &str, value: &str) -> Result<Value, String> {
    serde_json::from_str(value).map_err(|error| {
        format!(
            "expected JSON after `:=`, and `{value}` is none: {error}; `{name}={value}` gives it as text"
        )
    })
}

/// Reads variables, and the files they come from.
pub(super) fn read(variables: &[Variable]) -> anyhow::Result<Map<String, Value>> {
    let mut values = Map::new();
    for Variable { name, source } in variables {
        let value = match source {
            Source::Given(value) => value.clone(),
            Source::File(path) => read_text(path)?.into(),
        };
        if values.insert(name.clone(), value).is_some() {
            let message = format!("--variable: you gave `{name}` twice");
            return Err(Refusal::misuse(message, "expected each variable once").into());
        }
    }
    Ok(values)
}

/// The names that were given.
pub(super) fn names(variables: &[Variable]) -> impl Iterator<Item = &str> {
    variables.iter().map(|variable| variable.name.as_str())
}

/// The text of a file, or of stdin if the path is `-`.
pub(super) fn read_text(path: &str) -> anyhow::Result<String> {
    if path != "-" {
        return fs::read_to_string(path).with_context(|| format!("cannot read `{path}`"));
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .context("cannot read stdin")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> anyhow::Result<Value> {
        let variables: Vec<Variable> = texts.iter().map(|text| text.parse().unwrap()).collect();
        read(&variables).map(Value::Object)
    }

    #[test]
    fn text_files_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket.txt");
        fs::write(&path, "It is broken.\n").unwrap();
        let file = format!("ticket=@{}", path.display());
        assert_eq!(
            parse(&["name=Ann", "empty=", "a=b=c", &file, "tags:=[1, true]"]).unwrap(),
            serde_json::json!({"name": "Ann", "empty": "", "a": "b=c", "ticket": "It is broken.\n",
                               "tags": [1, true]})
        );
        for (wrong, expected) in [
            (&["a=1", "a=2"][..], "--variable: you gave `a` twice"),
            (&["a=@/does/not/exist"], "cannot read `/does/not/exist`"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for (wrong, expected) in [
            ("a", "expected NAME=VALUE"),
            ("=b", "expected NAME=VALUE"),
            ("", "expected NAME=VALUE"),
            (":=1", "expected NAME=VALUE"),
            ("a:=[1", "expected JSON after `:=`"),
        ] {
            let error = wrong.parse::<Variable>().unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
