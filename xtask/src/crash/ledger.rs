//! What was sent, and what of it was acknowledged: all that the server is held to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use crate::random::Random;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) kind: ViolationKind,
    pub(super) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ViolationKind {
    /// Acknowledged, and not there.
    Lost,
    /// There twice.
    Duplicate,
    /// There, but not as it was sent, or never sent; or an answer that makes no sense.
    Wrong,
}

impl Violation {
    pub(super) fn lost(text: impl Into<String>) -> Self {
        let kind = ViolationKind::Lost;
        let text = text.into();
        Self { kind, text }
    }

    pub(super) fn duplicate(text: impl Into<String>) -> Self {
        let kind = ViolationKind::Duplicate;
        let text = text.into();
        Self { kind, text }
    }

    pub(super) fn wrong(text: impl Into<String>) -> Self {
        let kind = ViolationKind::Wrong;
        let text = text.into();
        Self { kind, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ViolationKind::Lost => "LOST",
            ViolationKind::Duplicate => "DUPLICATE",
            ViolationKind::Wrong => "WRONG",
        };
        write!(formatter, "{kind}: {}", self.text)
    }
}

/// A call as it was sent. Its token is what the model is asked about and, as `session`, what the record is found by.
#[derive(Debug, Clone, Default)]
pub(super) struct SentCall {
    /// The round in which it was sent last.
    pub(super) round: u32,
    pub(super) app: &'static str,
    /// Sent with its token as idempotency key, so that it may be sent again.
    pub(super) keyed: bool,
    /// The client left before the end.
    pub(super) abandoned: bool,
    /// The id, once it is known that the record is there: acknowledged, or seen after a restart.
    pub(super) id: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct SentFeedback {
    pub(super) round: u32,
    pub(super) call_id: String,
    /// The members that were sent first; what was sent later under the same id must not count.
    pub(super) body: Value,
    pub(super) is_there: bool,
}

/// A deployment or rollback as it was sent; its reason is unique.
#[derive(Debug, Clone, Default)]
pub(super) struct SentMove {
    pub(super) round: u32,
    pub(super) app: &'static str,
    /// Number and manifest, once it is known to be in the history.
    pub(super) outcome: Option<(u64, String)>,
    /// Another one was faster, and the server said so.
    pub(super) refused: bool,
}

/// A value that one worker changes: its last known state, and the change whose answer is still awaited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Register {
    pub(super) known: String,
    pub(super) awaited: Option<String>,
}

/// Numbers for the summary.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) streams: u64,
    pub(super) logged: u64,
    pub(super) replays: u64,
    pub(super) feedback: u64,
    pub(super) repeats: u64,
    pub(super) deployments: u64,
    pub(super) lost_races: u64,
    pub(super) other_changes: u64,
    /// Answered with the remark that it was not recorded, or asked to come again.
    pub(super) unrecorded: u64,
    /// Never acknowledged and yet there after the restart, which is allowed.
    pub(super) found: u64,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) calls: HashMap<String, SentCall>,
    pub(super) feedback: HashMap<String, SentFeedback>,
    pub(super) moves: HashMap<String, SentMove>,
    pub(super) registers: BTreeMap<String, Register>,
    /// Changes of the state that were acknowledged or seen: each has one entry in the audit log.
    pub(super) changes_made: u64,
    pub(super) tally: Tally,
    pub(super) violations: Vec<Violation>,
    /// Tokens of calls that are there, in order; for choosing some of them.
    settled_calls: Vec<String>,
    settled_feedback: Vec<String>,
    keyed: Vec<String>,
    /// The number of each worker's last move.
    last_numbers: HashMap<&'static str, u64>,
}

impl Ledger {
    pub(super) fn violate(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    pub(super) fn send_call(&mut self, token: &str, call: SentCall) {
        if let Some(sent) = self.calls.get_mut(token) {
            sent.round = call.round;
            return;
        }
        if call.keyed {
            self.keyed.push(token.to_owned());
        }
        self.calls.insert(token.to_owned(), call);
    }

    /// A call is there: it was acknowledged, or seen. Tells whether that is news.
    pub(super) fn settle_call(&mut self, token: &str, id: &str) -> bool {
        let Some(call) = self.calls.get_mut(token) else {
            return false;
        };
        if let Some(known) = &call.id {
            if known != id {
                let text =
                    format!("call `{token}` was stored as `{known}`, and then again as `{id}`");
                self.violations.push(Violation::duplicate(text));
            }
            return false;
        }
        call.id = Some(id.to_owned());
        self.settled_calls.push(token.to_owned());
        true
    }

    /// Ids of calls that are there, mostly recent ones.
    pub(super) fn some_call(&self, random: &mut Random) -> Option<(String, String)> {
        let token = recent_or_any(&self.settled_calls, random)?;
        let id = self.calls.get(token)?.id.clone()?;
        Some((token.clone(), id))
    }

    /// Calls of any age that are there.
    pub(super) fn sample_calls(&self, count: usize, random: &mut Random) -> HashSet<String> {
        let chosen = (0..count).filter_map(|_| random.one_of(&self.settled_calls));
        chosen.cloned().collect()
    }

    pub(super) fn some_keyed(&self, random: &mut Random) -> Option<(String, SentCall)> {
        let token = recent_or_any(&self.keyed, random)?;
        Some((token.clone(), self.calls.get(token)?.clone()))
    }

    pub(super) fn send_feedback(&mut self, id: &str, feedback: SentFeedback) {
        self.feedback.entry(id.to_owned()).or_insert(feedback);
    }

    pub(super) fn settle_feedback(&mut self, id: &str) -> bool {
        match self.feedback.get_mut(id) {
            Some(feedback) if !feedback.is_there => {
                feedback.is_there = true;
                self.settled_feedback.push(id.to_owned());
                true
            }
            _ => false,
        }
    }

    pub(super) fn some_feedback(&self, random: &mut Random) -> Option<(String, SentFeedback)> {
        let id = recent_or_any(&self.settled_feedback, random)?;
        Some((id.clone(), self.feedback.get(id)?.clone()))
    }

    pub(super) fn send_move(&mut self, reason: &str, sent: SentMove) {
        self.moves.insert(reason.to_owned(), sent);
    }

    /// A move was acknowledged. Its number must come after those its worker heard of before.
    pub(super) fn acknowledge_move(
        &mut self,
        worker: &'static str,
        reason: &str,
        number: u64,
        manifest: &str,
    ) {
        self.changes_made += 1;
        self.tally.deployments += 1;
        if let Some(sent) = self.moves.get_mut(reason) {
            sent.outcome = Some((number, manifest.to_owned()));
        }
        let last = self.last_numbers.insert(worker, number);
        if last.is_some_and(|last| last >= number) {
            let text = format!("deployment `{reason}` got number {number} after {last:?}");
            self.violate(Violation::wrong(text));
        }
    }

    pub(super) fn send_change(&mut self, register: &str, value: &str) {
        let register = self.registers.entry(register.to_owned()).or_default();
        register.awaited = Some(value.to_owned());
    }

    pub(super) fn acknowledge_change(&mut self, register: &str) {
        self.changes_made += 1;
        self.tally.other_changes += 1;
        if let Some(register) = self.registers.get_mut(register)
            && let Some(value) = register.awaited.take()
        {
            register.known = value;
        }
    }

    pub(super) fn count(&self, kind: ViolationKind) -> usize {
        let violations = self.violations.iter();
        violations
            .filter(|violation| violation.kind == kind)
            .count()
    }
}

/// Half the time one of the last, which may just have been written when the server was killed.
fn recent_or_any<'a>(items: &'a [String], random: &mut Random) -> Option<&'a String> {
    const RECENT: usize = 50;
    let recent = &items[items.len().saturating_sub(RECENT)..];
    let items = if random.one_in(2) { recent } else { items };
    random.one_of(items)
}
