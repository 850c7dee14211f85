//! The list of feedback: its filters, its pages, and whose it is.

use flywheel_core::key::Role;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::samples::{each, items};

const FEEDBACK: &str = "/api/v1/feedback";

/// A call by each version of the prompt, one of another app, and feedback on them, a second apart.
async fn said(app: &TestApp) {
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    let calls = json!([
        {"id": "one", "app": "support", "manifest": manifests[0]},
        {"id": "two", "app": "support", "manifest": manifests[1]},
        {"id": "three", "app": "other"},
    ]);
    app.admin().post("/api/v1/calls", &calls).await.ok();
    for piece in [
        json!({"id": "f1", "call_id": "support:one", "kind": "thumbs", "value": true}),
        json!({"id": "f2", "call_id": "support:one", "kind": "comment", "text": "Too LONG", "author": "ada"}),
        json!({"id": "f3", "call_id": "support:two", "kind": "correction", "text": "Not too long."}),
        json!({"id": "f4", "call_id": "other:three", "kind": "comment", "text": "hm"}),
        json!({"id": "f_5", "call_id": "support:later", "kind": "rating", "value": 2}),
    ] {
        app.clock.advance_seconds(1);
        app.admin().post(FEEDBACK, &piece).await.ok();
    }
}

#[tokio::test]
async fn it_is_found_by_every_filter() {
    let app = TestApp::furnished().await;
    said(&app).await;
    let second = "/api/v1/prompts/greeting/versions/2";
    let second = app.viewer().get(second).await.ok();
    let second = second["version"].as_str().unwrap().to_owned();
    for (query, expected) in [
        ("", &["f_5", "f4", "f3", "f2", "f1"][..]),
        ("app=support", &["f3", "f2", "f1"]),
        ("kind=comment", &["f4", "f2"]),
        ("text=TOO%20long", &["f3", "f2"]),
        ("text=", &["f_5", "f4", "f3", "f2", "f1"]),
        ("since=2026-01-01T00:00:04Z", &["f_5", "f4"]),
        (&format!("prompt_version={second}"), &["f3"]),
        ("kind=thumbs&text=long", &[]),
    ] {
        let list = app.viewer().get(&format!("{FEEDBACK}?{query}")).await.ok();
        assert_eq!(each(&list, "id"), expected, "{query}");
        assert_eq!(list["next"], Value::Null);
    }
    for (query, part) in [
        ("kind=applause", "applause"),
        ("prompt_version=abc", "`prompt_version`"),
        ("since=yesterday", "since"),
        ("cursor=x", "cursor `x`"),
        ("limit=1001", "from 1 to 1000"),
    ] {
        let refused = app.viewer().get(&format!("{FEEDBACK}?{query}")).await;
        refused.problem_saying(422, "invalid", part);
    }
}

#[tokio::test]
async fn a_piece_tells_of_its_call_as_far_as_that_is_known() {
    let app = TestApp::furnished().await;
    said(&app).await;
    let list = app.viewer().get(FEEDBACK).await.ok();
    let pieces = items(&list);
    let piece = |id: &str| pieces.iter().find(|piece| piece["id"] == id).unwrap();
    let comment = piece("f2");
    assert_eq!(comment["text"], "Too LONG");
    assert_eq!(comment["author"], "ada");
    assert_eq!(comment["created_at"], "2026-01-01T00:00:02Z");
    for (member, value) in [
        ("call_id", json!("support:one")),
        ("app", json!("support")),
        ("prompt", json!("greeting")),
        ("prompt_ordinal", json!(1)),
    ] {
        assert_eq!(comment[member], value, "{member}");
    }
    for member in ["app", "prompt", "prompt_version", "prompt_ordinal"] {
        assert_eq!(piece("f_5")[member], Value::Null, "{member}");
    }
}

#[tokio::test]
async fn its_pages_follow_each_other_and_keep_to_what_a_key_covers() {
    let app = TestApp::furnished().await;
    said(&app).await;
    let own = app.limited(Role::Viewer, "support");
    for (user, filter, expected) in [
        (&app.viewer(), "", &["f_5", "f4", "f3", "f2", "f1"][..]),
        (&own, "", &["f3", "f2", "f1"]),
        (&own, "&text=long", &["f3", "f2"]),
    ] {
        let mut ids = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("{FEEDBACK}?limit=1{filter}{cursor}");
            let page = user.get(&path).await.ok();
            ids.extend(each(&page, "id"));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", next.replace('%', "%25")),
                None => break,
            }
        }
        assert_eq!(ids, expected, "{filter}");
    }
    let refused = own.get(&format!("{FEEDBACK}?app=other")).await;
    refused.with_status(403);
}
