//! Weeks say what the events say, however those came, came again and were replaced.

use std::collections::BTreeMap;

use flywheel_core::ContentHash;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_core::metric::{MetricSource, Signal, bucket};
use flywheel_storage::conformance::samples::{call, feedback, name, outcome};
use flywheel_storage::events::PruneBound;
use flywheel_storage::statistics::UnitSums;
use flywheel_storage::weeks::{Week, Weeks, WeeksQuery};
use flywheel_storage::{EventStore as _, NewEvent, StatisticsStore as _};
use flywheel_storage_sql::SqliteStore;
use jiff::Timestamp;
use tempfile::TempDir;

use super::open_in;

const DAY: i64 = 86_400;
/// A Monday.
const BEGIN: i64 = 19_674 * DAY;

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn all() -> WeeksQuery {
    WeeksQuery {
        app: name("support"),
        environment: None,
        from: None,
        to: None,
    }
}

fn made_up_call(number: u32) -> Call {
    // Of one id there is one call, or a duplicate.
    let random = &mut fastrand::Rng::with_seed(u64::from(number));
    let started_at = second(BEGIN + random.i64(-2 * DAY..12 * DAY));
    let app = if random.u8(0..5) == 0 {
        "billing"
    } else {
        "support"
    };
    let mut call = call(&format!("c{number}"), app, started_at);
    let facts = &mut call.facts;
    facts.environment = random.bool().then(|| name("production"));
    facts.prompt_version = (random.u8(0..6) > 0).then(|| version(random.u8(0..2)));
    facts.unit = (random.u8(0..4) > 0).then(|| format!("u{}", random.u8(0..6)));
    facts.status = CallStatus::ALL[random.usize(0..CallStatus::ALL.len())];
    facts.tool_success = random.bool().then(|| random.bool());
    facts.latency_us = random.bool().then(|| random.u64(1..10_000_000));
    facts.cost_nano_usd = random.bool().then(|| random.i64(0..1_000_000_000));
    call
}

fn version(number: u8) -> ContentHash {
    ContentHash::of_bytes(&[number])
}

fn made_up_feedback(random: &mut fastrand::Rng, number: u32, id: usize) -> Feedback {
    let body = match random.u8(0..5) {
        0 => FeedbackBody::Thumbs {
            value: random.bool(),
        },
        1 => FeedbackBody::Correction {
            text: "so".to_owned(),
        },
        2 => FeedbackBody::Rating {
            value: random.i32(1..=5).into(),
            scale: RatingScale {
                min: 1.0,
                max: [5.0, 10.0][random.usize(0..2)],
            },
        },
        3 => outcome("money", random.f64() * 1e-3),
        _ => outcome("seconds", [300.1, 1.7e9, 1e200][random.usize(0..3)]),
    };
    let at = second(BEGIN + random.i64(0..50));
    feedback(&format!("f{id}"), &format!("c{number}"), body, at)
}

/// What counts of a piece of feedback.
fn value(body: &FeedbackBody) -> Option<f64> {
    let value = match body {
        FeedbackBody::Thumbs { value } => f64::from(u8::from(*value)),
        FeedbackBody::Rating { value, scale } => {
            (value / 2.0 - scale.min / 2.0) / (scale.max / 2.0 - scale.min / 2.0)
        }
        FeedbackBody::Outcome { value, .. } => *value,
        FeedbackBody::Comment { .. } | FeedbackBody::Correction { .. } => 1.0,
    };
    (value < 1e100).then_some(value)
}

/// Sum and number of the values of each unit, by week, version and source; and the classes of signals.
type ByHand = BTreeMap<
    (i64, ContentHash, MetricSource),
    (
        BTreeMap<(Option<String>, String), (f64, f64)>,
        BTreeMap<i32, i64>,
    ),
>;

/// The same from the events, without any store.
fn by_hand(calls: &BTreeMap<String, Call>, said: &[Feedback]) -> ByHand {
    let mut found = ByHand::new();
    for call in calls.values() {
        let facts = &call.facts;
        if facts.app != Some(name("support")) {
            continue;
        }
        let Some(version) = facts.prompt_version else {
            continue;
        };
        let week = Week::of(call.started_at).0;
        // A call without a unit is one of its own.
        let unit = facts
            .unit
            .clone()
            .unwrap_or_else(|| format!("call {}", call.id));
        let unit = (facts.environment.as_ref().map(ToString::to_string), unit);
        let mut add = |source: MetricSource, value: f64, class: Option<i32>| {
            let (units, classes) = found.entry((week, version, source)).or_default();
            let (x, n) = units.entry(unit.clone()).or_default();
            *x += value;
            *n += 1.0;
            if let Some(class) = class {
                *classes.entry(class).or_default() += 1;
            }
        };
        let milliseconds = facts.latency_us.map(|us| us as f64 / 1e3);
        let dollars = facts.cost_nano_usd.map(|nano| nano as f64 / 1e9);
        let flag = |is: bool| f64::from(u8::from(is));
        let hard = [CallStatus::ProviderError, CallStatus::GatewayError].contains(&facts.status);
        let soft = facts.status == CallStatus::InvalidOutput;
        add(MetricSource::Signal(Signal::Calls), 1.0, None);
        add(MetricSource::Signal(Signal::HardFailure), flag(hard), None);
        add(MetricSource::Signal(Signal::SoftFailure), flag(soft), None);
        if let Some(fit) = facts.tool_success {
            add(MetricSource::Signal(Signal::ToolSuccess), flag(fit), None);
        }
        for (signal, value) in [
            (Signal::LatencyMs, milliseconds),
            (Signal::CostUsd, dollars),
        ] {
            if let Some(value) = value {
                add(MetricSource::Signal(signal), value, Some(bucket(value)));
            }
        }
        let mut latest: BTreeMap<String, &Feedback> = BTreeMap::new();
        for piece in said.iter().filter(|piece| piece.call_id == call.id) {
            let series = match &piece.body {
                FeedbackBody::Outcome { name, .. } => format!("outcome:{name}"),
                body => body.kind().to_owned(),
            };
            match latest.get(&series) {
                Some(there) if there.created_at > piece.created_at => {}
                _ => {
                    latest.insert(series, piece);
                }
            }
        }
        for (series, piece) in latest {
            if let Some(value) = value(&piece.body) {
                add(MetricSource::Feedback(series), value, None);
            }
        }
    }
    found
}

fn assert_are(weeks: &Weeks, expected: &ByHand, what: &str) {
    assert_eq!(weeks.taken_in, None, "{what}");
    let mut seen = 0;
    for row in &weeks.rows {
        for (source, found) in &row.sources {
            // Tokens are the sample's, and not what is tested.
            if matches!(
                source,
                MetricSource::Signal(
                    Signal::InputTokens | Signal::OutputTokens | Signal::FirstByteMs
                )
            ) {
                continue;
            }
            let key = |source: &MetricSource| (row.week.0, row.prompt_version, source.clone());
            let (units, classes) = expected
                .get(&key(source))
                .unwrap_or_else(|| panic!("{what}: {:?} is not there by hand", key(source)));
            let (calls, _) = &expected[&key(&MetricSource::Signal(Signal::Calls))];
            let mut sums = UnitSums::default();
            for (unit, (x, n)) in units {
                sums.put(&[*x, *n, calls[unit].1, 0.0], true);
            }
            assert_eq!(found.sums.n, sums.n, "{what}: {:?}", key(source));
            for left in 0..3 {
                let near = |found: f64, expected: f64| {
                    assert!(
                        (found - expected).abs() <= 1e-9 * expected.abs().max(1e-3),
                        "{what}: {:?}: {found} {expected}",
                        key(source)
                    );
                };
                near(found.sums.sum(left), sums.sum(left));
                for right in 0..=left {
                    near(found.sums.centred(left, right), sums.centred(left, right));
                }
            }
            assert_eq!(&found.classes, classes, "{what}: {:?}", key(source));
            seen += 1;
        }
    }
    assert_eq!(seen, expected.len(), "{what}");
}

#[tokio::test]
async fn weeks_say_what_the_events_say() {
    for seed in 0..8 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let folder = TempDir::new().unwrap();
        let mut store = open_in(&folder).await;
        let (mut calls, mut said) = (BTreeMap::new(), Vec::new());
        for round in 0..10 {
            let mut events = Vec::new();
            for _ in 0..random.usize(1..150) {
                let number = random.u32(0..200);
                if random.bool() {
                    let call = made_up_call(number);
                    calls.insert(call.id.clone(), call.clone());
                    events.push(NewEvent::Call(Box::new(call)));
                } else {
                    let piece = made_up_feedback(random, number, said.len());
                    said.push(piece.clone());
                    events.push(NewEvent::Feedback(Box::new(piece)));
                }
            }
            store.append(events).await.unwrap();
            match random.u8(0..4) {
                0 => store.maintain().await.unwrap(),
                1 => {
                    store.close().await.unwrap();
                    store = open_in(&folder).await;
                }
                _ => {}
            }
            let what = format!("seed {seed}, round {round}");
            let weeks = store.weeks(&all()).await.unwrap();
            assert_are(&weeks, &by_hand(&calls, &said), &what);
        }
    }
}

async fn filled() -> (SqliteStore, TempDir) {
    let folder = TempDir::new().unwrap();
    let store = open_in(&folder).await;
    let calls = (0..4).map(|week| {
        let mut call = call(
            &format!("c{week}"),
            "support",
            second(BEGIN + week * 7 * DAY),
        );
        call.facts.environment = Some(name(["staging", "production"][week as usize % 2]));
        call.facts.prompt_version = Some(version(0));
        call.facts.unit = Some("u".to_owned());
        NewEvent::Call(Box::new(call))
    });
    store.append(calls.collect()).await.unwrap();
    (store, folder)
}

fn mondays(weeks: &Weeks) -> Vec<String> {
    weeks.rows.iter().map(|row| row.week.monday()).collect()
}

#[tokio::test]
async fn weeks_are_those_that_are_asked_for() {
    let (store, _folder) = filled().await;
    let first = Week::of(second(BEGIN));
    type Narrow = fn(&mut WeeksQuery, Week);
    let cases: [(Narrow, &[usize]); 4] = [
        (|_, _| (), &[0, 1, 2, 3]),
        (
            |asked, _| asked.environment = Some(name("production")),
            &[1, 3],
        ),
        (
            |asked, first| {
                asked.from = Some(first.next());
                asked.to = Some(first.next().next());
            },
            &[1, 2],
        ),
        (|asked, _| asked.app = name("billing"), &[]),
    ];
    let names = ["2023-11-13", "2023-11-20", "2023-11-27", "2023-12-04"];
    for (narrow, expected) in cases {
        let mut asked = all();
        narrow(&mut asked, first);
        let found = store.weeks(&asked).await.unwrap();
        let expected: Vec<_> = expected.iter().map(|place| names[*place]).collect();
        assert_eq!(mondays(&found), expected, "{asked:?}");
    }
}

/// What a week came to stays, and the names of its users go with its calls.
#[tokio::test]
async fn users_of_weeks_go_with_their_calls() {
    let (store, folder) = filled().await;
    store.maintain().await.unwrap();
    let before = store.weeks(&all()).await.unwrap();
    let oldest = || -> Option<i64> {
        let connection = rusqlite::Connection::open(folder.path().join("flywheel.db")).unwrap();
        let oldest = "SELECT min(week) FROM week_units";
        connection.query_row(oldest, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(oldest(), Some(Week::of(second(BEGIN)).0));
    let bound = PruneBound::Before(second(BEGIN + 10 * DAY));
    while store.prune(bound).await.unwrap() > 0 {}
    assert_eq!(store.weeks(&all()).await.unwrap(), before);
    assert_eq!(oldest(), Some(Week::of(second(BEGIN + 14 * DAY)).0));
    let bound = PruneBound::Before(second(BEGIN + 100 * DAY));
    while store.prune(bound).await.unwrap() > 0 {}
    assert_eq!(
        (store.weeks(&all()).await.unwrap(), oldest()),
        (before, None)
    );
    // The numbers of removed rows are given again.
    let mut call = made_up_call(1);
    call.started_at = second(BEGIN + 40 * DAY);
    call.facts.app = Some(name("support"));
    call.facts.prompt_version = Some(version(0));
    let calls = vec![NewEvent::Call(Box::new(call))];
    store.append(calls).await.unwrap();
    assert_eq!(store.weeks(&all()).await.unwrap().rows.len(), 5);
}

/// Users are kept for as long as opinions on their calls are expected, and no longer.
#[tokio::test]
async fn users_of_eight_weeks_are_kept() {
    let (store, folder) = filled().await;
    let count = || -> i64 {
        let connection = rusqlite::Connection::open(folder.path().join("flywheel.db")).unwrap();
        let all = "SELECT count(*) FROM week_units";
        connection.query_row(all, [], |row| row.get(0)).unwrap()
    };
    for week in 4..12 {
        let mut call = call(
            &format!("c{week}"),
            "support",
            second(BEGIN + week * 7 * DAY),
        );
        call.facts.prompt_version = Some(version(0));
        call.facts.unit = Some("u".to_owned());
        store
            .append(vec![NewEvent::Call(Box::new(call))])
            .await
            .unwrap();
        store.weeks(&all()).await.unwrap();
    }
    let before = store.weeks(&all()).await.unwrap();
    assert_eq!((before.rows.len(), count()), (12, 8));
    let late = feedback("f", "c1", outcome("done", 1.0), second(BEGIN + 90 * DAY));
    store
        .append(vec![NewEvent::Feedback(Box::new(late))])
        .await
        .unwrap();
    assert_eq!(store.weeks(&all()).await.unwrap(), before);
    let in_time = feedback("g", "c6", outcome("done", 1.0), second(BEGIN + 90 * DAY));
    store
        .append(vec![NewEvent::Feedback(Box::new(in_time))])
        .await
        .unwrap();
    assert_ne!(store.weeks(&all()).await.unwrap(), before);
}
