//! What the OpenAPI document promises, held against what tests send and get. Every request of every test comes by here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use flywheel_server::openapi::DOCUMENT;
use http::Method;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::answer::Answer;

/// The document.
pub(crate) static OPENAPI: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&DOCUMENT).unwrap());

/// Its schemas without the freedom to add members, which is for later versions: what is answered now must be described.
static CLOSED: LazyLock<Value> = LazyLock::new(|| {
    let mut schemas = OPENAPI["components"]["schemas"].clone();
    for schema in schemas.as_object_mut().unwrap().values_mut() {
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema["unevaluatedProperties"] = false.into();
        }
    }
    schemas
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Says in what an answer breaks its operation's promise, and whether a request that was carried out was one that the
/// operation takes. Requests to nowhere have no promise.
pub(crate) fn check(
    method: &Method,
    uri: &str,
    sent: &[u8],
    answer: &Answer,
) -> Result<(), String> {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let Some(operation) = find_operation(method, path) else {
        return Ok(());
    };
    if answer.status.is_success() {
        // Clients of OpenAI's door add what they like.
        if path.starts_with("/api/") {
            check_query(operation, query)?;
        }
        check_sent(operation, sent)?;
    }
    check_answer(operation, answer)
}

fn find_operation(method: &Method, path: &str) -> Option<&'static Value> {
    let matches = |template: &str| {
        let (names, parts) = (template.split('/'), path.split('/'));
        names.clone().count() == parts.clone().count()
            && names
                .zip(parts)
                .all(|(name, part)| name.starts_with('{') || name == part)
    };
    let paths = OPENAPI["paths"].as_object()?;
    let fitting = paths.iter().filter(|(template, _)| matches(template));
    // A path without parameters goes before one that would take the same for a parameter.
    let (_, item) = fitting.min_by_key(|(template, _)| template.matches('{').count())?;
    item.get(method.as_str().to_ascii_lowercase())
}

fn check_query(operation: &Value, query: &str) -> Result<(), String> {
    let parameters = operation["parameters"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let known: Vec<_> = parameters
        .iter()
        .filter(|parameter| parameter["in"] == "query")
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, _) = pair.split_once('=').unwrap_or((pair, ""));
        if !known.contains(&name) {
            return Err(format!(
                "query parameter `{name}` is taken and not described"
            ));
        }
    }
    Ok(())
}

fn check_sent(operation: &Value, sent: &[u8]) -> Result<(), String> {
    let content = &operation["requestBody"]["content"];
    if content.is_null() {
        return Ok(());
    }
    if sent.is_empty() {
        return match operation["requestBody"]["required"].as_bool() {
            Some(false) => Ok(()),
            _ => Err("a body is required, and a request without one was carried out".into()),
        };
    }
    match serde_json::from_slice(sent) {
        Ok(body) => check_sent_value(&content["application/json"]["schema"], &body),
        // One item on each line.
        Err(_) if content.get("application/x-ndjson").is_some() => Ok(()),
        Err(error) => Err(format!("a body that is not JSON was taken: {error}")),
    }
}

fn check_answer(operation: &Value, answer: &Answer) -> Result<(), String> {
    let answers = &operation["responses"];
    let promised = answers
        .get(answer.status.as_str())
        .or(answers.get("default"));
    let promised = promised.ok_or_else(|| format!("status {} is not described", answer.status))?;
    let Some(content) = promised["content"].as_object() else {
        return if answer.body.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "the body of status {} is not described",
                answer.status
            ))
        };
    };
    let is_type = answer.header("content-type").unwrap_or_default();
    let essence = |media_type: &str| media_type.split(';').next().unwrap_or_default().to_owned();
    let found = content
        .iter()
        .find(|(name, _)| essence(name) == essence(is_type));
    let (name, media) = found.ok_or_else(|| format!("media type `{is_type}` is not described"))?;
    let body = if name.ends_with("json") {
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?
    } else {
        Value::String(answer.text())
    };
    check_value(&media["schema"], &body, &CLOSED)
}

/// Says where a value that is sent breaks a schema of the document.
pub(crate) fn check_sent_value(schema: &Value, value: &Value) -> Result<(), String> {
    check_value(schema, value, &OPENAPI["components"]["schemas"])
}

fn check_value(schema: &Value, value: &Value, components: &Value) -> Result<(), String> {
    let name = format!("{} {schema}", std::ptr::eq(components, &*CLOSED));
    let validator = Arc::clone(
        VALIDATORS
            .lock()
            .unwrap()
            .entry(name)
            .or_insert_with(|| Arc::new(compile(schema, components))),
    );
    match validator.iter_errors(value).next() {
        None => Ok(()),
        Some(error) => {
            let place = error.instance_path().to_string();
            Err(format!("`{place}` {error}, by schema {schema}"))
        }
    }
}

fn compile(schema: &Value, components: &Value) -> Validator {
    let mut root: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
    root.insert("components".into(), json!({"schemas": components}));
    jsonschema::options()
        .should_validate_formats(true)
        .build(&root.into())
        .unwrap()
}
