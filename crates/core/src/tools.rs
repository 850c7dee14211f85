//! Tools that an answer calls, held against those that were offered.

use jsonschema::PatternOptions;
use serde_json::Value;

/// Whether every tool that an answer calls was offered, and takes the arguments that it gets. Both in OpenAI's shape.
///
/// None where no tool is called, and where a tool's schema is none, so that nothing can be said.
#[must_use]
pub fn fit(offered: Option<&Value>, calls: &Value) -> Option<bool> {
    let calls = calls.as_array().filter(|calls| !calls.is_empty())?;
    let offered = offered.and_then(Value::as_array).map_or(&[][..], |all| all);
    let mut all_fit = true;
    for call in calls {
        all_fit &= fits(offered, call)?;
    }
    Some(all_fit)
}

fn fits(offered: &[Value], call: &Value) -> Option<bool> {
    let named = |entry: &Value, kind: &str| entry[kind]["name"].as_str().map(str::to_owned);
    for kind in ["function", "custom"] {
        let Some(name) = named(call, kind) else {
            continue;
        };
        let Some(tool) = offered
            .iter()
            .find(|tool| named(tool, kind).as_ref() == Some(&name))
        else {
            return Some(false);
        };
        // Custom tools take any text.
        return match kind {
            "function" => takes(
                &tool["function"]["parameters"],
                &call["function"]["arguments"],
            ),
            _ => Some(true),
        };
    }
    Some(false)
}

fn takes(schema: &Value, arguments: &Value) -> Option<bool> {
    // Without parameters some models send no text at all.
    let text = match arguments.as_str() {
        Some("") | None => "{}",
        Some(text) => text,
    };
    let Ok(arguments) = serde_json::from_str::<Value>(text) else {
        return Some(false);
    };
    if schema.is_null() {
        return Some(arguments.is_object());
    }
    // Callers may bring the schema: patterns must take time in proportion to the text.
    let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
    let validator = options.build(schema).ok()?;
    Some(validator.is_valid(&arguments))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(name: &str, arguments: &str) -> Value {
        json!({"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}})
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
