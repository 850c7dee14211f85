//! Keys: making and revoking them, and what holds while there is none.

use http::Method;
use serde_json::{Value, json};

use crate::app::{Options, TestApp};
use crate::samples::{each, items};

const KEYS: &str = "/api/v1/keys";

async fn without_keys() -> TestApp {
    TestApp::with(Options {
        with_keys: false,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let app = TestApp::new().await;
    let body = json!({"name": "ci", "role": "editor", "apps": ["support"]});
    let made = app.admin().post(KEYS, &body).await.with_status(201);
    let secret = made["key"].as_str().unwrap();
    assert!(secret.starts_with("fw_") && secret.len() == 67, "{secret}");
    for path in [KEYS, "/api/v1/audit"] {
        let text = app.admin().get(path).await.ok().to_string();
        assert!(
            !text.contains(&secret[3..]) && !text.contains("secret_hash"),
            "{text}"
        );
    }
    let listed = app.admin().get(KEYS).await.ok();
    let listed = items(&listed)
        .into_iter()
        .find(|key| key["name"] == "ci")
        .unwrap();
    assert_eq!(
        (&listed["id"], &listed["apps"]),
        (&made["id"], &json!(["support"]))
    );
    app.holder_of(secret)
        .put("/api/v1/apps/support", &json!({}))
        .await
        .ok();
    app.holder_of(secret)
        .put("/api/v1/apps/other", &json!({}))
        .await
        .problem(403, "forbidden");
    app.admin()
        .post(KEYS, &body)
        .await
        .problem_saying(409, "name_taken", "`ci`");
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let app = TestApp::new().await;
    let made = app
        .admin()
        .post(KEYS, &json!({"name": "ci", "role": "viewer"}))
        .await
        .ok();
    let holder = app.holder_of(made["key"].as_str().unwrap());
    holder.get("/api/v1/apps").await.ok();
    let path = format!("{KEYS}/{}", made["id"].as_str().unwrap());
    app.admin().delete(&path).await.with_status(204);
    let refused = holder.get("/api/v1/apps").await;
    refused.problem_saying(401, "unauthenticated", "revoked");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    app.admin().delete(&path).await.problem(404, "not_found");
    // Its name is free again, and stands for the key that has it now.
    app.admin()
        .post(KEYS, &json!({"name": "ci", "role": "viewer"}))
        .await
        .ok();
    let path = format!("{KEYS}/ci");
    app.admin().delete(&path).await.with_status(204);
    app.admin().delete(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn the_last_admin_cannot_be_revoked() {
    let app = without_keys().await;
    let first = app
        .nobody()
        .post(KEYS, &json!({"name": "a", "role": "admin"}))
        .await
        .ok();
    let admin = app.holder_of(first["key"].as_str().unwrap());
    let limited = json!({"name": "limited", "role": "admin", "apps": ["support"]});
    admin.post(KEYS, &limited).await.ok();
    let path = format!("{KEYS}/{}", first["id"].as_str().unwrap());
    let refused = admin.delete(&path).await.problem(409, "last_admin");
    assert!(refused["hint"].is_string());
    let second = admin
        .post(KEYS, &json!({"name": "b", "role": "admin"}))
        .await
        .ok();
    admin.delete(&path).await.with_status(204);
    let second = app.holder_of(second["key"].as_str().unwrap());
    let mut names = each(&second.get(KEYS).await.ok(), "name");
    names.sort();
    assert_eq!(names, ["a", "b", "limited"]);
}

#[tokio::test]
async fn the_first_key_must_be_an_admins() {
    let app = without_keys().await;
    for body in [
        json!({"name": "a", "role": "editor"}),
        json!({"name": "a", "role": "admin", "apps": ["support"]}),
    ] {
        let refused =
            app.nobody()
                .post(KEYS, &body)
                .await
                .problem_saying(422, "invalid", "first key");
        assert!(refused["hint"].as_str().unwrap().contains("--role admin"));
    }
    for (body, part) in [
        (json!({"name": " ", "role": "admin"}), "`name`"),
        (json!({"name": "a", "role": "king"}), "king"),
        (json!({"name": "a"}), "`role`"),
        (json!({"name": "a", "role": "admin", "app": "x"}), "`app`"),
        (
            json!({"name": "a", "role": "admin", "apps": ["a b"]}),
            "app `a b`",
        ),
    ] {
        app.nobody()
            .post(KEYS, &body)
            .await
            .problem_saying(422, "invalid", part);
    }
    assert_eq!(items(&app.nobody().get(KEYS).await.ok()), [] as [Value; 0]);
}

/// While no key was made, this machine may do everything, and others nothing.
#[tokio::test]
async fn without_a_key_only_this_machine_is_served() {
    let app = without_keys().await;
    for (headers, is_local) in [
        (vec![], true),
        (vec![("host", "127.0.0.1:7700")], true),
        (
            vec![
                ("host", "localhost:7700"),
                ("origin", "http://localhost:7700"),
            ],
            true,
        ),
        (vec![("host", "[::1]:7700")], true),
        (vec![("host", "evil.example")], false),
        (vec![("host", "127.0.0.1.evil.example")], false),
        (
            vec![
                ("host", "127.0.0.1:7700"),
                ("origin", "https://evil.example"),
            ],
            false,
        ),
        (vec![("host", "127.0.0.1:7700"), ("origin", "null")], false),
    ] {
        for (method, path, body) in [
            (Method::GET, "/api/v1/apps", ""),
            (Method::PUT, "/api/v1/apps/x", "{}"),
        ] {
            let answer = app.nobody().send(method, path, body, &headers).await;
            if is_local {
                answer.ok();
            } else {
                answer.problem(401, "unauthenticated");
            }
        }
    }
    let log = app.nobody().get("/api/v1/audit").await.ok();
    assert!(each(&log, "actor").iter().all(|actor| actor == "local"));
}

#[tokio::test]
async fn without_a_key_nobody_is_served_beyond_the_loopback_address() {
    let options = Options {
        with_keys: false,
        loopback_only: false,
        ..Options::default()
    };
    let app = TestApp::with(options).await;
    app.nobody()
        .get("/api/v1/apps")
        .await
        .problem(401, "unauthenticated");
    assert_eq!(app.nobody().get("/healthz").await.text(), "ok\n");
}

/// From the first key on every request needs one, also after all but one were revoked.
#[tokio::test]
async fn with_a_key_made_every_request_needs_one() {
    let app = without_keys().await;
    app.nobody().get("/api/v1/apps").await.ok();
    app.nobody()
        .post(KEYS, &json!({"name": "a", "role": "admin"}))
        .await
        .ok();
    app.nobody().get("/api/v1/apps").await.problem_saying(
        401,
        "unauthenticated",
        "a key is needed",
    );
    for header in ["Basic abc", "Bearer", "bearer  ", "fw_x", "Bearer fw_x"] {
        let answer = app
            .nobody()
            .send(
                Method::GET,
                "/api/v1/apps",
                "",
                &[("authorization", header)],
            )
            .await;
        answer.problem(401, "unauthenticated");
    }
}
