//! Units that keep what they had while everything else goes on, and experiments that are put away.

use flywheel_core::experiment::Experiment;
use flywheel_server::operations::experiments;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{SOUND, begin, plan, users};
use crate::samples::each;

const EXPERIMENTS: &str = "/api/v1/experiments";

fn holdout(held: &str) -> Value {
    json!({"name": "holdout", "app": "support", "layer_share": 4000, "arms": [
        {"name": "held", "manifest": held, "weight": 5000},
        {"name": "rest", "follows_environment": true, "weight": 5000},
    ]})
}

async fn start(app: &TestApp, body: &Value) -> Value {
    app.editor().post(EXPERIMENTS, body).await.ok();
    let path = format!("{EXPERIMENTS}/{}/start", body["name"].as_str().unwrap());
    app.editor().post(&path, &Value::Null).await.ok()
}

/// What serves each of sixty users: the experiment's arm, and the manifest.
async fn served(app: &TestApp) -> Vec<(String, String)> {
    let mut served = Vec::new();
    for number in 0..60 {
        let answer = app.chat(&format!("u{number}")).await;
        let told = |member: &str| {
            let text = answer["flywheel"][member].as_str().unwrap_or_default();
            text.to_owned()
        };
        let arm = format!("{}/{}", told("experiment"), told("arm"));
        served.push((arm, told("manifest")));
    }
    served
}

#[tokio::test]
async fn the_rest_follows_what_is_deployed_and_the_holdout_does_not() {
    let app = TestApp::furnished().await;
    let (second, first) = (app.deploy_greeting(2).await, app.deploy_greeting(1).await);
    let started = start(&app, &holdout(&first)).await;
    assert!(started["arms"][1].get("manifest").is_none(), "{started}");
    let before = served(&app).await;
    assert!(before.iter().all(|(_, manifest)| *manifest == first));
    let in_arm = |served: &[(String, String)], name: &str| {
        let in_it = served.iter().filter(|(arm, _)| arm == name);
        in_it.count()
    };
    let counts = ["holdout/held", "holdout/rest", "/"].map(|arm| in_arm(&before, arm));
    assert!(counts.iter().all(|count| *count > 3), "{counts:?}");

    app.deploy_greeting(2).await;
    for ((arm_before, _), (arm, manifest)) in before.iter().zip(served(&app).await) {
        assert_eq!(*arm_before, arm, "nobody moves");
        let expected = if arm == "holdout/held" {
            &first
        } else {
            &second
        };
        assert_eq!(manifest, *expected, "{arm}");
    }
    // Other experiments have what the holdout leaves of the layer.
    let arms = json!([
        {"name": "a", "manifest": first, "weight": 5000},
        {"name": "b", "manifest": second, "weight": 5000},
    ]);
    let mut other = json!({"name": "exp", "app": "support", "arms": arms});
    app.editor().post(EXPERIMENTS, &other).await.ok();
    app.editor()
        .post(&format!("{EXPERIMENTS}/exp/start"), &Value::Null)
        .await
        .problem_saying(409, "layer_full", "`holdout` (40%)");
    other["name"] = json!("beside");
    other["layer_share"] = json!(6000);
    start(&app, &other).await;
    for ((arm_before, _), (arm, _)) in before.iter().zip(served(&app).await) {
        let is_beside = arm.starts_with("beside/");
        assert_eq!(arm_before == "/", is_beside, "{arm_before} became {arm}");
    }
}

#[tokio::test]
async fn what_is_deployed_already_is_not_promoted() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    start(&app, &holdout(&first)).await;
    let promote = json!({"arm": "rest", "reason": "better", "force": true});
    app.editor()
        .post(&format!("{EXPERIMENTS}/holdout/promote"), &promote)
        .await
        .problem_saying(409, "follows_environment", "deployed there already");
}

/// Whoever ends it would give the holdout what is worse.
#[tokio::test]
async fn a_holdout_outlives_what_is_deployed_beside_it() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    let mut body = holdout(&first);
    body["layer_share"] = json!(10_000);
    body["plan"] = plan();
    let started = start(&app, &body).await;
    let experiment: Experiment = serde_json::from_value(started).unwrap();
    let random = &mut fastrand::Rng::with_seed(3);
    let mut calls = Vec::new();
    for number in 0..1200 {
        let unit = format!("user_{number}");
        let arm = &experiment.assign(&unit).unwrap().name;
        let failed = arm.as_str() == "rest" && random.f64() < 0.2;
        calls.push(
            json!({"app": "support", "unit": unit, "experiment": "holdout", "arm": arm,
            "error": failed.then_some("timeout")}),
        );
    }
    for part in calls.chunks(400) {
        app.caller().post("/api/v1/calls", &json!(part)).await.ok();
    }
    let said = app
        .viewer()
        .get(&format!("{EXPERIMENTS}/holdout/readout"))
        .await
        .ok();
    assert_eq!(said["verdict"]["state"], "abort", "{}", said["verdict"]);
    let next = said["verdict"]["next"].as_str().unwrap();
    assert!(next.contains("flywheel rollback support"), "{next}");
    let stopped = experiments::abort_violated(&app.context).await.unwrap();
    assert_eq!(stopped, []);
}

#[tokio::test]
async fn what_makes_no_holdout_is_refused() {
    let app = TestApp::furnished().await;
    let first = app.deploy_greeting(1).await;
    let mut both = holdout(&first);
    both["arms"][1]["manifest"] = json!(first);
    let mut twice = holdout(&first);
    twice["arms"][0] = json!({"name": "held", "follows_environment": true, "weight": 5000});
    for (body, part) in [
        (both, "arm `rest` cannot both follow"),
        (twice, "`held` and `rest` both follow"),
    ] {
        app.editor()
            .post(EXPERIMENTS, &body)
            .await
            .problem_saying(422, "invalid", part);
    }
    let mut nowhere = holdout(&first);
    nowhere["environment"] = json!("staging");
    app.editor().post(EXPERIMENTS, &nowhere).await.ok();
    app.editor()
        .post(&format!("{EXPERIMENTS}/holdout/start"), &Value::Null)
        .await
        .problem_saying(409, "nothing_deployed", "environment `staging`");
}

#[tokio::test]
async fn the_statistics_of_what_is_archived_stay_as_they_are() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "tone", plan()).await;
    let random = &mut fastrand::Rng::with_seed(7);
    users(&app, &experiment, 0..400, [SOUND, SOUND], random).await;
    let path = |action: &str| format!("{EXPERIMENTS}/tone/{action}");
    app.editor()
        .post(&path("archive"), &Value::Null)
        .await
        .problem_saying(409, "wrong_status", "is running and cannot be archived");
    app.editor().post(&path("stop"), &json!({})).await.ok();
    let sums = || async { app.viewer().get(&path("readout")).await.ok()["metrics"].clone() };
    let stopped = sums().await;
    users(&app, &experiment, 400..500, [SOUND, SOUND], random).await;
    let later = sums().await;
    assert_ne!(later, stopped, "what came late counts");

    let archived = app.editor().post(&path("archive"), &Value::Null).await.ok();
    assert_eq!(archived["status"], "archived");
    users(&app, &experiment, 500..600, [SOUND, SOUND], random).await;
    assert_eq!(sums().await, later);
    app.editor()
        .post(&path("rebuild"), &Value::Null)
        .await
        .problem_saying(409, "archived", "stay as they are");
    assert_eq!(sums().await, later);
    for (query, expected) in [("", &[] as &[&str]), ("?status=archived", &["tone"])] {
        let found = app.viewer().get(&format!("{EXPERIMENTS}{query}")).await;
        assert_eq!(each(&found.ok(), "name"), expected, "{query}");
    }
    let entries = app.viewer().get("/api/v1/audit").await.ok();
    assert_eq!(each(&entries, "action")[0], "experiment.archive");
}
