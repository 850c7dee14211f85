//! Logging calls, and finding them again.

use std::time::Duration;

use flywheel_core::key::Role;
use serde_json::{Value, json};

use crate::app::{Options, TestApp};
use crate::samples::{each, items};
use crate::sources::BEGINNING;

const CALLS: &str = "/api/v1/calls";

#[tokio::test]
async fn each_filter_finds_what_it_names() {
    let app = TestApp::furnished().await;
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    app.start_experiment("staging", &[manifests[1].clone(), manifests[0].clone()])
        .await;
    let manifest = &manifests[0];
    let at = |second: i64| {
        jiff::Timestamp::from_second(BEGINNING + second)
            .unwrap()
            .to_string()
    };
    let calls = json!([
        {"id": "c1", "app": "support", "started_at": at(1), "unit": "u1", "session": "s1",
         "manifest": manifest, "output": "Blue Sky"},
        {"id": "c2", "app": "support", "started_at": at(2), "environment": "staging", "unit": "u1",
         "experiment": "exp", "arm": "a", "messages": [{"role": "user", "content": "green 50%"}]},
        {"id": "c3", "app": "other", "started_at": at(3), "error": "timeout"},
    ]);
    app.caller().post(CALLS, &calls).await.with_status(201);
    let thumbs = json!({"call_id": "c1", "kind": "thumbs", "value": true});
    app.caller().post("/api/v1/feedback", &thumbs).await.ok();
    let found = app.viewer().get("/api/v1/calls/c1").await.ok();
    let version = found["prompt_version"].as_str().unwrap().to_owned();
    for (query, expected) in [
        (String::new(), vec!["other:c3", "support:c2", "support:c1"]),
        ("app=support".into(), vec!["support:c2", "support:c1"]),
        ("id=support:c".into(), vec!["support:c2", "support:c1"]),
        ("id=2".into(), vec!["support:c2"]),
        ("environment=staging".into(), vec!["support:c2"]),
        (
            "app=support&environment=production".into(),
            vec!["support:c1"],
        ),
        (format!("manifest={manifest}"), vec!["support:c1"]),
        (format!("prompt_version={version}"), vec!["support:c1"]),
        ("experiment=exp".into(), vec!["support:c2"]),
        ("experiment=exp&arm=b".into(), vec![]),
        ("unit=u1".into(), vec!["support:c2", "support:c1"]),
        ("session=s1".into(), vec!["support:c1"]),
        ("status=provider_error".into(), vec!["other:c3"]),
        ("status=ok".into(), vec!["support:c2", "support:c1"]),
        (format!("since={}", at(2)), vec!["other:c3", "support:c2"]),
        (format!("until={}", at(2)), vec!["support:c1"]),
        ("text=blue%20sky".into(), vec!["support:c1"]),
        ("text=50%25".into(), vec!["support:c2"]),
        ("text=".into(), vec!["other:c3", "support:c2", "support:c1"]),
        ("feedback=thumbs".into(), vec!["support:c1"]),
        ("feedback=any".into(), vec!["support:c1"]),
        ("feedback=rating".into(), vec![]),
    ] {
        let list = app.viewer().get(&format!("{CALLS}?{query}")).await.ok();
        assert_eq!(each(&list, "id"), expected, "{query}");
    }
    for (query, part) in [
        ("status=fine", "must be one of `ok`"),
        ("manifest=abc", "`manifest`"),
        ("since=yesterday", "since"),
        ("limit=many", "limit"),
        ("limit=0", "from 1 to 1000"),
        ("limit=5000", "from 1 to 1000"),
        ("cursor=x", "cursor `x`"),
        ("app=a%20b", "app `a b`"),
    ] {
        app.viewer()
            .get(&format!("{CALLS}?{query}"))
            .await
            .problem_saying(422, "invalid", part);
    }
}

/// Calls of one instant are told apart by their ids, so that no page repeats or leaves out one.
#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let app = TestApp::furnished().await;
    let calls: Vec<Value> = (0..25)
        .map(|n| json!({"id": format!("c{n:02}"), "app": "support"}))
        .collect();
    app.caller().post(CALLS, &json!(calls)).await.ok();
    for limit in [1, 7, 25, 1000] {
        let mut seen = Vec::new();
        let mut path = format!("{CALLS}?limit={limit}");
        loop {
            let page = app.viewer().get(&path).await.ok();
            assert!(items(&page).len() <= limit);
            seen.extend(each(&page, "id"));
            let Some(cursor) = page["next"].as_str() else {
                break;
            };
            path = format!("{CALLS}?limit={limit}&cursor={cursor}");
        }
        assert_eq!(seen.len(), 25, "pages of {limit}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 25, "pages of {limit}");
    }
}

#[tokio::test]
async fn calls_are_logged_one_by_one_in_arrays_and_in_lines() {
    let app = TestApp::furnished().await;
    let lines = "{\"id\": \"l1\", \"app\": \"support\"}\n{\"id\": \"l2\", \"app\": \"support\"}\n";
    for (body, expected) in [
        ("{\"id\": \"o1\", \"app\": \"support\"}", vec!["support:o1"]),
        (
            "  [{\"id\": \"a1\", \"app\": \"support\"}, {\"id\": \"a2\", \"app\": \"support\"}]",
            vec!["support:a1", "support:a2"],
        ),
        (lines, vec!["support:l1", "support:l2"]),
    ] {
        for outcome in ["stored", "duplicate"] {
            let stored = app
                .caller()
                .send(http::Method::POST, CALLS, body, &[])
                .await
                .with_status(201);
            assert_eq!(each(&stored, "id"), expected);
            assert!(
                each(&stored, "stored").iter().all(|word| word == outcome),
                "{stored}"
            );
        }
    }
    assert_eq!(items(&app.viewer().get(CALLS).await.ok()).len(), 5);
}

/// Apps choose ids without knowing of each other; within one app, an id means one call.
#[tokio::test]
async fn ids_of_other_apps_do_not_collide() {
    let app = TestApp::furnished().await;
    let call = |of: &str, output: &str| json!({"id": "1", "app": of, "output": output});
    for of in ["support", "other"] {
        for outcome in ["stored", "duplicate"] {
            let stored = app
                .limited(Role::App, of)
                .post(CALLS, &call(of, of))
                .await
                .ok();
            let expected = json!([{"id": format!("{of}:1"), "stored": outcome}]);
            assert_eq!(stored["items"], expected);
            app.clock.advance_seconds(1);
        }
        let found = app.viewer().get(&format!("{CALLS}/{of}:1")).await.ok();
        assert_eq!(found["output"], of);
        let own = app
            .limited(Role::Viewer, of)
            .get(&format!("{CALLS}/1"))
            .await;
        assert_eq!(own.ok()["output"], of);
        let mut changed = call(of, "changed");
        changed["latency_ms"] = json!(5);
        let refused = app.limited(Role::App, of).post(CALLS, &changed).await;
        refused.problem_saying(409, "id_taken", "`latency_us`, `output` differs");
    }
    // A UUID is an id by itself. That another app has it already is all that is told.
    let id = "01980000-0000-7abc-9def-000000000001";
    let with_id = |of: &str| json!({"id": id, "app": of, "output": "secret"});
    app.caller().post(CALLS, &with_id("support")).await.ok();
    let refused = app
        .limited(Role::App, "other")
        .post(CALLS, &with_id("other"))
        .await
        .problem_saying(409, "id_taken", id);
    assert!(!refused.to_string().contains("support"), "{refused}");
}

#[tokio::test]
async fn one_wrong_call_and_none_is_stored() {
    let app = TestApp::furnished().await;
    let unknown = "0".repeat(64);
    for (wrong, part) in [
        (json!({"app": "support", "id": ""}), "`id`"),
        (json!({"app": "support", "latency_ms": -1}), "`latency_ms`"),
        (
            json!({"app": "support", "arm": "a"}),
            "`experiment` and `arm`",
        ),
        (
            json!({"app": "support", "manifest": unknown}),
            "no manifest",
        ),
        (
            json!({"app": "suport"}),
            "app `suport` does not exist; make it with",
        ),
        (
            json!({"app": "support", "environment": "prod"}),
            "has no environment `prod`; it has `staging`, `production`",
        ),
        (
            json!({"app": "support", "started_at": "2031-01-01T00:00:00Z"}),
            "`started_at` is `2031-01-01T00:00:00Z`, which is yet to come",
        ),
    ] {
        let batch = json!([{"app": "support"}, wrong]);
        let refused = app
            .caller()
            .post(CALLS, &batch)
            .await
            .problem_saying(422, "invalid", part);
        assert_eq!(refused["errors"][0]["index"], 1, "{refused}");
    }
    for (wrong, part) in [
        (json!({"output": "x"}), "`app`"),
        (json!({"app": "support", "outptu": "x"}), "`outptu`"),
        (json!({"app": "support", "status": "fine"}), "fine"),
        (json!({"app": "support", "manifest": "abc"}), "abc"),
    ] {
        let batch = json!([{"app": "support"}, wrong]);
        app.caller()
            .post(CALLS, &batch)
            .await
            .problem_saying(422, "invalid", part);
    }
    assert_eq!(items(&app.viewer().get(CALLS).await.ok()), [] as [Value; 0]);
    app.viewer()
        .get("/api/v1/calls/nothing")
        .await
        .problem_saying(404, "not_found", "`nothing`");
}

/// An experiment compares what it was told, so what cannot have been part of it is refused.
#[tokio::test]
async fn a_call_of_an_experiment_fits_it() {
    let app = TestApp::furnished().await;
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    app.start_experiment("staging", &manifests).await;
    let arm = |name: &str| json!({"name": name, "manifest": manifests[0], "weight": 5000});
    let draft = json!({"name": "draft", "app": "support", "arms": [arm("a"), arm("b")]});
    app.editor().post("/api/v1/experiments", &draft).await.ok();
    let call = |further: Value| {
        let mut call = json!({"app": "support", "unit": "u", "experiment": "exp", "arm": "a"});
        let members = further.as_object().unwrap().clone();
        call.as_object_mut().unwrap().extend(members);
        call
    };
    for (wrong, part) in [
        (
            json!({"experiment": "exq"}),
            "app `support` has no experiment `exq`",
        ),
        (
            json!({"app": "other"}),
            "app `other` has no experiment `exp`",
        ),
        (json!({"arm": "c"}), "no arm `c`; it has `a`, `b`"),
        (json!({"unit": null}), "`unit` (or `user`) is missing"),
        (
            json!({"environment": "production"}),
            "in environment `staging`",
        ),
        (json!({"manifest": manifests[1]}), "not that of arm `a`"),
        (json!({"experiment": "draft"}), "has not been started"),
    ] {
        let calls = json!([{"app": "support"}, call(wrong)]);
        let refused = app
            .caller()
            .post(CALLS, &calls)
            .await
            .problem_saying(422, "invalid", part);
        assert_eq!(refused["errors"][0]["index"], 1, "{refused}");
    }
    let calls = json!([
        call(json!({"id": "1"})),
        call(json!({"id": "2", "manifest": manifests[0][..12]})),
    ]);
    app.caller().post(CALLS, &calls).await.ok();
    for id in ["1", "2"] {
        let found = app
            .viewer()
            .get(&format!("{CALLS}/support:{id}"))
            .await
            .ok();
        assert_eq!(found["manifest"], manifests[0].as_str(), "the arm's");
        assert_eq!(found["environment"], "staging", "the experiment's");
        assert_eq!(found["prompt"], "greeting");
    }
    // What was allocated before the end may be told after it.
    let stop = "/api/v1/experiments/exp/stop";
    app.editor().post(stop, &json!({})).await.ok();
    app.caller()
        .post(CALLS, &call(json!({"id": "3"})))
        .await
        .ok();
}

#[tokio::test]
async fn a_search_that_takes_too_long_ends_with_a_hint() {
    let app = TestApp::furnished_with(Options {
        longest_search: Duration::ZERO,
        ..Options::default()
    })
    .await;
    let refused = app.viewer().get(&format!("{CALLS}?text=x")).await;
    let refused = refused.problem_saying(408, "search_too_long", "longer than");
    assert!(refused["hint"].as_str().unwrap().contains("`since`"));
}
