//! Prompts and models: pushing, finding, comparing, labels, scores, status.

use flywheel_core::key::Role;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{GREETINGS, content, each, items};

const PROMPTS: &str = "/api/v1/prompts/greeting";

async fn version(app: &TestApp, reference: &str) -> Value {
    app.viewer()
        .get(&format!("{PROMPTS}/versions/{reference}"))
        .await
        .ok()
}

#[tokio::test]
async fn a_push_tells_what_is_new() {
    let app = TestApp::new().await;
    let model = json!({"model_id": "m", "model_version": "1", "provider": "simulated",
        "aliases": ["best"]});
    let prompt = json!({"prompt": "team/greeting:v2", "content": content("Hi {name}"),
        "description": "first", "labels": ["candidate"]});
    let push = json!({"models": [model], "prompts": [prompt]});
    let pushed = app.editor().post("/api/v1/push", &push).await.ok();
    assert_eq!(pushed["models"][0]["created"], true);
    assert_eq!(
        (
            &pushed["prompts"][0]["created"],
            &pushed["prompts"][0]["ordinal"]
        ),
        (&json!(true), &json!(1))
    );
    let again = app.editor().post("/api/v1/push", &push).await.ok();
    assert_eq!(
        again["models"][0],
        json!({"model_id": "m", "model_version": "1", "created": false, "changed": false})
    );
    assert_eq!(again["prompts"][0]["created"], false);
    assert_eq!(
        again["prompts"][0]["version"],
        pushed["prompts"][0]["version"]
    );

    // A name with a slash is one segment of the path when it is escaped.
    let found = app
        .viewer()
        .get("/api/v1/prompts/team%2Fgreeting:v2/versions/candidate")
        .await
        .ok();
    assert_eq!(found["description"], "first");
    assert_eq!(found["author"], "editor_all");
    assert_eq!(found["labels"], json!(["candidate"]));
    assert_eq!(found["content"], content("Hi {name}"));
    assert_eq!(
        (&found["status"], &found["uses"]),
        (&json!("draft"), &json!([]))
    );
}

/// The published check value of the identity.
#[tokio::test]
async fn the_same_content_is_the_same_version_however_it_is_spelled() {
    let app = TestApp::new().await;
    let versions = format!("{PROMPTS}/versions");
    let hash = "dc7f6dd968799b603741618b04006b044f30af4baa0849b9ce77da25ea984f5c";
    let spellings = [
        r#"{"content": {"messages":[{"content":"Summarize: {text}","role":"user"}],"model_id":"gpt-4o-mini","model_version":"2024-07-18","params":{"max_tokens":200,"temperature":0.7},"template_format":"fstring"}}"#,
        r#"{"content": {"template_format":"fstring", "tools": null, "params":{"temperature":7e-1,"max_tokens":200,"top_p":null},"model_version":"2024-07-18","model_id":"gpt-4o-mini","messages":[{"role":"user","content":"Summarize: {text}"}]}}"#,
    ];
    for (body, status) in spellings.into_iter().zip([201, 200]) {
        let answer = app
            .editor()
            .send(http::Method::POST, &versions, body, &[])
            .await;
        let registered = answer.with_status(status);
        assert_eq!(registered["version"], hash);
        assert_eq!(
            (&registered["ordinal"], &registered["created"]),
            (&json!(1), &json!(status == 201))
        );
    }
    let list = app.viewer().get(&versions).await.ok();
    assert_eq!(items(&list).len(), 1);
}

#[tokio::test]
async fn a_push_is_stored_whole_or_not_at_all() {
    let app = TestApp::new().await;
    let before = app.revision().await;
    let wrong = json!({"template_format": "fstring", "messages": [], "model_id": "m", "model_version": "1"});
    let push = json!({
        "models": [
            {"model_id": "m", "model_version": "1", "provider": "simulated"},
            {"model_id": "n", "model_version": "1", "provider": "simulated", "price": {"input": -1, "output": 0}},
        ],
        "prompts": [
            {"prompt": "good", "content": content("x")},
            {"prompt": "bad", "content": wrong},
            {"prompt": "worse", "content": {"temprature": 1}},
        ],
    });
    let refused = app
        .editor()
        .post("/api/v1/push", &push)
        .await
        .problem(422, "invalid");
    let errors = refused["errors"].as_array().unwrap();
    let named: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error["kind"].as_str().unwrap(),
                error["index"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(named, [("model", 1), ("prompt", 1), ("prompt", 2)]);
    assert!(
        errors.iter().all(|error| error["detail"].is_string()),
        "{refused}"
    );
    assert_eq!(app.revision().await, before);
    let list = app.viewer().get("/api/v1/prompts").await.ok();
    assert_eq!(items(&list), [] as [Value; 0]);
    assert_eq!(
        items(&app.viewer().get("/api/v1/models").await.ok()),
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn versions_are_found_by_all_their_names() {
    let app = TestApp::furnished().await;
    let second = version(&app, "2").await;
    let hash = second["version"].as_str().unwrap();
    app.editor()
        .put(&format!("{PROMPTS}/labels/best"), &json!({"version": "2"}))
        .await
        .ok();
    for reference in [hash, &hash[..12], &hash[..40], "best", "2"] {
        assert_eq!(version(&app, reference).await["ordinal"], 2, "{reference}");
    }
    assert_eq!(version(&app, "latest").await["ordinal"], 3);
    // Pushing an old version again does not make it the latest.
    app.editor()
        .post(
            &format!("{PROMPTS}/versions"),
            &json!({"content": content(GREETINGS[0])}),
        )
        .await
        .ok();
    assert_eq!(version(&app, "latest").await["ordinal"], 3);
    for (reference, part) in [
        ("4", "has no version 4; its newest is 3"),
        ("0", "has no version 0"),
        ("000000000000", "has no version `000000000000`"),
        ("abc", "has no version `abc`"),
        ("Best", "has no version `Best`"),
    ] {
        let answer = app
            .viewer()
            .get(&format!("{PROMPTS}/versions/{reference}"))
            .await;
        answer.problem_saying(404, "not_found", part);
    }
    let unknown = app
        .viewer()
        .get("/api/v1/prompts/nothing/versions/1")
        .await
        .problem(404, "not_found");
    assert!(
        unknown["hint"]
            .as_str()
            .unwrap()
            .contains("flywheel prompt list")
    );
}

#[tokio::test]
async fn differences_are_told_by_meaning() {
    let app = TestApp::furnished().await;
    let diff = app
        .viewer()
        .get(&format!("{PROMPTS}/diff?from=1&to=2"))
        .await
        .ok();
    assert_eq!(
        (&diff["from"]["ordinal"], &diff["to"]["ordinal"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(diff["changes"][0]["field"], "messages[0].content");
    assert_eq!(diff["changes"].as_array().unwrap().len(), 1);
    let to_latest = app
        .viewer()
        .get(&format!("{PROMPTS}/diff?from=1"))
        .await
        .ok();
    assert_eq!(to_latest["to"]["ordinal"], 3);
    let same = app
        .viewer()
        .get(&format!("{PROMPTS}/diff?from=2&to=2"))
        .await
        .ok();
    assert_eq!(same["changes"], json!([]));
    app.viewer()
        .get(&format!("{PROMPTS}/diff"))
        .await
        .problem_saying(422, "invalid", "from");
    app.viewer()
        .get(&format!("{PROMPTS}/diff?from=1&to=9"))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn status_and_uses_follow_the_deployments() {
    let app = TestApp::furnished().await;
    let deploy = |version: u64, environment: &str| json!({"prompt": "greeting", "version": version.to_string(), "environment": environment, "reason": "r"});
    let path = "/api/v1/apps/support/deploy";
    for (number, environment, expected) in [
        (1, "staging", ["staging", "draft", "draft"]),
        (1, "production", ["production", "draft", "draft"]),
        (2, "staging", ["production", "staging", "draft"]),
        (2, "production", ["draft", "production", "draft"]),
    ] {
        app.editor()
            .post(path, &deploy(number, environment))
            .await
            .ok();
        let list = app.viewer().get(&format!("{PROMPTS}/versions")).await.ok();
        let mut statuses = each(&list, "status");
        statuses.reverse();
        assert_eq!(statuses, expected, "after {number} to {environment}");
        for (index, status) in statuses.iter().enumerate() {
            assert_eq!(
                version(&app, &(index + 1).to_string()).await["status"],
                status.as_str()
            );
        }
        assert!(
            items(&list)
                .iter()
                .all(|item| item.get("content").is_none())
        );
    }
    let uses = app
        .viewer()
        .get(&format!("{PROMPTS}/uses?version=1"))
        .await
        .ok();
    assert!(
        items(&uses).iter().all(|item| item["current"] == false),
        "{uses}"
    );
    let uses = app.viewer().get(&format!("{PROMPTS}/uses")).await.ok();
    let current = items(&uses)
        .into_iter()
        .filter(|item| item["current"] == true);
    assert_eq!(current.count(), 2);
    let unused = app
        .viewer()
        .get(&format!("{PROMPTS}/uses?version=3"))
        .await
        .ok();
    assert_eq!(unused["items"], json!([]));
}

#[tokio::test]
async fn a_label_is_on_one_version_at_a_time() {
    let app = TestApp::furnished().await;
    let label = format!("{PROMPTS}/labels/best");
    for reference in ["1", "3"] {
        app.editor()
            .put(&label, &json!({"version": reference}))
            .await
            .ok();
    }
    assert_eq!(version(&app, "best").await["ordinal"], 3);
    assert_eq!(version(&app, "1").await["labels"], json!([]));
    app.editor().delete(&label).await.with_status(204);
    app.viewer()
        .get(&format!("{PROMPTS}/versions/best"))
        .await
        .problem(404, "not_found");
    app.editor()
        .delete(&label)
        .await
        .problem_saying(404, "not_found", "label `best`");
    app.editor()
        .put(&label, &json!({"version": "9"}))
        .await
        .problem(404, "not_found");
    // What means something else already cannot be a label.
    for taken in ["latest", "17", "0123456789ab"] {
        let path = format!("{PROMPTS}/labels/{taken}");
        let answer = app.editor().put(&path, &json!({"version": "1"})).await;
        answer.problem_saying(422, "invalid", &format!("`{taken}`"));
        let prompt = json!({"prompt": "p", "content": content("x"), "labels": [taken]});
        let answer = app
            .editor()
            .post("/api/v1/push", &json!({"prompts": [prompt]}))
            .await;
        answer.problem_saying(422, "invalid", &format!("`{taken}`"));
    }
}

#[tokio::test]
async fn scores_are_added_to_versions() {
    let app = TestApp::furnished().await;
    let path = format!("{PROMPTS}/versions/1/scores");
    let score = json!({"metric": "exact", "value": 0.75, "n": 200, "dataset": "gold@3"});
    app.editor().post(&path, &score).await.with_status(201);
    app.clock.advance_seconds(1);
    app.editor()
        .post(&path, &json!({"metric": "exact", "value": 0.8, "n": 200}))
        .await
        .ok();
    let scores = version(&app, "1").await["scores"].clone();
    assert_eq!(scores.as_array().unwrap().len(), 2);
    let first = scores
        .as_array()
        .unwrap()
        .iter()
        .find(|score| score["value"] == 0.75)
        .unwrap();
    assert_eq!(
        (&first["dataset"], &first["recorded_at"]),
        (&json!("gold@3"), &json!("2026-01-01T00:00:00Z"))
    );
    assert_eq!(version(&app, "2").await["scores"], json!([]));
    app.editor()
        .post(&path, &json!({"metric": "exact", "n": 1}))
        .await
        .problem_saying(422, "invalid", "`value`");
}

#[tokio::test]
async fn prompts_are_listed_in_pages_and_searched() {
    let app = TestApp::new().await;
    let names = ["alpha", "beta", "gamma", "gamma-2"];
    let prompt = |name: &&str| json!({"prompt": name, "content": content("x")});
    let push = json!({"prompts": names.iter().map(prompt).collect::<Vec<_>>()});
    app.editor().post("/api/v1/push", &push).await.ok();
    let mut seen = Vec::new();
    let mut path = "/api/v1/prompts?limit=3".to_owned();
    loop {
        let page = app.viewer().get(&path).await.ok();
        seen.extend(each(&page, "name"));
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/prompts?limit=3&cursor={cursor}");
    }
    seen.sort();
    assert_eq!(seen, names);
    let found = app.viewer().get("/api/v1/prompts?text=gam").await.ok();
    assert_eq!(items(&found).len(), 2);
    assert_eq!(items(&found)[0]["versions"], 1);
    assert_eq!(items(&found)[0].get("matched"), None, "it is in the name");
    for text in ["an older text", "y"] {
        let push = json!({"prompts": [{"prompt": "beta", "content": content(text)}]});
        app.editor().post("/api/v1/push", &push).await.ok();
    }
    let found = app.viewer().get("/api/v1/prompts?text=OLDER").await.ok();
    let found = &items(&found)[0];
    let expected = json!({"version": found["matched"]["version"], "ordinal": 2, "in": "content"});
    assert_eq!(
        (&found["name"], &found["matched"]),
        (&json!("beta"), &expected)
    );
}

#[tokio::test]
async fn a_limited_key_hears_of_no_other_app() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let prompt = "/api/v1/prompts/greeting";
    for (limit, uses, status) in [("support", 1, "production"), ("other", 0, "draft")] {
        let viewer = app.limited(Role::Viewer, limit);
        let listed = viewer.get(&format!("{prompt}/uses")).await.ok();
        assert_eq!(items(&listed).len(), uses);
        let shown = viewer.get(&format!("{prompt}/versions/1")).await.ok();
        let listed = viewer.get(&format!("{prompt}/versions")).await.ok();
        for version in [&shown, items(&listed).last().unwrap()] {
            assert_eq!(version["uses"].as_array().unwrap().len(), uses);
            assert_eq!(version["status"], status);
        }
    }
}

/// Registering is not deploying: what users are served does not depend on it.
#[tokio::test]
async fn a_model_that_answers_users_cannot_be_taken_away_by_a_push() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let model = |provider: &str, name: &str| json!({"models": [{"model_id": "m", "model_version": "1", "provider": provider, "provider_model": name}]});
    let refused = app
        .editor()
        .post("/api/v1/push", &model("no-such-provider", "x"))
        .await;
    refused.problem_saying(
        409,
        "model_in_use",
        "`m:1` answers for `support` in production",
    );
    app.editor()
        .post("/api/v1/push", &model("simulated", "renamed"))
        .await
        .ok();
    let log = app.admin().get("/api/v1/audit?limit=1").await.ok();
    let change = &log["items"][0]["detail"]["models"][0];
    assert_eq!(change["after"]["provider_model"], "renamed", "{log}");
    assert!(change["before"]["provider"].is_string(), "{log}");
}

/// A file that was changed back is an older version again, and `latest` is not what it says.
#[tokio::test]
async fn a_push_of_older_content_tells_of_the_newest() {
    let app = TestApp::furnished().await;
    let push = |text: &str| {
        let content = json!({
            "template_format": "fstring", "messages": [{"role": "user", "content": text}],
            "model_id": "m", "model_version": "1",
        });
        json!({"prompts": [{"prompt": "turned", "content": content}]})
    };
    for (text, ordinal, newest) in [("one", 1, 1), ("two", 2, 2), ("one", 1, 2)] {
        let pushed = app.editor().post("/api/v1/push", &push(text)).await.ok();
        let prompt = &pushed["prompts"][0];
        assert_eq!(
            (&prompt["ordinal"], &prompt["newest"]),
            (&json!(ordinal), &json!(newest))
        );
    }
}
