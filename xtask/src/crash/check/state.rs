//! The state: deployments, labels, experiments, and the audit log over them.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use serde_json::{Value, json};

use super::super::compare::{self, FoundMove};
use super::super::ledger::Violation;
use super::super::load::{LABEL, PROMPT, lock, must};
use super::{Checker, LARGEST_PAGE, Scope};

impl Checker {
    pub(super) async fn check_moves(&self, app: &'static str, scope: Scope) -> Result<()> {
        let is_earlier = |entry: &Value| {
            let reason = entry["reason"].as_str().unwrap_or_default();
            let ledger = lock(&self.ledger);
            let sent = ledger.moves.get(reason);
            sent.is_some_and(|sent| !scope.includes(sent.round))
        };
        let path = format!("/api/v1/apps/{app}/deployments");
        let limit = if scope == Scope::Everything {
            LARGEST_PAGE
        } else {
            20
        };
        let items = self
            .walk(&path, limit, |page| page.iter().any(is_earlier))
            .await?;
        let found: Vec<_> = items.iter().map(found_move).collect();
        let current = self.get(&format!("/api/v1/apps/{app}")).await?["current"][0].clone();
        let body = json!({"variables": {"token": "x"}});
        let path = format!("/api/v1/apps/{app}/resolve");
        let resolved = must(self.client.post(&path, &body), &path).await?;

        let mut ledger = lock(&self.ledger);
        let violations = compare::moves(&ledger.moves, app, &found, |sent| {
            scope.includes(sent.round)
        });
        ledger.violations.extend(violations);
        let newest = found
            .first()
            .map(|newest| (newest.number, &newest.manifest));
        let served = resolved["manifest"].as_str();
        // An experiment may serve another manifest than the environment's.
        let is_served =
            resolved["experiment"].is_string() || served == current["manifest"].as_str();
        let is_current = newest.is_some_and(|(number, manifest)| {
            current["number"] == number && current["manifest"] == manifest.as_str()
        });
        if !is_served || !is_current {
            let text = format!(
                "`{app}` is at {current} and serves {served:?}; its history ends with {newest:?}"
            );
            ledger.violate(Violation::wrong(text));
        }
        for entry in found {
            if let Some(sent) = ledger.moves.get_mut(&entry.reason)
                && sent.outcome.is_none()
            {
                sent.outcome = Some((entry.number, entry.manifest));
                ledger.changes_made += 1;
                ledger.tally.found += 1;
            }
        }
        Ok(())
    }

    pub(super) async fn check_registers(&self) -> Result<()> {
        let mut found = BTreeMap::new();
        let versions = self
            .get(&format!("/api/v1/prompts/{PROMPT}/versions"))
            .await?;
        for version in versions["items"].as_array().into_iter().flatten() {
            if version["labels"]
                .as_array()
                .is_some_and(|all| all.contains(&LABEL.into()))
            {
                found.insert(LABEL.to_owned(), version["ordinal"].to_string());
            }
        }
        let experiments = self.get("/api/v1/experiments").await?;
        for experiment in experiments["items"].as_array().into_iter().flatten() {
            let text = |name: &str| experiment[name].as_str().unwrap_or_default();
            let value = format!("{} {}", text("status"), experiment["exposure"]);
            found.insert(text("name").to_owned(), value);
        }
        let mut ledger = lock(&self.ledger);
        let mut violations = Vec::new();
        let mut unheard_of = 0;
        for (name, register) in &mut ledger.registers {
            let value = found.remove(name).unwrap_or_default();
            violations.extend(compare::register(name, register, &value));
            unheard_of += u64::from(value != register.known);
            register.known = value;
            register.awaited = None;
        }
        ledger.changes_made += unheard_of;
        ledger.tally.found += unheard_of;
        let strangers = found.into_iter();
        violations
            .extend(strangers.map(|entry| Violation::wrong(format!("{entry:?} was never sent"))));
        ledger.violations.extend(violations);
        Ok(())
    }

    pub(super) async fn check_audit(&mut self) -> Result<()> {
        let verified = self.get("/api/v1/audit/verify").await?;
        let entries = verified["entries"].as_u64().unwrap_or_default();
        let seen = self.audit.clone();
        let path = format!("/api/v1/audit?limit=1&cursor={}", seen.entries + 1);
        let last_seen = self.get(&path).await?["items"][0].clone();
        let mut ledger = lock(&self.ledger);
        if verified["verified"] != true {
            let text = format!("the audit log does not verify: {verified}");
            ledger.violate(Violation::wrong(text));
        }
        let expected = seen.base + ledger.changes_made;
        if entries != expected {
            let text = format!("the audit log has {entries} entries where {expected} are due");
            ledger.violate(if entries < expected {
                Violation::lost(text)
            } else {
                Violation::wrong(text)
            });
        }
        if seen.entries > 0 && last_seen["hash"] != seen.head.as_str() {
            let text = format!(
                "audit entry {} had hash {}, now it is {last_seen}",
                seen.entries, seen.head
            );
            ledger.violate(Violation::wrong(text));
        }
        self.audit.entries = entries;
        self.audit.head = verified["head"].as_str().unwrap_or_default().to_owned();
        Ok(())
    }

    /// Every deployment has its one entry in the audit log, and every such entry its deployment.
    pub(super) async fn check_audited_moves(&self) -> Result<()> {
        let entries = self.walk("/api/v1/audit", LARGEST_PAGE, |_| false).await?;
        let mut numbers = HashSet::new();
        let mut ledger = lock(&self.ledger);
        for entry in &entries {
            if !matches!(
                entry["action"].as_str(),
                Some("app.deploy" | "app.rollback")
            ) {
                continue;
            }
            let number = entry["detail"]["number"].as_u64().unwrap_or_default();
            if !numbers.insert(number) {
                let text = format!("deployment {number} is in the audit log twice");
                ledger.violate(Violation::duplicate(text));
            }
        }
        let moves = ledger.moves.values();
        let made: HashSet<u64> = moves
            .filter_map(|sent| sent.outcome.as_ref().map(|(number, _)| *number))
            .collect();
        for number in made.symmetric_difference(&numbers) {
            let text =
                format!("deployment {number} is in only one of the history and the audit log");
            ledger.violate(Violation::lost(text));
        }
        Ok(())
    }
}

fn found_move(entry: &Value) -> FoundMove {
    let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    FoundMove {
        number: entry["number"].as_u64().unwrap_or_default(),
        reason: text("reason"),
        manifest: text("manifest"),
        previous: text("previous_manifest"),
    }
}
