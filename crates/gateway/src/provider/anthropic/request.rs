//! OpenAI's chat-completions request as a request for Anthropic's Messages API.

mod messages;

use serde_json::{Map, Value, json};

use crate::error::{ProviderError, ProviderErrorKind};
use crate::provider::format::ChatRequest;

/// The body of `POST /messages`.
pub(super) fn messages_body(
    chat: &ChatRequest,
    default_max_tokens: u64,
) -> Result<Map<String, Value>, ProviderError> {
    let mut body = Map::new();
    body.insert("model".to_owned(), Value::from(chat.model.as_str()));
    for (name, value) in chat.body.iter().filter(|(_, value)| !value.is_null()) {
        translate_member(name, value, &mut body)?;
    }
    // The newer name wins over the older; both may be there, and a request must have one.
    let max_tokens = ["max_completion_tokens", "max_tokens"]
        .iter()
        .filter_map(|name| chat.body.get(*name))
        .find(|value| !value.is_null());
    body.insert(
        "max_tokens".to_owned(),
        max_tokens
            .cloned()
            .unwrap_or(Value::from(default_max_tokens)),
    );
    insert_tool_choice(&chat.body, &mut body)?;
    let config = output_config(&chat.body)?;
    if !config.is_empty() {
        body.insert("output_config".to_owned(), Value::Object(config));
    }
    if chat.stream {
        body.insert("stream".to_owned(), Value::Bool(true));
    }
    Ok(body)
}

/// Writes what one member, which is not null, means to Anthropic.
fn translate_member(
    name: &str,
    value: &Value,
    body: &mut Map<String, Value>,
) -> Result<(), ProviderError> {
    let mut insert = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    match name {
        "messages" => {
            let (system, messages) = messages::translate(value)?;
            if !system.is_empty() {
                insert("system", Value::Array(system));
            }
            insert("messages", Value::Array(messages));
        }
        "temperature" if value.as_f64().is_some_and(|temperature| temperature > 1.0) => {
            return Err(refused(
                name,
                &format!("is `{value}`, and anthropic takes at most 1"),
            ));
        }
        // `top_k`, `thinking` and `cache_control` are Anthropic's own, for those who ask for them.
        "temperature" | "top_p" | "top_k" | "thinking" | "cache_control" => {
            insert(name, value.clone());
        }
        "stop" => {
            let sequences = match value {
                Value::Array(sequences) => sequences.clone(),
                single => vec![single.clone()],
            };
            if !sequences.is_empty() {
                insert("stop_sequences", Value::Array(sequences));
            }
        }
        "tools" => {
            let tools = elements(name, value)?.iter().enumerate();
            let tools = tools.map(|(index, tool)| translate_tool(index, tool));
            let tools = tools.collect::<Result<Vec<_>, _>>()?;
            if !tools.is_empty() {
                insert("tools", Value::Array(tools));
            }
        }
        "user" => insert("metadata", json!({"user_id": value})),
        // Read where they are needed.
        "max_tokens"
        | "max_completion_tokens"
        | "tool_choice"
        | "parallel_tool_calls"
        | "response_format"
        | "reasoning_effort" => {}
        // Set by the caller of this format, or of no effect on the answer.
        "model"
        | "stream"
        | "stream_options"
        | "store"
        | "metadata"
        | "service_tier"
        | "prompt_cache_key"
        | "prompt_cache_retention"
        | "safety_identifier" => {}
        _ if asks_for_nothing(name, value) => {}
        _ => return Err(refused(name, "has no counterpart at anthropic")),
    }
    Ok(())
}

/// Whether a member that Anthropic lacks has the value that it has when it is absent.
fn asks_for_nothing(name: &str, value: &Value) -> bool {
    match name {
        "n" => value.as_f64() == Some(1.0),
        "frequency_penalty" | "presence_penalty" | "top_logprobs" => value.as_f64() == Some(0.0),
        "logprobs" => *value == Value::Bool(false),
        "logit_bias" => value
            .as_object()
            .is_some_and(|biases| biases.values().all(|bias| bias.as_f64() == Some(0.0))),
        "modalities" => *value == json!(["text"]),
        _ => false,
    }
}

fn translate_tool(index: usize, tool: &Value) -> Result<Value, ProviderError> {
    let function = match (tool["type"].as_str(), &tool["function"]) {
        (Some("function"), Value::Object(function)) => function,
        _ => return Err(refused(&format!("tools[{index}]"), "is not a function")),
    };
    let mut translated = Map::new();
    for (name, theirs) in [
        ("name", "name"),
        ("description", "description"),
        ("strict", "strict"),
        ("parameters", "input_schema"),
    ] {
        if let Some(value) = function.get(name).filter(|value| !value.is_null()) {
            translated.insert(theirs.to_owned(), value.clone());
        }
    }
    // A function without parameters is one whose object is empty.
    translated
        .entry("input_schema")
        .or_insert_with(|| json!({"type": "object", "properties": {}}));
    if let Some(cache_control) = tool.get("cache_control") {
        translated.insert("cache_control".to_owned(), cache_control.clone());
    }
    Ok(Value::Object(translated))
}

/// Anthropic takes a choice only with tools, and keeps `parallel_tool_calls` inside it.
fn insert_tool_choice(
    given: &Map<String, Value>,
    body: &mut Map<String, Value>,
) -> Result<(), ProviderError> {
    if !body.contains_key("tools") {
        return Ok(());
    }
    let choice = given.get("tool_choice").unwrap_or(&Value::Null);
    let mut translated = match choice {
        Value::Null => None,
        Value::String(mode) => Some(match mode.as_str() {
            "auto" => json!({"type": "auto"}),
            "none" => json!({"type": "none"}),
            "required" => json!({"type": "any"}),
            _ => {
                return Err(refused(
                    "tool_choice",
                    &format!("is `{mode}`, which is no choice"),
                ));
            }
        }),
        Value::Object(_) if choice["function"]["name"].is_string() => {
            Some(json!({"type": "tool", "name": choice["function"]["name"]}))
        }
        _ => return Err(refused("tool_choice", "names no function")),
    };
    if given.get("parallel_tool_calls") == Some(&Value::Bool(false)) {
        let choice = translated.get_or_insert_with(|| json!({"type": "auto"}));
        if choice["type"] != "none" {
            choice["disable_parallel_tool_use"] = Value::Bool(true);
        }
    }
    if let Some(choice) = translated {
        body.insert("tool_choice".to_owned(), choice);
    }
    Ok(())
}

/// What Anthropic groups as the configuration of the output: the schema it must fit and the effort put into it.
fn output_config(given: &Map<String, Value>) -> Result<Map<String, Value>, ProviderError> {
    let mut config = Map::new();
    let format = given.get("response_format").unwrap_or(&Value::Null);
    match format["type"].as_str() {
        None if format.is_null() => {}
        Some("text") => {}
        Some("json_schema") => {
            let schema = &format["json_schema"]["schema"];
            if !schema.is_object() {
                return Err(refused(
                    "response_format.json_schema.schema",
                    "is not a schema",
                ));
            }
            config.insert(
                "format".to_owned(),
                json!({"type": "json_schema", "schema": schema}),
            );
        }
        _ => {
            let kind = &format["type"];
            let why = format!("has the type `{kind}`, and anthropic takes only a `json_schema`");
            return Err(refused("response_format", &why));
        }
    }
    match given.get("reasoning_effort").unwrap_or(&Value::Null) {
        Value::Null => {}
        effort => match effort.as_str() {
            Some("low" | "medium" | "high" | "xhigh" | "max") => {
                config.insert("effort".to_owned(), effort.clone());
            }
            _ => {
                let why = format!("is `{effort}`, which anthropic does not know");
                return Err(refused("reasoning_effort", &why));
            }
        },
    }
    Ok(config)
}

fn elements<'a>(path: &str, value: &'a Value) -> Result<&'a [Value], ProviderError> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| refused(path, "is not an array"))
}

/// Says of the member at `path` why Anthropic cannot be asked for it.
fn refused(path: &str, why: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unsupported, format!("`{path}` {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::openai::tests::chat;

    fn translate(body: Value) -> Result<Value, String> {
        messages_body(&chat(false, body), 4096)
            .map(Value::Object)
            .map_err(|error| {
                assert_eq!(error.kind, ProviderErrorKind::Unsupported);
                error.message
            })
    }

    /// What `given` adds to the smallest body there is.
    fn check(given: Value, expected: Value) {
        let mut whole = json!({"model": "m-1", "max_tokens": 4096});
        for (name, value) in expected.as_object().unwrap() {
            whole[name] = value.clone();
        }
        assert_eq!(translate(given.clone()), Ok(whole), "{given}");
    }

    #[test]
    fn members() {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
        let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
        for (given, expected) in [
            (json!({}), json!({})),
            (json!({"max_tokens": 7}), json!({"max_tokens": 7})),
            (
                json!({"max_tokens": 7, "max_completion_tokens": 9}),
                json!({"max_tokens": 9}),
            ),
            (
                json!({"max_tokens": 7, "max_completion_tokens": null}),
                json!({"max_tokens": 7}),
            ),
            (
                json!({"temperature": 1, "top_p": 0.5, "top_k": 3}),
                json!({"temperature": 1, "top_p": 0.5, "top_k": 3}),
            ),
            (json!({"stop": "END"}), json!({"stop_sequences": ["END"]})),
            (
                json!({"stop": ["a", "b"]}),
                json!({"stop_sequences": ["a", "b"]}),
            ),
            (json!({"stop": []}), json!({})),
            (
                json!({"user": "u-1", "metadata": {"a": "b"}}),
                json!({"metadata": {"user_id": "u-1"}}),
            ),
            (
                json!({"seed": null, "n": 1, "frequency_penalty": 0, "presence_penalty": 0.0, "logprobs": false,
                    "top_logprobs": 0, "logit_bias": {}, "modalities": ["text"], "store": true,
                    "response_format": {"type": "text"}, "tools": [], "tool_choice": "auto",
                    "parallel_tool_calls": false, "reasoning_effort": null, "stream_options": {}}),
                json!({}),
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {
                    "name": "answer", "strict": true, "schema": schema}}, "reasoning_effort": "low"}),
                json!({"output_config": {"format": {"type": "json_schema", "schema": schema}, "effort": "low"}}),
            ),
            (json!({"tools": [tool]}), json!({"tools": tools})),
            (
                json!({"tools": [
                    {"type": "function", "function": {"name": "g", "description": "d", "strict": true}},
                    {"type": "function", "function": {"name": "h", "description": null, "parameters": null}}]}),
                json!({"tools": [
                    {"name": "g", "description": "d", "strict": true,
                        "input_schema": {"type": "object", "properties": {}}},
                    {"name": "h", "input_schema": {"type": "object", "properties": {}}}]}),
            ),
            (
                json!({"tools": [tool], "tool_choice": "auto", "parallel_tool_calls": true}),
                json!({"tools": tools, "tool_choice": {"type": "auto"}}),
            ),
            (
                json!({"tools": [tool], "tool_choice": "none", "parallel_tool_calls": false}),
                json!({"tools": tools, "tool_choice": {"type": "none"}}),
            ),
            (
                json!({"tools": [tool], "tool_choice": "required"}),
                json!({"tools": tools, "tool_choice": {"type": "any"}}),
            ),
            (
                json!({"tools": [tool], "parallel_tool_calls": false}),
                json!({"tools": tools, "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
            ),
            (
                json!({"tools": [tool], "parallel_tool_calls": false,
                    "tool_choice": {"type": "function", "function": {"name": "f"}}}),
                json!({"tools": tools,
                    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}}),
            ),
        ] {
            check(given, expected);
        }
        let streamed = messages_body(&chat(true, json!({})), 5).unwrap();
        assert_eq!(
            Value::Object(streamed),
            json!({"model": "m-1", "max_tokens": 5, "stream": true})
        );
    }

    #[test]
    fn refusals_name_the_member() {
        let tool = json!({"type": "function", "function": {"name": "f"}});
        for (given, message) in [
            (
                json!({"temperature": 1.5}),
                "`temperature` is `1.5`, and anthropic takes at most 1",
            ),
            (json!({"n": 2}), "`n` has no counterpart at anthropic"),
            (json!({"seed": 0}), "`seed` has no counterpart at anthropic"),
            (
                json!({"logit_bias": {"5": -100}}),
                "`logit_bias` has no counterpart at anthropic",
            ),
            (
                json!({"frequency_penalty": 0.1}),
                "`frequency_penalty` has no counterpart at anthropic",
            ),
            (
                json!({"presence_penalty": -1}),
                "`presence_penalty` has no counterpart at anthropic",
            ),
            (
                json!({"logprobs": true}),
                "`logprobs` has no counterpart at anthropic",
            ),
            (
                json!({"functions": []}),
                "`functions` has no counterpart at anthropic",
            ),
            (
                json!({"modalities": ["audio"]}),
                "`modalities` has no counterpart at anthropic",
            ),
            (
                json!({"response_format": {"type": "json_object"}}),
                "`response_format` has the type `\"json_object\"`, and anthropic takes only a `json_schema`",
            ),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}),
                "`response_format.json_schema.schema` is not a schema",
            ),
            (
                json!({"reasoning_effort": "minimal"}),
                "`reasoning_effort` is `\"minimal\"`, which anthropic does not know",
            ),
            (
                json!({"tools": [tool, {"type": "custom"}]}),
                "`tools[1]` is not a function",
            ),
            (json!({"tools": {}}), "`tools` is not an array"),
            (
                json!({"tools": [tool], "tool_choice": "perhaps"}),
                "`tool_choice` is `perhaps`, which is no choice",
            ),
            (
                json!({"tools": [tool], "tool_choice": {"type": "allowed_tools"}}),
                "`tool_choice` names no function",
            ),
            (json!({"messages": "hi"}), "`messages` is not an array"),
        ] {
            assert_eq!(translate(given.clone()), Err(message.to_owned()), "{given}");
        }
    }
}
