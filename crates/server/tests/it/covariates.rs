//! What units did before an experiment: the arms must have been alike then.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{SOUND, begin, plan, users};

const USERS: u32 = 1500;

/// The check that the arms were alike before, where this share of each arm's users completed their tasks then.
async fn alike_before(completed: [f64; 2]) -> (Value, Value) {
    let app = TestApp::furnished().await;
    let mut asked = plan();
    asked["covariate"] = json!(true);
    let experiment = begin(&app, "tone", asked).await;
    let random = &mut fastrand::Rng::with_seed(41);
    let at = app.context.sources.clock.now() - jiff::SignedDuration::from_hours(48);
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..USERS {
        let user = format!("user_{number}");
        let is_b = experiment.assign(&user).unwrap().name.as_str() == "b";
        let id = format!("before-{number}");
        calls.push(
            json!({"id": id, "app": "support", "environment": "production", "user": user,
                          "started_at": at, "latency_ms": 300}),
        );
        outcomes.push(json!({"call_id": id, "app": "support", "kind": "outcome",
                             "name": "task_completed", "created_at": at, "value": random.f64() < completed[usize::from(is_b)]}));
    }
    for (path, events) in [("/api/v1/calls", calls), ("/api/v1/feedback", outcomes)] {
        for part in events.chunks(200) {
            app.caller().post(path, &json!(part)).await.ok();
        }
    }
    users(&app, &experiment, 0..USERS, [SOUND, SOUND], random).await;
    let path = "/api/v1/experiments/tone/readout";
    let said = app.viewer().get(path).await.ok();
    let checks = said["checks"].as_array().unwrap();
    let check = checks
        .iter()
        .find(|check| check["name"] == "covariate balance");
    (check.unwrap().clone(), said["verdict"].clone())
}

#[tokio::test]
async fn arms_that_chance_filled_were_alike_before() {
    let (check, verdict) = alike_before([0.6, 0.6]).await;
    assert_eq!(check["state"], "passed", "{check}");
    assert_ne!(verdict["state"], "invalid", "{verdict}");
}

#[tokio::test]
async fn arms_that_differed_before_are_noticed() {
    let (check, verdict) = alike_before([0.6, 0.75]).await;
    // Who gives feedback may depend on the arm, so that it need not be the split.
    assert_eq!(check["state"], "warning", "{check}");
    let detail = check["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("task_completed of b differed before the first exposure already"),
        "{detail}"
    );
    assert_ne!(verdict["state"], "invalid", "{verdict}");
}
