//! The checker notices what it is there to notice.

use serde_json::json;

use super::super::ledger::ViolationKind::{self, Duplicate, Lost, Wrong};
use super::*;

fn check(violations: &[Violation], expected: &[ViolationKind]) {
    let kinds: Vec<_> = violations.iter().map(|violation| violation.kind).collect();
    assert_eq!(kinds, expected, "{violations:?}");
}

fn sent_call(id: Option<&str>) -> SentCall {
    SentCall {
        app: "a",
        id: id.map(str::to_owned),
        ..SentCall::default()
    }
}

fn found_call(id: &str, token: &str) -> FoundCall {
    FoundCall {
        id: id.to_owned(),
        token: token.to_owned(),
        app: "a".to_owned(),
        status: "ok".to_owned(),
        output: answer_to(token),
    }
}

#[test]
fn calls_that_are_lost_doubled_changed_or_invented() {
    let sent: HashMap<_, _> = [
        ("t1".to_owned(), sent_call(Some("1"))),
        ("t2".to_owned(), sent_call(Some("2"))),
        ("t3".to_owned(), sent_call(None)),
    ]
    .into();
    let (one, two) = (found_call("1", "t1"), found_call("2", "t2"));
    let calls = |found: &[&FoundCall]| {
        let found: Vec<_> = found.iter().copied().cloned().collect();
        calls(&sent, &found, |_| true)
    };
    check(&calls(&[&one, &two]), &[]);
    check(&calls(&[&one, &two, &found_call("3", "t3")]), &[]);
    check(&calls(&[&one]), &[Lost]);
    check(&calls(&[&one, &found_call("9", "t2")]), &[Lost]);
    check(&calls(&[&one, &two, &found_call("9", "t2")]), &[Duplicate]);
    check(&calls(&[&one, &two, &two]), &[Duplicate, Duplicate]);
    check(&calls(&[&one, &two, &found_call("9", "t9")]), &[Wrong]);
    let changed = FoundCall {
        output: "t1 and more".to_owned(),
        ..one.clone()
    };
    check(&calls(&[&changed, &two]), &[Wrong]);
}

#[test]
fn only_a_call_that_was_left_may_be_incomplete() {
    let cut = FoundCall {
        status: "client_closed".to_owned(),
        output: "t1".to_owned(),
        ..found_call("1", "t1")
    };
    let mut sent = sent_call(None);
    assert!(differs(&sent, &cut).is_some());
    sent.abandoned = true;
    assert_eq!(differs(&sent, &cut), None);
}

#[test]
fn feedback_that_is_lost_doubled_or_changed() {
    let sent: HashMap<_, _> = [(
        "f1".to_owned(),
        SentFeedback {
            round: 1,
            call_id: "1".to_owned(),
            body: json!({"kind": "rating", "value": 5}),
            is_there: true,
        },
    )]
    .into();
    let rating = |value: f64| json!({"id": "f1", "call_id": "1", "kind": "rating", "value": value});
    let feedback = |found: &[Value]| feedback(&sent, "1", found, ["f1"]);
    check(&feedback(&[rating(5.0)]), &[]);
    check(&feedback(&[]), &[Lost]);
    check(&feedback(&[rating(5.0), rating(5.0)]), &[Duplicate]);
    check(&feedback(&[rating(4.0)]), &[Wrong]);
    let stranger = json!({"id": "f2", "call_id": "1", "kind": "thumbs", "value": true});
    check(&feedback(&[rating(5.0), stranger]), &[Wrong]);
}

#[test]
fn deployments_that_are_lost_doubled_or_out_of_line() {
    let sent_move = |outcome: Option<(u64, &str)>| SentMove {
        app: "a",
        outcome: outcome.map(|(number, manifest)| (number, manifest.to_owned())),
        ..SentMove::default()
    };
    let mut sent: HashMap<_, _> = [
        ("first".to_owned(), sent_move(Some((1, "m1")))),
        ("second".to_owned(), sent_move(Some((2, "m2")))),
        ("third".to_owned(), sent_move(None)),
    ]
    .into();
    let found = |number, reason: &str, manifest: &str, previous: &str| FoundMove {
        number,
        reason: reason.to_owned(),
        manifest: manifest.to_owned(),
        previous: previous.to_owned(),
    };
    let first = found(1, "first", "m1", "");
    let second = found(2, "second", "m2", "m1");
    let third = found(3, "third", "m1", "m2");
    let whole = [third.clone(), second.clone(), first.clone()];
    check(&moves(&sent, "a", &whole, |_| true), &[]);
    check(&moves(&sent, "a", &whole[1..], |_| true), &[]);
    check(&moves(&sent, "a", &whole[2..], |_| true), &[Lost]);
    let gap = [third.clone(), first.clone()];
    check(&moves(&sent, "a", &gap, |_| true), &[Wrong, Lost]);
    let again = [found(3, "second", "m2", "m2"), second, first];
    check(&moves(&sent, "a", &again, |_| true), &[Wrong, Duplicate]);
    if let Some(third) = sent.get_mut("third") {
        third.refused = true;
    }
    check(&moves(&sent, "a", &whole, |_| true), &[Wrong]);
}

#[test]
fn a_register_has_its_known_or_its_awaited_value() {
    let value = Register {
        known: "1".to_owned(),
        awaited: Some("2".to_owned()),
    };
    assert_eq!(register("label", &value, "1"), None);
    assert_eq!(register("label", &value, "2"), None);
    assert!(register("label", &value, "").is_some());
}
