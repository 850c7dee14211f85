//! A conversation in OpenAI's messages as Anthropic's: a system prompt apart, turns that alternate, blocks of content.

use serde_json::{Map, Value, json};

use super::{elements, refused};
use crate::error::ProviderError;

/// The blocks of the system prompt, and the messages.
pub(super) fn translate(messages: &Value) -> Result<(Vec<Value>, Vec<Value>), ProviderError> {
    let mut system = Vec::new();
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for (index, message) in elements("messages", messages)?.iter().enumerate() {
        let path = format!("messages[{index}]");
        let (role, blocks) = match message["role"].as_str() {
            // Anthropic takes one system prompt, before everything else.
            Some("system" | "developer") => {
                system.extend(content_blocks(&path, &message["content"])?);
                continue;
            }
            Some("user") => ("user", content_blocks(&path, &message["content"])?),
            Some("assistant") => ("assistant", assistant_blocks(&path, message)?),
            Some("tool") => ("user", vec![tool_result(&path, message)?]),
            _ => {
                let role = &message["role"];
                return Err(refused(
                    &path,
                    &format!("has the role `{role}`, which has no counterpart at anthropic"),
                ));
            }
        };
        // Anthropic refuses messages and texts that are empty, which OpenAI allows.
        if blocks.is_empty() {
            continue;
        }
        match turns.last_mut() {
            Some((last, content)) if *last == role => content.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    let turns = turns
        .into_iter()
        .map(|(role, content)| json!({"role": role, "content": content}));
    Ok((system, turns.collect()))
}

/// What the assistant said, then the tools it called.
fn assistant_blocks(path: &str, message: &Value) -> Result<Vec<Value>, ProviderError> {
    if !message["function_call"].is_null() {
        return Err(refused(
            &format!("{path}.function_call"),
            "has no counterpart at anthropic",
        ));
    }
    let mut blocks = content_blocks(path, &message["content"])?;
    blocks.extend(message["refusal"].as_str().and_then(text_block));
    if message["tool_calls"].is_null() {
        return Ok(blocks);
    }
    let calls = elements(&format!("{path}.tool_calls"), &message["tool_calls"])?;
    for (index, call) in calls.iter().enumerate() {
        let path = format!("{path}.tool_calls[{index}].function.arguments");
        let arguments = match call["function"]["arguments"].as_str() {
            None => return Err(refused(&path, "is not a string")),
            Some(text) if text.trim().is_empty() => Map::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|_| refused(&path, "is not a JSON object, which anthropic demands"))?,
        };
        blocks.push(json!({
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": arguments,
        }));
    }
    Ok(blocks)
}

fn tool_result(path: &str, message: &Value) -> Result<Value, ProviderError> {
    let id = &message["tool_call_id"];
    let content = match &message["content"] {
        text @ Value::String(_) => text.clone(),
        content => Value::Array(content_blocks(path, content)?),
    };
    Ok(json!({"type": "tool_result", "tool_use_id": id, "content": content}))
}

/// A message's content, a text or an array of parts, as blocks. Null, as beside tool calls, is nothing.
fn content_blocks(path: &str, content: &Value) -> Result<Vec<Value>, ProviderError> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(text_block(text).into_iter().collect()),
        _ => {
            let path = format!("{path}.content");
            let mut blocks = Vec::new();
            for (index, part) in elements(&path, content)?.iter().enumerate() {
                blocks.extend(part_block(&format!("{path}[{index}]"), part)?);
            }
            Ok(blocks)
        }
    }
}

fn text_block(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn part_block(path: &str, part: &Value) -> Result<Option<Value>, ProviderError> {
    let block = match part["type"].as_str() {
        Some("text") => part["text"].as_str().and_then(text_block),
        Some("refusal") => part["refusal"].as_str().and_then(text_block),
        Some("image_url") => {
            let source = image_source(&format!("{path}.image_url.url"), &part["image_url"]["url"])?;
            Some(json!({"type": "image", "source": source}))
        }
        _ => {
            let kind = &part["type"];
            return Err(refused(
                path,
                &format!("has the type `{kind}`, which has no counterpart at anthropic"),
            ));
        }
    };
    // Where the prompt cache should end is Anthropic's own, for those who ask for it.
    Ok(block.map(|mut block| {
        if let Some(cache_control) = part.get("cache_control") {
            block["cache_control"] = cache_control.clone();
        }
        block
    }))
}

/// An image's source. The URL itself is not repeated in the error: it may be megabytes of data, or signed.
fn image_source(path: &str, url: &Value) -> Result<Value, ProviderError> {
    let url = url
        .as_str()
        .ok_or_else(|| refused(path, "is not a string"))?;
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    if scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http") {
        return Ok(json!({"type": "url", "url": url}));
    }
    if !scheme.eq_ignore_ascii_case("data") {
        return Err(refused(path, "is neither an `http` nor a `data` URL"));
    }
    let (header, data) = rest.split_once(',').unwrap_or_default();
    let mut parameters = header.split(';');
    let media_type = parameters.next().unwrap_or_default();
    if media_type.is_empty() || !parameters.any(|it| it.eq_ignore_ascii_case("base64")) {
        return Err(refused(
            path,
            "is a `data` URL without a media type or not in base64",
        ));
    }
    Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: Value, system: Value, expected: Value) {
        let (actual_system, actual) = translate(&messages).unwrap();
        assert_eq!(Value::Array(actual_system), system, "{messages}");
        assert_eq!(Value::Array(actual), expected, "{messages}");
    }

    #[test]
    fn texts_and_roles() {
        check(
            json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "user", "content": [{"type": "text", "text": "there"}, {"type": "text", "text": ""}]},
                {"role": "assistant", "content": ""},
                {"role": "assistant", "content": "Hello"},
                {"role": "developer", "content": [{"type": "text", "text": "Be kind.",
                    "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {"role": "user", "content": "Why?", "name": "ada"},
            ]),
            json!([
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}},
            ]),
            json!([
                {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "there"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "No."}]},
                {"role": "user", "content": [{"type": "text", "text": "Why?"}]},
            ]),
        );
        check(json!([]), json!([]), json!([]));
    }

    #[test]
    fn tools() {
        check(
            json!([
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": null, "refusal": null, "tool_calls": [
                    {"id": "t1", "type": "function", "function": {"name": "w", "arguments": "{\"city\":\"Bern\"}"}},
                    {"id": "t2", "type": "function", "function": {"name": "now", "arguments": ""}},
                ]},
                {"role": "tool", "tool_call_id": "t1", "content": "rain"},
                {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "noon"}]},
                {"role": "user", "content": "So?"},
            ]),
            json!([]),
            json!([
                {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
                {"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t1", "name": "w", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "t2", "name": "now", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "noon"}]},
                    {"type": "text", "text": "So?"},
                ]},
            ]),
        );
    }

    #[test]
    fn images() {
        for (url, source) in [
            (
                "data:image/png;base64,iVBORw0KGgo=",
                json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}),
            ),
            (
                "DATA:image/jpeg;charset=utf-8;BASE64,AA",
                json!({"type": "base64", "media_type": "image/jpeg", "data": "AA"}),
            ),
            (
                "https://example.com/a,b.png",
                json!({"type": "url", "url": "https://example.com/a,b.png"}),
            ),
        ] {
            check(
                json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, "detail": "low"}}]}]),
                json!([]),
                json!([{"role": "user", "content": [{"type": "image", "source": source}]}]),
            );
        }
    }

    #[test]
    fn refusals_name_the_place() {
        let image = |url: Value| json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]});
        let call = |arguments: Value| json!({"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": arguments}}]});
        let url = "messages[0].content[0].image_url.url";
        let arguments = "messages[0].tool_calls[0].function.arguments";
        for (message, expected) in [
            (
                json!({"role": "function", "content": "x"}),
                "`messages[0]` has the role `\"function\"`, which has no counterpart at anthropic".to_owned(),
            ),
            (json!(7), "`messages[0]` has the role `null`, which has no counterpart at anthropic".to_owned()),
            (json!({"role": "user", "content": 7}), "`messages[0].content` is not an array".to_owned()),
            (
                json!({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}),
                "`messages[0].content[1]` has the type `\"input_audio\"`, which has no counterpart at anthropic".to_owned(),
            ),
            (
                json!({"role": "assistant", "function_call": {"name": "f"}}),
                "`messages[0].function_call` has no counterpart at anthropic".to_owned(),
            ),
            (image(json!(null)), format!("`{url}` is not a string")),
            (image(json!("file:///etc/passwd")), format!("`{url}` is neither an `http` nor a `data` URL")),
            (image(json!("cat.png")), format!("`{url}` is neither an `http` nor a `data` URL")),
            (
                image(json!("data:image/svg+xml,%3Csvg/%3E")),
                format!("`{url}` is a `data` URL without a media type or not in base64"),
            ),
            (
                image(json!("data:;base64,AA")),
                format!("`{url}` is a `data` URL without a media type or not in base64"),
            ),
            (call(json!({})), format!("`{arguments}` is not a string")),
            (call(json!("[1]")), format!("`{arguments}` is not a JSON object, which anthropic demands")),
            (call(json!("{")), format!("`{arguments}` is not a JSON object, which anthropic demands")),
        ] {
            let error = translate(&json!([message])).unwrap_err();
            assert_eq!(error.message, expected, "{message}");
        }
    }
}
