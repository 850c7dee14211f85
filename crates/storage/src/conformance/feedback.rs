//! Feedback: written once, read back as it was.

use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};

use flywheel_core::ContentHash;

use super::samples::{
    AWKWARD, at, call, call_events, feedback, feedback_events, name, outcome, thumbs,
};
use crate::EventStore;
use crate::events::{Appended, CallFilter, FeedbackFilter};
use crate::page::PageRequest;

fn of_every_kind() -> Vec<Feedback> {
    let bodies = [
        thumbs(true),
        thumbs(false),
        FeedbackBody::Rating {
            value: 0.1 + 0.2,
            scale: RatingScale::default(),
        },
        FeedbackBody::Rating {
            value: -3.0,
            scale: RatingScale {
                min: -10.0,
                max: 10.0,
            },
        },
        FeedbackBody::Comment {
            text: AWKWARD.to_owned(),
        },
        FeedbackBody::Correction {
            text: "long ".repeat(100_000),
        },
        outcome("handle_time", 1e300),
        outcome(AWKWARD, 0.0),
    ];
    let mut pieces: Vec<Feedback> = (0..)
        .zip(bodies)
        .map(|(number, body)| feedback(&format!("f{number}"), "c\0é", body, at(number)))
        .collect();
    pieces[1].author = Some(AWKWARD.to_owned());
    pieces[2].author = Some(String::new());
    pieces
}

pub async fn feedback_reads_back_as_written(store: &dyn EventStore) {
    let pieces = of_every_kind();
    // It may arrive before its call, and in no order.
    let reversed = pieces.iter().rev().cloned();
    let appended = store.append(feedback_events(reversed)).await.unwrap();
    assert_eq!(appended, vec![Appended::Stored; pieces.len()]);
    assert_eq!(store.feedback_on("c\0é").await.unwrap(), pieces);
    assert_eq!(store.feedback_on("c").await.unwrap(), vec![]);

    let same_moment = [
        feedback("z", "other", thumbs(true), at(0)),
        feedback("a", "other", thumbs(false), at(0)),
    ];
    store
        .append(feedback_events(same_moment.clone()))
        .await
        .unwrap();
    let read = store.feedback_on("other").await.unwrap();
    assert_eq!(
        read, same_moment,
        "within one moment the order is that of arrival"
    );
}

pub async fn repeated_feedback_changes_nothing(store: &dyn EventStore) {
    let piece = |number: i64| feedback(&format!("f{number}"), "c", thumbs(true), at(number));
    let group = feedback_events((0..100).map(piece));
    assert_eq!(
        store.append(group.clone()).await.unwrap(),
        vec![Appended::Stored; 100]
    );
    assert_eq!(
        store.append(group.clone()).await.unwrap(),
        vec![Appended::Duplicate; 100]
    );
    let mut mixed = Vec::new();
    let mut expected = Vec::new();
    for number in 50..150 {
        mixed.push(piece(number));
        expected.push(if number < 100 {
            Appended::Duplicate
        } else {
            Appended::Stored
        });
        mixed.push(Feedback {
            body: thumbs(false),
            ..piece(number)
        });
        expected.push(Appended::Duplicate);
    }
    assert_eq!(
        store.append(feedback_events(mixed)).await.unwrap(),
        expected
    );
    let read = store.feedback_on("c").await.unwrap();
    assert_eq!(read, (0..150).map(piece).collect::<Vec<_>>());
}

pub async fn an_id_means_something_on_its_call_only(store: &dyn EventStore) {
    let on = |call: &str, value| feedback("1", call, thumbs(value), at(0));
    let both = [on("a", true), on("b", false)];
    assert_eq!(
        store.append(feedback_events(both.clone())).await.unwrap(),
        [Appended::Stored; 2]
    );
    // Among repeated ones too, each is told from the one on another call.
    let mixed = [on("a", false), on("c", true), on("b", true), on("d", false)];
    assert_eq!(
        store.append(feedback_events(mixed)).await.unwrap(),
        [
            Appended::Duplicate,
            Appended::Stored,
            Appended::Duplicate,
            Appended::Stored
        ]
    );
    for piece in both {
        let call_id = &piece.call_id;
        assert_eq!(
            store.get_feedback(call_id, "1").await.unwrap().as_ref(),
            Some(&piece)
        );
        assert_eq!(store.feedback_on(call_id).await.unwrap(), [piece]);
    }
    assert_eq!(store.get_feedback("a", "2").await.unwrap(), None);
}

pub async fn calls_are_found_by_their_feedback(store: &dyn EventStore) {
    let calls = ["a", "b", "c"].map(|id| call(id, "support", at(0)));
    store.append(call_events(calls)).await.unwrap();
    let pieces = [
        feedback("1", "a", thumbs(true), at(0)),
        feedback("2", "a", thumbs(false), at(0)),
        feedback("3", "b", outcome("escalated", 1.0), at(0)),
        feedback("4", "unknown", thumbs(true), at(0)),
    ];
    store.append(feedback_events(pieces)).await.unwrap();
    for (kind, expected) in [
        ("any", "ba"),
        ("thumbs", "a"),
        ("outcome", "b"),
        ("rating", ""),
        ("applause", ""),
    ] {
        let filter = CallFilter {
            feedback: Some(kind.to_owned()),
            ..CallFilter::default()
        };
        let page = store
            .list_calls(&filter, PageRequest::first(10))
            .await
            .unwrap();
        let ids: String = page.items.iter().map(|call| call.id.as_str()).collect();
        assert_eq!(ids, expected, "{kind}");
    }
}

pub async fn feedback_is_listed_in_pages_with_its_calls(store: &dyn EventStore) {
    let mut answered = call("a", "support", at(0));
    answered.facts.prompt_version = Some(ContentHash::of_bytes(b"one"));
    let calls = [answered, call("b", "other", at(0))];
    store.append(call_events(calls)).await.unwrap();
    let comment = FeedbackBody::Comment {
        text: "Too LONG".to_owned(),
    };
    let pieces = [
        feedback("1", "a", thumbs(true), at(1)),
        feedback("2", "a", comment, at(2)),
        feedback("1", "b", thumbs(false), at(2)),
        feedback("9", "unknown", thumbs(true), at(3)),
    ];
    store.append(feedback_events(pieces)).await.unwrap();

    let mut listed = Vec::new();
    let mut page = PageRequest::first(1);
    loop {
        let found = store
            .list_feedback(&FeedbackFilter::default(), page.clone())
            .await
            .unwrap();
        listed.extend(found.items);
        match found.next {
            Some(next) => page.before = Some(next),
            None => break,
        }
    }
    let summary: Vec<_> = listed
        .iter()
        .map(|listed| {
            let app = listed.app.as_ref().map_or("", |app| app.as_str());
            let piece = &listed.feedback;
            format!("{}/{} {app}", piece.call_id, piece.id)
        })
        .collect();
    assert_eq!(
        summary,
        ["unknown/9 ", "b/1 other", "a/2 support", "a/1 support"]
    );
    assert_eq!(
        listed[3].prompt_version,
        Some(ContentHash::of_bytes(b"one"))
    );

    type Change = fn(&mut FeedbackFilter);
    let cases: [(Change, &str); 5] = [
        (|filter| filter.apps = vec![name("support")], "21"),
        (|filter| filter.kind = Some("comment".to_owned()), "2"),
        (|filter| filter.text = Some("too long".to_owned()), "2"),
        (|filter| filter.since = Some(at(3)), "9"),
        (
            |filter| filter.prompt_version = Some(ContentHash::of_bytes(b"two")),
            "",
        ),
    ];
    for (change, expected) in cases {
        let mut filter = FeedbackFilter::default();
        change(&mut filter);
        let found = store
            .list_feedback(&filter, PageRequest::first(10))
            .await
            .unwrap();
        let ids: String = found
            .items
            .iter()
            .map(|listed| listed.feedback.id.as_str())
            .collect();
        assert_eq!(ids, expected, "{filter:?}");
    }
}
