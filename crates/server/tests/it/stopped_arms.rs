//! An arm that does harm is stopped, and those beside it go on.

use flywheel_core::experiment::Experiment;
use flywheel_server::operations::experiments::{Aborted, abort_violated};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::readouts::{Arm, SOUND, advance_days, plan, users, users_of};

const EXPERIMENTS: &str = "/api/v1/experiments";

async fn begin(app: &TestApp) -> Experiment {
    let mut arms = Vec::new();
    for (version, (name, weight)) in (1..).zip([("a", 4000), ("b", 3000), ("c", 3000)]) {
        let manifest = app.deploy_greeting(version).await;
        arms.push(json!({"name": name, "manifest": manifest, "weight": weight}));
    }
    let body = json!({"name": "three", "app": "support", "arms": arms, "plan": plan()});
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    let start = format!("{EXPERIMENTS}/three/start");
    let started = app.editor().post(&start, &Value::Null).await.ok();
    serde_json::from_value(started).unwrap()
}

#[tokio::test]
async fn the_others_go_on_and_may_win() {
    let app = TestApp::furnished().await;
    let before = begin(&app).await;
    let random = &mut fastrand::Rng::with_seed(21);
    let often = Arm {
        failing: 0.02,
        ..SOUND
    };
    let failing = Arm {
        failing: 0.08,
        ..SOUND
    };
    users(&app, &before, 0..5000, [often, failing], random).await;
    let aborted = abort_violated(&app.context).await.unwrap();
    let of_b = Aborted {
        experiment: before.name.clone(),
        arm: Some("b".parse().unwrap()),
    };
    assert_eq!(aborted, [of_b]);
    assert_eq!(abort_violated(&app.context).await.unwrap(), []);

    let after = app.viewer().get(&format!("{EXPERIMENTS}/three")).await.ok();
    assert_eq!(after["status"], "running", "{after}");
    let weights: Vec<&Value> = (0..3).map(|arm| &after["arms"][arm]["weight"]).collect();
    assert_eq!(weights, [&json!(7000), &json!(0), &json!(3000)]);
    assert_eq!(after["epochs"][1]["stopped_arm"]["arm"], "b", "{after}");
    let audit = app.admin().get("/api/v1/audit?limit=1").await.ok();
    assert_eq!(
        audit["items"][0]["action"], "experiment.stop_arm",
        "{audit}"
    );

    let after: Experiment = serde_json::from_value(after).unwrap();
    advance_days(&app, 1);
    // What the arm's users do elsewhere counts nowhere, and what they did stays as it was.
    let stayed = sums_of_b(&app).await;
    come_back(&app, &after, 0..5000).await;
    // So is what is logged in the arm although it is stopped.
    let user = (0..).map(|n| format!("user_{n}"));
    let of_b = |user: &String| before.assign(user).unwrap().name.as_str() == "b";
    let user = user.into_iter().find(of_b).unwrap();
    let late = json!([{"id": "late", "app": "support", "environment": "production", "user": user,
                       "experiment": "three", "arm": "b"}]);
    app.caller().post("/api/v1/calls", &late).await.ok();
    let outcome =
        json!([{"call_id": "late", "kind": "outcome", "name": "task_completed", "value": true}]);
    app.caller().post("/api/v1/feedback", &outcome).await.ok();
    assert_eq!(sums_of_b(&app).await, stayed);
    let better = Arm {
        completed: 0.75,
        ..SOUND
    };
    let behaviour = |arm: &str| if arm == "c" { better } else { SOUND };
    users_of(&app, &after, 5000..13_000, behaviour, random).await;
    advance_days(&app, 7);
    let readout = format!("{EXPERIMENTS}/three/readout");
    let said = app.viewer().get(&readout).await.ok();
    let checks = said["checks"].as_array().unwrap();
    let stopped = checks.iter().find(|check| check["name"] == "stopped arm");
    let detail = stopped.unwrap()["detail"].as_str().unwrap();
    assert!(
        detail.contains("Guardrail violated: hard_failures of b"),
        "{detail}"
    );
    assert_eq!(
        said["verdict"]["headline"], "c is better.",
        "{}",
        said["verdict"]
    );
    assert_eq!(said["verdict"]["may_promote"], true, "{}", said["verdict"]);
    // It cannot be opened again by a change of the weights.
    let weights = json!({"weights": [5000, 2000, 3000]});
    let path = format!("{EXPERIMENTS}/three");
    let refused = app.editor().patch(&path, &weights).await;
    refused.problem_saying(409, "arm_stopped", "a guardrail stopped arm `b`");
}

async fn sums_of_b(app: &TestApp) -> Value {
    let readout = format!("{EXPERIMENTS}/three/readout");
    let said = app.viewer().get(&readout).await.ok();
    json!([said["arms"][1], said["metrics"][0]["arms"][1]["sums"]])
}

/// Users call once more, each in the arm that is now theirs.
async fn come_back(app: &TestApp, experiment: &Experiment, numbers: std::ops::Range<u32>) {
    let now = app.context.sources.clock.now();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in numbers {
        let user = format!("user_{number}");
        let arm = &experiment.assign(&user).unwrap().name;
        let id = format!("again-{number}");
        calls.push(
            json!({"id": id, "app": "support", "environment": "production", "user": user,
                          "experiment": "three", "arm": arm, "started_at": now}),
        );
        outcomes.push(json!({"call_id": id, "app": "support", "kind": "outcome",
                             "name": "task_completed", "value": number % 5 < 3}));
    }
    for (path, events) in [("/api/v1/calls", calls), ("/api/v1/feedback", outcomes)] {
        for part in events.chunks(200) {
            app.caller().post(path, &json!(part)).await.ok();
        }
    }
}
