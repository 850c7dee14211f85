//! Every route against every role, and against keys that are limited to another app.

pub(crate) mod cases;

use std::collections::BTreeSet;

use flywheel_core::key::Role;
use flywheel_server::router;
use http::Method;
use serde_json::json;

use self::cases::{Case, EXCEPTIONS, Needs, Scope, World};
use crate::answer::Answer;
use crate::app::{ROLES, TestApp};
use crate::requests::User;

fn allows(role: Role, needs: Needs) -> bool {
    let allowed: &[Needs] = match role {
        Role::Admin => &[Needs::Read, Needs::Call, Needs::Change, Needs::Administer],
        Role::Editor => &[Needs::Read, Needs::Call, Needs::Change],
        Role::App => &[Needs::Call],
        Role::Viewer => &[Needs::Read],
    };
    needs == Needs::Nothing || allowed.contains(&needs)
}

async fn ask(user: User<'_>, case: &Case) -> Answer {
    let (method, _) = case.route.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let body = if case.body.is_null() {
        String::new()
    } else {
        case.body.to_string()
    };
    user.send(method, &case.path, body, &[]).await
}

/// Asserts that a request was refused with this status, in the form of its door.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16) {
    if answer.request.contains(" /v1/") {
        let code = if status == 401 {
            "invalid_api_key"
        } else {
            "permission_denied"
        };
        answer.openai_error(status, code);
        return;
    }
    let code = match status {
        401 => "unauthenticated",
        403 => "forbidden",
        _ => "not_found",
    };
    answer.problem(status, code);
}

#[track_caller]
fn assert_let_through(answer: &Answer, who: &str) {
    let status = answer.status.as_u16();
    assert!(
        ![401, 403, 405].contains(&status),
        "{who}: {}: {}",
        answer.request,
        answer.text()
    );
}

#[tokio::test]
async fn every_route_has_a_case_and_every_exception_a_route() {
    let world = World::new().await;
    let cases = world.cases();
    let covered: BTreeSet<String> = cases.iter().map(|case| case.route.to_owned()).collect();
    let routes: BTreeSet<String> = router::routes()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    assert_eq!(routes, covered, "routes on the left, cases on the right");
    assert_eq!(cases.len(), covered.len(), "a route has two cases");
    let excepted: BTreeSet<_> = EXCEPTIONS.iter().map(|(route, _)| *route).collect();
    let exceptional = |case: &&Case| matches!(case.scope, Scope::Shared | Scope::Filtered);
    let shared: BTreeSet<_> = cases
        .iter()
        .filter(exceptional)
        .map(|case| case.route)
        .collect();
    assert_eq!(
        shared, excepted,
        "cases that refuse no limited key, and the list of exceptions"
    );
}

#[tokio::test]
async fn nobody_and_lower_roles_are_refused_and_change_nothing() {
    let world = World::new().await;
    let before = world.app.revision().await;
    for case in world.cases() {
        let answer = ask(world.app.nobody(), &case).await;
        match case.needs {
            Needs::Nothing => assert_let_through(&answer, "nobody"),
            _ => assert_refused(&answer, 401),
        }
        let stranger = world.app.holder_of("fw_unknown");
        if case.needs != Needs::Nothing {
            assert_refused(&ask(stranger, &case).await, 401);
        }
        for role in ROLES.into_iter().filter(|role| !allows(*role, case.needs)) {
            assert_refused(&ask(world.app.user(role), &case).await, 403);
        }
    }
    assert_eq!(
        world.app.revision().await,
        before,
        "a refused request changed something"
    );
    let calls = world.app.admin().get("/api/v1/calls").await.ok();
    assert_eq!(
        calls["items"].as_array().unwrap().len(),
        1,
        "a refused call was recorded"
    );
}

#[tokio::test]
async fn roles_that_suffice_are_let_through() {
    let world = World::new().await;
    for case in world.cases() {
        // An admin goes first and must succeed; whoever follows may find the work done already.
        for role in ROLES.into_iter().filter(|role| allows(*role, case.needs)) {
            let answer = ask(world.app.user(role), &case).await;
            assert_let_through(&answer, role.as_str());
            let is_available = !["/metrics", "/v1/embeddings"].contains(&case.path.as_str());
            if role == Role::Admin && is_available {
                assert!(
                    answer.status.is_success(),
                    "{}: {}",
                    answer.request,
                    answer.text()
                );
            }
        }
    }
}

#[tokio::test]
async fn keys_limited_to_another_app_are_refused_and_change_nothing() {
    let world = World::new().await;
    let before = world.app.revision().await;
    for case in world.cases() {
        for role in ROLES.into_iter().filter(|role| allows(*role, case.needs)) {
            if matches!(case.scope, Scope::Shared) {
                continue;
            }
            let answer = ask(world.app.limited(role, "other"), &case).await;
            match case.scope {
                Scope::App | Scope::All => assert_refused(&answer, 403),
                Scope::Hidden => assert_refused(&answer, 404),
                Scope::Filtered | Scope::Shared => {
                    let text = answer.ok().to_string();
                    assert!(!text.contains("support"), "{}: {text}", answer.request);
                }
            }
        }
    }
    assert_eq!(
        world.app.revision().await,
        before,
        "a refused request changed something"
    );
}

#[tokio::test]
async fn keys_limited_to_the_app_are_let_through() {
    let world = World::new().await;
    for case in world.cases() {
        for role in ROLES.into_iter().filter(|role| allows(*role, case.needs)) {
            let answer = ask(world.app.limited(role, "support"), &case).await;
            match case.scope {
                Scope::All => assert_refused(&answer, 403),
                _ => assert_let_through(&answer, role.as_str()),
            }
            if case.scope == Scope::Filtered {
                assert!(
                    answer.text().contains("support"),
                    "{}: {}",
                    answer.request,
                    answer.text()
                );
            }
        }
    }
}

/// A request for one's own app may still name what belongs to another.
#[tokio::test]
async fn a_batch_of_calls_is_refused_whole_if_one_names_another_app() {
    let app = TestApp::furnished().await;
    let batch = json!([{"app": "other"}, {"app": "support"}]);
    app.limited(Role::App, "other")
        .post("/api/v1/calls", &batch)
        .await
        .problem(403, "forbidden");
    let calls = app.admin().get("/api/v1/calls").await.ok();
    assert_eq!(calls["items"], json!([]));
    let limited = app.limited(Role::Viewer, "other");
    limited
        .get("/api/v1/calls?app=support")
        .await
        .problem(403, "forbidden");
    limited
        .get("/api/v1/feedback/summary?app=support")
        .await
        .problem(403, "forbidden");
}

/// A summary that names no app is about the apps that the key covers.
#[tokio::test]
async fn a_summary_counts_only_what_the_key_covers() {
    let app = TestApp::furnished().await;
    app.deploy_greeting(1).await;
    app.chat("u1").await;
    for (limit, expected) in [("support", 1), ("other", 0)] {
        let viewer = app.limited(Role::Viewer, limit);
        let summary = viewer.get("/api/v1/feedback/summary?by=day").await.ok();
        assert_eq!(
            summary["items"].as_array().unwrap().len(),
            expected,
            "{limit}: {summary}"
        );
    }
}
