//! Requests that are wrong in their form: each is refused in words, and nothing is stored.

use std::num::NonZeroU32;

use http::Method;
use serde_json::json;

use crate::app::{Options, TestApp};
use crate::samples::content;

/// Routes that take a body of one JSON value, or of several items.
const DOORS: [(&str, &str); 8] = [
    ("POST", "/api/v1/push"),
    ("POST", "/api/v1/prompts/greeting/versions"),
    ("POST", "/api/v1/apps/support/deploy"),
    ("PUT", "/api/v1/apps/support"),
    ("POST", "/api/v1/experiments"),
    ("POST", "/api/v1/keys"),
    ("POST", "/api/v1/calls"),
    ("POST", "/api/v1/feedback"),
];

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused_everywhere() {
    let app = TestApp::furnished().await;
    let before = app.revision().await;
    let deep = format!("{{\"x\": {}", "[".repeat(10_000));
    let large = format!("{{\"x\": \"{}\"}}", "x".repeat(70 << 10));
    for (method, path) in DOORS {
        for (body, expected) in [
            (&b"{"[..], 400),
            (b"hello", 400),
            (b"{\"a\xff\": 1}", 400),
            (large.as_bytes(), 413),
            // What is wrong first is told first: the form of a member, or where the JSON breaks.
            (b"{\"a\": ", 0),
            (deep.as_bytes(), 0),
            (b"3", 422),
            (b"\"x\"", 422),
            (b"[7]", 422),
        ] {
            let method: Method = method.parse().unwrap();
            let answer = app.admin().send(method, path, body.to_vec(), &[]).await;
            let status = answer.status.as_u16();
            assert!(
                expected == status || (expected == 0 && [400, 422].contains(&status)),
                "{answer:?}"
            );
            let code = match status {
                413 => "body_too_large",
                400 => "malformed_body",
                _ => "invalid",
            };
            let problem = answer.problem(status, code);
            let detail = problem["detail"].as_str().unwrap();
            assert!(
                body != b"{\"a\xff\": 1}" || detail.contains("not valid UTF-8: byte 3"),
                "{detail}"
            );
            assert_eq!(problem["hint"].is_string(), status == 413, "{problem}");
        }
    }
    for path in ["/api/v1/calls", "/api/v1/feedback"] {
        let answer = app.admin().send(Method::POST, path, "", &[]).await;
        answer.problem_saying(400, "malformed_body", "the body is empty");
    }
    assert_eq!(app.revision().await, before);
    let calls = app.admin().get("/api/v1/calls").await.ok();
    assert_eq!(calls["items"], json!([]));
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_in_the_form_of_their_door() {
    let app = TestApp::furnished().await;
    for path in [
        "/nothing",
        "/api",
        "/api/v1/nothing",
        "/api/v1/prompts/a/b/c",
        "/api/v1/apps/",
    ] {
        app.admin()
            .get(path)
            .await
            .problem_saying(404, "not_found", &format!("`{path}`"));
    }
    for (method, path) in [
        (Method::DELETE, "/api/v1/prompts"),
        (Method::GET, "/api/v1/push"),
        (Method::PATCH, "/api/v1/apps/support"),
    ] {
        let answer = app.admin().send(method.clone(), path, "", &[]).await;
        answer.problem_saying(405, "method_not_allowed", method.as_str());
    }
    app.admin()
        .get("/v1/nothing")
        .await
        .openai_error(404, "invalid_request");
    app.admin()
        .get("/v1/chat/completions")
        .await
        .openai_error(405, "invalid_request");
}

#[tokio::test]
async fn names_in_paths_are_checked() {
    let app = TestApp::furnished().await;
    for (path, part) in [
        ("/api/v1/apps/a%20b", "app `a b`"),
        ("/api/v1/apps/-a", "app `-a`"),
        ("/api/v1/prompts/%20/versions", "prompt ` `"),
        ("/api/v1/experiments/a%2Fb", "experiment `a/b`"),
        ("/api/v1/apps/%FF", "UTF-8"),
        ("/api/v1/manifests/abc", "at least 12 digits"),
    ] {
        app.admin()
            .get(path)
            .await
            .problem_saying(422, "invalid", part);
    }
    let answer = app
        .admin()
        .put(
            "/api/v1/apps/naïve".replace('ï', "%C3%AF").as_str(),
            &json!({}),
        )
        .await;
    answer.problem_saying(422, "invalid", "app `naïve`");
}

#[tokio::test]
async fn prompts_that_cannot_be_served_are_refused_by_member() {
    let app = TestApp::furnished().await;
    let before = app.revision().await;
    let path = "/api/v1/prompts/greeting/versions";
    let with = |member: &str, value: serde_json::Value| {
        let mut content = content("Hi {name}");
        content[member] = value;
        json!({"content": content})
    };
    for (body, part) in [
        (json!({}), "`content`"),
        (with("messages", json!([])), "`messages`"),
        (
            with("messages", json!([{"role": "king", "content": "x"}])),
            "king",
        ),
        (
            with(
                "messages",
                json!([{"role": "user", "content": "{unclosed"}]),
            ),
            "",
        ),
        (
            with("params", json!({"temperature": 3})),
            "`params.temperature`",
        ),
        (with("params", json!({"stream": true})), "`params.stream`"),
        (
            with("postprocess", json!([{"step": "extract", "pattern": "("}])),
            "`postprocess[0]`",
        ),
        (
            with("variables_schema", json!({"type": "strin"})),
            "`variables_schema`",
        ),
        (with("temprature", json!(1)), "`temprature`"),
    ] {
        app.editor()
            .post(path, &body)
            .await
            .problem_saying(422, "invalid", part);
    }
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn apps_keep_the_environments_they_serve() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let path = "/api/v1/apps/support";
    for (body, status, code, part) in [
        (json!({"environments": []}), 422, "invalid", "at least one"),
        (json!({"environments": ["a", "a"]}), 422, "invalid", "twice"),
        (
            json!({"environments": ["staging"]}),
            409,
            "environment_in_use",
            "`production`",
        ),
        (
            json!({"fallback_manifest": "abc"}),
            422,
            "invalid",
            "12 digits",
        ),
        (
            json!({"fallback_manifest": "0123456789ab"}),
            404,
            "not_found",
            "no manifest",
        ),
        (
            json!({"required_members": ["luck"]}),
            422,
            "invalid",
            "luck",
        ),
        (json!({"descripton": "x"}), 422, "invalid", "`descripton`"),
    ] {
        app.editor()
            .put(path, &body)
            .await
            .problem_saying(status, code, part);
    }
    let manifest = app.current_manifest().await.unwrap();
    let set = app
        .editor()
        .put(path, &json!({"fallback_manifest": manifest[..12]}))
        .await
        .ok();
    assert_eq!(set["fallback_manifest"], manifest.as_str());
    let kept = app
        .editor()
        .put(path, &json!({"description": "d"}))
        .await
        .ok();
    assert_eq!(
        (&kept["description"], &kept["fallback_manifest"]),
        (&json!("d"), &json!(manifest))
    );
    let removed = app
        .editor()
        .put(path, &json!({"fallback_manifest": null}))
        .await
        .ok();
    assert_eq!(removed.get("fallback_manifest"), None);
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_to_wait() {
    let options = Options {
        requests_per_second: NonZeroU32::new(1),
        ..Options::default()
    };
    let app = TestApp::with(options).await;
    app.viewer().get("/api/v1/apps").await.ok();
    let refused = app.viewer().get("/api/v1/apps").await;
    refused.problem_saying(429, "rate_limited", "the next is due in");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let refused = app.caller().get("/v1/models").await;
    assert_eq!(refused.status, 200, "another key has its own limit");
    let refused = app.caller().get("/v1/models").await;
    refused.openai_error(429, "rate_limit_exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
}

/// A filter that is misspelt must not look as if it had filtered, nor `dry_run` in the wrong place as if nothing was done.
#[tokio::test]
async fn a_parameter_that_there_is_not_is_refused() {
    let app = TestApp::furnished().await;
    for (path, unknown, known) in [
        ("/api/v1/calls?ap=support", "`ap`", "`app`, `environment`"),
        (
            "/api/v1/calls?app=support&Limit=1",
            "`Limit`",
            "`cursor`, `limit`",
        ),
        ("/api/v1/feedback/summary?limit=1", "`limit`", "`by`, `app`"),
        (
            "/api/v1/prompts/greeting/versions?text=x",
            "`text`",
            "`cursor`, `limit`",
        ),
        ("/api/v1/apps?limit=1", "`limit`", "no parameters"),
        ("/api/v1/prompts?text=&%C3%A9=1", "`é`", "`text`"),
    ] {
        let refused = app.admin().get(path).await;
        let refused = refused.problem_saying(400, "unknown_parameter", unknown);
        let hint = refused["hint"].as_str().unwrap();
        assert!(hint.contains(known), "{hint}");
    }
    let before = app.revision().await;
    let deploy = json!({"prompt": "greeting", "reason": "test"});
    app.admin()
        .post("/api/v1/apps/support/deploy?dry_run=true", &deploy)
        .await
        .problem_saying(400, "unknown_parameter", "`dry_run`");
    assert_eq!(app.revision().await, before);
    // Whoever may not ask is told that first; OpenAI's clients add what they like.
    app.nobody()
        .get("/api/v1/calls?ap=x")
        .await
        .problem(401, "unauthenticated");
    app.admin().get("/v1/models?api-version=1").await.ok();
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up() {
    let app = TestApp::furnished().await;
    tokio::time::pause();
    let refused = app.caller().stall("/api/v1/feedback").await;
    refused.problem_saying(408, "body_stalled", "30 s");
    let refused = app.caller().stall("/v1/chat/completions").await;
    assert_eq!(refused.status, 408);
    let body: serde_json::Value = serde_json::from_str(&refused.text()).unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("no more of the body"), "{message}");
}
