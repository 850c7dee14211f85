//! What experiments say, from calls and outcomes that arrive through the public API.

use flywheel_core::experiment::Experiment;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::each;

const EXPERIMENTS: &str = "/api/v1/experiments";

/// Makes and starts an experiment between two manifests.
pub(crate) async fn begin(app: &TestApp, name: &str, plan: Value) -> Experiment {
    let manifests = [app.deploy_greeting(2).await, app.deploy_greeting(1).await];
    let arms = json!([
        {"name": "a", "manifest": manifests[1], "weight": 5000},
        {"name": "b", "manifest": manifests[0], "weight": 5000},
    ]);
    let body = json!({"name": name, "app": "support", "arms": arms, "plan": plan});
    app.editor().post(EXPERIMENTS, &body).await.with_status(201);
    let started = app
        .editor()
        .post(&format!("{EXPERIMENTS}/{name}/start"), &Value::Null)
        .await
        .ok();
    serde_json::from_value(started).unwrap()
}

pub(crate) fn plan() -> Value {
    json!({"primary": "task_completed", "mde": {"absolute": 0.05}})
}

/// How simulated users behave in an arm.
#[derive(Clone, Copy)]
pub(crate) struct Arm {
    /// How many of them complete their task.
    pub(crate) completed: f64,
    /// How many never arrive, because something breaks before.
    pub(crate) lost: f64,
    /// How many calls fail.
    pub(crate) failing: f64,
}

pub(crate) const SOUND: Arm = Arm {
    completed: 0.6,
    lost: 0.0,
    failing: 0.0,
};

/// Users call once each and say whether their task was completed.
pub(crate) async fn users(
    app: &TestApp,
    experiment: &Experiment,
    numbers: std::ops::Range<u32>,
    arms: [Arm; 2],
    random: &mut fastrand::Rng,
) {
    let behaviour = |arm: &str| arms[usize::from(arm == "b")];
    users_of(app, experiment, numbers, behaviour, random).await;
}

/// The same, with any arms.
pub(crate) async fn users_of(
    app: &TestApp,
    experiment: &Experiment,
    numbers: std::ops::Range<u32>,
    behaviour: impl Fn(&str) -> Arm,
    random: &mut fastrand::Rng,
) {
    let started_at = app.context.sources.clock.now();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in numbers {
        let user = format!("user_{number}");
        // Not everybody takes part.
        let Some(arm) = experiment.assign(&user) else {
            continue;
        };
        let behaviour = behaviour(arm.name.as_str());
        if random.f64() < behaviour.lost {
            continue;
        }
        let id = format!("{}-{number}", experiment.name);
        let failed = random.f64() < behaviour.failing;
        calls.push(json!({
            "id": id, "app": "support", "environment": "production", "user": user,
            "experiment": experiment.name, "arm": arm.name, "started_at": started_at,
            "latency_ms": 300 + random.u32(0..400), "error": failed.then_some("timeout"),
            "usage": {"input_tokens": 100, "output_tokens": 20 + random.u32(0..10)},
        }));
        outcomes.push(json!({
            "call_id": id, "app": "support", "kind": "outcome", "name": "task_completed",
            "value": random.f64() < behaviour.completed,
        }));
    }
    send(app, calls, outcomes).await;
}

/// Sends calls, then what came of them.
pub(crate) async fn send(app: &TestApp, calls: Vec<Value>, outcomes: Vec<Value>) {
    for (path, events) in [("/api/v1/calls", calls), ("/api/v1/feedback", outcomes)] {
        for part in events.chunks(200) {
            app.caller().post(path, &json!(part)).await.ok();
        }
    }
}

pub(crate) async fn readout(app: &TestApp, name: &str) -> Value {
    let path = format!("{EXPERIMENTS}/{name}/readout");
    app.viewer().get(&path).await.ok()
}

/// The readout once its statistics are made again, which takes as many turns as it takes.
pub(crate) async fn settled(app: &TestApp, name: &str) -> Value {
    loop {
        let said = readout(app, name).await;
        if said["verdict"]["state"] != "rebuilding" {
            return said;
        }
        app.context.events.maintain().await.unwrap();
    }
}

pub(crate) fn advance_days(app: &TestApp, days: i64) {
    app.clock.advance_seconds(days * 86_400);
}

#[tokio::test]
async fn a_true_effect_is_found_and_promoted() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "tone", plan()).await;
    let random = &mut fastrand::Rng::with_seed(5);
    let better = Arm {
        completed: 0.65,
        ..SOUND
    };
    let said = readout(&app, "tone").await;
    assert_eq!(said["verdict"]["state"], "collecting", "{said}");
    for day in 0..9 {
        let numbers = day * 1000..(day + 1) * 1000;
        users(&app, &experiment, numbers, [SOUND, better], random).await;
        advance_days(&app, 1);
    }
    let said = readout(&app, "tone").await;
    let verdict = &said["verdict"];
    assert_eq!(verdict["state"], "better", "{verdict}");
    assert_eq!(verdict["headline"], "b is better.");
    assert_eq!(verdict["may_promote"], true, "{verdict}");
    let primary = &said["metrics"][0];
    assert_eq!(
        (&primary["role"], &primary["metric"]["name"]),
        (&json!("primary"), &json!("task_completed"))
    );
    let found = &primary["comparisons"][0];
    let (low, high) = (
        found["low"].as_f64().unwrap(),
        found["high"].as_f64().unwrap(),
    );
    assert!(0.0 < low && low < 0.05 && 0.05 < high, "{found}");
    assert!(
        found["fixed_low"].as_f64().unwrap() > low,
        "one look is narrower: {found}"
    );
    // What the page links to says the same: the difference of the sums' ratios.
    let share = |arm: usize| {
        let sums = &primary["arms"][arm]["sums"];
        sums["x"].as_f64().unwrap() / sums["y"].as_f64().unwrap()
    };
    assert!((share(1) - share(0) - found["difference"].as_f64().unwrap()).abs() < 1e-12);
    assert_eq!(said["timeline"].as_array().unwrap().len(), 9);
    let units = app
        .viewer()
        .get(&format!("{EXPERIMENTS}/tone/units?limit=10000"))
        .await
        .ok();
    let of_a = |unit: &&Value| unit["arm"] == "a";
    let units = units["items"].as_array().unwrap();
    let completed: f64 = units
        .iter()
        .filter(of_a)
        .map(|unit| unit["metrics"]["task_completed"][0].as_f64().unwrap())
        .sum();
    assert_eq!(json!(completed), primary["arms"][0]["sums"]["x"]);

    let promote = format!("{EXPERIMENTS}/tone/promote");
    app.editor()
        .post(&promote, &json!({"arm": "a", "reason": "no"}))
        .await
        .problem_saying(
            409,
            "not_proven",
            "arm `a` may not be promoted: b is better.",
        );
    let promoted = app
        .editor()
        .post(&promote, &json!({"arm": "b", "reason": "completes more"}))
        .await
        .ok();
    assert_eq!(promoted["deployment"]["kind"], "promote", "{promoted}");
    assert_eq!(promoted["stopped_experiments"], json!(["tone"]));
    let ended = app.viewer().get(&format!("{EXPERIMENTS}/tone")).await.ok();
    assert_eq!(
        (&ended["status"], &ended["decision"]["promoted"]),
        (&json!("stopped"), &json!("b"))
    );
    assert_eq!(ended["decision"]["readout"]["verdict"]["state"], "better");
    app.editor()
        .post(&promote, &json!({"arm": "b", "reason": "again"}))
        .await
        .problem_saying(409, "wrong_status", "is stopped");
}

/// Twenty experiments without a difference, looked at every day: at most one may claim to have found one.
#[tokio::test]
async fn identical_arms_have_no_verdict() {
    let mut verdicts = 0;
    for seed in 0..20 {
        let app = TestApp::furnished().await;
        let experiment = begin(&app, "same", plan()).await;
        let random = &mut fastrand::Rng::with_seed(seed);
        let mut found = false;
        for day in 0..4 {
            let numbers = day * 400..(day + 1) * 400;
            users(&app, &experiment, numbers, [SOUND, SOUND], random).await;
            advance_days(&app, 1);
            let said = readout(&app, "same").await;
            let state = said["verdict"]["state"].as_str().unwrap();
            found |= ["better", "worse"].contains(&state);
        }
        verdicts += u32::from(found);
    }
    assert!(verdicts <= 1, "{verdicts} of 20");
}

#[tokio::test]
async fn a_broken_split_is_invalid_before_any_verdict() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "split", plan()).await;
    let random = &mut fastrand::Rng::with_seed(1);
    let broken = Arm {
        completed: 0.9,
        lost: 0.08,
        failing: 0.0,
    };
    users(&app, &experiment, 0..16_000, [SOUND, broken], random).await;
    let said = readout(&app, "split").await;
    assert_eq!(said["verdict"]["state"], "invalid", "{}", said["verdict"]);
    assert_eq!(said["verdict"]["headline"], "Invalid: traffic split.");
    let reason = said["verdict"]["reason"].as_str().unwrap();
    assert!(reason.contains("Do not use the numbers below"), "{reason}");
    assert_eq!(said["checks"][0]["state"], "failed");
}

#[tokio::test]
async fn a_violated_guardrail_stops_the_experiment() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "harm", plan()).await;
    let random = &mut fastrand::Rng::with_seed(2);
    let failing = Arm {
        failing: 0.08,
        ..SOUND
    };
    let often = Arm {
        failing: 0.02,
        ..SOUND
    };
    users(&app, &experiment, 0..3000, [often, failing], random).await;
    let said = readout(&app, "harm").await;
    assert_eq!(said["verdict"]["state"], "abort", "{}", said["verdict"]);
    let stopped = flywheel_server::operations::experiments::abort_violated(&app.context)
        .await
        .unwrap();
    assert_eq!(stopped.len(), 1);
    let ended = app.viewer().get(&format!("{EXPERIMENTS}/harm")).await.ok();
    assert_eq!(ended["status"], "stopped");
    assert_eq!(ended["decision"]["by"], "flywheel");
    let reason = ended["decision"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("Guardrail violated: hard_failures of b."),
        "{reason}"
    );
}

#[tokio::test]
async fn what_is_promoted_against_the_readout_says_so() {
    let app = TestApp::furnished().await;
    begin(&app, "early", plan()).await;
    let path = format!("{EXPERIMENTS}/early/promote");
    for body in [
        json!({"arm": "b", "reason": "we want it"}),
        json!({"arm": "b", "reason": "we want it", "dry_run": true}),
    ] {
        app.editor()
            .post(&path, &body)
            .await
            .problem_saying(409, "not_proven", "Collecting");
    }
    let forced = json!({"arm": "b", "reason": "we want it", "force": true});
    let promoted = app.editor().post(&path, &forced).await.ok();
    let over = promoted["deployment"]["forced_over"][0].as_str().unwrap();
    assert!(over.contains("may not be promoted"), "{promoted}");
    let said = readout(&app, "early").await;
    assert_eq!(said["verdict"]["next"], "It has ended: b was promoted.");
    assert_eq!(said["verdict"]["may_promote"], false);
}

#[tokio::test]
async fn who_changes_arm_is_dropped_and_counted() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "both", plan()).await;
    let random = &mut fastrand::Rng::with_seed(3);
    users(&app, &experiment, 0..1200, [SOUND, SOUND], random).await;
    let call = |id: &str, arm: &str| {
        json!({"id": id, "app": "support", "environment": "production", "user": "user_7",
               "experiment": "both", "arm": arm})
    };
    let other = if experiment.assign("user_7").unwrap().name.as_str() == "a" {
        "b"
    } else {
        "a"
    };
    app.caller()
        .post("/api/v1/calls", &call("x", other))
        .await
        .ok();
    let said = readout(&app, "both").await;
    let dropped: u64 = said["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| arm["dropped"].as_u64().unwrap())
        .sum();
    assert_eq!(dropped, 1);
    let counted: i64 = said["metrics"][0]["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| arm["sums"]["n"].as_i64().unwrap())
        .sum();
    assert_eq!(counted, 1199);
    assert_eq!(said["checks"][1]["state"], "warning", "{}", said["checks"]);

    // The same from the events.
    let path = format!("{EXPERIMENTS}/both/rebuild");
    app.editor().post(&path, &Value::Null).await.ok();
    let meanwhile = readout(&app, "both").await;
    assert_eq!(meanwhile["verdict"]["state"], "rebuilding");
    let again = settled(&app, "both").await;
    assert_eq!(again["metrics"], said["metrics"]);
}

#[tokio::test]
async fn plans_are_frozen_and_changes_are_stamped() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "plan", plan()).await;
    let hash = experiment.plan_hash.unwrap();
    assert_eq!(hash, experiment.plan.hash());
    assert_eq!(experiment.epochs.len(), 1);
    let path = format!("{EXPERIMENTS}/plan");
    let changed = app
        .editor()
        .patch(
            &path,
            &json!({"mde": {"absolute": 0.03}, "weights": [8000, 2000]}),
        )
        .await
        .ok();
    assert_eq!(changed["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(changed["plan_changes"][0]["changed"], json!(["mde"]));
    assert_eq!(changed["plan_hash"], hash.to_string());
    let said = readout(&app, "plan").await;
    let stamped = said["checks"]
        .as_array()
        .unwrap()
        .iter()
        .any(|check| check["name"] == "plan");
    assert!(stamped, "{}", said["checks"]);
    for (change, says) in [
        (json!({}), "nothing is to be changed"),
        (
            json!({"weights": [10000]}),
            "has 1 numbers, and the experiment has 2 arms",
        ),
        (json!({"weights": [6000, 6000]}), "add up to 12000"),
        (
            json!({"mde": {"absolute": -1}}),
            "`mde` must be a positive number",
        ),
    ] {
        app.editor()
            .patch(&path, &change)
            .await
            .problem_saying(422, "invalid", says);
    }
}

#[tokio::test]
async fn the_apps_own_traffic_says_how_long_it_takes() {
    let app = TestApp::furnished().await;
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    let now = app.context.sources.clock.now();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..1400_u32 {
        let at = now - jiff::SignedDuration::from_hours(i64::from(number % 14) * 24 + 1);
        calls.push(json!({"id": format!("h{number}"), "app": "support", "user": format!("u{number}"),
                          "environment": "production", "started_at": at, "latency_ms": 100 + number % 100,
                          "error": (number % 50 == 0).then_some("timeout")}));
        outcomes.push(
            json!({"call_id": format!("h{number}"), "app": "support", "kind": "outcome",
                             "name": "task_completed", "value": number % 5 < 3}),
        );
    }
    send(&app, calls, outcomes).await;
    let arms = json!([
        {"name": "a", "manifest": manifests[0], "weight": 5000},
        {"name": "b", "manifest": manifests[1], "weight": 5000},
    ]);
    let mut asked = plan();
    asked["guardrails"] = json!([]);
    let mut body =
        json!({"name": "planned", "app": "support", "arms": arms, "plan": asked, "dry_run": true});
    let plan = app.editor().post(EXPERIMENTS, &body).await.with_status(201)["plan"].clone();
    // 60% to 65% takes 1,471 per arm (S2.1), and 1.62 times as many at most if it may be read at any time.
    assert_eq!(plan["baseline"]["mean"], 0.6);
    let per_arm = plan["size"]["fixed_per_arm"].as_f64().unwrap();
    assert!((1471.0..=1473.0).contains(&per_arm), "{plan}");
    let largest = plan["size"]["largest"].as_f64().unwrap();
    assert!((4766.0..=4772.0).contains(&largest), "{plan}");
    assert_eq!(
        (&plan["size"]["days"], &plan["size"]["days_are_guessed"]),
        (&json!(49), &json!(true)),
        "{plan}"
    );
    let threshold = plan["thresholds"]["latency_p95"].as_f64().unwrap();
    assert!((190.0..200.0).contains(&threshold), "{plan}");
    assert_eq!(
        each(&app.viewer().get(EXPERIMENTS).await.ok(), "name"),
        [] as [Value; 0]
    );
    // With one guardrail both must pass, each with a power of .9: 1,970 per arm. The metric alone is seen as early as before.
    body["plan"]["guardrails"] = json!([{"metric": "hard_failures", "margin": {"absolute": 0.01}}]);
    let guarded = app.editor().post(EXPERIMENTS, &body).await.with_status(201)["plan"].clone();
    let per_arm = guarded["size"]["fixed_per_arm"].as_f64().unwrap();
    assert!((1968.0..=1972.0).contains(&per_arm), "{guarded}");
    // Seen as early as without, but for a sequence that is tightest later: .96 r^(-3/4) of r = 1.34 times the units.
    let expected = |plan: &Value| plan["size"]["expected"].as_f64().unwrap();
    let later = expected(&guarded) / expected(&plan);
    assert!((1.05..1.10).contains(&later), "{later}");
    // A failure in fifty: 3,358 per arm until it is known not to rise by a point, which is more than the metric takes.
    let guardrail = guarded["guardrail_units"]["hard_failures"]
        .as_f64()
        .unwrap();
    assert!((10_500.0..11_300.0).contains(&guardrail), "{guarded}");
    assert!(guardrail > guarded["size"]["largest"].as_f64().unwrap());
}

#[tokio::test]
async fn a_running_experiment_says_how_long_it_still_takes() {
    let app = TestApp::furnished().await;
    let random = &mut fastrand::Rng::with_seed(31);
    // A week of the same users before the start, so that there is something to plan from.
    let past = begin(&app, "past", plan()).await;
    users(&app, &past, 0..700, [SOUND, SOUND], random).await;
    app.editor()
        .post(
            &format!("{EXPERIMENTS}/past/stop"),
            &json!({"reason": "planned from"}),
        )
        .await
        .ok();
    advance_days(&app, 1);
    let mut asked = plan();
    asked["guardrails"] = json!([]);
    let running = begin(&app, "running", asked).await;
    let size = running.plan.size.unwrap();
    let pace = 600;
    for day in 0..3 {
        users(
            &app,
            &running,
            day * pace..(day + 1) * pace,
            [SOUND, SOUND],
            random,
        )
        .await;
        advance_days(&app, 1);
    }
    let said = readout(&app, "running").await;
    let reason = said["verdict"]["reason"].as_str().unwrap();
    let weeks = |units: f64| {
        let days = 3.0 + (units - f64::from(3 * pace)).max(0.0) / f64::from(pace);
        ((days.max(7.0) / 7.0).ceil() * 7.0) as u32 - 3
    };
    let (expected, largest) = (weeks(size.expected), weeks(size.largest));
    assert!(expected < largest, "{size:?}");
    let told =
        format!("at this week's pace {expected} to {largest} more days, ending on a full week.");
    assert!(reason.ends_with(&told), "{reason} {told}");
}

#[tokio::test]
async fn what_makes_no_plan_is_refused() {
    let app = TestApp::furnished().await;
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    let arms = json!([
        {"name": "a", "manifest": manifests[0], "weight": 5000},
        {"name": "b", "manifest": manifests[1], "weight": 5000},
    ]);
    let same = json!([
        {"name": "a", "manifest": manifests[0], "weight": 5000},
        {"name": "b", "manifest": manifests[0], "weight": 5000},
    ]);
    for (plan, arms, says) in [
        (
            json!({"primary": "joy", "mde": {"absolute": 0.1}}),
            &arms,
            "primary `joy` is no metric of the app; it has `thumbs_up`",
        ),
        (json!({"primary": "rating"}), &arms, "`mde` is missing"),
        (
            json!({"mde": {"relative": 0.1}}),
            &arms,
            "`mde` needs a `primary` metric",
        ),
        (
            json!({"primary": "rating", "mde": {"absolute": 0.1}, "guardrails": [{"metric": "x", "margin": {"absolute": 1}}]}),
            &arms,
            "guardrail `x`",
        ),
        (
            json!({"primary": "rating", "mde": {"absolute": 0.1}, "control": "c"}),
            &arms,
            "control `c`",
        ),
        (
            json!({"primary": "rating", "mde": {"absolute": 0.1}, "alpha": 2}),
            &arms,
            "`alpha` must be",
        ),
        (
            json!({"primary": "rating", "mde": {"absolute": 0.1}}),
            &same,
            "two arms serve the same manifest",
        ),
        (
            json!({"primary": "rating", "mde": {"absolute": 0.1}, "aa": true}),
            &arms,
            "these arms serve different ones",
        ),
    ] {
        let body = json!({"name": "bad", "app": "support", "arms": arms, "plan": plan});
        app.editor()
            .post(EXPERIMENTS, &body)
            .await
            .problem_saying(422, "invalid", says);
    }
    let metrics =
        json!([{"name": "m", "kind": "quantile", "source": "thumbs", "direction": "higher"}]);
    app.editor()
        .put("/api/v1/apps/support", &json!({"metrics": metrics}))
        .await
        .problem_saying(422, "invalid", "quantiles are taken of signals");
    let metrics = json!([{"name": "seconds", "kind": "continuous", "source": "outcome:seconds", "direction": "lower"}]);
    app.editor()
        .put("/api/v1/apps/support", &json!({"metrics": metrics}))
        .await
        .ok();
    let found = app.viewer().get("/api/v1/apps/support/metrics").await.ok();
    assert_eq!(each(&found, "name"), ["seconds"]);
    let infinite =
        json!({"call_id": "c", "kind": "outcome", "name": "seconds", "value": "Infinity"});
    app.caller()
        .post("/api/v1/feedback", &infinite)
        .await
        .problem(422, "invalid");
}

/// Twenty requests of each user go together (a correlation of .2 within users), and the app sends requests, not users. Of
/// tests that count requests as independent half would find a difference between identical arms; here about one in twenty may.
#[tokio::test]
async fn requests_of_one_user_are_no_independent_evidence() {
    const METRICS: usize = 20;
    const REQUESTS: u32 = 20;
    let app = TestApp::furnished().await;
    let metrics: Vec<Value> = (0..METRICS)
        .map(|number| {
            json!({"name": format!("m{number}"), "kind": "binary", "source": format!("outcome:m{number}"), "direction": "higher"})
        })
        .collect();
    app.editor()
        .put("/api/v1/apps/support", &json!({"metrics": metrics}))
        .await
        .ok();
    let experiment = begin(&app, "requests", json!({})).await;
    let random = &mut fastrand::Rng::with_seed(11);
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    let mut naive = vec![[[0.0_f64; 2]; 2]; METRICS];
    for number in 0..240_u32 {
        let user = format!("user_{number}");
        let arm = &experiment.assign(&user).unwrap().name;
        let place = usize::from(arm.as_str() == "b");
        // Each user's own rate of each outcome: the middle of three draws is Beta(2, 2), whose correlation is 1/5.
        let rates: Vec<f64> = (0..METRICS)
            .map(|_| {
                let mut draws = [random.f64(), random.f64(), random.f64()];
                draws.sort_by(f64::total_cmp);
                draws[1]
            })
            .collect();
        for request in 0..REQUESTS {
            let id = format!("r{number}-{request}");
            calls.push(
                json!({"id": id, "app": "support", "environment": "production", "user": user,
                              "experiment": "requests", "arm": arm}),
            );
            for (metric, rate) in rates.iter().enumerate() {
                let value = random.f64() < *rate;
                naive[metric][place][0] += f64::from(u8::from(value));
                naive[metric][place][1] += 1.0;
                outcomes.push(json!({"call_id": id, "app": "support", "kind": "outcome",
                                     "name": format!("m{metric}"), "value": value}));
            }
        }
    }
    send(&app, calls, outcomes).await;
    let said = readout(&app, "requests").await;
    assert_eq!(said["verdict"]["state"], "unplanned");
    let (mut once, mut at_any_time) = (0, 0);
    for metric in said["metrics"].as_array().unwrap() {
        let found = &metric["comparisons"][0];
        let excludes_zero = |low: &str, high: &str| {
            found[low].as_f64().unwrap() > 0.0 || found[high].as_f64().unwrap() < 0.0
        };
        once += u32::from(excludes_zero("fixed_low", "fixed_high"));
        at_any_time += u32::from(excludes_zero("low", "high"));
    }
    let counted_alone = naive.iter().filter(|[a, b]| {
        let (left, right) = (a[0] / a[1], b[0] / b[1]);
        let pooled = (a[0] + b[0]) / (a[1] + b[1]);
        let error = (pooled * (1.0 - pooled) * (1.0 / a[1] + 1.0 / b[1])).sqrt();
        ((right - left) / error).abs() > 1.96
    });
    assert!(counted_alone.count() >= 6, "requests alone deceive");
    assert!(once <= 3, "{once} of {METRICS} by one look");
    assert!(at_any_time <= 1, "{at_any_time} of {METRICS} at any time");
}

/// Hardly any failures: no interval, but counts with the evidence in them, and bounds that guardrails can hold by.
#[tokio::test]
async fn small_counts_are_compared_exactly() {
    let app = TestApp::furnished().await;
    let mut rare = plan();
    rare["primary"] = json!("hard_failures");
    rare["guardrails"] = json!([{"metric": "soft_failures", "margin": {"absolute": 0.02}}]);
    let experiment = begin(&app, "rare", rare).await;
    let random = &mut fastrand::Rng::with_seed(6);
    let failing = Arm {
        failing: 0.08,
        ..SOUND
    };
    users(&app, &experiment, 0..1400, [failing, SOUND], random).await;
    let said = readout(&app, "rare").await;
    let found = &said["metrics"][0]["comparisons"][0];
    let counts = &found["small_counts"];
    let failed = said["metrics"][0]["arms"][0]["sums"]["x"].as_f64().unwrap();
    assert_eq!(
        (&counts["arm"], &counts["counted"]),
        (&json!(0), &json!("with_event"))
    );
    assert_eq!(counts["control"].as_f64(), Some(failed));
    assert_eq!(
        (&found["low"], &found["fixed_low"]),
        (&Value::Null, &Value::Null)
    );
    let p = found["p"].as_f64().unwrap();
    // As the statistics say of the same counts: everyone called once.
    let units = |arm: &str| counts[arm].as_f64().unwrap();
    let (n_a, n_b) = (units("control_units"), units("arm_units"));
    let of = |n: f64, any: f64| flywheel_stats::sequential::randomisation::UnitCounts {
        n,
        any,
        not_all: n - any,
    };
    let log_e =
        flywheel_stats::sequential::randomisation::log_e_of_few(of(n_a, failed), of(n_b, 0.0), 0.5)
            .unwrap();
    assert!((p - (-log_e).exp()).abs() < 1e-9 && p < 0.001, "{found}");
    let verdict = &said["verdict"];
    assert_eq!(verdict["state"], "better", "{verdict}");
    let reason = verdict["reason"].as_str().unwrap();
    assert!(reason.contains("(0 of "), "{reason}");
    assert!(reason.contains("randomisation e-test"), "{reason}");
    let guarded = &said["metrics"][1]["comparisons"][0];
    assert_eq!(guarded["guardrail"], "holds", "{guarded}");
    let highest = guarded["small_counts"]["highest"].as_f64().unwrap();
    assert!(0.0 < highest && highest < 0.02, "{guarded}");
    let told = guarded["small_counts"]["said"].as_str().unwrap();
    assert!(told.contains("at most 0."), "{told}");
}

/// Where successes are rare, an arm can lose no more than the control has.
#[tokio::test]
async fn rare_successes_can_be_guarded() {
    let app = TestApp::furnished().await;
    let mut rare = plan();
    rare["primary"] = json!("hard_failures");
    rare["guardrails"] = json!([{"metric": "task_completed", "margin": {"absolute": 0.03}}]);
    let experiment = begin(&app, "rare", rare).await;
    let random = &mut fastrand::Rng::with_seed(6);
    let seldom = Arm {
        completed: 0.003,
        ..SOUND
    };
    users(&app, &experiment, 0..1400, [seldom; 2], random).await;
    let said = readout(&app, "rare").await;
    let found = &said["metrics"][1]["comparisons"][0];
    assert_eq!(found["guardrail"], "holds", "{found}");
    let told = found["small_counts"]["said"].as_str().unwrap();
    assert!(told.contains("the control's share is at most"), "{told}");
}

/// A control that never fails gives no interval, and must not keep an arm that fails often from being stopped.
#[tokio::test]
async fn harm_beside_a_control_that_never_fails_is_stopped() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "broken", plan()).await;
    let random = &mut fastrand::Rng::with_seed(12);
    let failing = Arm {
        failing: 0.08,
        ..SOUND
    };
    users(&app, &experiment, 0..1400, [SOUND, failing], random).await;
    let said = readout(&app, "broken").await;
    let verdict = &said["verdict"];
    assert_eq!(verdict["state"], "abort", "{verdict}");
    let reason = verdict["reason"].as_str().unwrap();
    assert!(reason.contains("against 0 of"), "{reason}");
    let stopped = flywheel_server::operations::experiments::abort_violated(&app.context)
        .await
        .unwrap();
    assert_eq!(stopped.len(), 1);
}

/// Calls of one user fail together: forty failures of three users are three, not forty.
#[tokio::test]
async fn small_counts_are_of_units() {
    let app = TestApp::furnished().await;
    let experiment = begin(&app, "together", plan()).await;
    let (mut calls, mut of_b) = (Vec::new(), 0);
    for number in 0..600_u32 {
        let user = format!("user_{number}");
        let arm = &experiment.assign(&user).unwrap().name;
        let fails = arm.as_str() == "b" && of_b < 3;
        of_b += u32::from(fails);
        for call in 0..if fails { 14 } else { 2 } {
            calls.push(json!({
                "id": format!("t{number}-{call}"), "app": "support", "environment": "production",
                "user": user, "experiment": "together", "arm": arm, "error": fails.then_some("timeout"),
            }));
        }
    }
    send(&app, calls, Vec::new()).await;
    let said = readout(&app, "together").await;
    let metrics = said["metrics"].as_array().unwrap();
    let failures = metrics
        .iter()
        .find(|m| m["metric"]["name"] == "hard_failures")
        .unwrap();
    assert_eq!(failures["arms"][1]["sums"]["x"], 42.0);
    let found = &failures["comparisons"][0];
    assert_eq!(found["small_counts"]["arm"], 3, "{found}");
    assert!(found["p"].as_f64().unwrap() > 0.05, "{found}");
    assert_eq!(found["guardrail"], "open", "{found}");
}

/// One arm's users take their time: what is known of it is older, and the readout says so.
#[tokio::test]
async fn outcomes_that_come_later_in_one_arm_are_noticed() {
    for (name, seconds, differs, state) in [
        ("even", [6000, 6000], false, "passed"),
        ("prompt", [60, 600], true, "passed"),
        ("late", [6000, 60_000], true, "warning"),
    ] {
        let app = TestApp::furnished().await;
        let experiment = begin(&app, name, plan()).await;
        let said = readout(&app, name).await;
        let of = |said: &Value| {
            let mut checks = said["checks"].as_array().unwrap().iter();
            checks
                .find(|check| check["name"] == "delay of outcomes")
                .cloned()
                .unwrap()
        };
        assert_eq!(of(&said)["state"], "unknown", "{said}");
        let random = &mut fastrand::Rng::with_seed(8);
        let started_at = app.context.sources.clock.now();
        app.clock.advance_seconds(86_400 * 3);
        let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
        for number in 0..400_u32 {
            let user = format!("user_{number}");
            let arm = &experiment.assign(&user).unwrap().name;
            let usual = seconds[usize::from(arm.as_str() == "b")];
            let took = jiff::SignedDuration::from_secs(random.i64(usual / 2..usual * 3));
            let id = format!("d{number}");
            calls.push(
                json!({"id": id, "app": "support", "environment": "production", "user": user,
                              "experiment": name, "arm": arm, "started_at": started_at}),
            );
            outcomes.push(
                json!({"call_id": id, "app": "support", "kind": "outcome", "name": "task_completed",
                                 "value": random.bool(), "created_at": started_at + took}),
            );
        }
        send(&app, calls, outcomes).await;
        let said = readout(&app, name).await;
        let check = of(&said);
        assert_eq!(check["state"], state, "{check}");
        let found = &said["delays"][0];
        assert_eq!(found["metric"], "task_completed");
        assert_eq!(found["differs"], differs, "{found}");
        let late = &found["arms"][1];
        let median = late["median_seconds"].as_f64().unwrap();
        let usual = seconds[1] as f64;
        assert!((usual..usual * 2.5).contains(&median), "{found}");
        assert!(late["p90_seconds"].as_f64().unwrap() > median);
        assert_eq!(late["p"].as_f64().unwrap() < 0.001, differs, "{found}");
    }
}

/// What was said and is in no number is counted, by why it is in none.
#[tokio::test]
async fn outcomes_that_are_not_analysed_are_counted() {
    let app = TestApp::furnished().await;
    let random = &mut fastrand::Rng::with_seed(9);
    let call = |id: &str, more: Value| {
        let mut call = json!({"id": id, "app": "support", "environment": "production"});
        for (name, value) in more.as_object().unwrap() {
            call[name] = value.clone();
        }
        call
    };
    let outcome = |id: &str| json!({"call_id": id, "app": "support", "kind": "outcome", "name": "task_completed", "value": true});
    // Before the start, which nobody asks for.
    send(
        &app,
        vec![call("before", json!({"user": "old"}))],
        vec![outcome("before")],
    )
    .await;
    app.clock.advance_seconds(7200);
    let experiment = begin(&app, "kept", plan()).await;
    users(&app, &experiment, 0..300, [SOUND, SOUND], random).await;
    let seven = &experiment.assign("user_7").unwrap().name;
    let other = if seven.as_str() == "a" { "b" } else { "a" };
    let calls = vec![
        call(
            "two",
            json!({"user": "user_7", "experiment": "kept", "arm": other}),
        ),
        call("outside", json!({"user": "stranger"})),
        call(
            "staging",
            json!({"user": "tester", "environment": "staging"}),
        ),
    ];
    let ids = ["two", "outside", "staging"];
    let outcomes = ids.map(outcome).to_vec();
    send(&app, calls, outcomes).await;
    let thumbs = json!({"call_id": "outside", "app": "support", "kind": "thumbs", "value": true});
    app.caller().post("/api/v1/feedback", &thumbs).await.ok();
    let said = readout(&app, "kept").await;
    let found = &said["outcomes"];
    // Of user 7 the outcome in the first arm, and the one in the other.
    assert_eq!(
        (
            &found["analysed"],
            &found["left_out"],
            &found["outside"],
            &found["dropped_units"]
        ),
        (&json!(299), &json!(2), &json!(2), &json!(1)),
        "{found}"
    );
    assert_eq!(
        found["said"],
        "299 outcomes analysed; 4 kept and not analysed: 2 on calls that belong to no arm, 2 on calls that count nowhere (of a unit that was dropped); 1 unit dropped."
    );
}

/// What is exported is enough to find a quantile's value and standard error again, as the documentation says.
#[tokio::test]
async fn quantiles_follow_from_what_is_exported() {
    use flywheel_stats::accumulate::CrossMoments;
    use flywheel_stats::{quantile, special::normal};

    let app = TestApp::furnished().await;
    let experiment = begin(&app, "slow", plan()).await;
    let random = &mut fastrand::Rng::with_seed(10);
    let mut calls = Vec::new();
    for number in 0..1500_u32 {
        let user = format!("user_{}", number % 300);
        let arm = &experiment.assign(&user).unwrap().name;
        calls.push(json!({"id": format!("q{number}"), "app": "support", "environment": "production", "user": user,
                          "experiment": "slow", "arm": arm, "latency_ms": 200 + random.u32(0..900)}));
    }
    send(&app, calls, Vec::new()).await;
    let said = readout(&app, "slow").await;
    let metrics = said["metrics"].as_array().unwrap();
    let shown = metrics
        .iter()
        .find(|m| m["metric"]["name"] == "latency_p95")
        .unwrap();
    let at = |path: &str| format!("{EXPERIMENTS}/slow/{path}");
    let histograms = app.viewer().get(&at("histograms")).await.ok();
    let units = app.viewer().get(&at("units?limit=10000")).await.ok();
    let mut of_arms: Vec<(f64, f64)> = Vec::new();
    let mut values = Vec::new();
    for (place, arm) in ["a", "b"].into_iter().enumerate() {
        let is_it = |one: &&Value| one["metric"] == "latency_p95" && one["arm"] == arm;
        let found = histograms["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(is_it)
            .unwrap();
        assert_eq!(
            (&found["of"], &found["unit"]),
            (&json!("calls"), &json!("ms"))
        );
        let number = |value: &Value| value.as_f64().unwrap();
        let buckets: Vec<[f64; 3]> = found["buckets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| [number(&b["low"]), number(&b["high"]), number(&b["count"])])
            .collect();
        let n: f64 = buckets.iter().map(|bucket| bucket[2]).sum();
        let bucket_of = |rank: f64| {
            let mut seen = 0.0;
            *buckets
                .iter()
                .find(|bucket| {
                    seen += bucket[2];
                    rank <= seen
                })
                .unwrap()
        };
        let [low, high, _] = bucket_of((0.95 * n).ceil());
        values.push(0.5 * (low + high));
        let value = number(&shown["arms"][place]["value"]);
        assert!(
            (value - values[place]).abs() < 1e-9 * value,
            "{value} {values:?}"
        );
        // S3.7: the bounds' order statistics, and the design effect of calls that are alike.
        let ranks = quantile::ranks(n as u64, 0.95, 0.05).unwrap();
        let low = bucket_of(ranks.lower.unwrap() as f64)[0];
        let high = bucket_of(ranks.upper.unwrap() as f64)[1];
        assert!((number(&shown["arms"][place]["low"]) - low).abs() < 1e-9 * low);
        assert!((number(&shown["arms"][place]["high"]) - high).abs() < 1e-9 * high);
        let of_arm = units["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|unit| unit["arm"] == arm);
        let beyond: Vec<[f64; 2]> = of_arm
            .map(|unit| &unit["metrics"]["latency_p95"])
            .map(|columns| [number(&columns[0]), number(&columns[1])])
            .collect();
        let moments = CrossMoments::of(&beyond);
        let share = moments.mean(0).unwrap() / moments.mean(1).unwrap();
        // Nothing was known before the start, so that a user's calls may be all alike: Σy²/Σy.
        assert_eq!(share, 0.0);
        let sum = |power: i32| beyond.iter().map(|unit| unit[1].powi(power)).sum::<f64>();
        let effect = sum(2) / sum(1);
        let z = normal::upper_quantile(0.025).unwrap();
        let users = beyond.len() as f64;
        let squared = ((high - low) / (2.0 * z)).powi(2) * (users - 1.0) / users * effect;
        of_arms.push((squared * users, users));
    }
    // The smaller arm is hardly taken to vary less than both do by their users.
    let users: f64 = of_arms.iter().map(|(_, n)| n).sum();
    let mean = of_arms.iter().map(|(unit, n)| unit * n).sum::<f64>() / users;
    let raised = |(unit, n): (f64, f64)| {
        let share = (1.0 - n / (users - n)).max(0.0);
        (unit + share * (mean - unit).max(0.0)) / n
    };
    let variance: f64 = of_arms.iter().copied().map(raised).sum();
    let found = &shown["comparisons"][0];
    let difference = found["difference"].as_f64().unwrap();
    assert!((difference - (values[1] - values[0])).abs() < 1e-9);
    let error = found["standard_error"].as_f64().unwrap();
    assert!(
        (error - variance.sqrt()).abs() < 1e-9 * error,
        "{error} {variance}"
    );
}

/// What a guardrail's margin allows has been accepted: it stands in nobody's way, however well it is known.
#[tokio::test]
async fn what_a_margin_allows_may_become_worse() {
    for (margin, may_promote) in [(0.06, true), (0.025, false)] {
        let app = TestApp::furnished().await;
        let mut asked = plan();
        asked["guardrails"] = json!([{"metric": "hard_failures", "margin": {"absolute": margin}}]);
        let experiment = begin(&app, "allowed", asked).await;
        let random = &mut fastrand::Rng::with_seed(11);
        let failing = |failing: f64, completed: f64| Arm {
            failing,
            completed,
            ..SOUND
        };
        let arms = [failing(0.01, 0.6), failing(0.03, 0.75)];
        users(&app, &experiment, 0..6000, arms, random).await;
        advance_days(&app, 8);
        let said = readout(&app, "allowed").await;
        let metrics = said["metrics"].as_array().unwrap();
        let is_it = |found: &&Value| found["metric"]["name"] == "hard_failures";
        let found = &metrics.iter().find(is_it).unwrap()["comparisons"][0];
        assert_eq!(found["finding"], "worse", "{found}");
        let verdict = &said["verdict"];
        assert_eq!(verdict["state"], "better", "{verdict}");
        assert_eq!(verdict["may_promote"], may_promote, "{margin}: {verdict}");
    }
}
