//! Every page against every role, and what a visitor without a session is shown. What pages look like and do is tested
//! in a browser, in `tests/console`.

use std::collections::BTreeSet;

use axum::body::Body;
use flywheel_core::key::Role;
use flywheel_server::console;
use http::{Method, Request, StatusCode};
use tower::ServiceExt as _;

use crate::app::{ROLES, TestApp, secret_of};

/// Sends a request as a browser on one of our own pages does.
async fn visit(
    app: &TestApp,
    method: &Method,
    path: &str,
    cookie: Option<&str>,
    form: &str,
) -> http::Response<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("accept", "text/html")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin");
    if let Some(cookie) = cookie {
        request = request.header("cookie", cookie);
    }
    let request = request.body(Body::from(form.to_owned())).unwrap();
    app.router.clone().oneshot(request).await.unwrap()
}

async fn text(response: http::Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// Signs in and returns the cookie.
async fn sign_in(app: &TestApp, secret: &str) -> String {
    let form = format!("key={secret}&next=%2Fcalls");
    let response = visit(app, &Method::POST, "/signin", None, &form).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()["location"], "/calls");
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn path_of(route: &console::ConsoleRoute) -> String {
    route
        .path
        .replace("{app}", "support")
        .replace("{prompt}", "greeting")
        .replace("{call}", "nothing")
        .replace("{session}", "nothing")
        .replace("{unit}", "nothing")
        .replace("{experiment}", "nothing")
        .replace("{asset}", "nothing")
}

/// What a role allows is written down once more here: a route with the wrong permission must not go unnoticed.
#[tokio::test]
async fn every_page_lets_in_those_who_may_and_nobody_else() {
    const ANYONE: &[&str] = &[
        "GET /signin",
        "POST /signin",
        "POST /signout",
        "GET /assets/{asset}",
    ];
    const CHANGES: &[&str] = &[
        "GET /apps/{app}/deploy",
        "POST /apps/{app}/deploy",
        "GET /apps/{app}/rollback",
        "POST /apps/{app}/rollback",
        "POST /playground",
    ];
    const CALLS: &[&str] = &["POST /calls/{call}/feedback"];
    const ADMINISTERS: &[&str] = &["POST /settings/keys", "POST /settings/keys/revoke"];
    let app = TestApp::furnished().await;
    let mut cookies = Vec::new();
    for role in ROLES {
        cookies.push((role, sign_in(&app, &secret_of(role, None)).await));
    }
    let mut seen = BTreeSet::new();
    for route in console::routes() {
        let name = format!("{} {}", route.method, route.path);
        let named = |names: &[&str]| names.contains(&name.as_str());
        let path = path_of(&route);
        seen.insert(name.clone());
        let nobody = visit(&app, &route.method, &path, None, "").await;
        assert!(
            nobody.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'"),
            "{name}"
        );
        if named(ANYONE) {
            assert_eq!(route.permission, None, "{name}");
            continue;
        }
        if route.method == Method::GET {
            assert_eq!(nobody.status(), StatusCode::SEE_OTHER, "{name}");
            let location = nobody.headers()["location"].to_str().unwrap();
            assert!(
                location.starts_with("/signin?next=%2F"),
                "{name}: {location}"
            );
        } else {
            assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "{name}");
        }
        for (role, cookie) in &cookies {
            let allowed = match role {
                Role::Admin => true,
                Role::Editor => !named(ADMINISTERS),
                Role::App => named(CALLS),
                Role::Viewer => !named(CHANGES) && !named(CALLS) && !named(ADMINISTERS),
            };
            let answer = visit(&app, &route.method, &path, Some(cookie), "").await;
            let is_refused = answer.status() == StatusCode::FORBIDDEN;
            assert_eq!(is_refused, !allowed, "{name} as {}", role.as_str());
        }
    }
    for name in [ANYONE, CHANGES, CALLS, ADMINISTERS].concat() {
        assert!(seen.contains(name), "{name} is no route any more");
    }
}

#[tokio::test]
async fn limited_keys_see_their_own_apps() {
    let app = TestApp::furnished().await;
    let own = sign_in(&app, &secret_of(Role::Viewer, Some("support"))).await;
    let other = sign_in(&app, &secret_of(Role::Viewer, Some("other"))).await;
    for (cookie, path, status) in [
        (&own, "/apps/support", StatusCode::OK),
        (&other, "/apps/support", StatusCode::FORBIDDEN),
        (&own, "/calls?app=support", StatusCode::OK),
        (&other, "/calls?app=support", StatusCode::FORBIDDEN),
        (&own, "/audit", StatusCode::FORBIDDEN),
    ] {
        let answer = visit(&app, &Method::GET, path, Some(cookie), "").await;
        assert_eq!(answer.status(), status, "{path}");
    }
    let overview = visit(&app, &Method::GET, "/", Some(&other), "").await;
    assert!(!text(overview).await.contains("/apps/support"));
}

#[tokio::test]
async fn other_sites_change_nothing() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Admin, None)).await;
    let before = app.revision().await;
    for headers in [
        [("sec-fetch-site", "cross-site"), ("x", "y")],
        [("origin", "https://evil.example"), ("host", "here")],
    ] {
        let mut request = Request::post("/settings/keys")
            .header("cookie", &cookie)
            .header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from("name=x&role=admin")).unwrap();
        let answer = app.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(app.revision().await, before);
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_key_and_its_own_will() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let seen = async |cookie: &str| {
        let answer = visit(&app, &Method::GET, "/calls", Some(cookie), "").await;
        answer.status() == StatusCode::OK
    };
    assert!(seen(&cookie).await);
    assert!(!seen("flywheel_session=0123").await);
    let out = visit(&app, &Method::POST, "/signout", Some(&cookie), "").await;
    assert_eq!(out.status(), StatusCode::SEE_OTHER);
    assert!(!seen(&cookie).await);

    let idle = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    app.clock.advance_seconds(11 * 3600);
    assert!(seen(&idle).await, "a visit prolongs it");
    app.clock.advance_seconds(11 * 3600);
    assert!(seen(&idle).await);
    app.clock.advance_seconds(13 * 3600);
    assert!(!seen(&idle).await);

    let revoked = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let keys = app.admin().get("/api/v1/keys").await.ok();
    let key = keys["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["role"] == "viewer" && key.get("apps").is_none());
    let id = key.unwrap()["id"].as_str().unwrap().to_owned();
    app.admin().delete(&format!("/api/v1/keys/{id}")).await;
    assert!(!seen(&revoked).await);
}

/// What was typed is offered again, and nothing of it acts.
#[tokio::test]
async fn a_form_without_a_session_is_kept() {
    let app = TestApp::furnished().await;
    let form = "reason=%3Cb%3Etyped%3C%2Fb%3E&environment=production";
    let path = "/apps/support/rollback";
    let asked = visit(&app, &Method::POST, path, None, form).await;
    assert_eq!(asked.status(), StatusCode::UNAUTHORIZED);
    let page = text(asked).await;
    assert!(page.contains("reason=%3Cb%3Etyped%3C%2Fb%3E"), "{page}");
    let secret = secret_of(Role::Editor, None);
    let again = format!(
        "key={secret}&next=%2Fapps%2Fsupport%2Frollback&resume=reason%3D%253Cb%253Etyped%253C%252Fb%253E%26environment%3Dproduction"
    );
    let resumed = visit(&app, &Method::POST, "/signin", None, &again).await;
    assert_eq!(resumed.status(), StatusCode::OK);
    let page = text(resumed).await;
    assert!(page.contains("action=\"/apps/support/rollback\""), "{page}");
    assert!(
        page.contains("name=\"reason\" value=\"&#60;b&#62;typed"),
        "{page}"
    );
    assert!(!page.contains("<b>typed"), "{page}");
}

/// The API takes times and no days, and is where a link of the page leads.
#[tokio::test]
async fn a_day_in_the_address_is_a_time_in_the_links() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let path = "/calls?since=2026-07-01&cursor=&status=ok";
    let page = text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    let link = "/api/v1/calls?since=2026-07-01T00%3A00%3A00Z&#38;status=ok";
    assert!(page.contains(link), "{page}");
}
