//! The pages of experiments: what they say of a verdict, and what the forms on them do.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{TestApp, secret_of};
use crate::console::{sign_in, text, visit};
use crate::readouts::{Arm, SOUND, advance_days, begin, plan, users};
use flywheel_core::key::Role;

/// A visitor of the console.
struct Visitor<'a> {
    app: &'a TestApp,
    cookie: String,
}

impl<'a> Visitor<'a> {
    async fn new(app: &'a TestApp, role: Role) -> Self {
        let cookie = sign_in(app, &secret_of(role, None)).await;
        Self { app, cookie }
    }

    async fn see(&self, path: &str) -> String {
        let answer = visit(self.app, &Method::GET, path, Some(&self.cookie), "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        text(answer).await
    }

    /// Sends a form: where it leads, or the page that says why not.
    async fn send(&self, path: &str, form: &str) -> Result<String, (StatusCode, String)> {
        let answer = visit(self.app, &Method::POST, path, Some(&self.cookie), form).await;
        match answer.status() {
            StatusCode::SEE_OTHER => Ok(answer.headers()["location"].to_str().unwrap().to_owned()),
            status => Err((status, text(answer).await)),
        }
    }
}

fn must_have(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}\n\n{page}");
    }
}

#[tokio::test]
async fn a_better_arm_is_shown_and_promoted() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "tone", plan()).await;
    let random = &mut fastrand::Rng::with_seed(5);
    let better = Arm {
        completed: 0.65,
        ..SOUND
    };
    for day in 0..9 {
        let numbers = day * 1000..(day + 1) * 1000;
        users(&app, &experiment, numbers, [SOUND, better], random).await;
        advance_days(&app, 1);
    }
    let editor = Visitor::new(&app, Role::Editor).await;
    let page = editor.see("/experiments/tone").await;
    must_have(
        &page,
        &[
            "<section class=\"card verdict good\"",
            "<h2>b is better.</h2>",
            "href=\"/experiments/tone/promote?arm=b\">Promote b…</a>",
            "5 points absolute",
            "task_completed: b less the control",
            "Of 9 days, the interval for one look left out zero on",
            "href=\"/api/v1/experiments/tone/readout\"",
            "flywheel experiment units tone",
            "ratio of sums over units (delta method)",
            "a: new users by day",
            "How values are distributed",
            "latency_p95, calls: b (",
            "<th scope=\"col\">latency_p95, calls</th>",
            "href=\"/api/v1/experiments/tone/histograms\"",
            "9,000 outcomes analysed, none kept without being analysed.",
            "<summary>How long outcomes took</summary>",
            // Nobody's call failed, which bounds the rate.
            "units with an event against 0 of",
            "its share is at most 0.",
        ],
    );
    let viewer = Visitor::new(&app, Role::Viewer).await;
    let page = viewer.see("/experiments/tone").await;
    assert!(
        !page.contains("Promote b") && !page.contains("Stop…"),
        "{page}"
    );
    let list = viewer.see("/experiments?status=running&text=TON").await;
    must_have(&list, &["b is better.", "task_completed <b>+", "9,000"]);
    let none = viewer.see("/experiments?status=draft").await;
    must_have(&none, &["None fits."]);

    let promote = "/experiments/tone/promote";
    let page = editor.see(promote).await;
    must_have(
        &page,
        &[
            "greeting@2",
            "<b>greeting@1</b>",
            "Promote greeting@2",
            "Preflight",
        ],
    );
    assert!(!page.contains("this is recorded"), "{page}");
    let (status, page) = editor.send(promote, "arm=b&reason=+").await.unwrap_err();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    must_have(&page, &["Say why"]);
    let (status, page) = editor
        .send(promote, "arm=a&reason=I+like+it")
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    must_have(
        &page,
        &[
            "may not be promoted",
            "value=\"I like it\"",
            "this is recorded",
        ],
    );
    let to = editor.send(promote, "arm=b&reason=it+won").await.unwrap();
    assert!(
        to.starts_with("/apps/support?environment=production&done="),
        "{to}"
    );
    must_have(&editor.see(&to).await, &["promote", "it won"]);
    let page = editor.see("/experiments/tone").await;
    must_have(
        &page,
        &["Arm b was promoted", "it won", "The deployment that made"],
    );
    assert!(!page.contains("Stop…"), "{page}");
}

/// Numbers that may not be used look like it.
#[tokio::test]
async fn what_is_invalid_is_void() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "broken", plan()).await;
    let random = &mut fastrand::Rng::with_seed(7);
    let lossy = Arm { lost: 0.3, ..SOUND };
    users(&app, &experiment, 0..6000, [SOUND, lossy], random).await;
    let editor = Visitor::new(&app, Role::Editor).await;
    let page = editor.see("/experiments/broken").await;
    must_have(
        &page,
        &[
            "Invalid: traffic split.",
            "<div class=\"evidence void\">",
            "Not to be used",
            "<summary class=\"button first\">Stop…",
        ],
    );
    let stop = "/experiments/broken/stop";
    let (status, page) = editor.send(stop, "reason=").await.unwrap_err();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    must_have(&page, &["Say why", "<details class=\"confirm\" open>"]);
    let to = editor.send(stop, "reason=%3Cb%3Elost").await.unwrap();
    assert_eq!(to, "/experiments/broken");
    let page = editor.see(&to).await;
    must_have(&page, &["<b>Stopped</b> by editor", "&lt;b&gt;lost"]);
    let (status, page) = editor.send(stop, "reason=again").await.unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    must_have(&page, &["is stopped and cannot be stopped"]);
}

#[tokio::test]
async fn a_draft_is_started() {
    let app = TestApp::furnished().await;
    let manifests = [app.deploy_greeting(2).await, app.deploy_greeting(1).await];
    let body = json!({"name": "draft", "app": "support", "hypothesis": "<i>", "arms": [
        {"name": "a", "manifest": manifests[1], "weight": 5000},
        {"name": "b", "manifest": manifests[0], "weight": 5000},
    ], "plan": plan()});
    let path = "/api/v1/experiments";
    app.editor().post(path, &body).await.with_status(201);
    let editor = Visitor::new(&app, Role::Editor).await;
    let page = editor.see("/experiments/draft").await;
    must_have(
        &page,
        &[
            "Not started.",
            "Start it",
            "&lt;i&gt;",
            "unknown: the app’s traffic",
        ],
    );
    let to = editor.send("/experiments/draft/start", "").await.unwrap();
    must_have(
        &editor.see(&to).await,
        &["Collecting.", "Frozen at the start as"],
    );
    let found: Value = app.viewer().get(&format!("{path}/draft")).await.ok();
    assert_eq!(found["status"], "running");
    let (status, page) = editor
        .send("/experiments/draft/start", "")
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    must_have(&page, &["is running and cannot be started"]);
}

/// A form that is refused keeps what was typed; one that is planned says units and days, and makes nothing.
#[tokio::test]
async fn an_experiment_is_planned_and_made_in_a_form() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(2).await;
    app.deploy_greeting(1).await;
    history(&app).await;
    let editor = Visitor::new(&app, Role::Editor).await;
    let path = "/experiments/new";
    let page = editor.see(&format!("{path}?app=support")).await;
    must_have(
        &page,
        &[
            "name=\"arm.0.serves\" value=\"greeting@1\"",
            "<option value=\"greeting@2\">",
            "<option selected>hard_failures</option>",
            "name=\"alpha\" value=\"5\"",
        ],
    );
    let arms = "arm.0.name=control&arm.0.serves=greeting%401&arm.0.weight=50\
                &arm.1.name=%3Cb%3E&arm.1.serves=greeting%402&arm.1.weight=50";
    let fields = format!(
        "app=support&environment=production&hypothesis=%22why%22&{arms}\
                          &primary=task_completed&mde=5&mde_kind=absolute&guardrail.0.metric=&power=80&alpha=5"
    );
    let (status, page) = editor
        .send(path, &format!("{fields}&action=plan"))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    must_have(
        &page,
        &[
            "role=\"alert\"",
            "&lt;b&gt;",
            "value=\"&#60;b&#62;\"",
            "value=\"&#34;why&#34;\"",
        ],
    );
    let fields = fields.replace("%3Cb%3E", "b");
    let planned = async |form: &str| {
        let (status, page) = editor.send(path, form).await.unwrap_err();
        assert_eq!(status, StatusCode::OK, "{page}");
        page
    };
    // 60% to 65% takes 1,471 per arm, and 1.62 times as many at most if it may be read at any time.
    let page = planned(&format!("{fields}&action=plan")).await;
    must_have(
        &page,
        &[
            "Takes up to 4,7",
            "5 points absolute, 8.33% of 60.0%",
            "1,472 units per arm",
        ],
    );
    let fragment = planned(&format!("{fields}&action=fragment")).await;
    must_have(&fragment, &["Takes up to 4,7"]);
    assert!(!fragment.contains("<html"), "{fragment}");
    let relative = fields.replace("absolute", "relative");
    let page = planned(&format!("{relative}&action=plan")).await;
    must_have(
        &page,
        &["Takes up to 13,", "5% relative, 3 points on 60.0%"],
    );
    let page = planned(&format!("{fields}&action=arm")).await;
    must_have(&page, &["name=\"arm.2.name\"", "value=\"greeting@2\""]);

    for (name, says) in [
        ("", "Experiment <code></code> is not valid"),
        ("new", "is no name for an experiment"),
    ] {
        let form = format!("{fields}&name={name}&action=save");
        let (_, page) = editor.send(path, &form).await.unwrap_err();
        must_have(&page, &[says]);
    }
    let to = editor
        .send(path, &format!("{fields}&name=made&action=save"))
        .await
        .unwrap();
    assert_eq!(to, "/experiments/made");
    must_have(
        &editor.see(&to).await,
        &["Not started.", "up to 4,7", "&quot;why&quot;"],
    );
    let (status, page) = editor
        .send(path, &format!("{fields}&name=made&action=save"))
        .await
        .unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    must_have(
        &page,
        &[
            "An experiment named <code>made</code> exists",
            "name=\"name\" maxlength=\"128\" value=\"made\"",
        ],
    );
}

/// A form that shows three digits of a number must not round it when something else is changed.
#[tokio::test]
async fn a_running_experiment_is_changed_in_a_form_that_keeps_the_rest() {
    let app = TestApp::furnished().await;
    let exact = json!({"relative": 0.123_456_7});
    let plan = json!({"primary": "task_completed", "mde": {"absolute": 0.051_234},
        "guardrails": [{"metric": "latency_p95", "margin": exact}]});
    begin(&app, "tone", plan).await;
    let editor = Visitor::new(&app, Role::Editor).await;
    let path = "/experiments/tone/change";
    must_have(
        &editor.see(path).await,
        &[
            "name=\"exposure\" value=\"100\"",
            "name=\"weight.1\" value=\"50\"",
            "name=\"mde\" value=\"5.12\"",
            "name=\"guardrail.0.margin\" value=\"12.3\"",
        ],
    );
    let before = async || {
        let page = editor.see(path).await;
        let (_, rest) = page.split_once("name=\"before\" value=\"").unwrap();
        rest[..64].to_owned()
    };
    let first = before().await;
    let untouched = "exposure=100&weight.0=50&weight.1=50&mde=5.12&mde_kind=absolute&minimum_days=7\
        &guardrail.0.metric=latency_p95&guardrail.0.margin=12.3&guardrail.0.margin_kind=relative";
    let untouched = &format!("before={first}&{untouched}");
    let (status, page) = editor.send(path, untouched).await.unwrap_err();
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    must_have(&page, &["Nothing is to be changed"]);
    let wrong = untouched.replace("exposure=100", "exposure=half");
    let (_, page) = editor.send(path, &wrong).await.unwrap_err();
    must_have(
        &page,
        &["must be a number", "name=\"exposure\" value=\"half\""],
    );

    let emptied = untouched.replace("mde=5.12", "mde=");
    let (_, page) = editor.send(path, &emptied).await.unwrap_err();
    must_have(&page, &["The smallest effect that matters is missing"]);

    let changed = untouched.replace("exposure=100", "exposure=12.5");
    let changed = format!(
        "{changed}&guardrail.1.metric=hard_failures&guardrail.1.margin=2&guardrail.1.margin_kind=absolute"
    );
    let to = editor.send(path, &changed).await.unwrap();
    assert_eq!(to, "/experiments/tone");
    let found = app.viewer().get("/api/v1/experiments/tone").await.ok();
    assert_eq!(found["exposure"], 1250);
    assert_eq!(found["arms"][0]["weight"], 5000);
    assert_eq!(found["plan"]["mde"], json!({"absolute": 0.051_234}));
    let guardrails = json!([
        {"metric": "latency_p95", "margin": exact},
        {"metric": "hard_failures", "margin": {"absolute": 0.02}},
    ]);
    assert_eq!(found["plan"]["guardrails"], guardrails);
    let changes = found["plan_changes"].as_array().unwrap();
    assert_eq!(changes[0]["changed"], json!(["guardrails"]), "{found}");

    // Somebody else's change is not put back by who opened the form before.
    let late = untouched.replace("minimum_days=7", "minimum_days=9");
    let (status, page) = editor.send(path, &late).await.unwrap_err();
    assert_eq!(status, StatusCode::CONFLICT);
    must_have(&page, &["was changed while this form was open"]);
    assert_ne!(before().await, first);
}

/// Two weeks of calls, of which three in five complete their task.
async fn history(app: &TestApp) {
    let now = app.context.sources.clock.now();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..1400_u32 {
        let at = now - jiff::SignedDuration::from_hours(i64::from(number % 14) * 24 + 1);
        let id = format!("h{number}");
        calls.push(
            json!({"id": id, "app": "support", "environment": "production",
                          "user": format!("u{number}"), "started_at": at, "latency_ms": 100}),
        );
        outcomes.push(json!({"call_id": id, "app": "support", "kind": "outcome",
                             "name": "task_completed", "value": number % 5 < 3}));
    }
    for (path, pieces) in [("/api/v1/calls", calls), ("/api/v1/feedback", outcomes)] {
        for part in pieces.chunks(200) {
            app.caller().post(path, &json!(part)).await.ok();
        }
    }
}

#[tokio::test]
async fn sample_sizes_are_computed_in_the_address() {
    let app = TestApp::furnished().await;
    let viewer = Visitor::new(&app, Role::Viewer).await;
    let page = viewer.see("/calculator").await;
    must_have(
        &page,
        &[
            "1,471 units per arm.",
            "60% to 65%: 5 points",
            "<svg class=\"wide\"",
        ],
    );
    let page = viewer
        .see("/calculator?base=60&mde=5&mde_kind=relative&units_per_day=500")
        .await;
    must_have(&page, &["4,129 units per arm.", "at most 28 days"]);
    let page = viewer.see("/calculator?of=means&deviation=%3Cb%3E").await;
    must_have(
        &page,
        &[
            "The standard deviation must be a number, not <code>&lt;b&gt;</code>",
            "value=\"&#60;b&#62;\"",
        ],
    );
}
