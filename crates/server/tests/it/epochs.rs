//! Epochs and days: what is compared with what, and until when.

use flywheel_core::experiment::Experiment;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{Arm, SOUND, advance_days, begin, plan, readout, send, users, users_of};
use crate::totals::{begin_three, of};

const EXPERIMENTS: &str = "/api/v1/experiments";

/// Users call once, and each pays a fee.
async fn fees(
    app: &TestApp,
    experiment: &Experiment,
    users: std::ops::Range<u32>,
    mut fee: impl FnMut(&str) -> f64,
) {
    let at = app.context.sources.clock.now();
    let (mut calls, mut paid) = (Vec::new(), Vec::new());
    for number in users {
        let user = format!("user_{number}");
        let Some(arm) = experiment.assign(&user) else {
            continue;
        };
        calls.push(
            json!({"id": user, "app": "support", "environment": "production", "user": user,
            "experiment": experiment.name, "arm": arm.name, "started_at": at}),
        );
        paid.push(json!({"call_id": user, "app": "support", "kind": "outcome", "name": "fee", "value": fee(arm.name.as_str())}));
    }
    send(app, calls, paid).await;
}

async fn declare_fee(app: &TestApp) {
    let metrics = app.viewer().get("/api/v1/apps/support/metrics").await.ok();
    let mut metrics = metrics["items"].as_array().unwrap().clone();
    metrics.push(
        json!({"name": "fee", "kind": "continuous", "source": "outcome:fee", "direction": "lower"}),
    );
    let settings = json!({"description": "", "metrics": metrics});
    let put = app.editor().put("/api/v1/apps/support", &settings).await;
    put.ok();
}

/// An epoch in which everybody pays the same is no certain one: it counts as the others do, unit for unit.
#[tokio::test]
async fn an_epoch_that_does_not_vary_is_not_certain() {
    let app = TestApp::furnished().await;
    declare_fee(&app).await;
    let mut asked = plan();
    asked["primary"] = json!("fee");
    asked["mde"] = json!({"absolute": 0.1});
    let experiment = begin(&app, "fees", asked).await;
    let alike = |arm: &str| if arm == "b" { 3.0 } else { 2.0 };
    fees(&app, &experiment, 0..300, alike).await;
    let said = readout(&app, "fees").await;
    let found = &said["metrics"][0]["comparisons"][0];
    // What they differ by is known, and not how far that may be off.
    assert_eq!(found["difference"], json!(1.0), "{found}");
    assert_eq!(found["standard_error"], Value::Null);
    assert_eq!(found["finding"], "open");
    advance_days(&app, 1);
    let changed = app
        .editor()
        .patch(&format!("{EXPERIMENTS}/fees"), &json!({"exposure": 9000}))
        .await
        .ok();
    let experiment: Experiment = serde_json::from_value(changed).unwrap();
    let random = &mut fastrand::Rng::with_seed(8);
    fees(&app, &experiment, 1000..1700, |_| 2.5 + random.f64()).await;
    let said = readout(&app, "fees").await;
    let found = &said["metrics"][0]["comparisons"][0];
    let (alike, varied) = (&found["epochs"][0], &found["epochs"][1]);
    assert_eq!(
        (&alike["units"], &alike["difference"]),
        (&json!(300.0), &json!(1.0))
    );
    let why = alike["undefined"].as_str().unwrap();
    assert!(why.contains("do not vary"), "{alike}");
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
    let (n, error) = (number(varied, "units"), number(varied, "standard_error"));
    let mean = (300.0 + n * number(varied, "difference")) / (300.0 + n);
    assert!(
        (number(found, "difference") - mean).abs() < 1e-12,
        "{found}"
    );
    let expected = error * (n / (300.0 + n)).sqrt();
    assert!((number(found, "standard_error") - expected).abs() < 1e-12);
    assert_eq!(number(found, "units"), 300.0 + n);
    assert!(number(found, "low") < mean && mean < number(found, "high"));
}

/// Days of small counts stand in the days, and what is found by them alone says so.
#[tokio::test]
async fn days_of_small_counts_are_told() {
    let app = TestApp::furnished().await;
    let mut rare = plan();
    rare["primary"] = json!("hard_failures");
    let experiment = begin(&app, "rare", rare).await;
    let random = &mut fastrand::Rng::with_seed(6);
    let failing = |failing: f64| Arm { failing, ..SOUND };
    users(&app, &experiment, 0..1400, [failing(0.06), SOUND], random).await;
    advance_days(&app, 1);
    let few = readout(&app, "rare").await;
    let p = few["metrics"][0]["comparisons"][0]["p"].as_f64().unwrap();
    assert!(p < 0.001, "{few}");
    let day = &few["timeline"][0];
    assert_eq!(day["p"].as_f64(), Some(p), "{day}");
    assert_eq!(day["low"], Value::Null);
    assert!(
        day["small_counts"].as_str().unwrap().starts_with("0 of "),
        "{day}"
    );
    users(&app, &experiment, 1400..3000, [failing(0.13); 2], random).await;
    let said = readout(&app, "rare").await;
    let found = &said["metrics"][0]["comparisons"][0];
    assert!(found["low"].as_f64().unwrap() < 0.0 && found["high"].as_f64().unwrap() > 0.0);
    assert_eq!(found["finding"], "better", "{found}");
    assert_eq!(found["small_counts_then"]["day"], few["timeline"][0]["day"]);
    let days = said["timeline"].as_array().unwrap();
    assert_eq!(days.len(), 2);
    // The smallest until then is that of the day before.
    assert_eq!(days[1]["p"].as_f64(), Some(p));
    assert!(days[1]["low"].is_f64());
    let reason = said["verdict"]["reason"].as_str().unwrap();
    assert!(reason.contains("of the small counts of"), "{reason}");
    let note = found["note"].as_str().unwrap();
    assert!(note.contains("of the small counts of"), "{note}");
    // Once a single look at what is known does not say so any more, neither does the verdict.
    advance_days(&app, 1);
    users(&app, &experiment, 3000..4600, [failing(0.3); 2], random).await;
    let said = readout(&app, "rare").await;
    let found = &said["metrics"][0]["comparisons"][0];
    assert_eq!(found["finding"], "open", "{found}");
    assert_ne!(said["verdict"]["state"], "better");
    let note = found["note"].as_str().unwrap();
    assert!(note.contains("does not bear out"), "{note}");
}

/// Whoever reads the sums of a day that is over has looked at it: what is logged late is of the next.
#[tokio::test]
async fn sums_of_days_that_are_over_stay() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "late", plan()).await;
    let random = &mut fastrand::Rng::with_seed(6);
    users(&app, &experiment, 0..200, [SOUND; 2], random).await;
    advance_days(&app, 1);
    let of_first_day = |said: &Value| {
        let rows = said["items"].as_array().unwrap();
        let first = rows[0]["day"].clone();
        let rows: Vec<Value> = rows
            .iter()
            .filter(|row| row["day"] == first)
            .cloned()
            .collect();
        (first, rows)
    };
    let path = format!("{EXPERIMENTS}/late/sums");
    let (first, before) = of_first_day(&app.viewer().get(&path).await.ok());
    assert!(!before.is_empty());
    let outcome = |number: u32| {
        json!({"call_id": format!("late-{number}"), "app": "support", "kind": "outcome", "name": "task_completed",
        "value": true, "created_at": format!("{}T23:59:00Z", first.as_str().unwrap())})
    };
    let late: Vec<Value> = (0..200).map(outcome).collect();
    send(&app, Vec::new(), late).await;
    let (_, after) = of_first_day(&app.viewer().get(&path).await.ok());
    assert_eq!(before, after);
}

/// What the control does while nobody is in an arm is in no number of that arm, whatever changes later; and it is served again.
#[tokio::test]
async fn a_closed_arm_stays_as_it_was() {
    let app = TestApp::furnished().await;
    let mut rare = plan();
    rare["primary"] = json!("hard_failures");
    rare["guardrails"] = json!([]);
    let experiment = begin_three(&app, rare).await;
    let random = &mut fastrand::Rng::with_seed(6);
    let behaviour = |arm: &str| Arm {
        failing: if arm == "c" { 0.04 } else { 0.01 },
        ..SOUND
    };
    users_of(&app, &experiment, 0..1200, behaviour, random).await;
    advance_days(&app, 1);
    let path = format!("{EXPERIMENTS}/three");
    let changed = async |body: Value| {
        let changed = app.editor().patch(&path, &body).await.ok();
        serde_json::from_value::<Experiment>(changed).unwrap()
    };
    let experiment = changed(json!({"weights": [4000, 6000, 0]})).await;
    let open = of(&readout(&app, "three").await, "hard_failures", "c");
    assert!(open["small_counts"].is_object(), "{open}");
    // Enough of the control's calls fail for an interval of others.
    users_of(&app, &experiment, 1200..4000, behaviour, random).await;
    advance_days(&app, 1);
    let experiment = changed(json!({"exposure": 9000})).await;
    users_of(&app, &experiment, 4000..5000, behaviour, random).await;
    advance_days(&app, 1);
    let said = readout(&app, "three").await;
    let closed = of(&said, "hard_failures", "c");
    for member in [
        "small_counts",
        "units",
        "difference",
        "relative",
        "p",
        "compared_until",
    ] {
        assert_eq!(closed[member], open[member], "{member}");
    }
    assert_eq!(closed["compared_until"]["is_served_again"], false);
    let days = said["timeline"].as_array().unwrap();
    assert_eq!(days.iter().filter(|day| day["arm"] == "c").count(), 1);
    let epoch = &closed["epochs"][1];
    assert_eq!(epoch["units"], json!(0.0), "{epoch}");
    assert!(
        epoch["undefined"]
            .as_str()
            .unwrap()
            .contains("nobody was in")
    );
    let experiment = changed(json!({"weights": [4000, 3000, 3000]})).await;
    users_of(&app, &experiment, 5000..6000, behaviour, random).await;
    let again = of(&readout(&app, "three").await, "hard_failures", "c");
    assert_eq!(
        again["compared_until"]["day"],
        open["compared_until"]["day"]
    );
    assert_eq!(again["compared_until"]["is_served_again"], true);
    assert!(again["units"].as_f64() > open["units"].as_f64());
}

/// A small arm that has none of the rare values is not a certain one.
#[tokio::test]
async fn small_arms_are_not_certain() {
    let app = TestApp::furnished().await;
    declare_fee(&app).await;
    let mut asked = plan();
    asked["primary"] = json!("fee");
    asked["mde"] = json!({"absolute": 0.1});
    let arms = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    let arms = json!([
        {"name": "a", "manifest": arms[0], "weight": 9000},
        {"name": "b", "manifest": arms[1], "weight": 1000},
    ]);
    let body = json!({"name": "rare", "app": "support", "arms": arms, "plan": asked});
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    let start = format!("{EXPERIMENTS}/rare/start");
    let started = app.editor().post(&start, &Value::Null).await.ok();
    let experiment: Experiment = serde_json::from_value(started).unwrap();
    // 27 of about 1,800 users of the large arm pay something, and none of 200 in the other.
    let mut number = 0;
    let fee = |arm: &str| {
        number += u32::from(arm == "a");
        f64::from(u8::from(arm == "a" && number % 66 == 0))
    };
    fees(&app, &experiment, 0..2000, fee).await;
    let said = readout(&app, "rare").await;
    let found = &said["metrics"][0]["comparisons"][0];
    assert_eq!(said["metrics"][0]["arms"][1]["sums"]["x"], json!(0.0));
    assert_eq!(found["finding"], "open", "{found}");
    assert!(found["p"].as_f64().unwrap() > 0.05, "{found}");
}

/// Units that other weights leave out may leave too few: what their intervals were is no interval of what is left.
#[tokio::test]
async fn too_few_that_are_left_have_no_interval() {
    let app = TestApp::furnished().await;
    declare_fee(&app).await;
    let experiment = begin(&app, "left", plan()).await;
    let random = &mut fastrand::Rng::with_seed(8);
    fees(&app, &experiment, 0..600, |_| random.f64()).await;
    let fee = async || {
        let said = readout(&app, "left").await;
        of(&said, "fee", "b")
    };
    assert!(fee().await["low"].is_f64());
    advance_days(&app, 1);
    let weights = json!({"weights": [9900, 100]});
    let path = format!("{EXPERIMENTS}/left");
    app.editor().patch(&path, &weights).await.ok();
    let found = fee().await;
    assert!(found["difference"].is_f64(), "{found}");
    assert_eq!(
        (&found["low"], &found["finding"]),
        (&Value::Null, &json!("open"))
    );
    let why = found["undefined"].as_str().unwrap();
    assert!(why.contains("needs 100 values"), "{found}");
}
