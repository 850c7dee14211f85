//! The life of an experiment: draft, running, stopped; layers; what it counts.

use serde_json::{Value, json};

use crate::app::{BROKEN_PROVIDER, TestApp};
use crate::samples::{each, items};

const EXPERIMENTS: &str = "/api/v1/experiments";

async fn manifests(app: &TestApp) -> [String; 2] {
    [app.deploy_greeting(1).await, app.deploy_greeting(2).await]
}

fn experiment(name: &str, [first, second]: &[String; 2]) -> Value {
    let arms = json!([
        {"name": "a", "manifest": first[..12], "weight": 5000},
        {"name": "b", "manifest": second, "weight": 5000},
    ]);
    json!({"name": name, "app": "support", "arms": arms})
}

async fn start(app: &TestApp, name: &str) -> crate::answer::Answer {
    app.editor()
        .post(&format!("{EXPERIMENTS}/{name}/start"), &Value::Null)
        .await
}

#[tokio::test]
async fn it_is_made_started_changed_and_stopped() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    let mut body = experiment("exp", &manifests);
    body["hypothesis"] = json!("warmer is better");
    let made = app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    for (member, expected) in [
        ("status", json!("draft")),
        ("environment", json!("production")),
        ("unit", json!("user")),
        ("exposure", json!(10_000)),
        ("layer", json!("support/production")),
        ("hypothesis", json!("warmer is better")),
    ] {
        assert_eq!(made[member], expected, "{member}");
    }
    assert_eq!(
        made["arms"][0]["manifest"],
        manifests[0].as_str(),
        "the whole id"
    );
    assert_eq!(made["salt"].as_str().unwrap().len(), 32);
    assert!(
        app.chat("u1").await["flywheel"].get("arm").is_none(),
        "a draft serves nobody"
    );

    let path = format!("{EXPERIMENTS}/exp");
    let stop = format!("{path}/stop");
    app.editor()
        .post(&stop, &json!({}))
        .await
        .problem_saying(409, "wrong_status", "is a draft");
    let started = start(&app, "exp").await.ok();
    assert_eq!(
        (&started["status"], &started["salt"]),
        (&json!("running"), &made["salt"])
    );
    let member = app.chat("u1").await["flywheel"].clone();
    assert_eq!(member["experiment"], "exp");
    for _ in 0..3 {
        assert_eq!(app.chat("u1").await["flywheel"]["arm"], member["arm"]);
    }
    start(&app, "exp")
        .await
        .problem_saying(409, "wrong_status", "is running");

    let changed = app
        .editor()
        .patch(&path, &json!({"exposure": 1}))
        .await
        .ok();
    assert_eq!(changed["exposure"], 1);
    for exposure in [0, 10_001] {
        let answer = app
            .editor()
            .patch(&path, &json!({"exposure": exposure}))
            .await;
        answer.problem_saying(422, "invalid", "exposure");
    }
    let found = app.viewer().get(&path).await.ok();
    assert_eq!(found["summary"][0]["calls"], 4, "{found}");
    assert_eq!(
        found["summary"][0]["key"],
        format!("exp/{}", member["arm"].as_str().unwrap())
    );

    let stopped = app
        .editor()
        .post(&stop, &json!({"reason": "enough"}))
        .await
        .ok();
    assert_eq!(stopped["status"], "stopped");
    assert!(app.chat("u1").await["flywheel"].get("arm").is_none());
    start(&app, "exp")
        .await
        .problem_saying(409, "wrong_status", "is stopped");
    let answer = app.editor().patch(&path, &json!({"exposure": 5})).await;
    answer.problem(409, "experiment_stopped");
    let audited = app.audited_actions().await;
    assert_eq!(
        audited[audited.len() - 4..],
        [
            "experiment.create",
            "experiment.start",
            "experiment.change",
            "experiment.stop"
        ]
    );
    assert_eq!(
        each(&app.viewer().get(EXPERIMENTS).await.ok(), "name"),
        ["exp"]
    );
}

#[tokio::test]
async fn a_wrong_one_is_refused_and_says_why() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    let sound = experiment("exp", &manifests);
    let with = |member: &str, value: Value| {
        let mut body = sound.clone();
        body[member] = value;
        body
    };
    let arm =
        |name: &str, weight: u32| json!({"name": name, "manifest": manifests[0], "weight": weight});
    let before = app.revision().await;
    for (body, status, code, part) in [
        (
            with("arms", json!([arm("a", 10_000)])),
            422,
            "invalid",
            "at least two arms",
        ),
        (
            with("arms", json!([arm("a", 1), arm("b", 2)])),
            422,
            "invalid",
            "add up to 10000",
        ),
        (
            with("arms", json!([arm("a", 5000), arm("a", 5000)])),
            422,
            "invalid",
            "two arms are named",
        ),
        (with("exposure", json!(0)), 422, "invalid", "exposure"),
        (
            with("layer_share", json!(10_001)),
            422,
            "invalid",
            "layer_share",
        ),
        (with("unit", json!("planet")), 422, "invalid", "planet"),
        (
            with("app", json!("nothing")),
            404,
            "not_found",
            "app `nothing`",
        ),
        (
            with("environment", json!("moon")),
            404,
            "not_found",
            "no environment `moon`",
        ),
        (
            with("name", json!("a b")),
            422,
            "invalid",
            "experiment `a b`",
        ),
        (with("wieghts", json!([])), 422, "invalid", "`wieghts`"),
        (
            with(
                "arms",
                json!([{"name": "a", "manifest": "0123456789ab", "weight": 5000}]),
            ),
            404,
            "not_found",
            "no manifest",
        ),
    ] {
        app.editor()
            .post(EXPERIMENTS, &body)
            .await
            .problem_saying(status, code, part);
    }
    assert_eq!(app.revision().await, before);
    app.editor().post(EXPERIMENTS, &sound).await.ok();
    app.editor()
        .post(EXPERIMENTS, &sound)
        .await
        .problem(409, "name_taken");
    let unknown = app
        .viewer()
        .get(&format!("{EXPERIMENTS}/nothing"))
        .await
        .problem(404, "not_found");
    assert!(unknown["hint"].is_string());
}

#[tokio::test]
async fn layers_keep_experiments_apart() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    for (name, share, layer) in [
        ("one", 6000, "l"),
        ("two", 4000, "l"),
        ("three", 1, "l"),
        ("four", 1, "other-layer"),
    ] {
        let mut body = experiment(name, &manifests);
        body["layer_share"] = json!(share);
        body["layer"] = json!(layer);
        app.editor().post(EXPERIMENTS, &body).await.ok();
    }
    start(&app, "one").await.ok();
    assert_eq!(start(&app, "two").await.ok()["layer_offset"], 6000);
    let full = start(&app, "three")
        .await
        .problem_saying(409, "layer_full", "`one` (60%)");
    assert!(full["hint"].is_string());
    let used = start(&app, "four").await.problem(409, "environment_in_use");
    assert!(used["hint"].as_str().unwrap().contains("layer `"), "{used}");
    let mut counts = [0, 0];
    for number in 0..30 {
        let member = app.chat(&format!("u{number}")).await["flywheel"].clone();
        counts[usize::from(member["experiment"] == "two")] += 1;
        assert!(
            member["experiment"].is_string(),
            "the two share the whole layer"
        );
    }
    assert!(counts[0] > 5 && counts[1] > 3, "{counts:?}");
    // What is stopped makes room.
    app.editor()
        .post(&format!("{EXPERIMENTS}/one/stop"), &json!({}))
        .await
        .ok();
    start(&app, "three").await.ok();
}

/// The readout has the feedback of each arm.
#[tokio::test]
async fn feedback_is_summed_up_by_arm() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    app.editor()
        .post(EXPERIMENTS, &experiment("exp", &manifests))
        .await
        .ok();
    start(&app, "exp").await.ok();
    for number in 0..20 {
        let answer = app.chat(&format!("u{number}")).await;
        let is_up = answer["flywheel"]["arm"] == "b";
        let thumbs = json!({"call_id": answer["id"], "kind": "thumbs", "value": is_up});
        app.caller().post("/api/v1/feedback", &thumbs).await.ok();
    }
    let found = app.viewer().get(&format!("{EXPERIMENTS}/exp")).await.ok();
    let rows = items(&json!({"items": found["summary"]}));
    let keys: Vec<_> = rows.iter().map(|row| row["key"].clone()).collect();
    assert_eq!(keys, ["exp/a", "exp/b"]);
    for (row, rate) in rows.iter().zip([0.0, 1.0]) {
        let series = &row["series"][0];
        assert_eq!(
            (&series["series"], &series["value"]),
            (&json!("thumbs"), &json!(rate))
        );
        assert_eq!(series["n"], row["calls"]);
        let (low, high) = (
            series["low"].as_f64().unwrap(),
            series["high"].as_f64().unwrap(),
        );
        assert!(low < high, "a rate of {rate} has an interval too: {series}");
    }
}

#[tokio::test]
async fn a_rollback_reaches_the_units_of_a_running_experiment() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    let body = experiment("exp", &manifests);
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    start(&app, "exp").await.with_status(200);

    let deploy = json!({"prompt": "greeting", "version": "2", "reason": "again"});
    let deployed = app
        .editor()
        .post("/api/v1/apps/support/deploy", &deploy)
        .await
        .with_status(200);
    assert_eq!(
        deployed["running_experiments"],
        json!(["exp"]),
        "a deployment leaves it alone"
    );

    let rollback = json!({"reason": "the warm greeting offends"});
    let moved = app
        .editor()
        .post("/api/v1/apps/support/rollback", &rollback)
        .await
        .with_status(200);
    assert_eq!(moved["stopped_experiments"], json!(["exp"]));
    for user in ["u1", "u2", "u3", "u4", "u5", "u6"] {
        let answer = app.chat(user).await;
        assert_eq!(
            answer["flywheel"]["manifest"],
            manifests[0].as_str(),
            "{user}"
        );
    }
    let stopped = app
        .viewer()
        .get(&format!("{EXPERIMENTS}/exp"))
        .await
        .with_status(200);
    assert_eq!(stopped["status"], "stopped");
}

#[tokio::test]
async fn a_rollback_to_what_is_deployed_stops_experiments_too() {
    let app = TestApp::furnished().await;
    let manifests = manifests(&app).await;
    app.deploy_greeting(1).await;
    let body = experiment("exp", &manifests);
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    start(&app, "exp").await.with_status(200);
    // Two steps back is the manifest that was deployed first, and then once more.
    let rollback = json!({"steps": 2, "reason": "away with the arms"});
    let moved = app
        .editor()
        .post("/api/v1/apps/support/rollback", &rollback)
        .await
        .with_status(200);
    assert_eq!(moved["stopped_experiments"], json!(["exp"]));
    assert_eq!(moved["unchanged"], false);
    let experiment = app.viewer().get(&format!("{EXPERIMENTS}/exp")).await;
    assert_eq!(experiment.ok()["status"], "stopped");
}

#[tokio::test]
async fn an_arm_may_be_a_prompt_version() {
    let app = TestApp::furnished().await;
    let index = json!({"index": "docs", "state": "available"});
    app.editor()
        .put("/api/v1/indexes/docs-7", &index)
        .await
        .ok();
    let deployed = json!({"prompt": "greeting", "version": "1", "retriever_index_version": "docs-7",
        "guards_version": "g", "reason": "r"});
    let deployed = app
        .editor()
        .post("/api/v1/apps/support/deploy", &deployed)
        .await
        .ok();
    let body = json!({"name": "exp", "app": "support", "arms": [
        {"name": "a", "prompt": "greeting", "version": "1", "weight": 5000},
        {"name": "b", "prompt": "greeting", "weight": 5000},
    ]});
    let made = app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    assert_eq!(
        made["arms"][0]["manifest"], deployed["manifest"]["id"],
        "what is deployed is that version already"
    );
    let latest = made["arms"][1]["manifest"].as_str().unwrap();
    let latest = app
        .viewer()
        .get(&format!("/api/v1/manifests/{latest}"))
        .await
        .ok();
    assert_eq!(latest["retriever_index_version"], "docs-7");
    assert_eq!(latest["guards_version"], "g");
    start(&app, "exp").await.ok();
    let mut answers: Vec<String> = Vec::new();
    for user in 0..20 {
        let answer = app.chat(&format!("u{user}")).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        answers.push(text.to_owned());
    }
    answers.sort();
    answers.dedup();
    assert_eq!(
        answers,
        ["[simulated] Hello Ada", "[simulated] Welcome Ada"]
    );

    for (arm, part) in [
        (
            json!({"prompt": "greeting", "version": "9"}),
            "has no version 9",
        ),
        (
            json!({"prompt": "nothing"}),
            "prompt `nothing` does not exist",
        ),
        (json!({}), "a `prompt`, or a `manifest`"),
        (
            json!({"prompt": "greeting", "manifest": deployed["manifest"]["id"]}),
            "cannot both be given",
        ),
    ] {
        let mut body = body.clone();
        body["name"] = "other".into();
        body["arms"][1] = arm;
        body["arms"][1]["name"] = "b".into();
        body["arms"][1]["weight"] = 5000.into();
        let refused = app.editor().post(EXPERIMENTS, &body).await;
        let status = if part.contains("cannot") || part.contains("`manifest`") {
            422
        } else {
            404
        };
        let code = if status == 422 {
            "invalid"
        } else {
            "not_found"
        };
        refused.problem_saying(status, code, part);
    }
}

/// Between the draft and the start the model moved to a provider that cannot be used.
#[tokio::test]
async fn what_cannot_be_served_any_more_is_not_started() {
    let app = TestApp::furnished().await;
    let arms = manifests(&app).await;
    let mut draft = experiment("exp", &arms);
    let content = json!({
        "template_format": "fstring", "messages": [{"role": "user", "content": "{text}"}],
        "model_id": "moving", "model_version": "1",
    });
    let push = json!({
        "models": [{"model_id": "moving", "model_version": "1", "provider": "simulated"}],
        "prompts": [{"prompt": "moving", "content": content}],
    });
    app.editor().post("/api/v1/push", &push).await.ok();
    draft["arms"][1] = json!({"name": "b", "prompt": "moving", "weight": 5000});
    app.editor().post("/api/v1/experiments", &draft).await.ok();
    for (provider, status) in [(BROKEN_PROVIDER, 422), ("simulated", 200)] {
        let model = json!({"provider": provider});
        app.editor()
            .put("/api/v1/models/moving/versions/1", &model)
            .await
            .ok();
        let answer = start(&app, "exp").await;
        let body = answer.with_status(status);
        if status == 422 {
            assert!(
                body["detail"]
                    .as_str()
                    .unwrap()
                    .contains("cannot be served")
            );
        }
    }
}
