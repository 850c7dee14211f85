//! The commands that only read, and what they print.

use std::path::Path;

use serde_json::{Value, json};

use crate::fake_server::{FakeServer, Route};
use crate::run::flywheel;
use crate::snapshot::assert_snapshot;

const TIME: &str = "2020-01-02T03:04:05Z";

fn list(items: Value) -> Value {
    json!({"items": items, "next": null})
}

fn version() -> Value {
    json!({
        "prompt": "support/summary", "version": "ab".repeat(32), "ordinal": 3, "author": "ann",
        "description": "Ask for\ntwo sentences", "created_at": TIME, "labels": ["stable"],
        "status": "production",
        "uses": [{"app": "support", "environment": "production", "manifest": "cd".repeat(32),
                  "prompt_version": "ab".repeat(32), "current": true, "deployed_at": TIME}],
        "scores": [{"metric": "exact_match", "value": 0.8125, "n": 64, "dataset": "gold", "recorded_at": TIME}],
        "content": {"template_format": "fstring", "model_id": "smollm2", "model_version": "135m",
                    "messages": [{"role": "user", "content": "Summarize: {ticket}"}]},
    })
}

fn difference() -> Value {
    let line = |kind: &str, spans: Value| json!({"kind": kind, "spans": spans});
    json!({
        "from": {"version": "ef".repeat(32), "ordinal": 2}, "to": {"version": "ab".repeat(32), "ordinal": 3},
        "changes": [
            {"field": "params.temperature", "before": 0.7, "after": 0.2},
            {"field": "params.stop", "after": ["\n\n"]},
            {"field": "messages[0].content", "text": [
                {"kind": "skipped", "count": 12},
                line("equal", json!([{"text": "Be brief.", "changed": false}])),
                line("removed", json!([{"text": "Translate", "changed": true}, {"text": ": {ticket}", "changed": false}])),
                line("added", json!([{"text": "Summarize", "changed": true}, {"text": ": {ticket}", "changed": false}])),
            ]},
        ],
    })
}

fn experiment() -> Value {
    json!({
        "name": "shorter", "app": "support", "environment": "production", "hypothesis": "it helps",
        "unit": "user", "layer": "default", "layer_share": 10_000, "exposure": 1250, "status": "running",
        "arms": [{"name": "control", "manifest": "ab".repeat(32), "weight": 5000},
                 {"name": "treatment", "manifest": "cd".repeat(32), "weight": 5000}],
        "created_at": TIME, "started_at": TIME,
        "plan": {"control": "control", "primary": "task_completed", "mde": {"absolute": 0.05}, "mode": "anytime", "minimum_days": 7,
                 "guardrails": [{"metric": "latency_p95", "margin": {"relative": 0.1}}, {"metric": "handle_time", "margin": {"absolute": 30}},
                                {"metric": "escalated", "margin": {"absolute": 0.01}}],
                 "metrics": [{"name": "task_completed", "kind": "binary"}, {"name": "latency_p95", "kind": "quantile", "unit": "ms"},
                             {"name": "handle_time", "kind": "continuous", "unit": "s"}, {"name": "escalated", "kind": "binary"}]},
        "plan_hash": "12".repeat(32),
        "plan_changes": [{"at": TIME, "by": "ann", "changed": ["mde", "guardrails"], "before": "34".repeat(32)}],
        "serves": {"control": {"prompt": "support/summary", "prompt_version": "ef".repeat(32), "prompt_ordinal": 2,
                               "model": "smollm2:135m"}},
        "summary": [{"key": "control", "calls": 3, "provider_errors": 0, "series": []}],
    })
}

fn said() -> Value {
    let piece = |body: Value| {
        let mut piece = json!({
            "id": "f1", "call_id": "0197a1b2-0000-7000-8000-0123456789ab", "author": "ann", "created_at": TIME,
            "app": "support", "prompt": "support/summary", "prompt_version": "ab".repeat(32), "prompt_ordinal": 3,
        });
        for (name, value) in body.as_object().unwrap() {
            piece[name] = value.clone();
        }
        piece
    };
    list(json!([
        piece(json!({"kind": "thumbs", "value": true})),
        piece(json!({"kind": "thumbs", "value": false})),
        piece(json!({"kind": "rating", "value": 4.5, "scale": {"min": 1.0, "max": 5.0}})),
        piece(json!({"kind": "comment", "text": "too\nshort"})),
        piece(json!({"kind": "correction", "text": "Better."})),
        // Its call is not known.
        {"id": "f3", "call_id": "support:later", "kind": "outcome", "name": "escalated", "value": 1.0,
         "created_at": TIME, "app": null, "prompt": null, "prompt_version": null, "prompt_ordinal": null},
        {"id": "f2", "call_id": "support:later", "kind": "outcome", "name": "handle_time", "value": 12.5,
         "created_at": TIME, "app": null, "prompt": null, "prompt_version": null, "prompt_ordinal": null},
    ]))
}

fn app() -> Value {
    json!({
        "name": "support", "description": "Summaries of tickets", "environments": ["staging", "production"],
        "required_members": ["guards_version"], "fallback_manifest": "cd".repeat(32), "created_at": TIME,
        "current": [{"number": 7, "app": "support", "environment": "production", "manifest": "ab".repeat(32),
                     "kind": "deploy", "actor": "ann", "reason": "first", "created_at": TIME,
                     "prompt": "support/summary", "prompt_ordinal": 3, "model": "smollm2:135m"}],
    })
}

fn commands() -> Vec<(&'static [&'static str], Route)> {
    let models = list(json!([
        {"model_id": "smollm2", "model_version": "135m", "provider": "local", "provider_model": "SmolLM2",
         "price": {"input": 0.15, "output": 0.6}, "created_at": TIME, "aliases": ["stable"]},
        {"model_id": "gpt", "model_version": "1", "provider": "azure", "provider_model": "gpt",
         "created_at": TIME, "aliases": [], "problem": "provider `azure` is not configured"}]));
    let indexes = list(json!([
        {"version": "docs-6", "index": "docs", "state": "migrated_forward", "to": "docs-7", "created_at": TIME},
        {"version": "docs-7", "index": "docs", "state": "available", "created_at": TIME}]));
    let keys = list(json!([
        {"id": "k-1", "name": "ops", "role": "admin", "created_at": TIME},
        {"id": "k-2", "name": "web", "role": "app", "apps": ["support"], "created_at": TIME, "revoked_at": TIME}]));
    let manifests = json!({
        "from": {}, "to": {}, "changes": [{"member": "model_version", "before": "1", "after": "2"}],
        "prompt": {"changes": difference()["changes"]}});
    let mut commands: Vec<(&[&str], Route)> = vec![
        (
            &["prompt", "list", "sum"],
            (
                "GET /api/v1/prompts?text=sum&limit=50",
                200,
                list(
                    json!([{"name": "support/summary", "versions": 3, "latest": "ab".repeat(32), "updated_at": TIME,
                        "matched": {"version": "cd".repeat(32), "ordinal": 2, "in": "description"}}]),
                ),
            ),
        ),
        (
            &["prompt", "show", "support/summary@stable"],
            (
                "GET /api/v1/prompts/support%2Fsummary/versions/stable",
                200,
                version(),
            ),
        ),
        (
            &["prompt", "history", "support/summary"],
            (
                "GET /api/v1/prompts/support%2Fsummary/versions?limit=50",
                200,
                list(json!([version()])),
            ),
        ),
        (
            &["prompt", "diff", "support/summary", "2", "3"],
            (
                "GET /api/v1/prompts/support%2Fsummary/diff?from=2&to=3",
                200,
                difference(),
            ),
        ),
        (
            &["prompt", "uses", "support/summary@3"],
            (
                "GET /api/v1/prompts/support%2Fsummary/uses?version=3",
                200,
                list(version()["uses"].clone()),
            ),
        ),
        (&["model", "list"], ("GET /api/v1/models", 200, models)),
        (&["index", "list"], ("GET /api/v1/indexes", 200, indexes)),
        (
            &["app", "list"],
            ("GET /api/v1/apps", 200, list(json!([app()]))),
        ),
        (
            &["app", "show", "support"],
            ("GET /api/v1/apps/support", 200, app()),
        ),
        (
            &["diff", "abababababab", "cdcdcdcdcdcd"],
            (
                "GET /api/v1/manifest-diff?from=abababababab&to=cdcdcdcdcdcd",
                200,
                manifests,
            ),
        ),
        (
            &["experiment", "list"],
            ("GET /api/v1/experiments", 200, list(json!([experiment()]))),
        ),
        (
            &["experiment", "show", "shorter"],
            ("GET /api/v1/experiments/shorter", 200, experiment()),
        ),
        (&["key", "list"], ("GET /api/v1/keys", 200, keys)),
    ];
    commands.extend(listing_commands());
    commands
}

/// Lists of what happened, and how they are filtered.
fn listing_commands() -> Vec<(&'static [&'static str], Route)> {
    let audit = list(json!([
        {"number": 1, "at": TIME, "actor": "ann", "action": "app.put", "subject": "support",
         "detail": {"description": "x"}, "hash": "ab", "previous_hash": "00"}]));
    vec![
        (
            &["audit", "list"],
            ("GET /api/v1/audit?limit=50", 200, audit.clone()),
        ),
        (
            &[
                "audit",
                "list",
                "--actor",
                "ann",
                "--action",
                "put",
                "--subject",
                "sup",
                "--since",
                "2020-01-02",
            ],
            (
                "GET /api/v1/audit?actor=ann&action=put&subject=sup&since=2020-01-02T00%3A00%3A00Z&limit=50",
                200,
                audit,
            ),
        ),
        (
            &[
                "feedback",
                "list",
                "--app",
                "support",
                "--kind",
                "comment",
                "--since",
                "2020-01-02",
                "--text",
                "short",
            ],
            (
                "GET /api/v1/feedback?app=support&kind=comment&since=2020-01-02T00%3A00%3A00Z&text=short&limit=50",
                200,
                said(),
            ),
        ),
    ]
}

#[test]
fn everything_is_readable_without_colour() {
    let mut transcript = String::new();
    for (arguments, route) in commands() {
        let server = FakeServer::start(vec![route]);
        let run = flywheel(&[&["--url", &server.url], arguments].concat());
        assert_eq!(run.code, Some(0), "{}", run.transcript());
        transcript.push_str(&run.portable(Path::new("/nowhere"), &server.url));
        transcript.push('\n');
    }
    assert_snapshot("reading", &transcript);
}

#[test]
fn json_is_what_the_server_said() {
    for (arguments, route) in commands() {
        let expected = route.2.clone();
        let server = FakeServer::start(vec![route]);
        let run = flywheel(&[&["--url", &server.url, "--json"], arguments].concat());
        assert_eq!(run.json(), expected, "{}", run.line);
        assert_eq!(run.stderr, "", "{}", run.line);
    }
}

#[test]
fn empty_lists_say_so_on_stderr() {
    for (arguments, route) in [
        (&["app", "list"][..], "GET /api/v1/apps"),
        (&["key", "list"], "GET /api/v1/keys"),
    ] {
        let server = FakeServer::start(vec![(route, 200, list(json!([])))]);
        let run = flywheel(&[&["--url", &server.url], arguments].concat());
        assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""));
        assert!(run.stderr.contains("hint: "), "{}", run.stderr);
    }
}

#[test]
fn units_are_read_to_the_last_page() {
    let unit = |name: &str| {
        json!({"unit": name, "arm": "control", "epoch": 0, "first_at": TIME, "counts": true,
               "metrics": {"rating": [4.0, 1.0, 0.0, 0.0]}})
    };
    const FIRST: &str = "GET /api/v1/experiments/shorter/units?limit=5000";
    const SECOND: &str = "GET /api/v1/experiments/shorter/units?limit=5000&after=ann";
    let server = FakeServer::start(vec![
        (FIRST, 200, json!({"items": [unit("ann")], "next": "ann"})),
        (SECOND, 200, list(json!([unit("bob")]))),
    ]);
    let run = flywheel(&["--url", &server.url, "experiment", "units", "shorter"]);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", run.transcript());
    assert!(lines[1].starts_with("ann,") && lines[2].starts_with("bob,"));
}
