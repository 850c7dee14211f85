//! The audit log: every change as an entry that carries the hash of the one before it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::hash::ContentHash;

/// What happened, before it has a place in the chain.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditDraft {
    /// When.
    pub at: Timestamp,
    /// Who: a key's name, or `local` where no key exists yet.
    pub actor: String,
    /// What, as `resource.verb`.
    pub action: String,
    /// On which thing.
    pub subject: String,
    /// Further particulars.
    pub detail: Value,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AuditEntry {
    /// Its place in the chain, from 1.
    pub number: u64,
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What, as `resource.verb`.
    pub action: String,
    /// On which thing.
    pub subject: String,
    /// Further particulars.
    pub detail: Value,
    /// The hash of the entry before; that of nothing for the first.
    pub previous_hash: ContentHash,
    /// The hash of this entry's other members.
    pub hash: ContentHash,
}

/// The hash before the first entry.
#[must_use]
pub fn beginning() -> ContentHash {
    ContentHash::of_bytes(b"")
}

impl AuditEntry {
    /// Puts a draft after the entry with `previous_hash`.
    #[must_use]
    pub fn chain(draft: AuditDraft, number: u64, previous_hash: ContentHash) -> Self {
        let AuditDraft {
            at,
            actor,
            action,
            subject,
            detail,
        } = draft;
        let unhashed = beginning();
        let mut entry = Self {
            number,
            at,
            actor,
            action,
            subject,
            detail,
            previous_hash,
            hash: unhashed,
        };
        entry.hash = entry.expected_hash();
        entry
    }

    /// The hash that the entry's members demand.
    #[must_use]
    pub fn expected_hash(&self) -> ContentHash {
        ContentHash::of_json(&json!({
            "number": self.number,
            "at": self.at.to_string(),
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "detail": self.detail,
            "previous_hash": self.previous_hash,
        }))
    }
}

/// Where a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// An entry is missing or out of place.
    #[error("entry {expected} is missing: entry {found} follows where it should be")]
    Gap {
        /// The number that should come.
        expected: u64,
        /// The number that comes.
        found: u64,
    },
    /// An entry was changed.
    #[error("entry {0} was changed after it was written: its hash does not fit its content")]
    Changed(u64),
    /// An entry does not follow the one before it.
    #[error("entry {0} does not follow the entry before it: that one was replaced or removed")]
    Unlinked(u64),
}

/// Walks a chain, entry by entry.
#[derive(Debug)]
pub struct ChainWalk {
    next_number: u64,
    hash: ContentHash,
}

impl Default for ChainWalk {
    fn default() -> Self {
        Self {
            next_number: 1,
            hash: beginning(),
        }
    }
}

impl ChainWalk {
    /// Checks the next entry.
    ///
    /// # Errors
    /// When it does not continue the chain.
    pub fn step(&mut self, entry: &AuditEntry) -> Result<(), BrokenChain> {
        if entry.number != self.next_number {
            return Err(BrokenChain::Gap {
                expected: self.next_number,
                found: entry.number,
            });
        }
        if entry.hash != entry.expected_hash() {
            return Err(BrokenChain::Changed(entry.number));
        }
        if entry.previous_hash != self.hash {
            return Err(BrokenChain::Unlinked(entry.number));
        }
        self.next_number += 1;
        self.hash = entry.hash;
        Ok(())
    }

    /// How many entries were walked.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.next_number - 1
    }

    /// The hash of the last entry, which anyone may write down elsewhere to notice a log that was cut short.
    #[must_use]
    pub fn head(&self) -> ContentHash {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for number in 1..=length {
            let draft = AuditDraft {
                at: Timestamp::UNIX_EPOCH,
                actor: "ada".into(),
                action: "app.deploy".into(),
                subject: format!("app-{number}"),
                detail: json!({"n": number}),
            };
            let previous = entries.last().map_or_else(beginning, |entry| entry.hash);
            entries.push(AuditEntry::chain(draft, number, previous));
        }
        entries
    }

    fn walk(entries: &[AuditEntry]) -> Result<u64, BrokenChain> {
        let mut walk = ChainWalk::default();
        entries.iter().try_for_each(|entry| walk.step(entry))?;
        Ok(walk.entries())
    }

    #[test]
    fn tampering_is_found() {
        assert_eq!(walk(&chain(4)), Ok(4));

        let mut changed = chain(4);
        changed[1].actor = "eve".into();
        assert_eq!(walk(&changed), Err(BrokenChain::Changed(2)));

        let mut rehashed = changed;
        rehashed[1].hash = rehashed[1].expected_hash();
        assert_eq!(walk(&rehashed), Err(BrokenChain::Unlinked(3)));

        let mut removed = chain(4);
        removed.remove(2);
        assert_eq!(
            walk(&removed),
            Err(BrokenChain::Gap {
                expected: 3,
                found: 4
            })
        );
    }
}
