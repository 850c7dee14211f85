//! Sums by the hour say what the events say, however those came, went and came again.
//!
//! A window of less than an hour is always counted event by event, so two of them together are what an hour must be.

use std::collections::BTreeMap;

use flywheel_core::ContentHash;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_storage::conformance::samples::{call, feedback, name, outcome};
use flywheel_storage::events::{
    PruneBound, SeriesSums, SummaryFilter, SummaryKey, SummaryRow, Window,
};
use flywheel_storage::{EventStore, NewEvent};
use flywheel_storage_sql::SqliteStore;
use jiff::Timestamp;
use tempfile::TempDir;

use super::open_in;

const HOUR: i64 = 3600;
/// A moment at which an hour begins.
const BEGIN: i64 = 472_222 * HOUR;
const HOURS: i64 = 6;

const KEYS: [SummaryKey; 7] = [
    SummaryKey::Arm,
    SummaryKey::PromptVersion,
    SummaryKey::Manifest,
    SummaryKey::Model,
    SummaryKey::Week,
    SummaryKey::Day,
    SummaryKey::Hour,
];

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Something that happens to a store.
fn made_up(random: &mut fastrand::Rng) -> NewEvent {
    let number = random.u32(0..300);
    if random.u8(0..3) > 0 {
        return NewEvent::Feedback(Box::new(made_up_feedback(random, &format!("c{number}"))));
    }
    // Of one id there is one call, or a duplicate.
    let mut fixed = fastrand::Rng::with_seed(u64::from(number));
    NewEvent::Call(Box::new(made_up_call(&mut fixed, &format!("c{number}"))))
}

fn made_up_call(random: &mut fastrand::Rng, id: &str) -> Call {
    let app = if random.bool() { "support" } else { "billing" };
    let moment = BEGIN * 1_000_000 + random.i64(0..HOURS * HOUR * 1_000_000);
    let started_at = Timestamp::from_microsecond(moment).unwrap();
    let mut call = call(id, app, started_at);
    let facts = &mut call.facts;
    let version = ContentHash::of_bytes(&[random.u8(0..3)]);
    facts.environment = random.bool().then(|| name("production"));
    facts.manifest = random.bool().then_some(version);
    facts.prompt_version = random.bool().then_some(version);
    facts.experiment = random.bool().then(|| name("tone"));
    facts.arm = facts
        .experiment
        .is_some()
        .then(|| name(["a", "b"][random.usize(0..2)]));
    facts.fallback = random.u8(0..5) == 0;
    facts.status = CallStatus::ALL[random.usize(0..CallStatus::ALL.len())];
    facts.latency_us = random.bool().then(|| random.u64(1..10_000_000_000));
    facts.cost_nano_usd = random.bool().then(|| random.i64(-5..1_000_000_000));
    call
}

fn made_up_feedback(random: &mut fastrand::Rng, call: &str) -> Feedback {
    let id = format!("f{}", random.u16(0..8));
    let at = BEGIN + random.i64(0..50);
    let body = match random.u8(0..5) {
        0 => FeedbackBody::Thumbs {
            value: random.bool(),
        },
        1 => FeedbackBody::Comment {
            text: "so so".to_owned(),
        },
        2 => {
            let max = [5.0, 10.0][random.usize(0..2)];
            FeedbackBody::Rating {
                value: random.i32(1..=5).into(),
                scale: RatingScale { min: 1.0, max },
            }
        }
        3 if random.u8(0..10) == 0 => outcome("seconds", 1.7e9),
        3 => outcome("seconds", 300.1 + f64::from(random.u8(0..4))),
        _ => outcome("money", random.f64() * 1e-3),
    };
    feedback(&id, call, body, second(at))
}

fn window(from: i64, to: i64) -> SummaryFilter {
    SummaryFilter {
        since: Some(second(from)),
        until: Some(second(to)),
        ..SummaryFilter::default()
    }
}

/// Counted event by event.
async fn counted(store: &SqliteStore, by: SummaryKey) -> Vec<SummaryRow> {
    let mut rows: BTreeMap<String, SummaryRow> = BTreeMap::new();
    for half in 0..2 * HOURS {
        let from = BEGIN + half * HOUR / 2;
        let part = window(from, from + HOUR / 2);
        for row in store.summarize(&part, by).await.unwrap() {
            rows.entry(row.key.clone())
                .or_insert_with(|| SummaryRow {
                    key: row.key.clone(),
                    ..SummaryRow::default()
                })
                .add(&row);
        }
    }
    rows.into_values().collect()
}

fn assert_alike(summed: &[SummaryRow], counted: &[SummaryRow], what: &str) {
    let without_series = |rows: &[SummaryRow]| {
        let rows = rows.iter().cloned().map(|row| SummaryRow {
            series: Vec::new(),
            ..row
        });
        rows.collect::<Vec<_>>()
    };
    assert_eq!(without_series(summed), without_series(counted), "{what}");
    for (summed, counted) in summed.iter().zip(counted) {
        let counts = |series: &SeriesSums| {
            let SeriesSums {
                series,
                n,
                ones,
                zeros,
                scales,
                ..
            } = series.clone();
            (series, n, ones, zeros, scales)
        };
        let key = &summed.key;
        assert_eq!(
            summed.series.iter().map(counts).collect::<Vec<_>>(),
            counted.series.iter().map(counts).collect::<Vec<_>>(),
            "{what}: {key}"
        );
        for (left, right) in summed.series.iter().zip(&counted.series) {
            let near = |left: f64, right: f64, scale: f64| (left - right).abs() <= 1e-9 * scale;
            assert!(
                near(left.sum, right.sum, right.sum.abs().max(1e-9)),
                "{what}: {key}: {left:?} {right:?}"
            );
            assert!(
                near(
                    left.squared_deviations,
                    right.squared_deviations,
                    right.squared_deviations.max(1e-6)
                ),
                "{what}: {key}: {left:?} {right:?}"
            );
        }
    }
}

async fn check(store: &SqliteStore, what: &str) {
    // Where sums cannot be kept, what is asked for below is counted, and equal to itself.
    store.maintain().await.unwrap();
    for by in KEYS {
        let counted = counted(store, by).await;
        let everything = store
            .summarize(&SummaryFilter::default(), by)
            .await
            .unwrap();
        assert_alike(&everything, &counted, what);
        let part = window(BEGIN - HOUR / 3, BEGIN + HOURS * HOUR + HOUR / 3);
        let windowed = store.summarize(&part, by).await.unwrap();
        assert_alike(&windowed, &counted, what);
    }
    let mut of_series: BTreeMap<String, u64> = BTreeMap::new();
    for row in counted(store, SummaryKey::Day).await {
        for series in row.series {
            *of_series.entry(series.series).or_default() += series.n;
        }
    }
    for part in [
        SummaryFilter::default(),
        window(BEGIN - HOUR / 3, BEGIN + HOURS * HOUR + HOUR / 3),
    ] {
        let found = store.count_feedback(&part).await.unwrap();
        assert_eq!(found, of_series, "{what}");
    }
    let slots = |begin: i64, slot_seconds: u32, slots: u32| Window {
        since: second(begin),
        slot_seconds,
        slots,
    };
    let hours = slots(BEGIN, HOUR as u32, HOURS as u32);
    let halves = slots(BEGIN, HOUR as u32 / 2, 2 * HOURS as u32);
    let mut counted = BTreeMap::new();
    for mut row in store.activity(&[], None, halves).await.unwrap() {
        row.slot /= 2;
        let key = (row.app.clone(), row.slot);
        match counted.get_mut(&key) {
            None => {
                counted.insert(key, row);
            }
            Some(there) => flywheel_storage::events::ActivityRow::add(there, &row),
        }
    }
    let summed = store.activity(&[], None, hours).await.unwrap();
    let counted: Vec<_> = counted.into_values().collect();
    assert_eq!(summed, counted, "{what}");
}

#[tokio::test]
async fn sums_say_what_the_events_say() {
    for seed in 0..8 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = TempDir::new().unwrap();
        let mut store = open_in(&folder).await;
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            let events = (0..random.usize(1..120)).map(|_| made_up(random)).collect();
            store.append(events).await.unwrap();
            match random.u8(0..5) {
                0 => store.maintain().await.unwrap(),
                1 => {
                    store.close().await.unwrap();
                    store = open_in(&folder).await;
                }
                2 => {
                    let bound = PruneBound::Before(second(BEGIN + random.i64(0..2 * HOUR)));
                    while store.prune(bound).await.unwrap() > 0 {}
                }
                _ => {}
            }
            if random.bool() {
                check(&store, &what).await;
            }
        }
        check(&store, "at the end").await;
    }
}

/// Anybody who may send feedback may send these.
#[tokio::test]
async fn values_beyond_all_bounds_are_counted_and_break_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let piece =
        |id: &str, body| NewEvent::Feedback(Box::new(feedback(id, "c", body, second(BEGIN))));
    let narrow = RatingScale {
        min: 0.0,
        max: 5e-324,
    };
    let events = vec![
        NewEvent::Call(Box::new(call("c", "support", second(BEGIN)))),
        piece("1", outcome("huge", 1e200)),
        piece("2", outcome("huger", -1e308)),
        piece(
            "3",
            FeedbackBody::Rating {
                value: 0.0,
                scale: narrow,
            },
        ),
    ];
    store.append(events).await.unwrap();
    store.maintain().await.unwrap();
    store
        .append(vec![piece("4", outcome("huge", 5.0))])
        .await
        .unwrap();
    store.maintain().await.unwrap();
    let rows = store
        .summarize(&SummaryFilter::default(), SummaryKey::Day)
        .await
        .unwrap();
    let huge = rows[0]
        .series
        .iter()
        .find(|series| series.series == "outcome:huge");
    assert_eq!(huge.map(|series| (series.n, series.sum)), Some((1, 5.0)));
}

/// Each reading takes in what was there when it began, and no more: with writers at work there is always more.
#[tokio::test]
async fn readings_end_while_events_come_in() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let write = async {
        let mut number = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let at = second(BEGIN + number % HOUR);
            let event = NewEvent::Call(Box::new(call(&format!("c{number}"), "support", at)));
            store.append(vec![event]).await.unwrap();
            number += 1;
        }
        number
    };
    let read = async {
        let mut last = 0;
        for _ in 0..50 {
            let rows = store
                .summarize(&SummaryFilter::default(), SummaryKey::Day)
                .await
                .unwrap();
            let calls = rows.first().map_or(0, |row| row.calls);
            assert!(calls >= last);
            last = calls;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let (written, ()) = tokio::join!(write, read);
    let rows = store
        .summarize(&SummaryFilter::default(), SummaryKey::Day)
        .await
        .unwrap();
    assert_eq!(rows[0].calls, written as u64);
}

/// SQLite gives the number of a removed row again when it was the largest.
#[tokio::test]
async fn what_takes_the_place_of_a_removed_event_is_summed_too() {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let stored = |id: &str, at: i64| {
        vec![
            NewEvent::Call(Box::new(call(id, "support", second(BEGIN + at)))),
            NewEvent::Feedback(Box::new(feedback(
                "f",
                id,
                outcome("seconds", 1.0),
                second(BEGIN + at),
            ))),
        ]
    };
    store.append(stored("stays", 2 * HOUR)).await.unwrap();
    store.append(stored("logged late", 0)).await.unwrap();
    check(&store, "before").await;
    while store
        .prune(PruneBound::Before(second(BEGIN + HOUR)))
        .await
        .unwrap()
        > 0
    {}
    check(&store, "without the newest").await;
    store.append(stored("next", 3 * HOUR)).await.unwrap();
    check(&store, "with another in its place").await;
}
