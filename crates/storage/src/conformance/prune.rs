//! Removing old events.

use flywheel_core::call::Call;

use super::samples::{at, call, call_events, feedback, feedback_events, thumbs};
use crate::EventStore;
use crate::events::{CallFilter, PruneBound};
use crate::page::PageRequest;

async fn prune_all(store: &dyn EventStore, bound: PruneBound) -> u64 {
    let mut removed = 0;
    loop {
        match store.prune(bound).await.unwrap() {
            0 => return removed,
            events => {
                assert!(events <= 10_000, "{events} in one go hold writers up");
                removed += events;
            }
        }
    }
}

pub async fn prune_removes_what_is_older(store: &dyn EventStore) {
    let calls = (0..3000).map(|number| call(&format!("c{number}"), "support", at(number)));
    store.append(call_events(calls)).await.unwrap();
    let late = feedback("late", "c100", thumbs(true), at(9999));
    let many = (0..2500).map(|number| feedback(&format!("m{number}"), "c5", thumbs(true), at(0)));
    let pieces = [
        late,
        feedback("kept", "c2999", thumbs(true), at(0)),
        feedback("old orphan", "unknown", thumbs(true), at(50)),
        feedback("new orphan", "unknown", thumbs(true), at(9999)),
    ];
    store
        .append(feedback_events(pieces.into_iter().chain(many)))
        .await
        .unwrap();

    assert_eq!(
        store.prune(PruneBound::Before(at(-5))).await.unwrap(),
        0,
        "nothing is that old"
    );
    let removed = prune_all(store, PruneBound::Before(at(2990))).await;
    assert_eq!(removed, 2990 + 2500 + 1 + 1);
    for (id, is_kept) in [
        ("c0", false),
        ("c5", false),
        ("c2989", false),
        ("c2990", true),
    ] {
        assert_eq!(store.get_call(id).await.unwrap().is_some(), is_kept, "{id}");
    }
    assert_eq!(
        store.feedback_on("c100").await.unwrap().len(),
        0,
        "it goes with its call"
    );
    assert_eq!(store.feedback_on("c5").await.unwrap().len(), 0);
    assert_eq!(
        store.feedback_on("c2999").await.unwrap().len(),
        1,
        "it stays with its call"
    );
    assert_eq!(
        store.feedback_on("unknown").await.unwrap()[0].id,
        "new orphan"
    );
    let page = store
        .list_calls(&CallFilter::default(), PageRequest::first(100))
        .await
        .unwrap();
    assert_eq!(page.items.len(), 10);
}

pub async fn prune_shrinks_to_a_size(store: &dyn EventStore) {
    let empty = store.live_bytes().await.unwrap();
    let large = |number: i64| -> Call {
        let mut call = call(&format!("c{number}"), "support", at(number));
        call.content.output = Some("x".repeat(10_000));
        call
    };
    store
        .append(call_events((0..500).map(large)))
        .await
        .unwrap();
    let orphan = feedback("orphan", "unknown", thumbs(true), at(0));
    store.append(feedback_events([orphan])).await.unwrap();
    let full = store.live_bytes().await.unwrap();
    assert!(full > empty + 5_000_000, "{full} bytes do not hold it all");

    assert_eq!(
        store.prune(PruneBound::Bytes(full)).await.unwrap(),
        0,
        "it is small enough"
    );
    let bound = empty + (full - empty) / 2;
    assert!(prune_all(store, PruneBound::Bytes(bound)).await > 0);
    let size = store.live_bytes().await.unwrap();
    assert!(size <= bound, "{size} bytes are left, {bound} are allowed");
    assert!(size > empty + 1_000_000, "more than necessary was removed");
    assert!(store.get_call("c0").await.unwrap().is_none());
    assert!(store.get_call("c499").await.unwrap().is_some());
    assert_eq!(store.feedback_on("unknown").await.unwrap().len(), 0);

    // A bound that cannot be met ends all the same.
    let lasting = store.lasting_bytes().await.unwrap();
    prune_all(store, PruneBound::Bytes(0)).await;
    assert!(store.get_call("c499").await.unwrap().is_none());
    let left = store.live_bytes().await.unwrap();
    assert!(
        lasting <= left && left <= lasting + 65_536,
        "{lasting} bytes were to last, {left} did"
    );
    store.append(call_events([large(1)])).await.unwrap();
    assert_eq!(store.get_call("c1").await.unwrap(), Some(large(1)));
}
