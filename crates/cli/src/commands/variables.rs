//! Template variables as they are typed: `name=value`, `name=@file`, `name:=JSON`.

use std::fs;
use std::io::{self, Read as _};

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::arguments::Assignment;
use crate::failure::Refusal;

/// Reads variables, and the files they come from.
pub(super) fn read(assignments: &[Assignment]) -> anyhow::Result<Map<String, Value>> {
    let mut variables = Map::new();
    for Assignment { name, value } in assignments {
        let (name, value) = match (name.strip_suffix(':'), value.strip_prefix('@')) {
            (Some(name), _) => (name, parse_json(name, value)?),
            (None, Some(path)) => (name.as_str(), read_text(path)?.into()),
            (None, None) => (name.as_str(), value.as_str().into()),
        };
        if variables.insert(name.to_owned(), value).is_some() {
            return Err(Refusal::new(format!("variable `{name}` is given twice")).into());
        }
    }
    Ok(variables)
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

fn parse_json(name: &str, value: &str) -> anyhow::Result<Value> {
    serde_json::from_str(value).map_err(|error| {
        let hint = format!("`{name}={value}` gives it as text");
        Refusal::with_hint(format!("variable `{name}` is not JSON: {error}"), hint).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> anyhow::Result<Value> {
        let assignments: Vec<Assignment> = texts.iter().map(|text| text.parse().unwrap()).collect();
        read(&assignments).map(Value::Object)
    }

    #[test]
    fn text_files_and_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket.txt");
        fs::write(&path, "It is broken.\n").unwrap();
        let file = format!("ticket=@{}", path.display());
        assert_eq!(
            parse(&["name=Ann", "empty=", &file, "tags:=[1, true]"]).unwrap(),
            serde_json::json!({"name": "Ann", "empty": "", "ticket": "It is broken.\n", "tags": [1, true]})
        );
        for (wrong, expected) in [
            (&["a=1", "a=2"][..], "variable `a` is given twice"),
            (&["a:=[1"], "variable `a` is not JSON"),
            (&["a=@/does/not/exist"], "cannot read `/does/not/exist`"),
        ] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
