//! Calls: written once, read back as they were, listed and found.

use std::collections::BTreeSet;

use flywheel_core::call::{Call, CallStatus};
use flywheel_core::{AppName, ContentHash};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::samples::{
    at, bare_call, call, call_events, feedback, feedback_events, full_call, name, thumbs,
};
use crate::events::{Appended, CallFilter, CallKey};
use crate::page::PageRequest;
use crate::{EventStore, NewEvent};

pub async fn calls_read_back_as_written(store: &dyn EventStore) {
    let mut huge = full_call("huge", at(2));
    huge.content.output = Some("huge 用户 ".repeat(300_000));
    let mut nulls = bare_call("", at(3));
    nulls.content.tool_calls = Some(Value::Null);
    nulls.facts.unit = Some(String::new());
    nulls.content.output = Some(String::new());
    let mut calls = vec![
        bare_call("bare", at(0)),
        full_call("full\0é", at(1)),
        huge,
        nulls,
    ];
    for status in CallStatus::ALL {
        let mut call = call(status.as_str(), "support", at(4));
        call.facts.status = status;
        calls.push(call);
    }
    let appended = store.append(call_events(calls.clone())).await.unwrap();
    assert_eq!(appended, vec![Appended::Stored; calls.len()]);
    for call in calls {
        let read = store.get_call(&call.id).await.unwrap();
        assert_eq!(read.as_ref(), Some(&call), "{}", call.id);
    }
    assert_eq!(store.get_call("unknown").await.unwrap(), None);
    assert_eq!(store.append(vec![]).await.unwrap(), vec![]);
}

pub async fn apps_of_calls_are_found(store: &dyn EventStore) {
    let calls = ["a\0é", "b"].map(|id| call(id, "support", at(0)));
    store
        .append(call_events(
            calls.into_iter().chain([bare_call("c", at(0))]),
        ))
        .await
        .unwrap();
    let ids: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
    let mut asked: Vec<&str> = ids.iter().map(String::as_str).collect();
    asked.extend(["c", "a\0é", "a"]);
    let found = store.apps_of_calls(&asked).await.unwrap();
    let expected = [("a\0é", Some(name("support"))), ("c", None)];
    assert_eq!(found, expected.map(|(id, app)| (id.to_owned(), app)).into());
    assert!(store.apps_of_calls(&[]).await.unwrap().is_empty());
}

pub async fn append_is_idempotent(store: &dyn EventStore) {
    let calls: Vec<Call> = (0..150)
        .map(|number| call(&format!("c{number}"), "support", at(number)))
        .collect();
    let group = call_events(calls.clone());
    assert_eq!(
        store.append(group.clone()).await.unwrap(),
        vec![Appended::Stored; 150]
    );
    assert_eq!(
        store.append(group.clone()).await.unwrap(),
        vec![Appended::Duplicate; 150]
    );

    // Some that are known, some that are new, some new ones twice; the first of those is kept.
    let mut mixed = Vec::new();
    let mut expected = Vec::new();
    for number in 100..260 {
        let mut event = call(&format!("c{number}"), "support", at(number));
        mixed.push(event.clone());
        expected.push(if number < 150 {
            Appended::Duplicate
        } else {
            Appended::Stored
        });
        event.content.output = Some("something else".to_owned());
        if number % 3 == 0 {
            mixed.push(event);
            expected.push(Appended::Duplicate);
        }
    }
    let mut events = call_events(mixed);
    events.insert(
        7,
        NewEvent::Feedback(Box::new(feedback("f", "c1", thumbs(true), at(0)))),
    );
    expected.insert(7, Appended::Stored);
    assert_eq!(store.append(events.clone()).await.unwrap(), expected);
    for number in 0..260 {
        let expected = call(&format!("c{number}"), "support", at(number));
        assert_eq!(store.get_call(&expected.id).await.unwrap(), Some(expected));
    }
}

pub async fn concurrent_appends_are_all_kept(store: &dyn EventStore) {
    // Every id is sent by two of the tasks.
    let answers = join_all((0..8_i64).map(|task| async move {
        let mut stored = 0;
        for group in 0..10 {
            let ids = (0..20).map(|number| (task / 2) * 1000 + group * 20 + number);
            let calls = ids.map(|id| call(&format!("c{id}"), "support", at(id)));
            let answer = store.append(call_events(calls)).await.unwrap();
            stored += answer
                .iter()
                .filter(|answer| **answer == Appended::Stored)
                .count();
        }
        stored
    }))
    .await;
    assert_eq!(
        answers.iter().sum::<usize>(),
        4 * 200,
        "each is stored once"
    );
    for task in 0..4 {
        for id in (task * 1000)..(task * 1000 + 200) {
            assert!(
                store.get_call(&format!("c{id}")).await.unwrap().is_some(),
                "c{id}"
            );
        }
    }
}

pub async fn calls_are_found_by_a_part_of_their_id(store: &dyn EventStore) {
    let ids = [
        "0197f2a0-aaaa-1111",
        "0197f2a0-bbbb-2222",
        "0197f2a1-aaaa-1111",
    ];
    let calls = ids
        .iter()
        .zip(0..)
        .map(|(id, time)| call(id, "support", at(time)));
    store.append(call_events(calls)).await.unwrap();
    for (part, expected) in [
        ("0197f2a0", &[1, 0][..]),
        ("0197f2a0-bbbb-2222", &[1]),
        ("a-1111", &[2, 0]),
        ("1111", &[2, 0]),
        ("bbbb", &[]),
        ("%1111", &[]),
        ("0197f2a0-aaaa-11112", &[]),
        ("", &[2, 1, 0]),
    ] {
        let filter = CallFilter {
            id: Some(part.to_owned()),
            apps: vec![name("support")],
            ..CallFilter::default()
        };
        let expected: Vec<&str> = expected.iter().map(|index| ids[*index]).collect();
        assert_eq!(all_ids(store, &filter, 2).await, expected, "{part}");
    }
}

pub async fn repeated_key_finds_the_first_call(store: &dyn EventStore) {
    let keyed = |id: &str, app: &str, seconds| {
        let mut call = call(id, app, at(seconds));
        call.facts.idempotency_key = Some("key".to_owned());
        call
    };
    let mut elsewhere = keyed("6", "a", 2);
    elsewhere.facts.environment = Some(name("staging"));
    let calls = [
        keyed("1", "a", 9),
        keyed("2", "a", 1),
        keyed("3", "b", 5),
        elsewhere,
    ];
    store.append(call_events(calls.clone())).await.unwrap();
    let (a, b, c): (AppName, AppName, AppName) = (name("a"), name("b"), name("c"));
    let (production, staging) = (name("production"), name("staging"));
    assert_eq!(
        store
            .find_idempotent(&a, &staging, "key")
            .await
            .unwrap()
            .as_ref(),
        Some(&calls[3])
    );
    assert_eq!(
        store
            .find_idempotent(&a, &production, "key")
            .await
            .unwrap()
            .as_ref(),
        Some(&calls[0])
    );
    assert_eq!(
        store
            .find_idempotent(&b, &production, "key")
            .await
            .unwrap()
            .as_ref(),
        Some(&calls[2])
    );
    assert_eq!(
        store.find_idempotent(&c, &production, "key").await.unwrap(),
        None
    );
    assert_eq!(
        store.find_idempotent(&a, &production, "").await.unwrap(),
        None
    );

    // A failure is tried again under its key, and what then succeeds is what a further repetition gets.
    let mut failure = keyed("4", "c", 1);
    failure.facts.status = CallStatus::ProviderError;
    let success = keyed("5", "c", 2);
    for call in [&failure, &success] {
        store.append(call_events([call.clone()])).await.unwrap();
        assert_eq!(
            store
                .find_idempotent(&c, &production, "key")
                .await
                .unwrap()
                .as_ref(),
            Some(call)
        );
    }
}

async fn all_ids(store: &dyn EventStore, filter: &CallFilter, limit: u32) -> Vec<String> {
    let mut before = None;
    let mut ids = Vec::new();
    loop {
        let page = store
            .list_calls(filter, PageRequest { limit, before })
            .await
            .unwrap();
        assert!(page.items.len() <= limit as usize);
        ids.extend(page.items.into_iter().map(|call| call.id));
        match page.next {
            Some(next) => before = Some(next),
            None => return ids,
        }
    }
}

pub async fn keyset_pages_neither_repeat_nor_skip(store: &dyn EventStore) {
    // Many begin at one moment, and they arrive in no order.
    let mut calls = Vec::new();
    for number in 0..97 {
        let shuffled = (number * 31) % 97;
        let app = if shuffled % 2 == 0 { "even" } else { "odd" };
        calls.push(call(&format!("c{shuffled:03}"), app, at(shuffled / 10)));
    }
    store.append(call_events(calls.clone())).await.unwrap();
    calls.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    let both = vec![name("even"), name("odd")];
    for apps in [vec![], vec![name("even")], both] {
        let is_asked =
            |call: &&Call| apps.is_empty() || call.facts.app.iter().any(|app| apps.contains(app));
        let expected: Vec<String> = calls
            .iter()
            .filter(is_asked)
            .map(|call| call.id.clone())
            .collect();
        let filter = CallFilter {
            apps: apps.clone(),
            ..CallFilter::default()
        };
        for limit in [1, 7, 97, 1000] {
            assert_eq!(
                all_ids(store, &filter, limit).await,
                expected,
                "limit {limit}"
            );
        }
    }
    // What arrives meanwhile disturbs nothing.
    let all = CallFilter::default();
    let first = store
        .list_calls(&all, PageRequest::first(50))
        .await
        .unwrap();
    let newer = call_events([call("new", "even", at(1000))]);
    store.append(newer.clone()).await.unwrap();
    let second = store
        .list_calls(
            &all,
            PageRequest {
                limit: 50,
                before: first.next,
            },
        )
        .await
        .unwrap();
    let ids: BTreeSet<&str> = first
        .items
        .iter()
        .chain(&second.items)
        .map(|call| call.id.as_str())
        .collect();
    assert_eq!(ids.len(), 97);
    assert!(!ids.contains("new"));
    let oldest = CallKey {
        started_at: at(-1),
        id: String::new(),
    };
    let none = store
        .list_calls(
            &all,
            PageRequest {
                limit: 5,
                before: Some(oldest),
            },
        )
        .await
        .unwrap();
    assert_eq!((none.items.len(), none.next), (0, None));
}

/// Eight calls, of which another bit of the number decides over each member, and one that has none.
fn varied_calls() -> Vec<Call> {
    let mut calls = vec![bare_call("bare", at(100))];
    for number in 0..8 {
        let mut call = full_call(&format!("c{number}"), at(number));
        let pick = |bit: i64| if number >> bit & 1 == 0 { "x" } else { "y" };
        let facts = &mut call.facts;
        facts.app = Some(name(pick(0)));
        facts.environment = Some(name(pick(1)));
        facts.manifest = Some(ContentHash::of_bytes(pick(2).as_bytes()));
        facts.prompt_version = Some(ContentHash::of_bytes(pick(0).as_bytes()));
        facts.experiment = Some(name(pick(1)));
        facts.arm = Some(name(pick(2)));
        facts.unit = Some(pick(0).to_owned());
        facts.session = Some(pick(1).to_owned());
        facts.status = [CallStatus::Ok, CallStatus::ProviderError][usize::from(number >= 4)];
        calls.push(call);
    }
    calls
}

pub async fn every_filter_holds(store: &dyn EventStore) {
    type Narrow = fn(&mut CallFilter);
    let cases: [(Narrow, &str); 16] = [
        (|_| {}, "bare c7 c6 c5 c4 c3 c2 c1 c0"),
        (|filter| filter.apps = vec![name("y")], "c7 c5 c3 c1"),
        (
            |filter| filter.apps = vec![name("y"), name("z")],
            "c7 c5 c3 c1",
        ),
        (|filter| filter.apps = vec![name("z")], ""),
        (|filter| filter.environment = Some(name("y")), "c7 c6 c3 c2"),
        (
            |filter| filter.manifest = Some(ContentHash::of_bytes(b"y")),
            "c7 c6 c5 c4",
        ),
        (
            |filter| filter.prompt_version = Some(ContentHash::of_bytes(b"y")),
            "c7 c5 c3 c1",
        ),
        (|filter| filter.experiment = Some(name("y")), "c7 c6 c3 c2"),
        (|filter| filter.arm = Some(name("y")), "c7 c6 c5 c4"),
        (|filter| filter.unit = Some("y".to_owned()), "c7 c5 c3 c1"),
        (
            |filter| filter.session = Some("y".to_owned()),
            "c7 c6 c3 c2",
        ),
        (
            |filter| filter.status = Some(CallStatus::ProviderError),
            "c7 c6 c5 c4",
        ),
        (|filter| filter.since = Some(at(6)), "bare c7 c6"),
        (|filter| filter.until = Some(at(2)), "c1 c0"),
        (
            |filter| {
                filter.apps = vec![name("x"), name("y")];
                filter.until = Some(at(5));
            },
            "c4 c3 c2 c1 c0",
        ),
        (
            |filter| {
                filter.apps = vec![name("x"), name("y")];
                filter.environment = Some(name("x"));
                filter.unit = Some("y".to_owned());
                filter.experiment = Some(name("x"));
                filter.since = Some(at(1));
                filter.until = Some(at(6));
                filter.status = Some(CallStatus::Ok);
            },
            "c1",
        ),
    ];
    store.append(call_events(varied_calls())).await.unwrap();
    for (narrow, expected) in cases {
        let mut filter = CallFilter::default();
        narrow(&mut filter);
        assert_eq!(
            all_ids(store, &filter, 3).await.join(" "),
            expected,
            "{filter:?}"
        );
    }
}

pub async fn text_is_found_in_messages_and_output(store: &dyn EventStore) {
    let with = |id: &str, messages: Value, output: Option<&str>| {
        let mut call = bare_call(id, at(0));
        call.content.messages = messages.as_array().cloned().unwrap_or_default();
        call.content.output = output.map(str::to_owned);
        call.content
            .variables
            .insert("hidden".to_owned(), json!("variable"));
        call
    };
    let calls = [
        with(
            "1",
            json!([{"role": "user", "content": "Say \"Hi\"\nto 用户 100%_"}]),
            None,
        ),
        with(
            "2",
            json!([{"role": "system", "content": [{"type": "text", "text": "Parts"}]}]),
            None,
        ),
        with("3", json!([]), Some("The OUTPUT, straße, back\\slash")),
        with("4", json!([{"role": "user", "content": null}]), Some("")),
    ];
    store.append(call_events(calls)).await.unwrap();
    for (text, expected) in [
        ("say \"hi\"\nTO", "1"),
        ("用户", "1"),
        ("0%_", "1"),
        ("%", "1"),
        ("_", "1"),
        ("PARTS", "2"),
        ("the output", "3"),
        ("straße", "3"),
        ("k\\s", "3"),
        ("\"", "1"),
        ("role", ""),
        ("system", ""),
        ("variable", ""),
        ("' OR 1=1 --", ""),
        ("", "4 3 2 1"),
    ] {
        let filter = CallFilter {
            text: Some(text.to_owned()),
            ..CallFilter::default()
        };
        assert_eq!(
            all_ids(store, &filter, 10).await.join(" "),
            expected,
            "{text}"
        );
    }
}

pub async fn previews_are_short(store: &dyn EventStore) {
    let mut calls = Vec::new();
    let long = "用".repeat(500);
    let outputs = [None, Some(""), Some("a\0b"), Some(long.as_str())];
    for (number, output) in (0..).zip(outputs) {
        let mut call = full_call(&format!("c{number}"), at(-number));
        call.content.output = output.map(str::to_owned);
        calls.push(call);
    }
    store.append(call_events(calls.clone())).await.unwrap();
    store
        .append(feedback_events([feedback("f", "c1", thumbs(true), at(0))]))
        .await
        .unwrap();
    let page = store
        .list_calls(&CallFilter::default(), PageRequest::first(10))
        .await
        .unwrap();
    assert_eq!(page.items.len(), 4);
    for (summary, call) in page.items.iter().zip(&calls) {
        assert_eq!(
            (&summary.id, summary.started_at),
            (&call.id, call.started_at)
        );
        assert_eq!(summary.facts, call.facts);
        let start = call
            .content
            .output
            .as_ref()
            .map(|output| output.chars().take(200).collect());
        assert_eq!(summary.output_preview, start);
    }
}
