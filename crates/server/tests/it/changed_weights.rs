//! Weights that change while an experiment runs.

use flywheel_core::experiment::Experiment;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{advance_days, begin, plan, send, settled};

/// Everybody calls; those whose number is even come again in the end, and complete more.
async fn visits(
    app: &TestApp,
    experiment: &Experiment,
    visit: &str,
    who: impl Iterator<Item = u32>,
    random: &mut fastrand::Rng,
) {
    let at = app.context.sources.clock.now();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in who {
        let user = format!("user_{number}");
        let arm = &experiment.assign(&user).unwrap().name;
        let id = format!("{visit}-{number}");
        calls.push(
            json!({"id": id, "app": "support", "environment": "production", "user": user,
            "experiment": experiment.name, "arm": arm, "started_at": at}),
        );
        let completes = if number % 2 == 0 { 0.8 } else { 0.4 };
        outcomes.push(json!({"call_id": id, "app": "support", "kind": "outcome",
            "name": "task_completed", "value": random.f64() < completes}));
    }
    send(app, calls, outcomes).await;
}

/// Those whose arm changes are left out whether they come again or not: were it only those who come, who complete more, the arm
/// that loses them would look worse.
#[tokio::test]
async fn whoever_is_given_another_arm_is_left_out() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "alike", plan()).await;
    let random = &mut fastrand::Rng::with_seed(1);
    visits(&app, &experiment, "first", 0..4000, random).await;
    advance_days(&app, 1);
    let path = "/api/v1/experiments/alike";
    let first_day = async || {
        let sums = app.viewer().get(&format!("{path}/sums")).await.ok();
        let rows = sums["items"].as_array().unwrap().clone();
        let day = rows[0]["day"].clone();
        rows.into_iter()
            .filter(|row| row["day"] == day)
            .collect::<Vec<_>>()
    };
    let before = first_day().await;
    let body = json!({"weights": [2000, 8000]});
    let changed = app.editor().patch(path, &body).await.ok();
    let changed: Experiment = serde_json::from_value(changed).unwrap();
    // Nothing has come on this day yet; what could be read yesterday stays all the same.
    settled(&app, "alike").await;
    assert_eq!(first_day().await, before);
    visits(&app, &changed, "again", (0..4000).step_by(2), random).await;
    let said = settled(&app, "alike").await;
    let moved = (0..4000).filter(|number| {
        let user = format!("user_{number}");
        experiment.assign(&user).unwrap().name != changed.assign(&user).unwrap().name
    });
    let dropped = |arm: usize| said["arms"][arm]["dropped"].as_u64().unwrap();
    assert_eq!(dropped(0), moved.count() as u64);
    assert_eq!(dropped(1), 0);
    let found = &said["metrics"][0]["comparisons"][0];
    let of = |name: &str| found[name].as_f64().unwrap();
    assert!(
        of("difference").abs() < 3.0 * of("standard_error"),
        "{found}"
    );
    let checks = said["checks"].as_array().unwrap();
    let is_it = |check: &&Value| check["name"] == "changed weights";
    let told = checks.iter().find(is_it).unwrap()["detail"]
        .as_str()
        .unwrap();
    assert!(
        told.contains("have another arm since the weights changed"),
        "{told}"
    );
}
