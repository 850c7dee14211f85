//! How results may be read: at any time, at planned looks, or once; and that guardrails are looked at at any time.

use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::sequential::rho_squared;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{Arm, SOUND, advance_days, begin, plan, readout, send, users};

/// A plan that is read once is decided by that reading, whatever comes later.
#[tokio::test]
async fn a_plan_with_one_look_has_one() {
    let app = TestApp::furnished().await;
    let mut once = plan();
    once["mode"] = json!("fixed");
    let experiment = begin(&app, "once", once).await;
    // Without traffic before, it is planned for 5,000 units.
    let random = &mut fastrand::Rng::with_seed(4);
    let better = Arm {
        completed: 0.65,
        ..SOUND
    };
    users(&app, &experiment, 0..3000, [SOUND, better], random).await;
    let said = readout(&app, "once").await;
    assert_eq!(
        said["verdict"]["state"], "collecting",
        "{}",
        said["verdict"]
    );
    let reason = said["verdict"]["reason"].as_str().unwrap();
    assert!(reason.contains("read once"), "{reason}");
    advance_days(&app, 8);
    users(&app, &experiment, 3000..6000, [SOUND, better], random).await;
    // The day on which the units are there goes on: looking at it now and once more would be two looks.
    let open = readout(&app, "once").await;
    assert_eq!(
        open["verdict"]["state"], "collecting",
        "{}",
        open["verdict"]
    );
    let reason = open["verdict"]["reason"].as_str().unwrap();
    assert!(reason.contains("read once"), "{reason}");
    advance_days(&app, 1);
    let decided = readout(&app, "once").await;
    assert_eq!(
        decided["verdict"]["state"], "better",
        "{}",
        decided["verdict"]
    );
    advance_days(&app, 1);
    users(&app, &experiment, 6000..9000, [better, SOUND], random).await;
    let later = readout(&app, "once").await;
    let found = |said: &Value| said["metrics"][0]["comparisons"][0]["difference"].clone();
    assert_eq!(found(&later), found(&decided));
    assert_eq!(later["timeline"].as_array().unwrap().len(), 1);
    // Nor does what is said late of the days before it.
    let changes_mind = |number: u32| {
        json!({"call_id": format!("once-{number}"), "app": "support", "kind": "outcome",
            "name": "task_completed", "value": number.is_multiple_of(2), "created_at": "2026-01-05T00:00:00Z"})
    };
    send(&app, Vec::new(), (0..3000).map(changes_mind).collect()).await;
    let still = readout(&app, "once").await;
    assert_eq!(found(&still), found(&decided));
    let days = |said: &Value| said["metrics"][0]["arms"].clone();
    assert_ne!(days(&still), days(&later), "what was said counts otherwise");
}

/// Ten planned looks end with the last of them: what comes later neither widens the interval nor adds a look.
#[tokio::test]
async fn planned_looks_end_with_the_last() {
    let app = TestApp::furnished().await;
    let mut planned = plan();
    planned["mode"] = json!("planned");
    planned["mde"] = json!({"absolute": 0.01});
    let experiment = begin(&app, "planned", planned).await;
    let random = &mut fastrand::Rng::with_seed(5);
    let mut seen = Vec::new();
    // Without traffic before, it is planned for 5,000 units.
    for day in 0..5 {
        users(
            &app,
            &experiment,
            day * 1800..(day + 1) * 1800,
            [SOUND; 2],
            random,
        )
        .await;
        advance_days(&app, 1);
        seen.push(readout(&app, "planned").await);
    }
    // A few more, which are too few for a look and must not spoil those there were.
    users(&app, &experiment, 9000..9003, [SOUND; 2], random).await;
    advance_days(&app, 1);
    seen.push(readout(&app, "planned").await);
    let found = |said: &Value| said["metrics"][0]["comparisons"][0].clone();
    let ends = |said: &Value| (found(said)["low"].clone(), found(said)["high"].clone());
    assert_eq!(found(&seen[1])["decided_on"], Value::Null);
    let day = seen[2]["timeline"][2]["day"].clone();
    assert_eq!(found(&seen[2])["decided_on"], day);
    for later in &seen[3..] {
        assert_eq!(ends(later), ends(&seen[2]));
        assert_eq!(later["timeline"].as_array().unwrap().len(), 3);
        assert_eq!(found(later)["difference"], found(&seen[2])["difference"]);
    }
    let verdict = &seen[5]["verdict"];
    assert_eq!(verdict["state"], "no_verdict", "{verdict}");
    let headline = verdict["headline"].as_str().unwrap();
    assert!(headline.starts_with("Inconclusive"), "{verdict}");
    // What is only shown may be read at any time.
    let others = seen[5]["metrics"].as_array().unwrap();
    let shown = others
        .iter()
        .find(|metric| metric["metric"]["name"] == "output_tokens")
        .unwrap();
    assert!(shown["comparisons"][0]["p"].is_f64(), "{shown}");
}

/// A plan that is read once waits with its verdict, not with its guardrails.
#[tokio::test]
async fn guardrails_guard_before_the_only_look() {
    let app = TestApp::furnished().await;
    let mut once = plan();
    once["mode"] = json!("fixed");
    let experiment = begin(&app, "guarded", once).await;
    let random = &mut fastrand::Rng::with_seed(8);
    let failing = |failing: f64| Arm { failing, ..SOUND };
    users(
        &app,
        &experiment,
        0..1500,
        [failing(0.05), failing(0.25)],
        random,
    )
    .await;
    let said = readout(&app, "guarded").await;
    assert_eq!(said["verdict"]["state"], "abort", "{}", said["verdict"]);
}

/// A hybrid's intervals are at a fifth of its level while it runs, and at the rest at its end.
#[tokio::test]
async fn a_hybrid_says_at_which_level_it_is_read() {
    let app = TestApp::furnished().await;
    let mut hybrid = plan();
    hybrid["mode"] = json!("hybrid");
    hybrid["alpha"] = json!(0.1);
    let experiment = begin(&app, "hybrid", hybrid).await;
    let random = &mut fastrand::Rng::with_seed(3);
    users(&app, &experiment, 0..3000, [SOUND; 2], random).await;
    let running = readout(&app, "hybrid").await;
    let found = |said: &Value| said["metrics"][0]["comparisons"][0].clone();
    let near = |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-9;
    assert!(near(&found(&running)["alpha"], 0.02));
    let estimate = |found: &Value| {
        let of = |name: &str| found[name].as_f64().unwrap();
        let df = found["degrees_of_freedom"].as_f64().unwrap();
        Estimate::new(of("difference"), of("standard_error"), df, of("units")).unwrap()
    };
    let rho_squared = rho_squared(0.1, 5000.0).unwrap();
    let expected = infer(
        &estimate(&found(&running)),
        Mode::Anytime { rho_squared },
        0.02,
    );
    let expected = expected.unwrap().interval.unwrap();
    assert!(near(&found(&running)["low"], expected.low));
    advance_days(&app, 1);
    users(&app, &experiment, 3000..6000, [SOUND; 2], random).await;
    advance_days(&app, 1);
    let ended = readout(&app, "hybrid").await;
    assert!(near(&found(&ended)["alpha"], 0.08));
    let expected = infer(&estimate(&found(&ended)), Mode::Fixed, 0.08).unwrap();
    assert!(near(&found(&ended)["low"], expected.interval.unwrap().low));
}

/// What a hybrid has found while it ran stays found: its last test is for those that found nothing.
#[tokio::test]
async fn what_a_hybrid_finds_while_it_runs_stays() {
    let app = TestApp::furnished().await;
    let mut hybrid = plan();
    hybrid["mode"] = json!("hybrid");
    let experiment = begin(&app, "early", hybrid).await;
    let random = &mut fastrand::Rng::with_seed(9);
    let better = Arm {
        completed: 0.75,
        ..SOUND
    };
    users(&app, &experiment, 0..3000, [SOUND, better], random).await;
    advance_days(&app, 1);
    let found = readout(&app, "early").await;
    assert_eq!(found["verdict"]["state"], "better", "{}", found["verdict"]);
    users(&app, &experiment, 3000..6000, [better, SOUND], random).await;
    advance_days(&app, 1);
    let later = readout(&app, "early").await;
    assert_eq!(
        later["metrics"][0]["comparisons"],
        found["metrics"][0]["comparisons"]
    );
    let shown = &found["metrics"][0]["comparisons"][0];
    assert_eq!(shown["decided_on"], found["timeline"][0]["day"]);
    assert!(shown["p"].as_f64().unwrap() < 0.05, "{shown}");
}

/// What holds at any time follows from the sums at the end of each day.
#[tokio::test]
async fn intervals_at_any_time_follow_from_the_sums_of_days() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "daily", plan()).await;
    let random = &mut fastrand::Rng::with_seed(2);
    for day in 0..4 {
        users(
            &app,
            &experiment,
            day * 500..(day + 1) * 500,
            [SOUND; 2],
            random,
        )
        .await;
        advance_days(&app, 1);
    }
    let said = readout(&app, "daily").await;
    let path = "/api/v1/experiments/daily/sums";
    let sums = app.viewer().get(path).await.ok();
    let of_plan = app.viewer().get("/api/v1/experiments/daily").await.ok();
    let tuned_for = of_plan["plan"]["tuned_for"].as_f64().unwrap();
    let rho_squared = rho_squared(0.05, tuned_for).unwrap();
    for metric in said["metrics"].as_array().unwrap() {
        let name = &metric["metric"]["name"];
        let shown = &metric["comparisons"][0];
        if metric["metric"]["kind"] == "quantile" || !shown["low"].is_f64() {
            continue;
        }
        let rows: Vec<&Value> = sums["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["metric"] == *name && row["part"] == "whole")
            .collect();
        let days: std::collections::BTreeSet<&str> = rows
            .iter()
            .map(|row| row["day"].as_str().unwrap())
            .collect();
        let (mut low, mut high, mut p) = (f64::MIN, f64::MAX, 1.0_f64);
        for day in days {
            let arm = |arm: &str| {
                let until =
                    |row: &&&Value| row["arm"] == arm && row["day"].as_str().unwrap() <= day;
                let row = rows.iter().rfind(until).unwrap();
                let of = |name: &str, place: usize| row[name][place].as_f64().unwrap();
                let n = row["n"].as_f64().unwrap();
                let (mean_x, mean_y) = (of("sums", 0) / n, of("sums", 1) / n);
                let ratio = mean_x / mean_y;
                let products = |place| of("products", place) / (n - 1.0);
                let spread = products(0) - 2.0 * ratio * products(1) + ratio * ratio * products(2);
                (ratio, spread / (mean_y * mean_y), n)
            };
            let (mut a, mut b) = (arm("a"), arm("b"));
            // The smaller arm is hardly taken to vary less than both do by their units.
            let mean = (a.1 * a.2 + b.1 * b.2) / (a.2 + b.2);
            let raised = |one: (f64, f64, f64), other: (f64, f64, f64)| {
                let share = (1.0 - one.2 / other.2).max(0.0);
                (one.1 + share * (mean - one.1).max(0.0)) / one.2
            };
            (a.1, b.1) = (raised(a, b), raised(b, a));
            let variance = a.1 + b.1;
            let df = variance * variance / (a.1 * a.1 / (a.2 - 1.0) + b.1 * b.1 / (b.2 - 1.0));
            if a.2.min(b.2) < 100.0 {
                continue;
            }
            let estimate = Estimate::new(b.0 - a.0, variance.sqrt(), df, a.2 + b.2).unwrap();
            let look = infer(&estimate, Mode::Anytime { rho_squared }, 0.05).unwrap();
            let interval = look.interval.unwrap();
            (low, high) = (low.max(interval.low), high.min(interval.high));
            p = p.min(look.p.unwrap());
        }
        let near = |found: &Value, expected: f64| {
            let found = found.as_f64().unwrap();
            assert!(
                (found - expected).abs() < 1e-9 * expected.abs().max(1e-3),
                "{name}: {found} {expected}"
            );
        };
        near(&shown["low"], low);
        near(&shown["high"], high);
        near(&shown["p"], p);
    }
    assert_eq!(said["timeline"].as_array().unwrap().len(), 4);
}

/// Small counts end with the plan, too: what comes after its last look neither adds evidence nor counts.
#[tokio::test]
async fn small_counts_end_with_the_last_look() {
    for (mode, part) in [("hybrid", 0.8), ("planned", 1.0), ("fixed", 1.0)] {
        let app = TestApp::furnished().await;
        let mut asked = plan();
        asked["mode"] = json!(mode);
        let experiment = begin(&app, "rare", asked).await;
        let random = &mut fastrand::Rng::with_seed(6);
        let rare = Arm {
            completed: 0.999,
            ..SOUND
        };
        users(&app, &experiment, 0..2000, [rare; 2], random).await;
        advance_days(&app, 1);
        let found = |said: &Value| said["metrics"][0]["comparisons"][0].clone();
        let running = found(&readout(&app, "rare").await);
        assert_eq!(running["decided_on"], Value::Null, "{mode}: {running}");
        assert_eq!(running["p"], Value::Null, "{mode}: {running}");
        users(&app, &experiment, 2000..6000, [rare; 2], random).await;
        advance_days(&app, 1);
        let ended = found(&readout(&app, "rare").await);
        assert!(ended["decided_on"].is_string(), "{mode}: {ended}");
        assert!(ended["small_counts"].is_object(), "{mode}: {ended}");
        assert!(ended["p"].is_f64(), "{mode}: {ended}");
        assert!((ended["alpha"].as_f64().unwrap() - 0.05 * part).abs() < 1e-12);
        users(&app, &experiment, 6000..9000, [rare, SOUND], random).await;
        advance_days(&app, 1);
        let later = found(&readout(&app, "rare").await);
        for member in ["p", "difference", "units", "small_counts", "finding"] {
            assert_eq!(later[member], ended[member], "{mode}: {member}");
        }
    }
}

/// A look that has nearly all units is the last, and spends what is left.
#[tokio::test]
async fn nearly_all_units_are_enough_for_the_last_planned_look() {
    let app = TestApp::furnished().await;
    let mut planned = plan();
    planned["mode"] = json!("planned");
    planned["mde"] = json!({"absolute": 0.01});
    let experiment = begin(&app, "nearly", planned).await;
    let random = &mut fastrand::Rng::with_seed(7);
    // Without traffic before, it is planned for 5,000 units.
    users(&app, &experiment, 0..4900, [SOUND; 2], random).await;
    advance_days(&app, 1);
    let said = readout(&app, "nearly").await;
    let found = &said["metrics"][0]["comparisons"][0];
    assert!(found["decided_on"].is_string(), "{found}");
    let of = |name: &str| found[name].as_f64().unwrap();
    // The only look has the whole level.
    let z = (of("high") - of("low")) / 2.0 / of("standard_error");
    assert!((z - 1.959_964).abs() < 1e-4, "{z}");
    assert_eq!(said["verdict"]["state"], "no_verdict");
    let next = said["verdict"]["next"].as_str().unwrap();
    assert!(next.starts_with("Stop"), "{next}");
}

/// A plan ends on a day on which each arm has what a verdict needs, however many units the others have.
#[tokio::test]
async fn a_plan_waits_for_its_smallest_arm() {
    let app = TestApp::furnished().await;
    let mut once = plan();
    once["mode"] = json!("fixed");
    let manifests = [app.deploy_greeting(2).await, app.deploy_greeting(1).await];
    let arms = json!([
        {"name": "a", "manifest": manifests[1], "weight": 9400},
        {"name": "b", "manifest": manifests[0], "weight": 600},
    ]);
    let body = json!({"name": "small", "app": "support", "arms": arms, "plan": once});
    let experiments = "/api/v1/experiments";
    app.editor().post(experiments, &body).await.with_status(201);
    let start = format!("{experiments}/small/start");
    let started = app.editor().post(&start, &Value::Null).await.ok();
    let experiment = serde_json::from_value(started).unwrap();
    let random = &mut fastrand::Rng::with_seed(13);
    let found = async || readout(&app, "small").await["metrics"][0]["comparisons"][0].clone();
    // Without traffic before, it is planned for 5,000 units; a verdict needs 500 of each arm.
    users(&app, &experiment, 0..6000, [SOUND; 2], random).await;
    advance_days(&app, 1);
    assert_eq!(found().await["decided_on"], Value::Null);
    users(&app, &experiment, 6000..10_000, [SOUND; 2], random).await;
    advance_days(&app, 1);
    let ended = found().await;
    assert!(
        ended["decided_on"].is_string() && ended["low"].is_f64(),
        "{ended}"
    );
}
