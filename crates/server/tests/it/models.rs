//! Models and retriever indexes.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::items;

#[tokio::test]
async fn models_are_put_changed_and_aliased() {
    let app = TestApp::new().await;
    let path = "/api/v1/models/gpt/versions/2024-07-18";
    let price = json!({"input": 0.15, "output": 0.6, "cached_input": 0.075});
    let body = json!({"provider": "simulated", "provider_model": "gpt-at-p", "price": price});
    let model = app.editor().put(path, &body).await.ok();
    assert_eq!(
        (&model["provider_model"], &model["price"]),
        (&json!("gpt-at-p"), &price)
    );
    let changed = app
        .editor()
        .put(path, &json!({"provider": "moon"}))
        .await
        .ok();
    assert_eq!(
        (&changed["provider_model"], changed.get("price")),
        (&json!("gpt"), None)
    );
    let alias = "/api/v1/models/gpt/aliases/best";
    app.editor()
        .put(alias, &json!({"model_version": "2024-07-18"}))
        .await
        .ok();
    let missing = app
        .editor()
        .put(alias, &json!({"model_version": "9"}))
        .await;
    missing.problem_saying(404, "not_found", "model `gpt:9` is not registered");
    let listed = items(&app.viewer().get("/api/v1/models").await.ok()).remove(0);
    assert_eq!(listed["aliases"], json!(["best"]));
    assert!(
        listed["problem"]
            .as_str()
            .unwrap()
            .contains("`moon` is not in the configuration")
    );
    for (body, part) in [
        (json!({}), "`provider`"),
        (
            json!({"provider": "simulated", "price": {"input": -1, "output": 0}}),
            "price `-1`",
        ),
        (json!({"provider": "a b"}), "provider `a b`"),
        (json!({"provider": "simulated", "prise": 1}), "`prise`"),
    ] {
        app.editor()
            .put(path, &body)
            .await
            .problem_saying(422, "invalid", part);
    }
}

#[tokio::test]
async fn indexes_are_put_and_listed() {
    let app = TestApp::new().await;
    let put = |version: &str, body: Value| (format!("/api/v1/indexes/{version}"), body);
    for (path, body) in [
        put("kb-1", json!({"index": "kb", "state": "available"})),
        put("kb-2", json!({"index": "kb", "state": "available"})),
        put(
            "kb-1",
            json!({"index": "kb", "state": "migrated_forward", "to": "kb-2"}),
        ),
    ] {
        app.clock.advance_seconds(60);
        app.editor().put(&path, &body).await.ok();
    }
    let mut listed = items(&app.viewer().get("/api/v1/indexes").await.ok());
    listed.sort_by_key(|item| item["version"].to_string());
    assert_eq!(
        listed[0],
        json!({"version": "kb-1", "index": "kb", "state": "migrated_forward", "to": "kb-2",
            "created_at": "2026-01-01T00:01:00Z"})
    );
    for (body, part) in [
        (json!({"index": "kb", "state": "gone"}), "gone"),
        (json!({"state": "available"}), "index"),
        (json!({"index": "kb", "state": "migrated_forward"}), "to"),
        (
            json!({"index": "kb", "state": "migrated_forward", "to": "kb-9"}),
            "`kb-9`",
        ),
    ] {
        app.editor()
            .put("/api/v1/indexes/kb-3", &body)
            .await
            .problem_saying(422, "invalid", part);
    }
}
