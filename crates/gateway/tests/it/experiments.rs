//! Experiments on live traffic: who gets which arm, and who is not counted.

use flywheel_core::ManifestId;
use flywheel_core::experiment::{Arm, Experiment, ExperimentStatus, UnitKind};
use flywheel_core::plan::Plan;
use flywheel_gateway::testsuite::{Reply, samples};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp};
use crate::collect::{complete, stream};

/// The salt of the published check values: `user_101` gets A and `user_202` gets B.
fn experiment(control: ManifestId, candidate: ManifestId) -> Experiment {
    let arm = |name: &str, manifest| Arm {
        name: name.parse().unwrap(),
        manifest: Some(manifest),
        weight: 5000,
    };
    Experiment {
        name: "exp".parse().unwrap(),
        app: "support".parse().unwrap(),
        environment: "production".parse().unwrap(),
        hypothesis: String::new(),
        salt: "exp-summarizer".to_owned(),
        unit: UnitKind::User,
        layer: "support/production".to_owned(),
        layer_share: 10_000,
        layer_offset: 0,
        arms: vec![arm("A", control), arm("B", candidate)],
        exposure: 10_000,
        status: ExperimentStatus::Running,
        created_at: Timestamp::UNIX_EPOCH,
        started_at: None,
        stopped_at: None,
        plan: Plan::unplanned("a".parse().unwrap(), Vec::new()),
        plan_hash: None,
        plan_changes: Vec::new(),
        epochs: Vec::new(),
        decision: None,
    }
}

fn replies() -> impl Iterator<Item = Reply> {
    (0..20).map(|_| Reply::json(200, &samples::completion("Hello")))
}

async fn with(experiments: fn(ManifestId, ManifestId) -> Vec<Experiment>) -> TestApp {
    TestApp::with(
        Setup {
            experiments,
            ..Setup::default()
        },
        replies(),
    )
    .await
}

async fn flywheel_member(app: &TestApp, further: Value) -> Value {
    complete(app.ask(further).await).0["flywheel"].clone()
}

#[tokio::test(start_paused = true)]
async fn the_same_user_gets_the_same_arm() {
    let app = with(|control, candidate| vec![experiment(control, candidate)]).await;
    let mut number = 0;
    for _ in 0..3 {
        for (user, arm, manifest, greeting) in [
            ("user_101", "A", app.manifest, "Greet Ada"),
            ("user_202", "B", app.other_manifest, "Welcome Ada"),
        ] {
            number += 1;
            let member = flywheel_member(&app, json!({"user": user})).await;
            assert_eq!(
                (&member["experiment"], &member["arm"]),
                (&json!("exp"), &json!(arm))
            );
            assert_eq!(member["manifest"], manifest.to_string());
            let messages = app.provider.request(number).await.json()["messages"].clone();
            assert_eq!(
                messages.as_array().unwrap().last().unwrap()["content"],
                greeting
            );
            let call = app.store.call(number).await;
            assert_eq!(call.facts.experiment.unwrap().as_str(), "exp");
            assert_eq!(call.facts.arm.unwrap().as_str(), arm);
            assert_eq!(call.facts.manifest, Some(manifest));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_tells_the_arm_in_its_last_chunk() {
    let experiments: fn(_, _) -> _ = |control, candidate| vec![experiment(control, candidate)];
    let setup = Setup {
        experiments,
        ..Setup::default()
    };
    let app = TestApp::with(setup, [Reply::stream(samples::stream_of(&["Hi"]))]).await;
    let lines = stream(app.ask(json!({"stream": true, "user": "user_202"})).await);
    assert_eq!(lines.about.arm.as_deref(), Some("exp/B"));
    let chunks = lines.until_done().await;
    assert_eq!(chunks.last().unwrap()["flywheel"]["arm"], "B");
}

#[tokio::test(start_paused = true)]
async fn without_the_unit_a_request_is_not_counted() {
    let app = with(|control, candidate| {
        let mut experiment = experiment(candidate, control);
        // Whoever takes part is served by the other manifest.
        experiment.arms[0].weight = 10_000;
        experiment.arms[1].weight = 0;
        vec![experiment]
    })
    .await;
    let member = flywheel_member(&app, json!({"user": "u1"})).await;
    assert_eq!(member["manifest"], app.other_manifest.to_string());
    for further in [
        json!({}),
        json!({"user": ""}),
        json!({"flywheel": {"session": "s1"}}),
    ] {
        let member = flywheel_member(&app, further).await;
        assert_eq!(member.get("experiment"), None);
        assert_eq!(member["manifest"], app.manifest.to_string());
    }
    let calls = app.store.calls();
    assert!(
        calls[1..]
            .iter()
            .all(|call| call.facts.experiment.is_none())
    );
}

#[tokio::test(start_paused = true)]
async fn the_unit_may_be_the_session_or_the_request() {
    let app = with(|control, candidate| {
        let experiment = experiment(control, candidate);
        vec![Experiment {
            unit: UnitKind::Session,
            ..experiment
        }]
    })
    .await;
    let session = |name: &str| json!({"user": "u", "flywheel": {"session": name}});
    for (name, arm) in [("user_101", "A"), ("user_202", "B"), ("user_202", "B")] {
        assert_eq!(flywheel_member(&app, session(name)).await["arm"], arm);
    }
    assert_eq!(
        flywheel_member(&app, json!({"user": "u"})).await.get("arm"),
        None
    );

    let app = with(|control, candidate| {
        let experiment = experiment(control, candidate);
        vec![Experiment {
            unit: UnitKind::Request,
            ..experiment
        }]
    })
    .await;
    let mut arms = Vec::new();
    for _ in 0..20 {
        arms.push(flywheel_member(&app, json!({})).await["arm"].clone());
    }
    assert!(
        arms.contains(&json!("A")) && arms.contains(&json!("B")),
        "{arms:?}"
    );
}

/// Raising the exposure lets more take part and moves nobody between arms.
#[tokio::test(start_paused = true)]
async fn exposure_decides_who_takes_part_and_moves_nobody() {
    let some = with(|control, candidate| {
        let experiment = experiment(control, candidate);
        vec![Experiment {
            exposure: 5000,
            ..experiment
        }]
    })
    .await;
    let all = with(|control, candidate| vec![experiment(control, candidate)]).await;
    let mut exposed = 0;
    for number in 0..20 {
        let user = json!({"user": format!("user_{number}")});
        let partly = flywheel_member(&some, user.clone()).await;
        let wholly = flywheel_member(&all, user).await;
        if partly.get("arm").is_some() {
            exposed += 1;
            assert_eq!(partly["arm"], wholly["arm"]);
        } else {
            assert_eq!(partly["manifest"], some.manifest.to_string());
        }
    }
    assert!((1..20).contains(&exposed), "{exposed} of 20");
}

#[tokio::test(start_paused = true)]
async fn of_two_in_a_layer_each_user_is_in_one() {
    let app = with(|control, candidate| {
        let first = Experiment {
            layer_share: 5000,
            ..experiment(control, candidate)
        };
        let second = Experiment {
            name: "second".parse().unwrap(),
            layer_offset: 5000,
            ..first.clone()
        };
        vec![first, second]
    })
    .await;
    let mut names = Vec::new();
    for number in 0..20 {
        let member = flywheel_member(&app, json!({"user": format!("u{number}")})).await;
        names.push(member["experiment"].as_str().unwrap().to_owned());
    }
    assert!(names.iter().any(|name| name == "exp") && names.iter().any(|name| name == "second"));
}

#[tokio::test(start_paused = true)]
async fn only_running_experiments_count() {
    let app = with(|control, candidate| {
        let draft = Experiment {
            status: ExperimentStatus::Draft,
            ..experiment(control, candidate)
        };
        let stopped = Experiment {
            name: "stopped".parse().unwrap(),
            status: ExperimentStatus::Stopped,
            ..draft.clone()
        };
        vec![draft, stopped]
    })
    .await;
    let member = flywheel_member(&app, json!({"user": "user_202"})).await;
    assert_eq!(member.get("arm"), None);
    assert_eq!(member["manifest"], app.manifest.to_string());
}

/// The arm's manifest is not in the store, so that it cannot be served: its units get what is deployed.
#[tokio::test(start_paused = true)]
async fn an_arm_that_cannot_be_served_gets_what_is_deployed() {
    let app = with(|control, _| {
        let missing = flywheel_core::ContentHash::of_bytes(b"missing");
        vec![experiment(control, missing)]
    })
    .await;
    for (number, user, arm, is_fallback) in
        [(1, "user_101", "A", false), (2, "user_202", "B", true)]
    {
        let member = flywheel_member(&app, json!({"user": user})).await;
        assert_eq!(member["manifest"], app.manifest.to_string());
        assert_eq!(member["arm"], arm);
        assert_eq!(member.get("fallback").is_some(), is_fallback);
        let call = app.store.call(number).await;
        assert_eq!(call.facts.manifest, Some(app.manifest));
        assert_eq!(call.facts.fallback, is_fallback);
    }
}
