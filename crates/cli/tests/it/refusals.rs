//! What can go wrong: usage, an absent server, a server that refuses or fails, and the exit code of each.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::fake_server::FakeServer;
use crate::run::{flywheel, flywheel_with};
use crate::snapshot::assert_snapshot;

const NOWHERE: &str = "/does/not/exist";

/// A URL at which nobody listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn wrong_usage_ends_with_2() {
    let mut transcript = String::new();
    for arguments in [
        &["deploy", "app", "--reason", "x"][..],
        &["deploy", "app", "--prompt", "p"],
        &["deploy", "app", "--prompt", "p@", "--reason", "x"],
        &[
            "deploy",
            "app",
            "--prompt",
            "p",
            "--manifest",
            "abababababab",
            "--reason",
            "x",
        ],
        &["deploy", "app", "--prompt", "p", "--reason", " "],
        &["rollback", "app", "--steps", "0"],
        &["rollback", "app", "--to", "1a2b"],
        &["feedback", "send", "c"],
        &["feedback", "send", "c", "--rating", "NaN"],
        &["feedback", "send", "c", "--outcome", "handle_time=often"],
        &["feedback", "send", "c", "--outcome", "handle_time=inf"],
        &["calls", "list", "--since", "yesterday"],
        &["calls", "list", "--status", "fine"],
        &["feedback", "send", "c", "--rating", "3", "--scale", "5"],
        &[
            "experiment",
            "create",
            "e",
            "--app",
            "a",
            "--arm",
            "control",
        ],
        &[
            "experiment",
            "create",
            "e",
            "--app",
            "a",
            "--arm",
            "a=p@1:10",
            "--arm",
            "b=p@2:80",
        ],
        &["experiment", "set", "e", "--exposure", "101"],
        &["experiment", "set", "e", "--exposure", "0"],
        &[
            "model",
            "register",
            "m",
            "1",
            "--provider",
            "p",
            "--input-price",
            "1",
        ],
        &["call", "app", "-v", "ticket"],
        &["call", "app", "-v", "tags:=[1"],
        &["call", "app", "-v", "a=1", "-v", "a=2"],
        &["app", "list", "--url", "127.0.0.1:7700"],
        &["serve", "--listen", "7700"],
        &["prompt", "list", "--limit", "0"],
        &["frobnicate"],
    ] {
        let run = flywheel(arguments);
        assert_eq!(run.code, Some(2), "{}", run.transcript());
        transcript.push_str(&run.transcript());
        transcript.push('\n');
    }
    assert_snapshot("errors-usage", &transcript);
}

#[test]
fn wrong_usage_is_told_as_json_too() {
    for (arguments, title) in [
        (
            &["--json", "calls", "list", "--since", "yesterday"][..],
            "invalid value 'yesterday' for '--since <WHEN>'",
        ),
        (
            &["deploy", "app", "--prompt", "p", "--json"],
            "the following required arguments were not provided: --reason <TEXT>",
        ),
        (
            &["app", "list", "--json", "--url", "nonsense"],
            "--url: you gave `nonsense`",
        ),
        (
            &["call", "app", "--json", "-v", "a=1", "-v", "a=2"],
            "--variable: you gave `a` twice",
        ),
    ] {
        let run = flywheel(arguments);
        assert_eq!(
            (run.code, run.stdout.as_str()),
            (Some(2), ""),
            "{}",
            run.transcript()
        );
        let document: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!(document["code"], "usage");
        let found = document["title"].as_str().unwrap();
        assert!(found.starts_with(title), "{found}");
        assert!(document["hint"].is_string());
    }
    let after_the_end = flywheel(&["feedback", "send", "--", "--json"]);
    assert!(after_the_end.stderr.starts_with("error: "));
    let help = flywheel(&["--json", "deploy", "--help"]);
    assert!(help.stdout.contains("Usage: flywheel deploy"));
}

/// What the environment gives is not needed on the command line, and not named there.
#[test]
fn the_usage_names_what_is_missing_only() {
    let environment = [("FLYWHEEL_URL", "http://127.0.0.1:1")];
    let missing = flywheel_with(&["deploy", "support"], &environment, "");
    assert_eq!(missing.code, Some(2));
    assert!(
        missing.stderr.contains("Usage: flywheel deploy"),
        "{}",
        missing.stderr
    );
    assert!(!missing.stderr.contains("--url"), "{}", missing.stderr);
}

#[test]
fn an_absent_server_ends_with_3() {
    let url = dead_url();
    let run = flywheel(&["--url", &url, "app", "list"]);
    assert_eq!(run.code, Some(3));
    let json = flywheel_with(&["app", "list", "--json"], &[("FLYWHEEL_URL", &url)], "");
    assert_eq!((json.code, json.stdout.as_str()), (Some(3), ""));
    let document: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(document["code"], "unreachable");
    let folder = Path::new(NOWHERE);
    assert_snapshot("errors-unreachable", &run.portable(folder, &url));
}

#[test]
fn wrong_urls_are_refused_without_their_credentials() {
    for (url, expected) in [
        ("127.0.0.1:7700", "it must begin with http:// or https://"),
        ("http://me:secret@host", "it holds credentials"),
    ] {
        let run = flywheel(&["--url", url, "app", "list"]);
        assert_eq!(run.code, Some(2));
        assert!(run.stderr.contains(expected), "{}", run.stderr);
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    }
}

#[test]
fn problems_are_told_with_what_to_do() {
    let server = FakeServer::start(vec![
        (
            "GET /api/v1/apps/gone",
            404,
            json!({
                "title": "Not Found", "status": 404, "code": "not_found",
                "detail": "app `gone` does not exist", "hint": "see `flywheel app list`",
            }),
        ),
        (
            "GET /api/v1/apps/locked",
            401,
            json!({
                "title": "Unauthorized", "status": 401, "code": "key_needed", "detail": "a key is needed",
            }),
        ),
        (
            "GET /api/v1/apps/broken",
            503,
            json!({
                "title": "Service Unavailable", "status": 503, "code": "store_unavailable",
                "detail": "the store cannot be reached", "hint": "try again shortly",
            }),
        ),
        ("GET /api/v1/apps/foreign", 200, json!("<html>")),
        ("GET /api/v1/apps/proxy", 502, json!("<html>")),
        (
            "GET /api/v1/apps/hostile",
            404,
            json!({
                "title": "Not Found", "detail": "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m", "hint": "\u{202e}x",
            }),
        ),
    ]);
    let mut transcript = String::new();
    for (app, code) in [
        ("gone", 1),
        ("locked", 1),
        ("broken", 3),
        ("foreign", 3),
        ("proxy", 3),
        ("hostile", 1),
    ] {
        let run = flywheel(&["--url", &server.url, "app", "show", app]);
        assert_eq!(run.code, Some(code), "{}", run.transcript());
        assert_eq!(run.stdout, "");
        transcript.push_str(&run.portable(Path::new(NOWHERE), &server.url));
        transcript.push('\n');
    }
    assert_snapshot("errors-problems", &transcript);
    let run = flywheel(&["--url", &server.url, "app", "show", "gone", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(document["detail"], "app `gone` does not exist");
}

#[test]
fn the_key_is_sent_and_never_shown() {
    let server = FakeServer::start(vec![]);
    let run = flywheel_with(
        &["--url", &server.url, "app", "list"],
        &[("FLYWHEEL_KEY", "fw_secret")],
        "",
    );
    assert_eq!(
        server.asked()[0].authorization.as_deref(),
        Some("Bearer fw_secret")
    );
    assert!(!run.transcript().contains("secret"));
}

#[test]
fn colour_is_used_when_asked_for() {
    let url = dead_url();
    let colored = |arguments: &[&str], variables: &[(&str, &str)]| {
        let run = flywheel_with(
            &[&["--url", &url, "app", "list"], arguments].concat(),
            variables,
            "",
        );
        run.stderr.contains('\u{1b}')
    };
    assert!(!colored(&[], &[]), "a pipe gets no colour");
    assert!(colored(&["--color", "always"], &[]));
    assert!(
        colored(&["--color", "always"], &[("NO_COLOR", "1")]),
        "what is asked for goes first"
    );
    assert!(!colored(&["--color", "never"], &[]));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let items: Vec<_> = (0..900)
        .map(|number| json!({"number": number, "actor": "a".repeat(90), "action": "b".repeat(90)}))
        .collect();
    let server = FakeServer::start(vec![(
        "GET /api/v1/audit?limit=1000",
        200,
        json!({"items": items, "next": null}),
    )]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_flywheel"))
        .args(["--url", &server.url, "audit", "list", "--limit", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
