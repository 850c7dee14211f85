//! What was acknowledged against what is found.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::ledger::{Register, SentCall, SentFeedback, SentMove, Violation};
use super::upstream::answer_to;

/// A call as a list shows it.
#[derive(Debug, Clone)]
pub(super) struct FoundCall {
    pub(super) id: String,
    pub(super) token: String,
    pub(super) app: String,
    pub(super) status: String,
    pub(super) output: String,
}

/// A deployment as the history shows it.
#[derive(Debug, Clone)]
pub(super) struct FoundMove {
    pub(super) number: u64,
    pub(super) reason: String,
    pub(super) manifest: String,
    pub(super) previous: String,
}

/// Compares a list of calls. Those that are there, and due in this list, must be in it.
pub(super) fn calls(
    sent: &HashMap<String, SentCall>,
    found: &[FoundCall],
    is_due: impl Fn(&SentCall) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut ids = HashSet::new();
    let mut of_token: HashMap<&str, Vec<&FoundCall>> = HashMap::new();
    for call in found {
        if !ids.insert(&call.id) {
            let text = format!("call id `{}` is listed twice", call.id);
            violations.push(Violation::duplicate(text));
        }
        match sent.get(&call.token) {
            Some(sent) => {
                violations.extend(differs(sent, call));
                of_token.entry(&call.token).or_default().push(call);
            }
            None => {
                let text = format!("call `{}` ({}) was never sent", call.id, call.token);
                violations.push(Violation::wrong(text));
            }
        }
    }
    for (token, found) in &of_token {
        if found.len() > 1 {
            let ids: Vec<_> = found.iter().map(|call| call.id.as_str()).collect();
            let text = format!("call `{token}` has several records: {}", ids.join(", "));
            violations.push(Violation::duplicate(text));
        }
    }
    for (token, sent) in sent {
        let Some(id) = sent.id.as_ref().filter(|_| is_due(sent)) else {
            continue;
        };
        let found = of_token.get(token.as_str()).into_iter().flatten();
        if !found.into_iter().any(|call| call.id == *id) {
            violations.push(Violation::lost(format!("call `{id}` ({token})")));
        }
    }
    violations
}

/// What is wrong with a record of a call.
pub(super) fn differs(sent: &SentCall, found: &FoundCall) -> Option<Violation> {
    let expected = answer_to(&found.token);
    let is_right = match found.status.as_str() {
        "ok" => found.output == expected,
        // The client left, so the record has what had come by then.
        "client_closed" if sent.abandoned => expected.starts_with(&found.output),
        _ => false,
    };
    if is_right && found.app == sent.app {
        return None;
    }
    let text = format!(
        "call `{}` of app `{}` is {} in `{}` with output {:?}; {expected:?} was sent",
        found.id, sent.app, found.status, found.app, found.output
    );
    Some(Violation::wrong(text))
}

/// Compares the feedback on one call. `due` are the ids that must be there.
pub(super) fn feedback<'a>(
    sent: &HashMap<String, SentFeedback>,
    call_id: &str,
    found: &[Value],
    due: impl IntoIterator<Item = &'a str>,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut ids = HashSet::new();
    for piece in found {
        let id = piece["id"].as_str().unwrap_or_default();
        if !ids.insert(id) {
            let text = format!("feedback `{id}` is on call `{call_id}` twice");
            violations.push(Violation::duplicate(text));
        }
        let same = sent.get(id).is_some_and(|sent| {
            sent.call_id == call_id && piece["call_id"] == call_id && contains(piece, &sent.body)
        });
        if !same {
            let sent = sent
                .get(id)
                .map(|sent| format!("{} on `{}`", sent.body, sent.call_id));
            let text = format!("feedback `{id}` on call `{call_id}` is {piece}, sent was {sent:?}");
            violations.push(Violation::wrong(text));
        }
    }
    let missing = due.into_iter().filter(|id| !ids.contains(id));
    violations.extend(missing.map(|id| {
        let text = format!("feedback `{id}` on call `{call_id}`");
        Violation::lost(text)
    }));
    violations
}

/// Whether every member that was sent is there with the same value; 5 and 5.0 are the same.
fn contains(found: &Value, sent: &Value) -> bool {
    let members = sent.as_object().into_iter().flatten();
    members.into_iter().all(|(name, value)| {
        let found = &found[name];
        found == value || (found.is_number() && found.as_f64() == value.as_f64())
    })
}

/// Compares an app's history, newest first. Moves that are there, and due in this part of it, must be in it.
pub(super) fn moves(
    sent: &HashMap<String, SentMove>,
    app: &str,
    found: &[FoundMove],
    is_due: impl Fn(&SentMove) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut reasons = HashSet::new();
    for entry in found {
        let FoundMove { reason, number, .. } = entry;
        if !reasons.insert(reason.as_str()) {
            let text = format!("deployment `{reason}` of `{app}` is in its history twice");
            violations.push(Violation::duplicate(text));
        }
        let problem = match sent.get(reason) {
            None => Some("was never sent"),
            Some(sent) if sent.app != app => Some("was sent to another app"),
            Some(sent) if sent.refused => Some("was refused"),
            Some(sent) => match &sent.outcome {
                Some(outcome) if *outcome != (*number, entry.manifest.clone()) => {
                    Some("was acknowledged with another number or manifest")
                }
                _ => None,
            },
        };
        if let Some(problem) = problem {
            let text = format!("deployment {number} `{reason}` of `{app}` {problem}");
            violations.push(Violation::wrong(text));
        }
    }
    for pair in found.windows(2) {
        let [later, earlier] = pair else { continue };
        if later.number <= earlier.number || later.previous != earlier.manifest {
            let text = format!("the history of `{app}` does not connect: {later:?} on {earlier:?}");
            violations.push(Violation::wrong(text));
        }
    }
    for (reason, sent) in sent {
        let due = sent.app == app && sent.outcome.is_some() && is_due(sent);
        if due && !reasons.contains(reason.as_str()) {
            let text = format!("deployment {:?} `{reason}` of `{app}`", sent.outcome);
            violations.push(Violation::lost(text));
        }
    }
    violations
}

/// A value is the last that was acknowledged, or the one whose answer never came.
pub(super) fn register(name: &str, register: &Register, found: &str) -> Option<Violation> {
    let Register { known, awaited } = register;
    if found == known || awaited.as_deref() == Some(found) {
        return None;
    }
    let text = format!("`{name}` is `{found}`; `{known}` was acknowledged, {awaited:?} awaited");
    Some(Violation::lost(text))
}

#[cfg(test)]
mod tests;
