//! Feedback of every kind, and the summaries of it.

use flywheel_core::key::Role;
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{each, items};
use crate::sources::BEGINNING;

const FEEDBACK: &str = "/api/v1/feedback";

async fn feedback_on(app: &TestApp, call: &str) -> Vec<Value> {
    let call = app
        .viewer()
        .get(&format!("/api/v1/calls/{call}"))
        .await
        .ok();
    call["feedback"].as_array().unwrap().clone()
}

async fn logged(app: &TestApp, ids: &[&str]) {
    let calls: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "app": "support"}))
        .collect();
    app.caller().post("/api/v1/calls", &json!(calls)).await.ok();
}

#[tokio::test]
async fn every_kind_is_stored_as_it_was_said() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1"]).await;
    let kinds = [
        json!({"kind": "thumbs", "value": false}),
        json!({"kind": "rating", "value": 4.5, "scale": {"min": 1.0, "max": 5.0}}),
        json!({"kind": "comment", "text": "naïve 用户 👩‍👩‍👧 \u{0}\r\n"}),
        json!({"kind": "correction", "text": "Better"}),
        json!({"kind": "outcome", "name": "handle_time", "value": 12.5}),
        json!({"kind": "outcome", "name": "escalated", "value": 1.0}),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        let mut body = kind.clone();
        body["call_id"] = json!("c1");
        body["id"] = json!(format!("f{number}"));
        body["author"] = json!("ada");
        app.clock.advance_seconds(1);
        let stored = app.caller().post(FEEDBACK, &body).await.with_status(201);
        assert_eq!(stored["items"][0]["stored"], "stored");
    }
    let found = feedback_on(&app, "c1").await;
    assert_eq!(found.len(), kinds.len());
    for (found, kind) in found.iter().zip(&kinds) {
        for (member, value) in kind.as_object().unwrap() {
            assert_eq!(&found[member], value);
        }
        assert_eq!(
            (&found["author"], &found["call_id"]),
            (&json!("ada"), &json!("support:c1"))
        );
    }
    assert_eq!(found[0]["created_at"], "2026-01-01T00:00:01Z");
}

#[tokio::test]
async fn it_may_come_twice_and_before_its_call() {
    let app = TestApp::furnished().await;
    let body = json!({"id": "f1", "call_id": "support:later", "kind": "thumbs", "value": true});
    for outcome in ["stored", "duplicate"] {
        let stored = app.caller().post(FEEDBACK, &body).await.with_status(201);
        assert_eq!(stored["items"], json!([{"id": "f1", "stored": outcome}]));
    }
    logged(&app, &["later"]).await;
    let found = feedback_on(&app, "later").await;
    assert_eq!((found.len(), &found[0]["value"]), (1, &json!(true)));
}

#[tokio::test]
async fn the_idempotency_key_is_the_id_of_a_single_one() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1"]).await;
    let header = [("idempotency-key", "k1")];
    let body = json!({"call_id": "c1", "kind": "thumbs", "value": true}).to_string();
    for outcome in ["stored", "duplicate"] {
        let stored = app
            .caller()
            .send(Method::POST, FEEDBACK, body.clone(), &header)
            .await
            .ok();
        assert_eq!(stored["items"][0]["stored"], outcome);
    }
    let several = format!("[{body}, {body}]");
    let refused = app
        .caller()
        .send(Method::POST, FEEDBACK, several, &header)
        .await;
    refused.problem_saying(422, "invalid", "`Idempotency-Key`");
    // Without a key or an id each is another one.
    for _ in 0..2 {
        app.caller()
            .send(Method::POST, FEEDBACK, body.clone(), &[])
            .await
            .ok();
    }
    assert_eq!(feedback_on(&app, "c1").await.len(), 3);
}

#[tokio::test]
async fn one_id_with_two_meanings_is_refused() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1"]).await;
    let piece = |id: &str, value: bool| json!({"id": id, "call_id": "c1", "kind": "thumbs", "value": value});
    app.caller().post(FEEDBACK, &piece("f1", true)).await.ok();
    let mut other = piece("f1", false);
    other["author"] = json!("ada");
    let refused = app
        .caller()
        .post(
            FEEDBACK,
            &json!([piece("f2", true), other, piece("f1", true)]),
        )
        .await
        .problem_saying(409, "id_taken", "`author`, `value` differs");
    assert_eq!(each(&json!({"items": refused["errors"]}), "index"), ["1"]);
    let found = feedback_on(&app, "c1").await;
    assert_eq!(found.len(), 2, "the rest of the batch is stored");
    assert_eq!(found[0]["value"], json!(true), "what was there stays");
    // Two with one id in a batch: the first is stored.
    let batch = json!([piece("f3", true), piece("f3", false)]);
    app.caller()
        .post(FEEDBACK, &batch)
        .await
        .problem_saying(409, "id_taken", "`f3`");
    // A time that is given belongs to what is said; one that is not is drawn anew.
    app.clock.advance_seconds(1);
    app.caller().post(FEEDBACK, &piece("f1", true)).await.ok();
    let mut later = piece("f1", true);
    app.clock.advance_seconds(2 * 86_400);
    later["created_at"] = json!("2026-01-02T00:00:00.123456789Z");
    app.caller()
        .post(FEEDBACK, &later)
        .await
        .problem_saying(409, "id_taken", "`created_at`");
    later["id"] = json!("f4");
    for _ in 0..2 {
        app.caller().post(FEEDBACK, &later).await.ok();
    }
}

/// Senders that know nothing of each other choose the same ids.
#[tokio::test]
async fn ids_of_other_calls_and_other_senders_do_not_collide() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1", "c2"]).await;
    let thumbs = |call: &str, value: bool| json!({"id": "1", "call_id": call, "kind": "thumbs", "value": value});
    for (call, value) in [("c1", true), ("c2", false)] {
        let stored = app.caller().post(FEEDBACK, &thumbs(call, value)).await.ok();
        assert_eq!(stored["items"][0]["stored"], "stored");
    }
    let body = json!({"call_id": "c1", "kind": "thumbs", "value": true}).to_string();
    for user in [app.caller(), app.admin(), app.limited(Role::App, "support")] {
        let header = [("idempotency-key", "1")];
        let send = user.send(Method::POST, FEEDBACK, body.clone(), &header);
        assert_eq!(send.await.ok()["items"][0]["stored"], "stored");
    }
    for key in ["", &"k".repeat(151)] {
        let header = [("idempotency-key", key)];
        app.caller()
            .send(Method::POST, FEEDBACK, body.clone(), &header)
            .await
            .problem_saying(422, "invalid", "`Idempotency-Key`");
    }
    assert_eq!(feedback_on(&app, "c1").await.len(), 4);
}

#[tokio::test]
async fn feedback_finds_the_call_that_an_app_named() {
    let app = TestApp::furnished().await;
    let named = |id: &str, of: &str| json!({"id": id, "app": of});
    let calls = json!([
        named("c1", "support"),
        named("c2", "support"),
        named("c2", "other")
    ]);
    app.caller().post("/api/v1/calls", &calls).await.ok();
    let about = |call: &str| json!({"call_id": call, "kind": "thumbs", "value": true});
    let about_app = |call: &str, of: &str| {
        let mut body = about(call);
        body["app"] = json!(of);
        body
    };
    for (user, body) in [
        (app.caller(), about("c1")),
        (app.caller(), about("support:c2")),
        (app.caller(), about_app("c2", "other")),
        (app.caller(), about_app("support:c2", "support")),
        (app.limited(Role::App, "other"), about("c2")),
        // Before its call.
        (app.limited(Role::App, "other"), about("c3")),
        (app.caller(), about_app("c3", "other")),
    ] {
        user.post(FEEDBACK, &body).await.ok();
    }
    app.caller()
        .post("/api/v1/calls", &named("c3", "other"))
        .await
        .ok();
    for (call, expected) in [("c1", 1), ("support:c2", 2), ("other:c2", 2), ("c3", 2)] {
        assert_eq!(feedback_on(&app, call).await.len(), expected, "{call}");
    }
    for (call, part) in [
        ("c2", "`other:c2` or `support:c2`"),
        ("c9", "no call that is known"),
    ] {
        app.caller()
            .post(FEEDBACK, &about(call))
            .await
            .problem_saying(422, "invalid", part);
    }
}

#[tokio::test]
async fn a_part_of_an_id_is_refused_rather_than_kept_for_a_call_that_never_comes() {
    const WHOLE: &str = "01980000-0000-7abc-9def-0000000000af";
    let app = TestApp::furnished().await;
    let user = app.limited(Role::App, "support");
    logged(&app, &[WHOLE]).await;
    let about = |call: &str| json!({"call_id": call, "kind": "thumbs", "value": true});
    for part in ["01980000-0000", "0000000000af"] {
        let refused =
            user.post(FEEDBACK, &about(part))
                .await
                .problem_saying(422, "invalid", "only a part");
        assert!(refused["detail"].to_string().contains(WHOLE), "{refused}");
    }
    // A number that an app counts its calls with, before and after its call is known.
    user.post(FEEDBACK, &about("20261125")).await.ok();
    logged(&app, &["01980000"]).await;
    user.post(FEEDBACK, &about("01980000")).await.ok();
    assert_eq!(feedback_on(&app, "01980000").await.len(), 1);
    assert_eq!(feedback_on(&app, WHOLE).await.len(), 0);
}

#[tokio::test]
async fn batches_come_as_arrays_and_as_lines() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1", "c2"]).await;
    let thumbs = |call: &str| json!({"call_id": call, "kind": "thumbs", "value": true});
    let array = json!([thumbs("c1"), thumbs("c2")]).to_string();
    let lines = format!("{}\n{}\n", thumbs("c1"), thumbs("c2"));
    for body in [array, lines] {
        let stored = app
            .caller()
            .send(Method::POST, FEEDBACK, body, &[])
            .await
            .with_status(201);
        assert_eq!(items(&stored).len(), 2);
    }
    assert_eq!(feedback_on(&app, "c2").await.len(), 2);
}

#[tokio::test]
async fn bad_items_are_named_and_nothing_is_stored() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1"]).await;
    let good = json!({"call_id": "c1", "kind": "thumbs", "value": true});
    let batch = json!([
        good,
        {"call_id": "c1", "kind": "rating", "value": 9},
        good,
        {"call_id": "", "kind": "thumbs", "value": true},
        {"call_id": "c1", "kind": "comment", "text": ""},
    ]);
    let refused = app
        .caller()
        .post(FEEDBACK, &batch)
        .await
        .problem_saying(422, "invalid", "`9`");
    let errors = json!({"items": refused["errors"]});
    assert_eq!(each(&errors, "index"), ["1", "3", "4"]);
    for (body, part) in [
        (json!({"kind": "thumbs", "value": true}), "call_id"),
        (json!({"call_id": "c1"}), "kind"),
        (json!({"call_id": "c1", "kind": "applause"}), "applause"),
        (
            json!({"call_id": "c1", "kind": "thumbs", "value": "up"}),
            "true or false",
        ),
        (
            json!({"call_id": "c1", "kind": "thumbs", "value": true, "comment": "x"}),
            "item 1, counted from 0: unknown field `comment`",
        ),
        (
            json!({"call_id": "c1", "kind": "thumbs", "value": true, "text": "x"}),
            "has no `text`",
        ),
        (
            json!({"call_id": "c1", "kind": "thumbs", "value": true, "created_at": "2031-01-01T00:00:00Z"}),
            "`created_at` is `2031-01-01T00:00:00Z`, which is yet to come",
        ),
        (
            json!({"call_id": "c1", "kind": "outcome", "name": "x", "value": "y"}),
            "a number, true or false",
        ),
    ] {
        app.caller()
            .post(FEEDBACK, &json!([good, body]))
            .await
            .problem_saying(422, "invalid", part);
    }
    assert_eq!(feedback_on(&app, "c1").await, [] as [Value; 0]);
}

/// Eight calls on two days, in two arms with a manifest each; what is thumbed up, rated and failed is known for each.
async fn eight_calls(app: &TestApp) -> [String; 2] {
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    app.start_experiment("production", &manifests).await;
    app.clock.advance_seconds(2 * 86_400);
    let mut calls = Vec::new();
    let mut feedback = Vec::new();
    for number in 0..8_i64 {
        let second = BEGINNING + (number / 4) * 86_400;
        let (which, arm) = ((number % 2) as usize, ["a", "b"][(number % 2) as usize]);
        let id = format!("c{number}");
        calls.push(
            json!({"id": id, "app": "support", "manifest": manifests[which], "unit": id,
            "experiment": "exp", "arm": arm, "latency_ms": 100 * (number + 1),
            "started_at": jiff::Timestamp::from_second(second).unwrap(),
            "usage": {"input_tokens": 1000, "output_tokens": 0},
            "error": (number == 7).then_some("timeout")}),
        );
        feedback.push(json!({"call_id": id, "kind": "thumbs", "value": number % 2 == 0}));
        feedback.push(json!({"call_id": id, "kind": "rating", "value": 1 + number % 5}));
        feedback.push(
            json!({"call_id": id, "kind": "outcome", "name": "escalated", "value": number < 2}),
        );
        feedback.push(json!({"call_id": id, "kind": "comment", "text": "x"}));
    }
    app.caller().post("/api/v1/calls", &json!(calls)).await.ok();
    app.caller().post(FEEDBACK, &json!(feedback)).await.ok();
    manifests
}

#[tokio::test]
async fn summaries_count_by_every_key() {
    let app = TestApp::furnished().await;
    let manifests = eight_calls(&app).await;
    let version = |ordinal: &str| format!("/api/v1/prompts/greeting/versions/{ordinal}");
    let mut versions = Vec::new();
    for ordinal in ["1", "2"] {
        let found = app.viewer().get(&version(ordinal)).await.ok();
        versions.push(found["version"].as_str().unwrap().to_owned());
    }
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    for (by, expected) in [
        ("arm", vec!["exp/a".to_owned(), "exp/b".to_owned()]),
        ("manifest", sorted(manifests.to_vec())),
        ("prompt_version", sorted(versions)),
        ("model", vec!["m:1".to_owned()]),
        (
            "day",
            vec!["2026-01-01".to_owned(), "2026-01-02".to_owned()],
        ),
    ] {
        let summary = app
            .viewer()
            .get(&format!("{FEEDBACK}/summary?by={by}"))
            .await
            .ok();
        assert_eq!(summary["by"], by);
        assert_eq!(each(&summary, "key"), expected, "{by}");
        let calls: u64 = items(&summary)
            .iter()
            .map(|row| row["calls"].as_u64().unwrap())
            .sum();
        assert_eq!(calls, 8, "{by}");
        // Versions go by the names that people know them by.
        let mut named: Vec<_> = items(&summary)
            .iter()
            .map(|row| (row["prompt"].clone(), row["prompt_ordinal"].clone()))
            .collect();
        named.sort_by_key(|(_, ordinal)| ordinal.as_u64());
        let name = |ordinal: u64| (json!("greeting"), json!(ordinal));
        match by {
            "manifest" | "prompt_version" => assert_eq!(named, [name(1), name(2)], "{by}"),
            _ => assert!(named.iter().all(|(prompt, _)| prompt.is_null()), "{by}"),
        }
    }
}

#[tokio::test]
async fn a_row_of_a_summary_has_means_rates_and_intervals() {
    let app = TestApp::furnished().await;
    eight_calls(&app).await;
    let by_arm = app
        .viewer()
        .get(&format!("{FEEDBACK}/summary?by=arm"))
        .await
        .ok();
    let row = &by_arm["items"][1];
    assert_eq!(
        (&row["calls"], &row["provider_errors"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(row["mean_latency_ms"], 500.0, "of 200, 400, 600 and 800");
    assert_eq!(row["mean_cost_usd"], 0.001);
    let series = |name: &str| {
        let all = row["series"].as_array().unwrap();
        all.iter()
            .find(|series| series["series"] == name)
            .unwrap()
            .clone()
    };
    for (name, kind, value, has_interval) in [
        ("thumbs", "rate", 0.0, true),
        ("outcome:escalated", "rate", 0.25, true),
        ("rating", "mean", 2.5, true),
        ("comment", "count", 4.0, false),
    ] {
        let found = series(name);
        assert_eq!(
            (&found["kind"], &found["value"], &found["n"]),
            (&json!(kind), &json!(value), &json!(4))
        );
        assert_eq!(
            found["low"].is_number() && found["high"].is_number(),
            has_interval,
            "{found}"
        );
        if has_interval {
            assert!(found["low"].as_f64() <= Some(value) && found["high"].as_f64() >= Some(value));
        }
    }
    let filtered =
        format!("{FEEDBACK}/summary?by=day&since=2026-01-02T00:00:00Z&app=support&experiment=exp");
    assert_eq!(
        each(&app.viewer().get(&filtered).await.ok(), "calls"),
        ["4"]
    );
    for (query, part) in [("by=planet", "planet"), ("since=now", "since")] {
        let answer = app
            .viewer()
            .get(&format!("{FEEDBACK}/summary?{query}"))
            .await;
        answer.problem_saying(422, "invalid", part);
    }
}

/// Of several thumbs on one call the latest counts.
#[tokio::test]
async fn a_changed_mind_counts_once() {
    let app = TestApp::furnished().await;
    logged(&app, &["c1"]).await;
    for value in [true, false, true, false] {
        app.clock.advance_seconds(1);
        let thumbs = json!({"call_id": "c1", "kind": "thumbs", "value": value});
        app.caller().post(FEEDBACK, &thumbs).await.ok();
    }
    let summary = app
        .viewer()
        .get(&format!("{FEEDBACK}/summary?by=day"))
        .await
        .ok();
    let series = &summary["items"][0]["series"][0];
    assert_eq!((&series["n"], &series["value"]), (&json!(1), &json!(0.0)));
}

#[tokio::test]
async fn a_limited_key_cannot_speak_of_another_apps_call() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let call = app.chat("u1").await["id"].as_str().unwrap().to_owned();
    let about = |call: &str| json!({"call_id": call, "kind": "thumbs", "value": false});
    for (covered, call, status) in [
        ("other", call.as_str(), 403),
        ("support", call.as_str(), 201),
        // Whether there is such a call is not told.
        ("other", "support:c1", 403),
        ("support", "support:c1", 201),
    ] {
        app.limited(Role::App, covered)
            .post("/api/v1/feedback", &about(call))
            .await
            .with_status(status);
    }
}
