//! What apps did, slot by slot.

use flywheel_core::call::CallStatus;

use super::samples::{at, bare_call, call, call_events, name};
use crate::EventStore;
use crate::events::Window;

pub async fn activity_is_counted_by_app_and_slot(store: &dyn EventStore) {
    let mut calls = Vec::new();
    for number in 0..20 {
        let mut one = call(&format!("a{number}"), "support", at(100 + number));
        one.facts.latency_us = Some(1_000 * (number as u64 + 1));
        one.facts.cost_nano_usd = Some(5);
        one.facts.status = match number {
            0 => CallStatus::ProviderError,
            1 => CallStatus::GatewayError,
            2 => CallStatus::InvalidOutput,
            _ => CallStatus::Ok,
        };
        calls.push(one);
    }
    let mut untimed = call("untimed", "support", at(170));
    untimed.facts.latency_us = None;
    calls.extend([
        untimed,
        call("other", "other", at(160)),
        bare_call("no app", at(159)),
        call("early", "support", at(99)),
        call("late", "support", at(220)),
    ]);
    store.append(call_events(calls)).await.unwrap();
    let window = Window {
        since: at(100),
        slot_seconds: 60,
        slots: 2,
    };
    assert_eq!(window.until(), at(220));
    let rows = store.activity(&[], None, window).await.unwrap();
    let counts: Vec<_> = rows
        .iter()
        .map(|row| {
            let app = row.app.as_ref().map(|app| app.as_str());
            (app, row.slot, row.calls)
        })
        .collect();
    assert_eq!(
        counts,
        [
            (None, 0, 1),
            (Some("other"), 1, 1),
            (Some("support"), 0, 20),
            (Some("support"), 1, 1),
        ]
    );
    let busy = &rows[2];
    assert_eq!((busy.hard_failures, busy.invalid_outputs), (2, 1));
    assert_eq!(busy.cost_nano_usd, 100);
    assert_eq!(busy.latency_quantile(0.5), Some(10_000));
    assert_eq!(busy.latency_quantile(0.95), Some(19_000));
    assert_eq!(rows[3].latency_quantile(0.5), None);

    for (apps, environment, expected) in [
        (vec![name("other")], None, 1),
        (vec![], Some(name("production")), 3),
        (vec![], Some(name("staging")), 0),
    ] {
        let found = store.activity(&apps, environment.as_ref(), window).await;
        assert_eq!(found.unwrap().len(), expected, "{environment:?}");
    }
    let mut sum = rows[0].clone();
    sum.add(busy);
    assert_eq!(sum.calls, 21);
    assert_eq!(sum.latency_quantile(1.0), Some(20_000));
}
