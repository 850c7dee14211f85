//! Differences between JSON values: down to the member that differs.

use serde_json::{Map, Value};

use super::Change;
use super::text::diff_texts;
use crate::hash::canonical;

/// A text of this length or with several lines is compared by line and word.
const SHORTEST_TEXT: usize = 60;

/// Compares two values; objects by member, all else as a whole.
pub(super) fn compare(
    field: &str,
    before: Option<&Value>,
    after: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    match (before, after) {
        (Some(Value::Object(older)), Some(Value::Object(newer))) => {
            let added = newer.keys().filter(|name| !older.contains_key(*name));
            for name in older.keys().chain(added) {
                let field = format!("{field}.{name}");
                compare(&field, older.get(name), newer.get(name), changes);
            }
        }
        (before, after) if is_same(before, after) => {}
        (before, after) => {
            let text = match (before, after) {
                (Some(Value::String(older)), Some(Value::String(newer))) => {
                    let is_long = |text: &str| text.len() >= SHORTEST_TEXT || text.contains('\n');
                    (is_long(older) || is_long(newer)).then(|| diff_texts(older, newer))
                }
                _ => None,
            };
            let (before, after) = (before.cloned(), after.cloned());
            changes.push(Change {
                field: field.to_owned(),
                before,
                after,
                text,
            });
        }
    }
}

/// Whether two values are the same content: `1` is the same number as `1.0`.
fn is_same(before: Option<&Value>, after: Option<&Value>) -> bool {
    before == after || before.map(canonical) == after.map(canonical)
}

/// Compares two values member by member, also where one of them is absent.
pub(super) fn compare_members(
    field: &str,
    before: &Value,
    after: &Value,
    changes: &mut Vec<Change>,
) {
    let none = Map::new();
    let (older, newer) = (
        before.as_object().unwrap_or(&none),
        after.as_object().unwrap_or(&none),
    );
    let added = newer.keys().filter(|name| !older.contains_key(*name));
    for name in older.keys().chain(added) {
        compare(
            &format!("{field}.{name}"),
            older.get(name),
            newer.get(name),
            changes,
        );
    }
}

/// Compares two lists item by item, also where one of them is absent.
pub(super) fn compare_items(field: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    let (older, newer) = (items(before), items(after));
    if older.is_empty() && newer.is_empty() {
        // An empty list is not the same as none.
        let given = |value: &Value| (!value.is_null()).then(|| value.clone());
        return compare(
            field,
            given(before).as_ref(),
            given(after).as_ref(),
            changes,
        );
    }
    for index in 0..older.len().max(newer.len()) {
        compare(
            &format!("{field}[{index}]"),
            older.get(index),
            newer.get(index),
            changes,
        );
    }
}

/// Compares two lists of tools by the names of their functions.
pub(super) fn compare_tools(before: &Value, after: &Value, changes: &mut Vec<Change>) {
    let (older, newer) = (items(before), items(after));
    let (Some(older_names), Some(newer_names)) = (tool_names(older), tool_names(newer)) else {
        return compare_items("tools", before, after, changes);
    };
    if older.is_empty() && newer.is_empty() {
        return compare_items("tools", before, after, changes);
    }
    let added = newer_names
        .iter()
        .filter(|name| !older_names.contains(name));
    let before_comparison = changes.len();
    for name in older_names.iter().chain(added) {
        let field = format!("tools.{name}");
        compare(
            &field,
            tool_named(older, name),
            tool_named(newer, name),
            changes,
        );
    }
    // Their order is a part of the content too, and worth a word only if nothing else tells of it.
    if changes.len() == before_comparison && older_names != newer_names {
        let names = |names: &[&str]| Some(Value::from(names));
        changes.push(Change {
            field: "tools".to_owned(),
            before: names(&older_names),
            after: names(&newer_names),
            text: None,
        });
    }
}

fn tool_named<'a>(tools: &'a [Value], name: &str) -> Option<&'a Value> {
    tools.iter().find(|tool| tool["function"]["name"] == name)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The names of tools, if each has one of its own.
fn tool_names(tools: &[Value]) -> Option<Vec<&str>> {
    let mut names = Vec::with_capacity(tools.len());
    for tool in tools {
        let name = tool.get("function")?.get("name")?.as_str()?;
        if names.contains(&name) {
            return None;
        }
        names.push(name);
    }
    Some(names)
}
