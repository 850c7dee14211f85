//! The chat-completion request as clients send it, taken apart.

use flywheel_core::AppName;
use flywheel_core::name::EnvironmentName;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A chat request, checked as far as it can be without knowing what serves it.
#[derive(Debug, Clone)]
pub struct ChatBody {
    /// What is called.
    pub target: Target,
    /// The caller's own messages.
    pub messages: Vec<Value>,
    /// The unit.
    pub user: Option<String>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Whether a stream is to end with a chunk that has the usage.
    pub include_usage: bool,
    /// What is meant for us alone.
    pub flywheel: FlywheelMember,
    /// Every other member, for the provider.
    pub further: Map<String, Value>,
}

/// What a request calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An app: `flywheel/<app>` or `flywheel/<app>@<environment>`.
    App {
        /// The app.
        app: AppName,
        /// The environment, if one is named.
        environment: Option<EnvironmentName>,
    },
    /// A registered model by its own name, perhaps with `:version` or `@alias`.
    Model(String),
}

/// The body member `flywheel`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FlywheelMember {
    /// The variables of the app's prompt.
    pub variables: Map<String, Value>,
    /// The session.
    pub session: Option<String>,
    /// Tags to keep with the call.
    pub tags: Map<String, Value>,
    /// The key under which the request may be repeated.
    pub idempotency_key: Option<String>,
}

/// A request that cannot be served, and which member is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    /// What is wrong.
    pub message: String,
    /// The member, if one is to blame.
    pub param: Option<String>,
}

impl InvalidRequest {
    /// A fault of one member.
    pub fn member(param: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            param: Some(param.to_owned()),
        }
    }
}

/// How long a user, session or idempotency key may be, in bytes.
const LONGEST_ID: usize = 512;

impl Target {
    /// Reads `model` as clients send it.
    ///
    /// # Errors
    /// When it begins with `flywheel/` and what follows is not an app and environment.
    pub fn parse(model: &str) -> Result<Self, InvalidRequest> {
        let Some(rest) = model.strip_prefix("flywheel/") else {
            return Ok(Self::Model(model.to_owned()));
        };
        let (app, environment) = match rest.split_once('@') {
            Some((app, environment)) => (app, Some(environment)),
            None => (rest, None),
        };
        let invalid = |error: flywheel_core::name::InvalidName| {
            InvalidRequest::member("model", error.to_string())
        };
        Ok(Self::App {
            app: app.parse().map_err(invalid)?,
            environment: environment.map(str::parse).transpose().map_err(invalid)?,
        })
    }
}

impl ChatBody {
    /// Reads a request's body.
    ///
    /// # Errors
    /// When it is not JSON, or a member that concerns us has the wrong form.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidRequest> {
        let mut body: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| InvalidRequest {
                message: json_problem(bytes, &error),
                param: None,
            })?;
        let model = match body.remove("model") {
            Some(Value::String(model)) => model,
            Some(_) => return Err(InvalidRequest::member("model", "`model` must be a string")),
            None => {
                let message =
                    "`model` is missing: name an app as `flywheel/<app>`, or a registered model";
                return Err(InvalidRequest::member("model", message));
            }
        };
        let messages = match body.remove("messages") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(messages)) => messages,
            Some(_) => {
                return Err(InvalidRequest::member(
                    "messages",
                    "`messages` must be an array",
                ));
            }
        };
        for (index, message) in messages.iter().enumerate() {
            if message.get("role").and_then(Value::as_str).is_none() {
                let param = format!("messages[{index}].role");
                let problem = format!("`{param}` is missing");
                return Err(InvalidRequest::member(&param, problem));
            }
        }
        let user = take_id(&mut body, "user")?;
        let stream = match body.remove("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => stream,
            Some(_) => {
                return Err(InvalidRequest::member(
                    "stream",
                    "`stream` must be true or false",
                ));
            }
        };
        let include_usage = body
            .remove("stream_options")
            .is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
        let mut flywheel: FlywheelMember = match body.remove("flywheel") {
            None | Some(Value::Null) => FlywheelMember::default(),
            Some(member) => serde_json::from_value(member).map_err(|error| {
                InvalidRequest::member(
                    "flywheel",
                    format!("`flywheel` has the wrong form: {error}"),
                )
            })?,
        };
        for (name, id) in [
            ("flywheel.session", &flywheel.session),
            ("flywheel.idempotency_key", &flywheel.idempotency_key),
        ] {
            check_id(name, id.as_deref())?;
        }
        // What templates leave empty was not given: it must not make one unit, or one request, of everybody.
        flywheel.session = flywheel.session.filter(|id| !id.is_empty());
        flywheel.idempotency_key = flywheel.idempotency_key.filter(|key| !key.is_empty());
        let target = Target::parse(&model)?;
        Ok(Self {
            target,
            messages,
            user,
            stream,
            include_usage,
            flywheel,
            further: body,
        })
    }
}

fn take_id(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, InvalidRequest> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => {
            check_id(name, Some(&id))?;
            Ok(Some(id).filter(|id| !id.is_empty()))
        }
        Some(_) => Err(InvalidRequest::member(
            name,
            format!("`{name}` must be a string"),
        )),
    }
}

fn check_id(name: &str, id: Option<&str>) -> Result<(), InvalidRequest> {
    if id.is_some_and(|id| id.len() > LONGEST_ID) {
        return Err(InvalidRequest::member(
            name,
            format!("`{name}` is longer than {LONGEST_ID} bytes"),
        ));
    }
    Ok(())
}

/// What is wrong with a body that is not a JSON object, in words that tell where.
#[must_use]
pub fn json_problem(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.is_empty() {
        return "the body is empty; a JSON object is expected".to_owned();
    }
    match std::str::from_utf8(bytes) {
        Err(invalid) => {
            format!(
                "the body is not valid UTF-8: byte {} begins no character",
                invalid.valid_up_to()
            )
        }
        Ok(_) => format!("the body is not the JSON that is expected: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (model, expected) in [
            ("gpt-4o", Ok(Target::Model("gpt-4o".into()))),
            (
                "flywheel/a",
                Ok(Target::App {
                    app: "a".parse().unwrap(),
                    environment: None,
                }),
            ),
            (
                "flywheel/a@staging",
                Ok(Target::App {
                    app: "a".parse().unwrap(),
                    environment: Some("staging".parse().unwrap()),
                }),
            ),
            ("flywheel/", Err("app `` is not valid")),
            ("flywheel/a@", Err("environment `` is not valid")),
        ] {
            match (Target::parse(model), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(start)) => assert!(error.message.starts_with(start), "{error}"),
                (found, _) => panic!("{model}: {found:?}"),
            }
        }
    }

    #[test]
    fn faults_are_named() {
        for (body, expected) in [
            (&b""[..], "the body is empty"),
            (
                b"{",
                "the body is not the JSON that is expected: EOF while parsing an object at line 1 column 1",
            ),
            (
                b"[]",
                "the body is not the JSON that is expected: invalid type: sequence",
            ),
            (
                b"{\"model\": \"\xff\"}",
                "the body is not valid UTF-8: byte 11 begins no character",
            ),
            (b"{}", "`model` is missing"),
            (br#"{"model": 1}"#, "`model` must be a string"),
            (
                br#"{"model": "m", "messages": "x"}"#,
                "`messages` must be an array",
            ),
            (
                br#"{"model": "m", "messages": [{"content": "x"}]}"#,
                "`messages[0].role` is missing",
            ),
            (
                br#"{"model": "m", "stream": 1}"#,
                "`stream` must be true or false",
            ),
            (br#"{"model": "m", "user": 1}"#, "`user` must be a string"),
            (
                br#"{"model": "m", "flywheel": {"vars": {}}}"#,
                "`flywheel` has the wrong form: unknown field `vars`",
            ),
        ] {
            let error = ChatBody::parse(body).unwrap_err();
            assert!(error.message.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn members_that_are_not_ours_are_kept() {
        let body = br#"{"model": "m", "messages": [], "n": 2, "logit_bias": {}, "stream": true, "stream_options": {"include_usage": true}}"#;
        let body = ChatBody::parse(body).unwrap();
        assert!(body.stream && body.include_usage);
        assert_eq!(body.further.keys().collect::<Vec<_>>(), ["n", "logit_bias"]);
    }

    #[test]
    fn deep_nesting_is_refused_and_does_not_overflow() {
        let body = format!(r#"{{"model": "m", "x": {}"#, "[".repeat(100_000));
        assert!(
            ChatBody::parse(body.as_bytes())
                .unwrap_err()
                .message
                .contains("recursion limit")
        );
    }
}
