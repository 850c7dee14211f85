//! Summaries of calls and feedback.

use flywheel_core::ContentHash;
use flywheel_core::call::{Call, CallStatus};
use flywheel_core::feedback::{FeedbackBody, RatingScale};

use super::samples::{
    at, bare_call, call, call_events, feedback, feedback_events, name, outcome, thumbs,
};
use crate::EventStore;
use crate::events::{SeriesSums, SummaryFilter, SummaryKey, SummaryRow};

const DAY: i64 = 86_400;

fn in_arm(id: &str, arm: &str, seconds: i64) -> Call {
    let mut call = call(id, "support", at(seconds));
    call.facts.experiment = Some(name("tone"));
    call.facts.arm = Some(name(arm));
    call.facts.prompt_version = Some(ContentHash::of_bytes(arm.as_bytes()));
    call.facts.manifest = Some(ContentHash::of_bytes(arm.as_bytes()));
    call.facts.model_id = Some(name("gpt"));
    call.facts.model_version = Some(name(arm));
    call
}

async fn summary(store: &dyn EventStore, by: SummaryKey) -> Vec<SummaryRow> {
    store
        .summarize(&SummaryFilter::default(), by)
        .await
        .unwrap()
}

pub async fn calls_are_summed_by_each_key(store: &dyn EventStore) {
    let mut failed = in_arm("2", "a", 1);
    failed.facts.status = CallStatus::ProviderError;
    failed.facts.latency_us = Some(5_000_000_000);
    failed.facts.cost_nano_usd = Some(-7);
    let mut paid = in_arm("3", "b", DAY);
    paid.facts.cost_nano_usd = Some(10_000_000_000);
    let mut other = bare_call("4", at(2 * DAY));
    other.facts.app = Some(name("other"));
    let before_1970 = bare_call("5", "1969-12-31T23:59:59.5Z".parse().unwrap());
    store
        .append(call_events([
            in_arm("1", "a", 0),
            failed,
            paid,
            other,
            before_1970,
        ]))
        .await
        .unwrap();

    let expected_a = SummaryRow {
        key: "tone/a".to_owned(),
        calls: 2,
        fallbacks: 0,
        provider_errors: 1,
        calls_with_latency: 2,
        latency_us_sum: 5_000_001_000,
        calls_with_cost: 1,
        cost_nano_usd_sum: -7,
        series: vec![],
    };
    let expected_b = SummaryRow {
        key: "tone/b".to_owned(),
        calls: 1,
        calls_with_latency: 1,
        latency_us_sum: 1000,
        calls_with_cost: 1,
        cost_nano_usd_sum: 10_000_000_000,
        ..SummaryRow::default()
    };
    let rows = summary(store, SummaryKey::Arm).await;
    assert_eq!(
        rows,
        vec![expected_a, expected_b],
        "a call without the key is in no row"
    );
    for (by, expected) in [
        (
            SummaryKey::PromptVersion,
            ["a", "b"].map(|arm| ContentHash::of_bytes(arm.as_bytes()).to_string()),
        ),
        (
            SummaryKey::Manifest,
            ["a", "b"].map(|arm| ContentHash::of_bytes(arm.as_bytes()).to_string()),
        ),
        (SummaryKey::Model, ["gpt:a".to_owned(), "gpt:b".to_owned()]),
    ] {
        let mut keys: Vec<String> = summary(store, by)
            .await
            .into_iter()
            .map(|row| row.key)
            .collect();
        let mut expected = expected.to_vec();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected, "{by:?}");
    }
    let days: Vec<String> = summary(store, SummaryKey::Day)
        .await
        .into_iter()
        .map(|row| row.key)
        .collect();
    assert_eq!(
        days,
        ["1969-12-31", "2023-11-14", "2023-11-15", "2023-11-16"]
    );
}

pub async fn summaries_cover_what_is_asked(store: &dyn EventStore) {
    type Narrow = fn(&mut SummaryFilter);
    let cases: [(Narrow, u64); 6] = [
        (|filter| filter.apps = vec![name("other")], 1),
        (
            |filter| filter.apps = vec![name("other"), name("support")],
            4,
        ),
        (|filter| filter.environment = Some(name("production")), 3),
        (|filter| filter.experiment = Some(name("tone")), 3),
        (|filter| filter.since = Some(at(1)), 3),
        (
            |filter| {
                filter.since = Some(at(0));
                filter.until = Some(at(1));
            },
            1,
        ),
    ];
    let mut other = bare_call("4", at(2 * DAY));
    other.facts.app = Some(name("other"));
    let calls = [
        in_arm("1", "a", 0),
        in_arm("2", "a", 1),
        in_arm("3", "b", DAY),
        other,
        bare_call("5", at(-1)),
    ];
    store.append(call_events(calls)).await.unwrap();
    for (narrow, calls) in cases {
        let mut filter = SummaryFilter::default();
        narrow(&mut filter);
        let rows = store.summarize(&filter, SummaryKey::Day).await.unwrap();
        assert_eq!(
            rows.iter().map(|row| row.calls).sum::<u64>(),
            calls,
            "{filter:?}"
        );
    }
}

pub async fn latest_feedback_counts(store: &dyn EventStore) {
    let rating = |value| FeedbackBody::Rating {
        value,
        scale: RatingScale::default(),
    };
    let comment = FeedbackBody::Comment {
        text: "good".to_owned(),
    };
    let pieces = [
        // The later one counts, whichever arrives first.
        feedback("1", "x", thumbs(false), at(9)),
        feedback("2", "x", thumbs(true), at(3)),
        // Within one moment, the one that arrived last.
        feedback("3", "y", thumbs(false), at(5)),
        feedback("4", "y", thumbs(true), at(5)),
        // Series do not replace each other, and outcomes are series of their own.
        feedback("5", "x", rating(2.0), at(1)),
        feedback("6", "y", rating(4.5), at(1)),
        feedback("7", "x", outcome("escalated", 1.0), at(1)),
        feedback("8", "x", outcome("handle_time", 12.5), at(1)),
        feedback("9", "x", comment, at(1)),
        feedback("10", "unknown", thumbs(true), at(1)),
        feedback("11", "late", thumbs(true), at(1)),
    ];
    store.append(feedback_events(pieces)).await.unwrap();
    store
        .append(call_events([in_arm("x", "a", 0), in_arm("y", "a", 0)]))
        .await
        .unwrap();

    let series = |series: &str, n, ones, zeros, sum, squared_deviations| SeriesSums {
        series: series.to_owned(),
        n,
        ones,
        zeros,
        sum,
        squared_deviations,
        scales: Vec::new(),
    };
    let rows = summary(store, SummaryKey::Arm).await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].calls, 2);
    assert_eq!(
        rows[0].series,
        vec![
            series("comment", 1, 0, 0, 0.0, 0.0),
            series("outcome:escalated", 1, 1, 0, 1.0, 0.0),
            series("outcome:handle_time", 1, 0, 0, 12.5, 0.0),
            SeriesSums {
                scales: vec![(RatingScale::default(), 2)],
                // 2 and 4.5 on a scale from 1 to 5.
                ..series("rating", 2, 0, 0, 1.125, 0.195_312_5)
            },
            series("thumbs", 2, 1, 1, 1.0, 0.5),
        ]
    );

    // Feedback that came before its call counts once the call is there.
    store
        .append(call_events([in_arm("late", "b", 0)]))
        .await
        .unwrap();
    let rows = summary(store, SummaryKey::Arm).await;
    assert_eq!(rows[1].series, vec![series("thumbs", 1, 1, 0, 1.0, 0.0)]);
}

pub async fn deviations_of_large_values_are_exact(store: &dyn EventStore) {
    let ids: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    store
        .append(call_events(ids.iter().map(|id| in_arm(id, "a", 0))))
        .await
        .unwrap();
    let values = |number: usize| 1e9 + if number.is_multiple_of(2) { 0.5 } else { -0.5 };
    let pieces = ids
        .iter()
        .enumerate()
        .map(|(number, id)| feedback(id, id, outcome("large", values(number)), at(0)));
    store.append(feedback_events(pieces)).await.unwrap();
    let rows = summary(store, SummaryKey::Arm).await;
    let sums = &rows[0].series[0];
    assert_eq!((sums.n, sums.sum), (1000, 1e12));
    assert!(
        (sums.squared_deviations - 250.0).abs() < 1e-6,
        "{}",
        sums.squared_deviations
    );
}

pub async fn sums_do_not_overflow(store: &dyn EventStore) {
    let calls = ["1", "2", "3"].map(|id| {
        let mut call = in_arm(id, "a", 0);
        call.facts.latency_us = Some(u64::MAX / 4);
        call.facts.cost_nano_usd = Some(i64::MAX / 4);
        call
    });
    store.append(call_events(calls)).await.unwrap();
    let rows = summary(store, SummaryKey::Arm).await;
    assert_eq!(rows[0].latency_us_sum, 3 * (u64::MAX / 4));
    assert_eq!(rows[0].cost_nano_usd_sum, 3 * (i64::MAX / 4));
}

pub async fn ratings_are_summed_as_shares_of_their_scales(store: &dyn EventStore) {
    let scale = |min, max| RatingScale { min, max };
    let rating = |value, scale| FeedbackBody::Rating { value, scale };
    let (stars, points) = (scale(1.0, 5.0), scale(0.0, 10.0));
    let widest = scale(f64::MIN, f64::MAX);
    let pieces = [
        feedback("1", "a", rating(5.0, stars), at(0)),
        feedback("2", "b", rating(5.0, points), at(0)),
        feedback("3", "c", rating(1.0, stars), at(0)),
        feedback("4", "d", rating(0.0, widest), at(0)),
        // A changed mind on another scale.
        feedback("5", "e", rating(1.0, stars), at(0)),
        feedback("6", "e", rating(5.0, points), at(1)),
    ];
    store.append(feedback_events(pieces)).await.unwrap();
    let ids = ["a", "b", "c", "d", "e"];
    let calls = ids.map(|id| in_arm(id, "a", 0));
    store.append(call_events(calls)).await.unwrap();
    let rows = summary(store, SummaryKey::Arm).await;
    assert_eq!(
        rows[0].series,
        vec![SeriesSums {
            series: "rating".to_owned(),
            n: 5,
            ones: 1,
            zeros: 1,
            sum: 2.5,
            squared_deviations: 0.5,
            scales: vec![(widest, 1), (points, 2), (stars, 2)],
        }]
    );
}

pub async fn what_was_not_timed_has_no_latency(store: &dyn EventStore) {
    let mut untimed = in_arm("2", "a", 0);
    untimed.facts.latency_us = None;
    store
        .append(call_events([in_arm("1", "a", 0), untimed.clone()]))
        .await
        .unwrap();
    assert_eq!(store.get_call("2").await.unwrap(), Some(untimed));
    let rows = summary(store, SummaryKey::Arm).await;
    let row = &rows[0];
    assert_eq!((row.calls, row.calls_with_latency), (2, 1));
    assert_eq!(row.latency_us_sum, 1000);
}

/// What the fallback manifest answered says nothing of the arm, but is told of the manifest.
pub async fn fallbacks_are_not_credited_to_the_arm(store: &dyn EventStore) {
    let fallback = |id: &str, arm: &str| {
        let mut call = in_arm(id, arm, 0);
        call.facts.fallback = true;
        call.facts.status = CallStatus::ProviderError;
        call.facts.cost_nano_usd = Some(5);
        call.facts.manifest = Some(ContentHash::of_bytes(b"fallback"));
        call
    };
    let calls = [in_arm("1", "a", 0), fallback("2", "a"), fallback("3", "b")];
    store.append(call_events(calls)).await.unwrap();
    let pieces = ["1", "2", "3"].map(|call| feedback(call, call, thumbs(call == "1"), at(0)));
    store.append(feedback_events(pieces)).await.unwrap();

    let rows = summary(store, SummaryKey::Arm).await;
    let counts = |row: &SummaryRow| (row.calls, row.fallbacks, row.provider_errors);
    assert_eq!(counts(&rows[0]), (1, 1, 0));
    assert_eq!(counts(&rows[1]), (0, 1, 0));
    assert_eq!((rows[0].latency_us_sum, rows[0].calls_with_cost), (1000, 0));
    let thumbs = &rows[0].series[0];
    assert_eq!((thumbs.n, thumbs.ones), (1, 1));
    assert_eq!(rows[1].series, vec![]);

    let rows = summary(store, SummaryKey::Manifest).await;
    let key = ContentHash::of_bytes(b"fallback").to_string();
    let row = rows.iter().find(|row| row.key == key).unwrap();
    assert_eq!(counts(row), (2, 2, 2));
    assert_eq!(row.series[0].n, 2);
}
