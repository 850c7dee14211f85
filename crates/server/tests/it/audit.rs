//! The audit log: one entry for each change, chained.

use serde_json::json;

use crate::app::TestApp;
use crate::samples::{each, items};

#[tokio::test]
async fn every_change_leaves_an_entry_and_the_chain_holds() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    app.clock.advance_seconds(1);
    let editor = app.editor();
    editor
        .put(
            "/api/v1/indexes/kb",
            &json!({"index": "kb", "state": "available"}),
        )
        .await
        .ok();
    editor
        .put(
            "/api/v1/prompts/greeting/labels/best",
            &json!({"version": "1"}),
        )
        .await
        .ok();
    let log = app.viewer().get("/api/v1/audit").await.ok();
    let actions = each(&log, "action");
    assert_eq!(
        actions,
        [
            "prompt.label",
            "index.put",
            "app.deploy",
            "app.put",
            "app.put",
            "registry.push"
        ]
    );
    let entries = items(&log);
    let newest = &entries[0];
    assert_eq!(
        (&newest["actor"], &newest["subject"]),
        (&json!("editor_all"), &json!("greeting"))
    );
    assert_eq!(newest["at"], "2026-01-01T00:00:01Z");
    for pair in entries.windows(2) {
        assert_eq!(pair[0]["previous_hash"], pair[1]["hash"]);
    }
    let verified = app.viewer().get("/api/v1/audit/verify").await.ok();
    assert_eq!(
        verified,
        json!({"verified": true, "entries": 6, "head": newest["hash"]})
    );
    let mut numbers = Vec::new();
    let mut path = "/api/v1/audit?limit=4".to_owned();
    loop {
        let page = app.viewer().get(&path).await.ok();
        numbers.extend(each(&page, "number"));
        let Some(cursor) = page["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/audit?limit=4&cursor={cursor}");
    }
    assert_eq!(numbers, ["6", "5", "4", "3", "2", "1"]);
    for (query, expected) in [
        ("actor=EDITOR", &["6", "5"][..]),
        ("action=app.put", &["3", "2"]),
        ("subject=greet&actor=editor_all", &["6"]),
        ("subject=nowhere", &[]),
        ("since=2026-01-01T00:00:01Z", &["6", "5"]),
        ("until=2026-01-01T00:00:01Z&action=deploy", &["4"]),
    ] {
        let path = format!("/api/v1/audit?{query}");
        let page = app.viewer().get(&path).await.ok();
        assert_eq!(each(&page, "number"), expected, "{query}");
    }
}
