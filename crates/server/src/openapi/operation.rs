//! How handlers describe themselves: by the types of their arguments and of their answers.

use std::future::Future;

use axum::Json;
use axum::extract::State;
use axum::handler::Handler;
use axum::response::NoContent;
use http::StatusCode;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{
    IdempotencyKey, JsonBody, JsonItems, MOST_ITEMS, PathParams, QueryParams, RawRequest,
};
use crate::problem::Problem;
use crate::respond::{Created, CreatedOrThere};

/// What parameters mean whose type is any text.
const MEANINGS: [(&str, &str); 4] = [
    ("call", "A call's id: the `id` of its answer."),
    ("key", "A key's id, or its name."),
    ("manifest", "At least 12 digits of a manifest's id."),
    (
        "version",
        "At least 12 digits of the version's id, its number, a label, or `latest`.",
    ),
];

/// What is known of an operation: parameters, body, answers.
pub struct Operation<'a> {
    schemas: &'a mut Schemas,
    path_names: Vec<&'static str>,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Map<String, Value>,
}

/// An argument of a handler, by what it takes from the request.
pub trait Argument {
    /// Adds what it takes.
    fn describe(_: &mut Operation<'_>) {}
}

/// What a handler returns.
pub trait Answer {
    /// Adds the answers it can be.
    fn describe(operation: &mut Operation<'_>);
}

/// A handler whose arguments and answers describe themselves.
pub trait Documented<T>: Handler<T, Context> {
    /// Adds all of them.
    fn describe(operation: &mut Operation<'_>);
}

impl<'a> Operation<'a> {
    pub(super) fn new(schemas: &'a mut Schemas, path: &'static str) -> Self {
        let names = path.split('{').skip(1);
        Self {
            schemas,
            path_names: names
                .filter_map(|rest| Some(rest.split_once('}')?.0))
                .collect(),
            parameters: Vec::new(),
            body: None,
            answers: Map::new(),
        }
    }

    /// The members of an operation object.
    pub(super) fn into_members(self) -> Map<String, Value> {
        let mut members = Map::new();
        if !self.parameters.is_empty() {
            members.insert("parameters".into(), self.parameters.into());
        }
        if let Some(body) = self.body {
            members.insert("requestBody".into(), body);
        }
        members.insert("responses".into(), self.answers.into());
        members
    }

    /// Adds an answer with a body of one or several media types.
    pub(crate) fn answer(&mut self, status: StatusCode, content: &[(&str, Value)]) {
        let description = status.canonical_reason().unwrap_or_default();
        self.add_answer(status.as_str(), description, content);
    }

    /// Adds what every other status has.
    pub(super) fn answer_otherwise<T: JsonSchema>(&mut self, media_type: &str) {
        let schema = self.received::<T>();
        self.add_answer(
            "default",
            "The request was not carried out.",
            &[(media_type, schema)],
        );
    }

    fn add_answer(&mut self, status: &str, description: &str, content: &[(&str, Value)]) {
        let mut answer = json!({"description": description});
        for (media_type, schema) in content {
            answer["content"][media_type] = json!({"schema": schema});
        }
        self.answers.insert(status.to_owned(), answer);
    }

    /// Adds headers to an answer.
    pub(crate) fn headers(&mut self, status: StatusCode, headers: &[(&str, &str)]) {
        if let Some(answer) = self.answers.get_mut(status.as_str()) {
            for (name, description) in headers {
                answer["headers"][name] =
                    json!({"description": description, "schema": {"type": "string"}});
            }
        }
    }

    /// The schema of what clients receive.
    pub(crate) fn received<T: JsonSchema>(&mut self) -> Value {
        self.schemas.of_received::<T>()
    }

    fn add_body(&mut self, is_required: bool, content: Value) {
        self.body = Some(json!({"required": is_required, "content": content}));
    }

    fn add_parameter(&mut self, place: &str, name: &str, is_required: bool, mut schema: Value) {
        let mut parameter = json!({"name": name, "in": place, "required": is_required});
        let members = schema.as_object_mut();
        if let Some(description) = members.and_then(|members| members.shift_remove("description")) {
            parameter["description"] = description;
        }
        parameter["schema"] = schema;
        self.parameters.push(parameter);
    }
}

impl Argument for State<Context> {}

impl Argument for Caller {}

impl<T: JsonSchema> Argument for PathParams<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schemas.of_sent::<T>();
        let schemas = match schema.get("prefixItems") {
            Some(Value::Array(items)) => items.clone(),
            _ => vec![schema],
        };
        for (name, mut schema) in operation.path_names.clone().into_iter().zip(schemas) {
            let meaning = MEANINGS.iter().find(|(known, _)| *known == name);
            if let (Some((_, meaning)), true) = (meaning, schema["$ref"].is_null()) {
                schema["description"] = (*meaning).into();
            }
            operation.add_parameter("path", name, true, schema);
        }
    }
}

impl<T: JsonSchema> Argument for QueryParams<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schemas.of_sent_in_place::<T>();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        for (name, property) in properties {
            let is_required = required.iter().any(|required| required == name);
            operation.add_parameter("query", name, is_required, without_null(property));
        }
    }
}

/// What an optional member may be if it is there: a query has no null.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(members) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            members["type"] = only.clone();
        }
    }
    let is_default_null = members.get("default").is_some_and(Value::is_null);
    if is_default_null {
        members.shift_remove("default");
    }
    if let Some(Value::Array(mut choices)) = members.shift_remove("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        if let [Value::Object(only)] = choices.as_slice() {
            members.extend(only.clone());
        } else {
            members.insert("anyOf".into(), choices.into());
        }
    }
    schema
}

impl<T: JsonSchema> Argument for JsonBody<T> {
    fn describe(operation: &mut Operation<'_>) {
        let whole = operation.schemas.of_sent_in_place::<T>();
        let schema = operation.schemas.of_sent::<T>();
        // A request that needs nothing may come without a body.
        let is_required = whole.get("required").is_some();
        operation.add_body(is_required, json!({"application/json": {"schema": schema}}));
    }
}

impl<T: JsonSchema> Argument for JsonItems<T> {
    fn describe(operation: &mut Operation<'_>) {
        let one = operation.schemas.of_sent::<T>();
        let several = json!({"type": "array", "items": one, "maxItems": MOST_ITEMS});
        let lines = json!({"type": "string", "description": "One on each line."});
        let content = json!({
            "application/json": {"schema": {"anyOf": [one, several]}},
            "application/x-ndjson": {"schema": lines},
        });
        operation.add_body(true, content);
    }
}

impl<T: JsonSchema> Argument for RawRequest<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.schemas.of_sent::<T>();
        operation.add_body(true, json!({"application/json": {"schema": schema}}));
    }
}

impl Argument for IdempotencyKey {
    fn describe(operation: &mut Operation<'_>) {
        let description = "Stands for the `id` of the one item that is sent.";
        let schema = json!({"type": "string", "description": description});
        operation.add_parameter("header", "Idempotency-Key", false, schema);
    }
}

impl<T: JsonSchema> Answer for Json<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.received::<T>();
        operation.answer(StatusCode::OK, &[("application/json", schema)]);
    }
}

impl<T: JsonSchema> Answer for Created<T> {
    fn describe(operation: &mut Operation<'_>) {
        let schema = operation.received::<T>();
        operation.answer(StatusCode::CREATED, &[("application/json", schema)]);
    }
}

impl<T: JsonSchema> Answer for CreatedOrThere<T> {
    fn describe(operation: &mut Operation<'_>) {
        Created::<T>::describe(operation);
        Json::<T>::describe(operation);
    }
}

impl Answer for NoContent {
    fn describe(operation: &mut Operation<'_>) {
        operation.answer(StatusCode::NO_CONTENT, &[]);
    }
}

impl Answer for &'static str {
    fn describe(operation: &mut Operation<'_>) {
        let text = json!({"type": "string"});
        operation.answer(StatusCode::OK, &[("text/plain", text)]);
    }
}

impl<T: Answer> Answer for Result<T, Problem> {
    fn describe(operation: &mut Operation<'_>) {
        T::describe(operation);
    }
}

impl<F, Fut> Documented<((),)> for F
where
    F: Handler<((),), Context> + FnOnce() -> Fut,
    Fut: Future<Output: Answer>,
{
    fn describe(operation: &mut Operation<'_>) {
        Fut::Output::describe(operation);
    }
}

macro_rules! document_handlers {
    ($($argument:ident)*) => {
        impl<F, Fut, M, $($argument),*> Documented<(M, $($argument,)*)> for F
        where
            F: Handler<(M, $($argument,)*), Context> + FnOnce($($argument),*) -> Fut,
            Fut: Future<Output: Answer>,
            $($argument: Argument,)*
        {
            fn describe(operation: &mut Operation<'_>) {
                $($argument::describe(operation);)*
                Fut::Output::describe(operation);
            }
        }
    };
}

document_handlers!(A);
document_handlers!(A B);
document_handlers!(A B C);
document_handlers!(A B C D);
document_handlers!(A B C D E);
