//! Totals of units, which grow with the time since the first exposure; and values that do not vary.

use flywheel_core::experiment::Experiment;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{advance_days, plan, readout, send, settled};

const EXPERIMENTS: &str = "/api/v1/experiments";

/// An experiment between three arms that counts calls, and what each of them costs a user.
pub(crate) async fn begin_three(app: &TestApp, plan: Value) -> Experiment {
    let mut manifests = Vec::new();
    for version in 1..=3 {
        manifests.push(app.deploy_greeting(version).await);
    }
    let mut settings = app.viewer().get("/api/v1/apps/support").await.ok();
    let metrics = app.viewer().get("/api/v1/apps/support/metrics").await.ok();
    let mut metrics = metrics["items"].as_array().unwrap().clone();
    metrics.push(
        json!({"name": "calls", "kind": "count", "source": "signal:calls", "direction": "higher"}),
    );
    metrics.push(
        json!({"name": "fee", "kind": "continuous", "source": "outcome:fee", "direction": "lower"}),
    );
    settings = json!({"description": settings["description"].take(), "metrics": metrics});
    app.editor()
        .put("/api/v1/apps/support", &settings)
        .await
        .ok();
    let arms: Vec<Value> = (manifests
        .iter()
        .zip([("a", 4000), ("b", 3000), ("c", 3000)]))
    .map(|(manifest, (name, weight))| json!({"name": name, "manifest": manifest, "weight": weight}))
    .collect();
    let body = json!({"name": "three", "app": "support", "arms": arms, "plan": plan});
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    let start = format!("{EXPERIMENTS}/three/start");
    let started = app.editor().post(&start, &Value::Null).await.ok();
    serde_json::from_value(started).unwrap()
}

/// Each of the users may call so often on this day, every call for the same fee.
async fn day(
    app: &TestApp,
    experiment: &Experiment,
    number: u32,
    calls_of: impl Fn(&str) -> f64,
    random: &mut fastrand::Rng,
) {
    let at = app.context.sources.clock.now();
    let (mut calls, mut fees) = (Vec::new(), Vec::new());
    for user in 0..1800 {
        let name = format!("user_{user}");
        let arm = &experiment.assign(&name).unwrap().name;
        // Everybody comes on the first day.
        if number > 0 && random.f64() >= calls_of(arm.as_str()) {
            continue;
        }
        calls.push(
            json!({"id": format!("{number}-{user}"), "app": "support", "environment": "production",
            "user": name, "experiment": "three", "arm": arm, "started_at": at}),
        );
    }
    for call in &calls {
        let fee = json!({"call_id": call["id"], "app": "support", "kind": "outcome", "name": "fee", "value": 0.000_001_8});
        fees.push(fee);
    }
    send(app, calls, fees).await;
    advance_days(app, 1);
}

pub(crate) fn of(said: &Value, metric: &str, arm: &str) -> Value {
    let metrics = said["metrics"].as_array().unwrap();
    let is_it = |found: &&Value| found["metric"]["name"] == metric;
    let found = metrics.iter().find(is_it).unwrap();
    let comparisons = found["comparisons"].as_array().unwrap();
    let found = comparisons.iter().find(|found| found["arm"] == arm);
    found.unwrap().clone()
}

/// The difference of totals grows by the day: intervals of earlier days say nothing of today's.
#[tokio::test]
async fn totals_are_read_as_of_today() {
    let app = TestApp::furnished().await;
    let experiment = begin_three(&app, plan()).await;
    let random = &mut fastrand::Rng::with_seed(3);
    let often = |arm: &str| if arm == "c" { 0.8 } else { 0.5 };
    for number in 0..8 {
        day(&app, &experiment, number, often, random).await;
    }
    let found = of(&readout(&app, "three").await, "calls", "c");
    let value = |name: &str| found[name].as_f64().unwrap();
    assert!(
        (value("low")..value("high")).contains(&(7.0 * 0.3)),
        "{found}"
    );
    assert!(
        (value("low")..value("high")).contains(&value("difference")),
        "{found}"
    );
    assert!(value("low") <= value("fixed_low") && value("fixed_high") <= value("high"));
    assert_eq!(found["finding"], "better");
    assert_eq!(found["is_unstable"], false);
}

/// What an arm came to when it was closed is not compared with what the others come to later.
#[tokio::test]
async fn totals_end_with_their_arm() {
    let app = TestApp::furnished().await;
    let experiment = begin_three(&app, plan()).await;
    let random = &mut fastrand::Rng::with_seed(4);
    for number in 0..4 {
        day(&app, &experiment, number, |_| 0.5, random).await;
    }
    let open = of(&readout(&app, "three").await, "calls", "c");
    let path = format!("{EXPERIMENTS}/three");
    let body = json!({"weights": [4000, 6000, 0]});
    let changed = app.editor().patch(&path, &body).await.ok();
    let changed: Experiment = serde_json::from_value(changed).unwrap();
    for number in 4..12 {
        day(&app, &changed, number, |_| 0.5, random).await;
    }
    let said = settled(&app, "three").await;
    let closed = of(&said, "calls", "c");
    assert_eq!(closed["difference"], open["difference"]);
    assert_eq!(closed["finding"], "open", "{closed}");
    // And says how far: that of totals ends a day before the others.
    let rate = of(&said, "task_completed", "c");
    let until = |found: &Value| found["compared_until"]["day"].as_str().map(str::to_owned);
    assert!(until(&closed).unwrap() < until(&rate).unwrap(), "{closed}");
    assert!(
        closed["note"]
            .as_str()
            .unwrap()
            .contains("the last whole day on which both were served")
    );
    assert_eq!(of(&said, "calls", "b")["compared_until"], Value::Null);
    // Beside it the others go on.
    assert_ne!(of(&said, "calls", "b")["units"], json!(0.0));
}

/// Fees that are all alike differ in their last digits only, which is no difference.
#[tokio::test]
async fn rounding_is_no_difference() {
    let app = TestApp::furnished().await;
    let experiment = begin_three(&app, plan()).await;
    let random = &mut fastrand::Rng::with_seed(5);
    for number in 0..5 {
        day(&app, &experiment, number, |_| 0.6, random).await;
    }
    let said = readout(&app, "three").await;
    for arm in ["b", "c"] {
        let found = of(&said, "fee", arm);
        assert_eq!(found["finding"], "open", "{found}");
        let why = found["undefined"].as_str().unwrap();
        assert!(why.contains("do not vary"), "{found}");
    }
}
