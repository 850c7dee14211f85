//! `flywheel deploy`, `flywheel rollback` and what they leave behind.

use std::path::Path;

use serde_json::{Value, json};

use crate::fake_server::FakeServer;
use crate::run::{Run, flywheel};
use crate::snapshot::assert_snapshot;

fn deployment(kind: &str) -> Value {
    json!({
        "number": 12, "app": "support", "environment": "production", "kind": kind,
        "manifest": "ab".repeat(32), "previous_manifest": "cd".repeat(32),
        "actor": "ann", "reason": "shorter summaries", "created_at": "2020-01-02T03:04:05Z",
        "forced_over": [], "prompt": "summary", "prompt_version": "ef".repeat(32),
        "prompt_ordinal": 3, "model": "smollm2:135m",
    })
}

fn moved(kind: &str) -> Value {
    json!({
        "dry_run": false, "unchanged": false, "deployment": deployment(kind),
        "manifest": {"id": "ab".repeat(32), "prompt_id": "summary", "prompt_ordinal": 3},
        "previous": {"id": "cd".repeat(32), "prompt_id": "summary", "prompt_ordinal": 2},
        "taken_back": {"number": 10, "kind": "rollback", "actor": "ben", "reason": "cut off",
                       "created_at": "2020-01-01T03:04:05Z"},
        "replaced": {"number": 11, "kind": "rollback", "actor": "ann", "reason": "too long",
                     "created_at": "2020-01-02T03:00:05Z"},
        "changes": [
            {"member": "prompt_version", "before": "12".repeat(32), "after": "ef".repeat(32)},
            {"member": "guards_version", "before": null, "after": "7"},
        ],
        "preflight": {"passed": true, "checks": [{"name": "prompt"}]},
    })
}

fn run(server: &FakeServer, arguments: &[&str]) -> Run {
    flywheel(&[&["--url", &server.url], arguments].concat())
}

fn check(name: &str, server: &FakeServer, run: &Run) {
    assert_snapshot(name, &run.portable(Path::new("/nowhere"), &server.url));
}

#[test]
fn a_deployment_says_what_changed_and_how_to_undo_it() {
    let server = FakeServer::start(vec![(
        "POST /api/v1/apps/support/deploy",
        200,
        moved("deploy"),
    )]);
    let deployed = run(
        &server,
        &[
            "deploy",
            "support",
            "--prompt",
            "summary@3",
            "--guards-version",
            "7",
            "--expect",
            "none",
            "--env",
            "production",
            "--reason",
            "shorter summaries",
        ],
    );
    check("deploy", &server, &deployed);
    assert_eq!(
        server.asked()[0].body,
        json!({"environment": "production", "expected_manifest": "none", "prompt": "summary",
               "version": "3", "guards_version": "7", "reason": "shorter summaries"})
    );
    let json = run(
        &server,
        &[
            "deploy", "support", "--prompt", "summary", "--reason", "x", "--json",
        ],
    );
    assert_eq!(json.json(), moved("deploy"));
    assert_eq!(json.stderr, "");
    // The server does not deploy what was rolled back unless it is named.
    assert_eq!(server.asked()[1].body["version"], Value::Null);
}

#[test]
fn a_dry_run_shows_the_checks_and_fails_if_one_fails() {
    let mut answer = moved("deploy");
    answer["deployment"] = Value::Null;
    answer["dry_run"] = true.into();
    answer["preflight"] = json!({"passed": false, "checks": [
        {"name": "prompt"},
        {"name": "provider", "problem": "provider `azure` has no key", "hint": "set AZURE_KEY"},
    ]});
    let server = FakeServer::start(vec![("POST /api/v1/apps/support/deploy", 200, answer)]);
    let arguments = [
        "deploy",
        "support",
        "--manifest",
        "abababababab",
        "--reason",
        "x",
        "--dry-run",
    ];
    let dry = run(&server, &arguments);
    assert_eq!(dry.code, Some(1));
    check("deploy-dry-run", &server, &dry);
    assert_eq!(server.asked()[0].body["dry_run"], true);
}

#[test]
fn refusals_say_which_check_failed_and_who_was_faster() {
    let failed = json!({
        "title": "Unprocessable Content", "status": 422, "code": "preflight_failed",
        "detail": "1 check failed", "hint": "mend it, or deploy with force",
        "preflight": {"passed": false, "checks": [
            {"name": "provider", "problem": "provider `azure` has no key", "hint": "set AZURE_KEY"}]},
    });
    let lost = json!({
        "title": "Conflict", "status": 409, "code": "lost_race",
        "detail": "somebody else deployed in between", "current": deployment("deploy"),
    });
    let server = FakeServer::start(vec![
        ("POST /api/v1/apps/failing/deploy", 422, failed),
        ("POST /api/v1/apps/lost/rollback", 409, lost),
    ]);
    let refused = run(
        &server,
        &["deploy", "failing", "--prompt", "p", "--reason", "x"],
    );
    assert_eq!(refused.code, Some(1));
    check("deploy-refused", &server, &refused);
    let lost = run(&server, &["rollback", "lost", "--expect", "abababababab"]);
    assert_eq!(lost.code, Some(1));
    check("rollback-lost", &server, &lost);
}

#[test]
fn a_rollback_needs_no_more_than_the_app() {
    let server = FakeServer::start(vec![(
        "POST /api/v1/apps/support/rollback",
        200,
        moved("rollback"),
    )]);
    let back = run(&server, &["rollback", "support"]);
    check("rollback", &server, &back);
    assert_eq!(server.asked()[0].body, json!({"reason": "rollback"}));
    run(
        &server,
        &[
            "rollback", "support", "--steps", "2", "--force", "--reason", "worse",
        ],
    );
    assert_eq!(
        server.asked()[1].body,
        json!({"force": true, "steps": 2, "reason": "worse"})
    );
}

#[test]
fn a_rollback_goes_to_a_number_of_the_history() {
    let list = |items: Value| json!({"items": items, "next": null});
    let server = FakeServer::start(vec![
        (
            "GET /api/v1/apps/support/deployments?limit=1&cursor=13",
            200,
            list(json!([deployment("deploy")])),
        ),
        // The number of another app.
        (
            "GET /api/v1/apps/support/deployments?limit=1&cursor=15",
            200,
            list(json!([deployment("deploy")])),
        ),
        ("POST /api/v1/apps/support/rollback", 200, moved("rollback")),
    ]);
    let back = run(&server, &["rollback", "support", "--to", "12"]);
    assert_eq!(back.code, Some(0), "{}", back.transcript());
    assert_eq!(
        server.asked()[1].body,
        json!({"environment": "production", "to": "ab".repeat(32), "reason": "rollback"})
    );
    for (arguments, said) in [
        (&["--to", "14"][..], "support has no deployment #14"),
        (
            &["--to", "#12", "--env", "staging"],
            "#12 is a deployment in production, not in staging",
        ),
    ] {
        let refused = run(&server, &[&["rollback", "support"], arguments].concat());
        assert_eq!(refused.code, Some(1), "{}", refused.transcript());
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(server.lines().len(), 4, "nothing else was moved");
}

#[test]
fn deploying_what_is_deployed_says_so() {
    let mut answer = moved("deploy");
    answer["unchanged"] = true.into();
    let server = FakeServer::start(vec![("POST /api/v1/apps/support/deploy", 200, answer)]);
    let unchanged = run(
        &server,
        &["deploy", "support", "--prompt", "summary", "--reason", "x"],
    );
    assert_eq!(unchanged.code, Some(0));
    check("deploy-unchanged", &server, &unchanged);
}

#[test]
fn arms_are_sent_as_prompt_versions_or_manifests() {
    let made = json!({"name": "e", "arms": []});
    let server = FakeServer::start(vec![("POST /api/v1/experiments", 201, made)]);
    let arguments = [
        "experiment",
        "create",
        "e",
        "--app",
        "support",
        "--arm",
        "control=abababababab:90",
        "--arm",
        "short=support/summary@2:10",
    ];
    let created = run(&server, &arguments);
    assert_eq!(created.code, Some(0), "{}", created.transcript());
    assert_eq!(
        server.asked()[0].body["arms"],
        json!([
            {"name": "control", "manifest": "abababababab", "weight": 9000},
            {"name": "short", "prompt": "support/summary", "version": "2", "weight": 1000},
        ])
    );
}

#[test]
fn history_is_a_table_that_goes_on() {
    let server = FakeServer::start(vec![(
        "GET /api/v1/apps/support/deployments?environment=production&limit=2",
        200,
        json!({"items": [deployment("rollback"), deployment("deploy")], "next": "11"}),
    )]);
    let history = run(
        &server,
        &["history", "support", "--env", "production", "--limit", "2"],
    );
    check("history", &server, &history);
}

#[test]
fn a_rehearsal_that_fails_ends_with_1() {
    let answer = json!({"passed": false, "items": [
        {"manifest": "ab".repeat(32), "deployment_number": 3, "preflight": {"passed": true, "checks": []},
         "probe": {"ok": true, "latency_ms": 312, "output": "Fine."}},
        {"manifest": "cd".repeat(32), "deployment_number": 2,
         "preflight": {"passed": false, "checks": [{"name": "index", "problem": "index `7` was dropped"}]}},
    ]});
    let server = FakeServer::start(vec![("POST /api/v1/apps/support/rehearse", 200, answer)]);
    let rehearsed = run(
        &server,
        &[
            "rehearse", "support", "--probe", "-v", "ticket=x", "-v", "n:=2",
        ],
    );
    assert_eq!(rehearsed.code, Some(1));
    check("rehearse", &server, &rehearsed);
    assert_eq!(
        server.asked()[0].body,
        json!({"last": 5, "probe": true, "variables": {"ticket": "x", "n": 2}})
    );
}

#[test]
fn creating_and_changing_an_app_are_two_things() {
    let app = json!({"name": "support", "description": "", "environments": ["staging", "production"],
                     "required_members": [], "created_at": "2020-01-02T03:04:05Z", "current": []});
    let server = FakeServer::start(vec![
        ("GET /api/v1/apps/support", 200, app.clone()),
        ("PUT /api/v1/apps/support", 200, app.clone()),
        ("PUT /api/v1/apps/new", 200, app),
    ]);
    let twice = run(&server, &["app", "create", "support"]);
    assert_eq!(twice.code, Some(1));
    assert!(
        twice.stderr.contains("flywheel app set support"),
        "{}",
        twice.stderr
    );
    let absent = run(&server, &["app", "set", "new", "--description", "x"]);
    assert_eq!(absent.code, Some(1));
    let created = run(
        &server,
        &["app", "create", "new", "--environments", "dev,production"],
    );
    check("app-create", &server, &created);
    let set = [
        "app",
        "set",
        "support",
        "--fallback",
        "none",
        "--require",
        "guards_version",
    ];
    assert_eq!(run(&server, &set).code, Some(0));
    assert_eq!(
        server.asked().last().unwrap().body,
        json!({"required_members": ["guards_version"], "fallback_manifest": null})
    );
}
