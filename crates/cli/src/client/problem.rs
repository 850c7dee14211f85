//! What the server says when it refuses, in any of the shapes it has.

use http::StatusCode;
use serde_json::{Value, json};

use crate::output::record::Record;

/// A refusal of the server.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.message())]
pub(crate) struct Problem {
    /// The HTTP status.
    pub(crate) status: StatusCode,
    /// What kind of problem it is, for programs.
    pub(crate) code: String,
    /// What kind of problem it is, for people.
    pub(crate) title: String,
    /// What happened this time.
    pub(crate) detail: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What is wrong with single items of what was sent.
    pub(crate) errors: Vec<ItemError>,
    /// The call that failed, if it was recorded.
    pub(crate) call_id: Option<String>,
    /// The whole document.
    pub(crate) body: Value,
}

/// What is wrong with one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ItemError {
    /// Which item, counted from 0.
    pub(crate) index: Option<usize>,
    /// Of which kind, where a batch has several.
    pub(crate) kind: Option<String>,
    /// What is wrong with it.
    pub(crate) detail: String,
}

impl Problem {
    /// Reads a problem document, or an error in OpenAI's shape. `None` if it is neither.
    pub(crate) fn read(status: StatusCode, body: Value) -> Option<Self> {
        let record = Record(&body);
        if let Some(error) = record.record("error") {
            let code = error
                .optional("code")
                .or(error.optional("type"))
                .unwrap_or_default();
            return Some(Self {
                status,
                code: code.to_owned(),
                title: error.text("type").to_owned(),
                detail: error.text("message").to_owned(),
                hint: error.optional("hint").map(str::to_owned),
                errors: Vec::new(),
                call_id: None,
                body,
            });
        }
        if record.optional("title").is_none() && record.optional("detail").is_none() {
            return None;
        }
        let item = |item: Record<'_>| ItemError {
            index: item.number("index").map(|index| index as usize),
            kind: item.optional("kind").map(str::to_owned),
            detail: item.text("detail").to_owned(),
        };
        Some(Self {
            status,
            code: record.text("code").to_owned(),
            title: record.text("title").to_owned(),
            detail: record.text("detail").to_owned(),
            hint: record.optional("hint").map(str::to_owned),
            errors: record.items("errors").map(item).collect(),
            call_id: None,
            body,
        })
    }

    /// Whether a document is what Flywheel says below `/api/v1`, and nothing that another server would say there.
    pub(crate) fn is_flywheels(body: &Value) -> bool {
        let record = Record(body);
        record.optional("code").is_some() || record.optional("title").is_some()
    }

    /// The same about a call.
    pub(crate) fn of_call(mut self, id: Option<String>) -> Self {
        if let (Some(id), Some(document)) = (&id, self.body.as_object_mut()) {
            document.insert("call_id".to_owned(), id.as_str().into());
        }
        self.call_id = id;
        self
    }

    /// What happened, in a sentence.
    pub(crate) fn message(&self) -> String {
        if !self.detail.is_empty() {
            self.detail.clone()
        } else if !self.title.is_empty() {
            self.title.clone()
        } else {
            format!("the server refused with status {}", self.status)
        }
    }

    /// What to do: the server's word, or what usually helps.
    pub(crate) fn advice(&self) -> Option<String> {
        // What the server says of headers does not help whoever types commands.
        if self.status == StatusCode::UNAUTHORIZED {
            return Some(
                "pass a key with --key or the variable FLYWHEEL_KEY; an admin makes one with `flywheel key create`".to_owned(),
            );
        }
        let usual = || match self.status {
            StatusCode::FORBIDDEN => Some(
                "this key may not do that; an admin makes others with `flywheel key create`"
                    .to_owned(),
            ),
            _ => {
                let id = self.call_id.as_ref()?;
                Some(format!("`flywheel calls show {id}` shows what was asked"))
            }
        };
        self.hint.clone().or_else(usual)
    }

    /// What belongs to the message: single items, failed checks, the one who was faster.
    pub(crate) fn further(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .errors
            .iter()
            // The first of them often is the message.
            .filter(|error| error.detail != self.detail)
            .map(|error| match (&error.kind, error.index) {
                (Some(kind), Some(index)) => format!("{kind} {index}: {}", error.detail),
                (None, Some(index)) => format!("item {index}: {}", error.detail),
                _ => error.detail.clone(),
            })
            .collect();
        let record = Record(&self.body);
        for check in record
            .record("preflight")
            .iter()
            .flat_map(|record| record.items("checks"))
        {
            if let Some(problem) = check.optional("problem") {
                lines.push(format!("{}: {problem}", check.text("name")));
                lines.extend(check.optional("hint").map(|hint| format!("  hint: {hint}")));
            }
        }
        if let Some(id) = &self.call_id {
            lines.push(format!("recorded as call {id}"));
        }
        if let Some(current) = record.record("current") {
            lines.push(format!(
                "now deployed: manifest {} (#{} by {}: {})",
                current.short("manifest"),
                current.shown("number"),
                current.text("actor"),
                current.text("reason"),
            ));
        }
        lines
    }
}

/// A problem document for what went wrong on this side.
pub(crate) fn local_document(code: &str, message: &str, hint: Option<&str>) -> Value {
    let mut document = json!({"type": "about:blank", "title": message, "code": code});
    if let Some(hint) = hint {
        document["hint"] = hint.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shapes_are_read() {
        let problem = Problem::read(
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({"title": "Invalid", "detail": "2 items are wrong", "code": "invalid",
                   "errors": [{"index": 1, "kind": "prompt", "detail": "no messages"}]}),
        )
        .unwrap();
        assert_eq!(problem.to_string(), "2 items are wrong");
        assert_eq!(problem.further(), ["prompt 1: no messages"]);

        let openai = json!({"error": {"message": "no such app", "type": "invalid_request_error"}});
        let problem = Problem::read(StatusCode::NOT_FOUND, openai).unwrap();
        assert_eq!(
            (problem.to_string().as_str(), problem.code.as_str()),
            ("no such app", "invalid_request_error")
        );

        for other in [
            json!({"message": "?"}),
            json!([]),
            Value::Null,
            json!("text"),
        ] {
            assert!(Problem::read(StatusCode::BAD_GATEWAY, other).is_none());
        }
    }

    #[test]
    fn a_wrong_key_names_where_keys_are_given() {
        for hint in [Value::Null, json!("send `Authorization: Bearer fw_…`")] {
            let body = json!({"title": "Unauthorized", "code": "unauthorized", "hint": hint});
            let problem = Problem::read(StatusCode::UNAUTHORIZED, body).unwrap();
            let advice = problem.advice().unwrap();
            assert!(advice.contains("--key") && advice.contains("FLYWHEEL_KEY"));
        }
    }

    #[test]
    fn only_flywheel_speaks_of_its_own_resources_so() {
        let ours = json!({"title": "Not found", "code": "not_found", "detail": "no such app"});
        assert!(Problem::is_flywheels(&ours));
        // A model server, and a web framework.
        for other in [
            json!({"error": {"message": "File Not Found", "code": 404, "type": "not_found_error"}}),
            json!({"detail": "Not Found"}),
        ] {
            assert!(!Problem::is_flywheels(&other), "{other}");
        }
    }

    #[test]
    fn checks_and_winners_are_told() {
        let problem = Problem::read(
            StatusCode::CONFLICT,
            json!({"title": "Lost", "current": {"number": 7, "manifest": "ab".repeat(32),
                   "actor": "ann", "reason": "fix"},
                   "preflight": {"checks": [{"name": "provider", "problem": "down", "hint": "start it"},
                                            {"name": "fine"}]}}),
        )
        .unwrap();
        assert_eq!(
            problem.further(),
            [
                "provider: down",
                "  hint: start it",
                "now deployed: manifest abababababab (#7 by ann: fix)"
            ]
        );
    }
}
