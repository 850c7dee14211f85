//! Tools that an answer calls, held against those that were offered.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// How many members of a schema are looked at, references followed, and how long the arguments may be. Callers may bring the
/// schema: references to references double what there is to check with each of a few lines, and nobody may wait for that.
const LARGEST_SCHEMA: usize = 5_000;
const LONGEST_ARGUMENTS: usize = 256 * 1024;
/// How many members, times the bytes of arguments that are held against them: each may be looked at for each.
const MOST_STEPS: usize = 1 << 24;
/// How deep its parts may lie in each other, and how many patterns it may have.
const DEEPEST_SCHEMA: usize = 64;
const MOST_PATTERNS: usize = 32;
/// How large a compiled pattern may be, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;

/// Whether every tool that an answer calls was offered, and takes the arguments that it gets. Both in OpenAI's shape.
///
/// None where no tool is called, and where a tool's schema is none, or too large to check, so that nothing can be said.
#[must_use]
pub fn fit(offered: Option<&Value>, calls: &Value) -> Option<bool> {
    let calls = calls.as_array().filter(|calls| !calls.is_empty())?;
    let offered = offered.and_then(Value::as_array).map_or(&[][..], |all| all);
    let mut schemas = BTreeMap::new();
    let mut all_fit = true;
    for call in calls {
        all_fit &= fits(offered, call, &mut schemas)?;
    }
    Some(all_fit)
}

/// The schemas that were compiled, by the tool's name; none for a tool without.
type Schemas<'t> = BTreeMap<&'t str, Option<Checked>>;

/// A schema that may be checked.
struct Checked {
    validator: Validator,
    /// How many members it has, those that are referred to again each time.
    members: usize,
}

fn fits<'t>(offered: &'t [Value], call: &'t Value, schemas: &mut Schemas<'t>) -> Option<bool> {
    for kind in ["function", "custom"] {
        let Some(name) = call[kind]["name"].as_str() else {
            continue;
        };
        let is_it = |tool: &&Value| tool[kind]["name"].as_str() == Some(name);
        let Some(tool) = offered.iter().find(is_it) else {
            return Some(false);
        };
        // Custom tools take any text.
        if kind == "custom" {
            return Some(true);
        }
        let schema = match schemas.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(compile(&tool["function"]["parameters"])?),
        };
        return takes(schema.as_ref(), &call["function"]["arguments"]);
    }
    Some(false)
}

/// The schema of a tool's parameters, if it has one.
fn compile(schema: &Value) -> Option<Option<Checked>> {
    if schema.is_null() {
        return Some(None);
    }
    let mut size = Size {
        root: schema,
        open: Vec::new(),
        left: LARGEST_SCHEMA,
        patterns_left: MOST_PATTERNS,
    };
    if !size.holds(schema, 0) {
        return None;
    }
    let patterns = PatternOptions::regex()
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN);
    let options = jsonschema::options().with_pattern_options(patterns);
    let validator = options.build(schema).ok()?;
    let members = LARGEST_SCHEMA - size.left;
    Some(Some(Checked { validator, members }))
}

/// How much of a schema may still be looked at.
struct Size<'s> {
    root: &'s Value,
    /// The references that are being followed.
    open: Vec<&'s str>,
    left: usize,
    patterns_left: usize,
}

impl<'s> Size<'s> {
    /// Whether a part with all that it refers to is as small as it must be. What refers to itself has no end; identifiers change
    /// what references mean; and what is left unevaluated is found by evaluating again, level by level.
    fn holds(&mut self, part: &'s Value, depth: usize) -> bool {
        if self.left == 0 || depth > DEEPEST_SCHEMA {
            return false;
        }
        self.left -= 1;
        match part {
            Value::Array(items) => items.iter().all(|item| self.holds(item, depth + 1)),
            Value::Object(members) => members
                .iter()
                .all(|(name, member)| self.member_holds(name, member, depth + 1)),
            _ => true,
        }
    }

    fn member_holds(&mut self, name: &'s str, member: &'s Value, depth: usize) -> bool {
        let patterns = match (name, member) {
            ("pattern", Value::String(_)) => 1,
            ("patternProperties", Value::Object(patterns)) => patterns.len(),
            _ => 0,
        };
        let Some(patterns_left) = self.patterns_left.checked_sub(patterns) else {
            return false;
        };
        self.patterns_left = patterns_left;
        match (name, member) {
            ("unevaluatedProperties" | "unevaluatedItems", _) => false,
            ("$id" | "id" | "$dynamicRef" | "$recursiveRef", Value::String(_)) => false,
            ("$ref", Value::String(reference)) => {
                // What is percent-encoded names something else to the validator than it does here.
                let target = reference
                    .strip_prefix('#')
                    .filter(|path| !path.contains('%'));
                let target = target.and_then(|path| self.root.pointer(path));
                let Some(target) = target.filter(|_| !self.open.contains(&reference.as_str()))
                else {
                    return false;
                };
                self.open.push(reference);
                let holds = self.holds(target, depth);
                self.open.pop();
                holds
            }
            _ => self.holds(member, depth),
        }
    }
}

fn takes(schema: Option<&Checked>, arguments: &Value) -> Option<bool> {
    // Without parameters some models send no text at all.
    let text = match arguments.as_str() {
        Some("") | None => "{}",
        Some(text) => text,
    };
    let members = schema.map_or(1, |schema| schema.members);
    if text.len() > LONGEST_ARGUMENTS || members.saturating_mul(text.len()) > MOST_STEPS {
        return None;
    }
    let Ok(arguments) = serde_json::from_str::<Value>(text) else {
        return Some(false);
    };
    Some(match schema {
        Some(schema) => schema.validator.is_valid(&arguments),
        None => arguments.is_object(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(name: &str, arguments: &str) -> Value {
        json!({"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}})
    }

    /// Each line of definitions doubles what there is to check; a few hundred bytes would take hours.
    #[test]
    fn schemas_without_an_end_are_not_checked() {
        let mut definitions = json!({"a40": {"type": "object"}});
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/a{}", level + 1)});
            definitions[format!("a{level}")] = json!({"allOf": [next, next]});
        }
        // The validator decodes these references, beside which others lie that are what they say.
        let mut encoded = json!({"x40": {"type": "object"}});
        for level in 0..40 {
            let tens = format!("x{}%3{}", (level + 1) / 10, (level + 1) % 10);
            let next = json!({"$ref": format!("#/$defs/{tens}")});
            encoded[tens] = json!(true);
            encoded[format!("x{:02}", level)] = json!({"allOf": [next, next]});
        }
        let encoded = json!({"$ref": "#/$defs/x00", "$defs": encoded});
        let itself = json!({"properties": {"next": {"$ref": "#"}}});
        let far = json!({"$ref": "https://example.com/schema"});
        let doubling = json!({"$ref": "#/$defs/a0", "$defs": definitions});
        let mut evaluated = json!({});
        for _ in 0..30 {
            evaluated = json!({"allOf": [evaluated], "unevaluatedProperties": false});
        }
        let elsewhere = json!({"properties": {"a": {"$id": "http://example.com/a", "$ref": "#"}}});
        let patterns: serde_json::Map<String, Value> = (0..MOST_PATTERNS + 1)
            .map(|n| (format!("^{n}"), json!({})))
            .collect();
        let patterns = json!({"patternProperties": patterns});
        for schema in [
            doubling, encoded, itself, far, evaluated, elsewhere, patterns,
        ] {
            let offered = json!([{"function": {"name": "f", "parameters": schema}}]);
            assert_eq!(
                fit(Some(&offered), &json!([call("f", "{}")])),
                None,
                "{schema}"
            );
        }
        let shared = json!({
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#/$defs/n"}},
            "$defs": {"n": {"type": "integer"}},
        });
        let offered = json!([{"function": {"name": "f", "parameters": shared}}]);
        let found = |arguments: &str| fit(Some(&offered), &json!([call("f", arguments)]));
        assert_eq!(found(r#"{"a": 1, "b": 2}"#), Some(true));
        assert_eq!(found(r#"{"a": 1, "b": "2"}"#), Some(false));
        let long = format!(r#"{{"c": "{}"}}"#, "x".repeat(LONGEST_ARGUMENTS));
        assert_eq!(found(&long), None);
        let many: serde_json::Map<String, Value> = (0..2000)
            .map(|n| (format!("m{n}"), json!({"type": "string"})))
            .collect();
        let offered = json!([{"function": {"name": "f", "parameters": {"properties": many}}}]);
        let found = |length: usize| {
            let arguments = format!(r#"{{"c": "{}"}}"#, "x".repeat(length));
            fit(Some(&offered), &json!([call("f", &arguments)]))
        };
        assert_eq!((found(1000), found(5000)), (Some(true), None));
    }

    #[test]
    fn calls_are_held_against_what_was_offered() {
        let place = json!({
            "type": "object", "required": ["city"], "additionalProperties": false,
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        });
        let offered = json!([
            {"type": "function", "function": {"name": "weather", "parameters": place}},
            {"type": "function", "function": {"name": "now"}},
            {"type": "custom", "custom": {"name": "shell"}},
            {"type": "function", "function": {"name": "odd", "parameters": {"type": "nothing"}}},
        ]);
        let good = call("weather", r#"{"city": "Bern", "days": 2}"#);
        for (calls, expected) in [
            (json!([]), None),
            (json!(null), None),
            (json!([good]), Some(true)),
            (json!([call("now", "")]), Some(true)),
            (json!([call("now", "{}")]), Some(true)),
            (json!([call("now", "[]")]), Some(false)),
            (json!([call("weather", "")]), Some(false)),
            (json!([call("weather", r#"{"city": "Bern""#)]), Some(false)),
            (json!([call("weather", r#"{"city": 3}"#)]), Some(false)),
            (
                json!([call("weather", r#"{"city": "Bern", "unit": "K"}"#)]),
                Some(false),
            ),
            (json!([good, call("nosuch", "{}")]), Some(false)),
            (
                json!([{"type": "custom", "custom": {"name": "shell", "input": "ls"}}]),
                Some(true),
            ),
            (
                json!([{"type": "custom", "custom": {"name": "weather", "input": "ls"}}]),
                Some(false),
            ),
            (json!([{}]), Some(false)),
            // A schema that is none says nothing of what was sent.
            (json!([call("odd", "{}")]), None),
        ] {
            assert_eq!(fit(Some(&offered), &calls), expected, "{calls}");
        }
        assert_eq!(fit(None, &json!([good])), Some(false));
    }
}
