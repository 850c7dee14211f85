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
pub(crate) async fn visit(
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

pub(crate) async fn text(response: http::Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// Signs in and returns the cookie.
pub(crate) async fn sign_in(app: &TestApp, secret: &str) -> String {
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
        "GET /experiments/new",
        "POST /experiments/new",
        "POST /experiments/{experiment}/start",
        "GET /experiments/{experiment}/change",
        "POST /experiments/{experiment}/change",
        "POST /experiments/{experiment}/stop",
        "POST /experiments/{experiment}/archive",
        "GET /experiments/{experiment}/promote",
        "POST /experiments/{experiment}/promote",
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

/// Whoever is signed in goes on from a page that says what is wrong; who is not learns of no page.
#[tokio::test]
async fn what_is_wrong_is_said_with_the_navigation() {
    let app = TestApp::furnished().await;
    let viewer = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let limited = sign_in(&app, &secret_of(Role::Viewer, Some("other"))).await;
    let get = Method::GET;
    for (cookie, method, path, status, place) in [
        (&viewer, &get, "/calls/nothing", 404, "/calls"),
        (&viewer, &get, "/users/nobody", 404, "/calls"),
        (&viewer, &get, "/nowhere", 404, ""),
        (&viewer, &get, "/calls?since=yesterday", 422, "/calls"),
        (&viewer, &get, "/audit?before=x", 422, "/audit"),
        (&viewer, &get, "/apps/support/deploy", 403, "/"),
        (&viewer, &Method::POST, "/playground", 403, "/playground"),
        (&viewer, &get, "/calls/x/feedback", 405, "/calls"),
        (&limited, &get, "/audit", 403, "/audit"),
    ] {
        let answer = visit(&app, method, path, Some(cookie), "").await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.headers().contains_key("content-security-policy"));
        let page = text(answer).await;
        assert!(page.contains("<nav aria-label=\"Main\">"), "{path}: {page}");
        assert!(page.contains("action=\"/signout\""), "{path}: {page}");
        let current = page.split("aria-current=\"page\"").next().unwrap();
        let named = current.rsplit("<a href=\"").next().unwrap();
        let is_marked = page.contains("aria-current=\"page\"");
        assert_eq!(is_marked, !place.is_empty(), "{path}");
        assert!(
            !is_marked || named.starts_with(&format!("{place}\"")),
            "{path}: {named}"
        );
    }
    let nobody = visit(&app, &get, "/nowhere", None, "").await;
    assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    assert!(!text(nobody).await.contains("<nav"));
}

/// What was typed stays, and what is missing is said where it is missing.
#[tokio::test]
async fn feedback_that_is_refused_is_kept() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    let call = app.chat("u1").await["id"].as_str().unwrap().to_owned();
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let path = format!("/calls/{call}/feedback");
    let send = async |form: &str| {
        let answer = visit(&app, &Method::POST, &path, Some(&cookie), form).await;
        (answer.status(), text(answer).await)
    };
    let empty = "comment=&correction=Hi&original=Hi";
    let (status, page) = send(empty).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("Rate, comment or correct the answer first."));
    assert!(page.contains("<h1>Call</h1>"), "{page}");
    let typed = "rating=9&comment=%3Cb%3Etyped&correction=Other%0D%0Alines&original=Hi";
    let (status, page) = send(typed).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for part in [
        "Rating <code>9</code> lies outside its scale",
        "&#60;b&#62;typed</textarea>",
        "<details open>",
        "Other\r\nlines</textarea>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let found = app.viewer().get(&format!("/api/v1/calls/{call}")).await;
    assert_eq!(found.ok()["feedback"], serde_json::json!([]));
    let (status, _) = send("rating=4&comment=fine&correction=Hi&original=Hi").await;
    assert_eq!(status, StatusCode::SEE_OTHER);
}

/// Filters stand in the address, and the next page has them too.
#[tokio::test]
async fn the_audit_log_and_feedback_are_filtered_page_by_page() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    for number in 0..102 {
        let settings = serde_json::json!({"description": format!("{number}")});
        let put = app.editor().put("/api/v1/apps/support", &settings).await;
        put.ok();
    }
    let see = async |path: &str| {
        let answer = visit(&app, &Method::GET, path, Some(&cookie), "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        text(answer).await
    };
    let first = see("/audit?actor=editor&action=app.put&subject=&since=2026-01-01&until=").await;
    let next = "/audit?actor=editor&#38;action=app.put&#38;since=2026-01-01&#38;before=";
    let at = first.find(next).expect("a next page");
    let next: String = first[at..].chars().take_while(|c| *c != '"').collect();
    assert!(
        first.contains("name=\"since\" value=\"2026-01-01\""),
        "{first}"
    );
    let second = see(&next.replace("&#38;", "&")).await;
    assert_eq!(second.matches("<td>app.put</td>").count(), 2, "{second}");
    assert!(!second.contains("registry.push"));
    let none = see("/audit?actor=nobody").await;
    assert!(none.contains("No entry fits."), "{none}");

    app.deploy_greeting(1).await;
    let call = app.chat("u1").await["id"].as_str().unwrap().to_owned();
    let pieces: Vec<_> = (0..51)
        .map(|_| serde_json::json!({"call_id": call, "kind": "comment", "text": "too long"}))
        .collect();
    let pieces = serde_json::json!(pieces);
    app.caller().post("/api/v1/feedback", &pieces).await.ok();
    let version = "/api/v1/prompts/greeting/versions/1";
    let version = app.viewer().get(version).await.ok();
    let version = version["version"].as_str().unwrap().to_owned();
    let filter = format!("kind=comment&text=long&prompt_version={version}");
    let first = see(&format!("/feedback?{filter}&since=2026-01-01")).await;
    let kept = filter.replace('&', "&#38;") + "&#38;since=2026-01-01T00%3A00%3A00Z&#38;cursor=";
    assert!(first.contains(&format!("/feedback?{kept}")), "{first}");
    let none = see("/feedback?since=2027-01-01").await;
    assert!(none.contains("None fits."), "{none}");
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

#[tokio::test]
async fn a_version_is_scored_beside_the_one_before() {
    let app = TestApp::furnished().await;
    let score = async |version: &str, value: f64| {
        let path = format!("/api/v1/prompts/greeting/versions/{version}/scores");
        let score = serde_json::json!({"metric": "exact_match", "value": value, "n": 64, "dataset": "gold"});
        app.editor().post(&path, &score).await
    };
    for (version, value) in [("1", 0.8125), ("2", 0.7), ("2", 0.875)] {
        assert!(score(version, value).await.status.is_success());
        app.clock.advance_seconds(1);
    }
    let cookie = sign_in(&app, &secret_of(Role::Viewer, None)).await;
    let path = "/prompts/greeting?version=2";
    let page = text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    let row = "<th scope=\"row\">exact_match</th><td>gold</td><td class=\"n\">0.812</td><td class=\"n\">0.875</td><td class=\"n\">64</td>";
    assert!(page.contains(row), "{page}");
}

#[tokio::test]
async fn what_was_rolled_back_is_not_deployed_again_unawares() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    app.deploy_greeting(2).await;
    let back = serde_json::json!({"reason": "users dislike it"});
    app.editor()
        .post("/api/v1/apps/support/rollback", &back)
        .await
        .ok();
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let page = async |version: u64| {
        let path = format!("/apps/support/deploy?prompt=greeting&version={version}");
        text(visit(&app, &Method::GET, &path, Some(&cookie), "").await).await
    };
    let warning = "rolled this back here (#3): users dislike it";
    assert!(page(2).await.contains(warning));
    assert!(!page(1).await.contains(warning), "it is in force");
    // The API says so, too, with what it is about.
    let body = serde_json::json!({"prompt": "greeting", "version": "2", "dry_run": true});
    let planned = app
        .admin()
        .post("/api/v1/apps/support/deploy", &body)
        .await
        .ok();
    assert_eq!(planned["taken_back"]["number"], 3, "{planned}");
    assert_eq!(planned["taken_back"]["reason"], "users dislike it");
    assert_eq!(planned["manifest"]["prompt_ordinal"], 2, "{planned}");
    assert_eq!(planned["previous"]["prompt_ordinal"], 1, "{planned}");
    // A rollback to it warns as well.
    let manifest = planned["manifest"]["id"].as_str().unwrap();
    let path = format!("/apps/support/rollback?to={manifest}");
    let back = text(visit(&app, &Method::GET, &path, Some(&cookie), "").await).await;
    assert!(back.contains(warning), "{back}");
    assert!(back.contains("rolled it back already (#3,"), "{back}");
    // Who deploys it all the same knows.
    app.deploy_greeting(2).await;
    app.deploy_greeting(1).await;
    assert!(!page(2).await.contains(warning));
}

/// After a rollback the latest version is the one that nobody wants: the page begins with what is served and lets one choose.
#[tokio::test]
async fn the_latest_version_is_not_offered_when_it_was_rolled_back() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let page =
        async |path: &str| text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    app.deploy_greeting(1).await;
    let latest = page("/apps/support/deploy").await;
    assert!(
        latest.contains("<option value=\"greeting\" selected>"),
        "{latest}"
    );
    assert!(latest.contains("Deploy greeting@3"), "{latest}");
    assert!(latest.contains("name=\"version\" value=\"3\""), "{latest}");
    app.deploy_greeting(3).await;
    let back = serde_json::json!({"reason": "users dislike it"});
    let path = "/api/v1/apps/support/rollback";
    app.editor().post(path, &back).await.ok();
    let open = page("/apps/support/deploy").await;
    let said = "rolled the latest version back here (#3): users dislike it";
    assert!(open.contains(said), "{open}");
    assert!(open.contains("Choose the version to deploy."), "{open}");
    assert!(!open.contains("name=\"reason\""), "{open}");
    // So does the API: who means it names it.
    let mut body = serde_json::json!({"prompt": "greeting", "reason": "again"});
    let deploy = "/api/v1/apps/support/deploy";
    let refused = app.editor().post(deploy, &body).await;
    let said = "the latest version was rolled back here (#3) by";
    refused.problem_saying(409, "taken_back", said);
    body["version"] = "3".into();
    app.editor().post(deploy, &body).await.ok();
}

#[tokio::test]
async fn an_experiment_is_seen_where_people_look_and_so_is_its_end() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let page =
        async |path: &str| text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    let manifests = [app.deploy_greeting(1).await, app.deploy_greeting(2).await];
    app.start_experiment("production", &manifests).await;
    let running = "Running: <a href=\"/experiments/exp\">exp</a>";
    assert!(page("/").await.contains(running));
    let back = serde_json::json!({"reason": "users dislike it"});
    app.editor()
        .post("/api/v1/apps/support/rollback", &back)
        .await
        .ok();
    assert!(!page("/").await.contains(running));
    let shown = page("/apps/support").await;
    let ended = "by editor_all: rolled back (#3): users dislike it";
    assert!(shown.contains(ended), "{shown}");
    app.clock.advance_seconds(8 * 86_400);
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let later = visit(&app, &Method::GET, "/apps/support", Some(&cookie), "").await;
    let later = text(later).await;
    assert!(
        later.contains("Deployments") && !later.contains(ended),
        "{later}"
    );
}

#[tokio::test]
async fn what_people_thought_stands_beside_the_way_back_and_so_does_what_closes_it() {
    let app = TestApp::furnished().await;
    let cookie = sign_in(&app, &secret_of(Role::Editor, None)).await;
    let page =
        async |path: &str| text(visit(&app, &Method::GET, path, Some(&cookie), "").await).await;
    app.deploy_greeting(1).await;
    let call = app.chat("u1").await["id"].as_str().unwrap().to_owned();
    let rating = serde_json::json!([{"call_id": call, "kind": "rating", "value": 4}]);
    app.caller().post("/api/v1/feedback", &rating).await.ok();
    app.deploy_greeting(2).await;
    app.deploy_greeting(3).await;
    let ways = page("/apps/support/rollback").await;
    assert!(ways.contains(" · rating 4.00 of 5</option>"), "{ways}");
    let concern = "a rollback to greeting@1 would be refused";
    assert!(!page("/").await.contains(concern));

    // An index that the earlier manifest reads is dropped.
    app.put_index("docs-1", "available").await;
    let with_index = serde_json::json!({"prompt": "greeting", "version": "1", "reason": "reads",
        "retriever_index_version": "docs-1"});
    let deploy = "/api/v1/apps/support/deploy";
    app.admin().post(deploy, &with_index).await.ok();
    let without = serde_json::json!({"prompt": "greeting", "version": "2", "reason": "does not",
        "retriever_index_version": null});
    app.admin().post(deploy, &without).await.ok();
    app.put_index("docs-1", "dropped").await;
    assert!(page("/").await.contains(concern));
}
