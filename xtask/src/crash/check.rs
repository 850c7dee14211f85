//! After a restart: everything that was acknowledged is fetched and compared.

mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;

use super::client::Client;
use super::compare::{self, FoundCall};
use super::ledger::{Ledger, SentCall, Violation};
use super::load::{APPS, lock, must};
use crate::random::Random;

/// How much is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// What this round wrote, and a sample of what came before.
    Round(u32),
    Everything,
}

/// Small, so that a round has several pages to walk.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// Earlier calls that each round looks at again.
const SAMPLE: usize = 30;
/// Calls that are fetched at a time.
const READERS: usize = 4;

pub(super) struct Checker {
    pub(super) client: Arc<Client>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// How long the audit log was when it was seen last, and how it ended.
    pub(super) audit: AuditSeen,
}

#[derive(Clone, Default)]
pub(super) struct AuditSeen {
    /// Entries from before the counting began.
    pub(super) base: u64,
    pub(super) entries: u64,
    pub(super) head: String,
}

impl Scope {
    fn includes(self, round: u32) -> bool {
        match self {
            Self::Round(number) => number == round,
            Self::Everything => true,
        }
    }
}

impl Checker {
    /// Checks all there is to check. What breaks a promise is noted in the ledger.
    pub(super) async fn check(&mut self, scope: Scope, random: &mut Random) -> Result<()> {
        self.check_calls(scope).await?;
        self.check_feedback(scope, random).await?;
        for app in APPS {
            self.check_moves(app, scope).await?;
        }
        self.check_registers().await?;
        self.check_audit().await?;
        if scope == Scope::Everything {
            self.check_audited_moves().await?;
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        must(self.client.get(path), path).await
    }

    /// All items of a list, page by page, until `is_enough` of a page.
    async fn walk(
        &self,
        path: &str,
        limit: usize,
        is_enough: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit={limit}{cursor}")).await?;
            let found = page["items"].as_array().cloned().unwrap_or_default();
            let enough = is_enough(&found);
            items.extend(found);
            match page["next"].as_str().filter(|_| !enough) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    async fn check_calls(&self, scope: Scope) -> Result<()> {
        let (limit, since) = match scope {
            Scope::Round(number) => (PAGE, Some(format!("r{number}-"))),
            Scope::Everything => (LARGEST_PAGE, None),
        };
        let is_earlier = |call: &Value| {
            let token = call["session"].as_str().unwrap_or_default();
            since
                .as_ref()
                .is_some_and(|prefix| !token.starts_with(prefix))
        };
        let items = self
            .walk("/api/v1/calls", limit, |page| page.iter().all(is_earlier))
            .await?;
        let found: Vec<_> = items
            .iter()
            .map(|call| found_call(call, "output_preview"))
            .collect();
        let mut ledger = lock(&self.ledger);
        // A call under a key may have been recorded rounds ago; it is looked up by its id.
        let is_due = |call: &SentCall| {
            scope == Scope::Everything || (scope.includes(call.round) && !call.keyed)
        };
        let violations = compare::calls(&ledger.calls, &found, is_due);
        ledger.violations.extend(violations);
        for call in &found {
            if ledger.settle_call(&call.token, &call.id) {
                ledger.tally.found += 1;
            }
        }
        Ok(())
    }

    /// Fetches calls one by one: those with new feedback, those under keys, and a sample of all.
    async fn check_feedback(&self, scope: Scope, random: &mut Random) -> Result<()> {
        let mut due: HashMap<String, Vec<String>> = HashMap::new();
        let mut tokens: HashMap<String, String> = HashMap::new();
        {
            let ledger = lock(&self.ledger);
            let sample = ledger.sample_calls(SAMPLE, random);
            for (token, call) in &ledger.calls {
                let Some(id) = &call.id else { continue };
                tokens.insert(id.clone(), token.clone());
                if sample.contains(token) || (call.keyed && scope.includes(call.round)) {
                    due.entry(id.clone()).or_default();
                }
            }
            for feedback in ledger.feedback.values() {
                if scope.includes(feedback.round) {
                    due.entry(feedback.call_id.clone()).or_default();
                }
            }
            // Of a call that is looked at, all feedback is due, however old.
            for (id, feedback) in ledger.feedback.iter().filter(|(_, sent)| sent.is_there) {
                if let Some(ids) = due.get_mut(&feedback.call_id) {
                    ids.push(id.clone());
                }
            }
        }
        let fetched = fetch(&self.client, due.keys().cloned().collect()).await?;
        let mut ledger = lock(&self.ledger);
        for (id, call) in &fetched {
            let token = tokens.get(id).map_or("", String::as_str);
            let violations = check_one(&ledger, id, token, call.as_ref(), &due[id]);
            ledger.violations.extend(violations);
            let pieces = call
                .as_ref()
                .and_then(|call| call["feedback"].as_array().cloned());
            for piece in pieces.into_iter().flatten() {
                if ledger.settle_feedback(piece["id"].as_str().unwrap_or_default()) {
                    ledger.tally.found += 1;
                }
            }
        }
        Ok(())
    }
}

fn check_one(
    ledger: &Ledger,
    id: &str,
    token: &str,
    call: Option<&Value>,
    due: &[String],
) -> Vec<Violation> {
    let Some(call) = call else {
        return vec![Violation::lost(format!("call `{id}` ({token})"))];
    };
    let found = found_call(call, "output");
    let mut violations: Vec<_> = match ledger.calls.get(token) {
        Some(sent) if found.token == token => compare::differs(sent, &found).into_iter().collect(),
        _ => vec![Violation::wrong(format!(
            "call `{id}` is not that of `{token}`: {call}"
        ))],
    };
    let pieces = call["feedback"].as_array().cloned().unwrap_or_default();
    let due = due.iter().map(String::as_str);
    violations.extend(compare::feedback(&ledger.feedback, id, &pieces, due));
    violations
}

/// Calls by their ids, several at a time; `None` for one that is not there.
async fn fetch(client: &Arc<Client>, ids: Vec<String>) -> Result<Vec<(String, Option<Value>)>> {
    let mut readers = JoinSet::new();
    for share in ids.chunks(ids.len().div_ceil(READERS).max(1)) {
        let share = share.to_vec();
        let client = Arc::clone(client);
        readers.spawn(async move {
            let mut found = Vec::with_capacity(share.len());
            for id in share {
                let answer = client.get(&format!("/api/v1/calls/{id}")).await;
                if let Ok(answer) = &answer
                    && answer.status == 404
                {
                    found.push((id, None));
                    continue;
                }
                let call = must(std::future::ready(answer), &format!("call `{id}`")).await?;
                found.push((id, Some(call)));
            }
            anyhow::Ok(found)
        });
    }
    let mut found = Vec::with_capacity(ids.len());
    while let Some(share) = readers.join_next().await {
        found.extend(share??);
    }
    Ok(found)
}

fn found_call(call: &Value, output: &str) -> FoundCall {
    let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
    FoundCall {
        id: text("id"),
        token: text("session"),
        app: text("app"),
        status: text("status"),
        output: text(output),
    }
}
