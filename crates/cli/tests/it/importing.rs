//! `flywheel feedback import` and `flywheel feedback summary`, and keys.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::fake_server::FakeServer;
use crate::run::{Run, flywheel, flywheel_with};
use crate::snapshot::assert_snapshot;

fn run(server: &FakeServer, arguments: &[&str]) -> Run {
    flywheel(&[&["--url", &server.url], arguments].concat())
}

#[test]
fn a_file_is_imported_with_stable_ids() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feedback.ndjson");
    fs::write(
        &path,
        "{\"call_id\": \"c-1\", \"kind\": \"thumbs\", \"value\": true}\n\n\
         {\"id\": \"mine\", \"call_id\": \"c-2\", \"kind\": \"comment\", \"text\": \"no\"}\n",
    )
    .unwrap();
    let path = path.display().to_string();
    let stored =
        json!({"items": [{"id": "x", "stored": "stored"}, {"id": "mine", "stored": "duplicate"}]});
    let server = FakeServer::start(vec![("POST /api/v1/feedback", 201, stored)]);
    let imported = run(&server, &["feedback", "import", &path]);
    assert_eq!(
        imported.stdout, "1 stored, 1 known already\n",
        "{}",
        imported.stderr
    );
    let counted = run(&server, &["feedback", "import", &path, "--json"]);
    assert_eq!(counted.json(), json!({"stored": 1, "duplicates": 1}));
    let asked = server.asked();
    assert_eq!(
        asked[0].body, asked[1].body,
        "the same file has the same ids"
    );
    assert_eq!(asked[0].body[0]["id"].as_str().map(str::len), Some(64));
    assert_eq!(asked[0].body[1]["id"], "mine");
}

#[test]
fn stdin_is_imported_like_a_file() {
    let stored = json!({"items": [{"id": "x", "stored": "stored"}]});
    let server = FakeServer::start(vec![("POST /api/v1/feedback", 201, stored)]);
    let import = |text: &str| {
        let arguments = ["--url", &server.url, "feedback", "import", "-"];
        flywheel_with(&arguments, &[], text)
    };
    let imported = import("{\"call_id\": \"c\", \"kind\": \"thumbs\", \"value\": true}\n");
    assert_eq!(imported.stdout, "1 stored, 0 known already\n");
    assert_eq!(server.asked()[0].body[0]["call_id"], "c");
    let refused = import("{\n");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.starts_with("stdin:1:"), "{}", refused.stderr);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn an_import_goes_on_after_ids_that_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feedback.ndjson");
    let line = "{\"id\": \"mine\", \"call_id\": \"c\", \"kind\": \"thumbs\", \"value\": true}\n";
    fs::write(&path, line.repeat(501)).unwrap();
    let problem = json!({"status": 409, "code": "id_taken", "detail": "an id is taken",
        "errors": [{"index": 0, "detail": "`mine` is there with another `value`"}]});
    let server = FakeServer::start(vec![("POST /api/v1/feedback", 409, problem)]);
    let path = path.display().to_string();
    let imported = run(&server, &["feedback", "import", &path]);
    assert_eq!(imported.code, Some(1));
    assert_eq!(server.asked().len(), 2, "the second batch is sent too");
    for number in [1, 501] {
        let finding = format!("{path}:{number}: `mine` is there with another `value`");
        assert!(imported.stderr.contains(&finding), "{}", imported.stderr);
    }
}

#[test]
fn a_file_with_mistakes_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("feedback.ndjson");
    fs::write(
        &path,
        "{\"call_id\": \"c\", \"kind\": \"thumbs\", \"value\": true}\n\
         {\"call_id\": \"c\", \"kind\": \"rating\", \"value\": 9}\n{\n",
    )
    .unwrap();
    let server = FakeServer::start(vec![]);
    let refused = run(
        &server,
        &["feedback", "import", &path.display().to_string()],
    );
    assert_snapshot(
        "import-refused",
        &refused.portable(folder.path(), &server.url),
    );
    assert!(server.asked().is_empty());
}

#[test]
fn a_summary_has_its_uncertainty() {
    let server = FakeServer::start(vec![(
        "GET /api/v1/feedback/summary?by=manifest&app=support",
        200,
        json!({"by": "manifest", "items": [
            {"key": "ab".repeat(32), "prompt": "support/summary", "prompt_ordinal": 2, "calls": 120, "provider_errors": 1, "mean_latency_ms": 312.4,
             "mean_cost_usd": 0.0012, "series": [
                {"series": "thumbs", "n": 40, "kind": "rate", "value": 0.8, "low": 0.65, "high": 0.9},
                {"series": "rating", "n": 10, "kind": "mean", "value": 4.25, "low": 3.9, "high": 4.6, "scale": {"min": 1.0, "max": 5.0}},
                {"series": "comment", "n": 3, "kind": "count", "value": 3.0}]},
            {"key": "cd".repeat(32), "prompt": "support/summary", "prompt_ordinal": 1, "calls": 2, "provider_errors": 0, "series": []},
            {"key": "ef".repeat(32), "calls": 1, "provider_errors": 0, "series": []},
        ]}),
    )]);
    let summary = run(
        &server,
        &[
            "feedback", "summary", "--by", "manifest", "--app", "support",
        ],
    );
    assert_snapshot(
        "feedback-summary",
        &summary.portable(Path::new("/nowhere"), &server.url),
    );
}

#[test]
fn weeks_have_every_metric_that_was_measured() {
    let metric = |name: &str, kind: &str, unit: &str, numbers: [Value; 3]| {
        let [value, low, high] = numbers;
        json!({"metric": name, "kind": kind, "unit": unit, "units": 40, "n": 312, "value": value, "low": low, "high": high,
               "method": "Wilson, by user"})
    };
    let mut few = metric(
        "latency_p95",
        "quantile",
        "ms",
        [json!(812.5), json!(null), json!(null)],
    );
    few["undefined"] = json!("too few users for an interval of this quantile");
    let server = FakeServer::start(vec![(
        "GET /api/v1/feedback/summary?by=week&app=support",
        200,
        json!({"by": "week", "taken_in": 0.5, "items": [
            {"key": "2026-01-05/x", "week": "2026-01-05", "prompt": "support/summary", "prompt_ordinal": 2, "calls": 312,
             "series": [], "metrics": [
                metric("thumbs_up", "binary", "", [json!(0.8), json!(0.65), json!(0.9)]),
                metric("escalated", "binary", "", [json!(null), json!(null), json!(null)]),
                metric("handle_time", "continuous", "s", [json!(300.5), json!(250), json!(351)]),
                few]},
            {"key": "2026-01-05/y", "week": "2026-01-05", "prompt_version": "ef".repeat(32), "calls": 1, "series": [],
             "metrics": [metric("thumbs_up", "binary", "", [json!(1.0), json!(0.2), json!(1.0)])]},
        ]}),
    )]);
    let summary = run(
        &server,
        &["feedback", "summary", "--weekly", "--app", "support"],
    );
    assert_snapshot(
        "feedback-weekly",
        &summary.portable(Path::new("/nowhere"), &server.url),
    );
}

#[test]
fn a_new_key_stands_alone_on_stdout() {
    let made =
        json!({"key": "fw_abc", "id": "k-1", "name": "web", "role": "app", "apps": ["support"]});
    let server = FakeServer::start(vec![
        ("POST /api/v1/keys", 201, made),
        ("DELETE /api/v1/keys/k-1", 204, json!(null)),
    ]);
    let created = run(
        &server,
        &["key", "create", "web", "--role", "app", "--app", "support"],
    );
    assert_eq!(created.stdout, "fw_abc\n");
    assert!(!created.stderr.contains("fw_abc"), "{}", created.stderr);
    let sent = json!({"name": "web", "role": "app", "apps": ["support"]});
    assert_eq!(server.asked().last().unwrap().body, sent);
    let revoked = run(&server, &["key", "revoke", "k-1"]);
    assert_eq!(revoked.code, Some(0));
    assert!(revoked.stderr.contains("revoked key k-1"));
}

#[test]
fn a_broken_audit_log_ends_with_1() {
    for (verified, code) in [(true, 0), (false, 1)] {
        let answer = json!({"verified": verified, "entries": 3, "head": "ab".repeat(32)});
        let server = FakeServer::start(vec![("GET /api/v1/audit/verify", 200, answer)]);
        assert_eq!(run(&server, &["audit", "verify"]).code, Some(code));
    }
}
