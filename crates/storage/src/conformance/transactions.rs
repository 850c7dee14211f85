//! Transactions, sessions, the revision and the audit log.

use flywheel_core::audit::{AuditDraft, AuditEntry, ChainWalk};
use flywheel_core::prompt::PromptVersion;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::samples::{AWKWARD, name, new_version, registered};
use crate::StateStore;
use crate::audit::AuditFilter;
use crate::page::PageRequest;

fn draft(subject: &str, detail: Value) -> AuditDraft {
    AuditDraft {
        // Finer than what a store keeps.
        at: Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
        actor: AWKWARD.to_owned(),
        action: "prompt.register".to_owned(),
        subject: subject.to_owned(),
        detail,
    }
}

pub async fn audit_chain_verifies(store: &dyn StateStore) {
    let details = [
        json!({"text": AWKWARD, "none": null, "deep": [{"b": 1, "a": {}}]}),
        json!([
            0.1,
            1e300,
            -0.0,
            1.0,
            5e-324,
            0.123_456_789_012_345_68,
            u64::MAX,
            i64::MIN
        ]),
        Value::Null,
        json!(""),
    ];
    let mut appended: Vec<AuditEntry> = Vec::new();
    for (number, detail) in (1..).zip(details) {
        let mut transaction = store.begin().await.unwrap();
        let draft = draft(&format!("subject {number}"), detail.clone());
        let entry = transaction.audit().append(draft).await.unwrap();
        assert_eq!((entry.number, &entry.detail), (number, &detail));
        transaction.commit().await.unwrap();
        appended.push(entry);
    }
    // One that was not committed leaves no gap.
    let mut transaction = store.begin().await.unwrap();
    transaction
        .audit()
        .append(draft("undone", Value::Null))
        .await
        .unwrap();
    drop(transaction);
    let mut transaction = store.begin().await.unwrap();
    appended.push(
        transaction
            .audit()
            .append(draft("last", Value::Null))
            .await
            .unwrap(),
    );
    appended.push(
        transaction
            .audit()
            .append(draft("very last", Value::Null))
            .await
            .unwrap(),
    );
    transaction.commit().await.unwrap();

    let mut session = store.read().await.unwrap();
    let mut walk = ChainWalk::default();
    let mut read = Vec::new();
    loop {
        let entries = session.audit().after(walk.entries(), 2).await.unwrap();
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            walk.step(&entry).unwrap();
            read.push(entry);
        }
    }
    assert_eq!(read, appended, "what is read is what was answered");
    assert_eq!(walk.head(), appended[5].hash);

    let mut before = None;
    let mut numbers = Vec::new();
    loop {
        let page = session
            .audit()
            .list(&AuditFilter::default(), PageRequest { limit: 4, before })
            .await
            .unwrap();
        numbers.extend(page.items.iter().map(|entry| entry.number));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
    drop(session);
    audit_entries_are_found(store, &appended).await;
}

/// By parts of their members and by time, in pages as well.
async fn audit_entries_are_found(store: &dyn StateStore, appended: &[AuditEntry]) {
    let text = |text: &str| Some(text.to_owned());
    let at = appended[0].at;
    let later = at + SignedDuration::from_micros(1);
    let of = |actor, action, subject| AuditFilter {
        actor,
        action,
        subject,
        ..AuditFilter::default()
    };
    let within = |since, until| AuditFilter {
        since,
        until,
        ..AuditFilter::default()
    };
    let mut session = store.read().await.unwrap();
    for (filter, expected) in [
        (of(None, None, text("LAST")), vec![6, 5]),
        (of(None, None, text("subject 3")), vec![3]),
        (of(None, text("prompt."), text("very")), vec![6]),
        (of(text(AWKWARD), None, text("last")), vec![6, 5]),
        (of(text("nobody"), None, None), vec![]),
        (of(None, None, text("%")), vec![]),
        (within(Some(at), Some(later)), vec![6, 5, 4, 3, 2, 1]),
        (within(Some(later), None), vec![]),
        (within(None, Some(at)), vec![]),
    ] {
        let mut before = None;
        let mut numbers = Vec::new();
        loop {
            let request = PageRequest { limit: 1, before };
            let page = session.audit().list(&filter, request).await.unwrap();
            numbers.extend(page.items.iter().map(|entry| entry.number));
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        assert_eq!(numbers, expected, "{filter:?}");
    }
}

pub async fn commits_raise_the_revision(store: &dyn StateStore) {
    let mut revision = store.revision().await.unwrap();
    for number in 0..3 {
        registered(store, "summary", &number.to_string()).await;
        let next = store.revision().await.unwrap();
        assert!(next > revision, "{next} follows {revision}");
        revision = next;
    }
    drop(store.begin().await.unwrap());
    drop(store.read().await.unwrap());
    assert_eq!(store.revision().await.unwrap(), revision);
}

pub async fn dropped_transaction_changes_nothing(store: &dyn StateStore) {
    registered(store, "summary", "kept").await;
    let revision = store.revision().await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    let undone = transaction
        .prompts()
        .register(new_version("summary", "undone"))
        .await
        .unwrap();
    assert_eq!(undone.version.ordinal, 2);
    let read = transaction
        .prompts()
        .latest(&name("summary"))
        .await
        .unwrap();
    assert_eq!(
        read,
        Some(undone.version),
        "a transaction sees what it wrote"
    );
    drop(transaction);

    assert_eq!(store.revision().await.unwrap(), revision);
    let latest = latest(store).await.unwrap();
    assert_eq!(latest.description, "says kept");
    let next = registered(store, "summary", "next").await;
    assert_eq!(next.ordinal, 2, "what was undone left no trace");
}

async fn latest(store: &dyn StateStore) -> Option<PromptVersion> {
    let mut session = store.read().await.unwrap();
    session.prompts().latest(&name("summary")).await.unwrap()
}

pub async fn sessions_see_one_moment(store: &dyn StateStore) {
    registered(store, "summary", "one").await;
    let mut before = store.read().await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    transaction
        .prompts()
        .register(new_version("summary", "two"))
        .await
        .unwrap();

    // Reading goes on while somebody writes, and shows nothing of it.
    assert_eq!(latest(store).await.unwrap().ordinal, 1);
    transaction.commit().await.unwrap();
    let seen = before
        .prompts()
        .latest(&name("summary"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(seen.ordinal, 1, "the session is from before the commit");
    let seen = before
        .prompts()
        .history(&name("summary"), None, 10)
        .await
        .unwrap();
    assert_eq!(seen.len(), 1);
    drop(before);
    for _ in 0..10 {
        assert_eq!(
            latest(store).await.unwrap().ordinal,
            2,
            "every later session sees it"
        );
    }
}

pub async fn transactions_take_turns(store: &dyn StateStore) {
    join_all((0..8).map(|task| async move {
        for number in 0..5 {
            registered(store, "summary", &format!("{task}.{number}")).await;
        }
    }))
    .await;
    let mut session = store.read().await.unwrap();
    let history = session
        .prompts()
        .history(&name("summary"), None, 100)
        .await
        .unwrap();
    let ordinals: Vec<u64> = history.iter().map(|version| version.ordinal).collect();
    assert_eq!(ordinals, (1..=40).rev().collect::<Vec<_>>());
}
