//! `flywheel call`, `flywheel calls` and `flywheel feedback send`.

use serde_json::{Value, json};

use crate::fake_server::FakeServer;
use crate::run::{Run, flywheel, flywheel_with};

const CHAT: &str = "POST /v1/chat/completions";

fn run(server: &FakeServer, arguments: &[&str]) -> Run {
    flywheel(&[&["--url", &server.url], arguments].concat())
}

fn answer(content: &str) -> Value {
    json!({
        "id": "0197f2a0-0000-7000-8000-000000000000", "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}],
        "flywheel": {"app": "support", "manifest": "ab".repeat(32), "arm": "treatment", "recorded": true},
    })
}

#[test]
fn variables_that_the_prompt_does_not_have_are_named() {
    const VERSION: &str = concat!(
        "GET /api/v1/prompts/support%2Fsummary/versions/",
        "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
    );
    let mut said = answer("Two payments.");
    said["flywheel"]["prompt"] = json!("support/summary");
    said["flywheel"]["prompt_version"] = json!("cd".repeat(32));
    let content = json!({"template_format": "fstring", "model_id": "m", "model_version": "1",
                         "messages": [{"role": "user", "content": "Summarize: {ticket}"}]});
    let server = FakeServer::start(vec![
        (CHAT, 200, said),
        (VERSION, 200, json!({"content": content})),
    ]);
    let called = run(
        &server,
        &["call", "support", "-v", "ticket=a", "-v", "tikcet=b"],
    );
    assert_eq!(called.code, Some(0), "{}", called.stderr);
    let warning = "the prompt has no variable `tikcet`; it has ticket";
    assert!(called.stderr.contains(warning), "{}", called.stderr);
    let called = run(&server, &["call", "support", "-v", "ticket=a"]);
    assert!(
        !called.stderr.contains("has no variable"),
        "{}",
        called.stderr
    );
}

#[test]
fn the_answer_alone_goes_to_stdout() {
    let server = FakeServer::start(vec![(CHAT, 200, answer("Two payments.\nOne back."))]);
    let called = flywheel_with(
        &[
            "--url",
            &server.url,
            "call",
            "support@staging",
            "-v",
            "ticket=@-",
            "-v",
            "tags:=[1]",
            "--user",
            "user_101",
            "--session",
            "s-1",
            "Shorter, please.",
        ],
        &[],
        "The invoice\n",
    );
    assert_eq!(called.stdout, "Two payments.\nOne back.\n");
    for expected in [
        "call 0197f2a0-",
        "manifest abababababab",
        "arm treatment",
        "feedback send",
    ] {
        assert!(called.stderr.contains(expected), "{}", called.stderr);
    }
    assert_eq!(
        server.asked()[0].body,
        json!({
            "model": "flywheel/support@staging", "user": "user_101",
            "messages": [{"role": "user", "content": "Shorter, please."}],
            "flywheel": {"variables": {"ticket": "The invoice\n", "tags": [1]}, "session": "s-1"},
        })
    );
    let json = run(&server, &["call", "support", "--json"]);
    assert_eq!(json.json(), answer("Two payments.\nOne back."));
}

#[test]
fn an_answer_that_was_not_recorded_is_told() {
    let mut unrecorded = answer("Yes.");
    unrecorded["flywheel"]["recorded"] = false.into();
    let server = FakeServer::start(vec![(CHAT, 200, unrecorded)]);
    let called = run(&server, &["call", "support"]);
    assert_eq!(called.code, Some(0));
    assert!(
        called
            .stderr
            .contains("warning: the call was served but not recorded"),
        "{}",
        called.stderr
    );
}

fn stream(events: &[Value], end: &str) -> Value {
    let events: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    format!("{events}{end}").into()
}

fn delta(content: &str) -> Value {
    json!({"id": "c-1", "choices": [{"index": 0, "delta": {"content": content}}]})
}

#[test]
fn a_stream_is_put_together() {
    let events = [
        delta("Two "),
        delta("payments."),
        json!({"id": "c-1", "choices": [],
        "flywheel": {"manifest": "ab".repeat(32), "recorded": true}}),
    ];
    let server = FakeServer::start(vec![(CHAT, 200, stream(&events, "data: [DONE]\n\n"))]);
    let called = run(&server, &["call", "support", "--stream"]);
    assert_eq!(
        (called.code, called.stdout.as_str()),
        (Some(0), "Two payments.\n")
    );
    assert!(
        called
            .stderr
            .contains("call c-1  manifest abababababab  first text after"),
        "{}",
        called.stderr
    );
    let lines = run(&server, &["call", "support", "--stream", "--json"]).stdout;
    assert_eq!(lines.lines().count(), 3);
}

#[test]
fn a_stream_that_breaks_off_is_a_failure() {
    let broken = json!({"error": {"message": "provider `local` closed the connection", "type": "provider_error"}});
    for (body, expected) in [
        (stream(&[delta("Two ")], ""), "broke off its answer"),
        (
            stream(&[delta("Two "), broken], ""),
            "provider `local` closed the connection",
        ),
    ] {
        let server = FakeServer::start(vec![(CHAT, 200, body)]);
        let called = run(&server, &["call", "support", "--stream"]);
        assert_eq!((called.code, called.stdout.as_str()), (Some(3), "Two \n"));
        assert!(called.stderr.contains(expected), "{}", called.stderr);
    }
}

#[test]
fn a_failed_call_is_named_with_its_cause() {
    let refused = json!({"error": {"message": "provider `local` cannot be reached: connection refused",
        "type": "provider_error", "code": "connect"}});
    let server = FakeServer::start(vec![(CHAT, 502, refused)]);
    for further in [&[][..], &["--stream"]] {
        let called = run(&server, &[&["call", "support"], further].concat());
        assert_eq!(called.code, Some(3));
        assert_eq!(
            called.stderr,
            "error: provider `local` cannot be reached: connection refused\n  recorded as call c-1\n\
             hint: `flywheel calls show c-1` shows what was asked\n"
        );
    }
    let json = run(&server, &["call", "support", "--json"]);
    let document: Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(document["call_id"], "c-1");
}

#[test]
fn a_name_that_is_not_there_brings_those_that_are() {
    let message = "app `suport` does not exist";
    let openai = json!({"error": {"message": message, "type": "invalid_request_error"}});
    let problem =
        json!({"title": "Not Found", "status": 404, "detail": message, "hint": "make it"});
    let apps = json!({"items": [{"name": "support"}, {"name": "other"}], "next": null});
    let nothing = json!({"items": [], "next": null});
    let server = FakeServer::start(vec![
        (CHAT, 404, openai),
        ("GET /api/v1/apps/suport", 404, problem),
        ("GET /api/v1/apps", 200, apps),
        (
            "GET /api/v1/calls?app=suport&limit=50",
            200,
            nothing.clone(),
        ),
        (
            "GET /api/v1/feedback/summary?by=prompt_version&app=suport",
            200,
            nothing,
        ),
        ("POST /api/v1/keys", 201, json!({"key": "fw_x"})),
    ]);
    for (arguments, code) in [
        (&["call", "suport"][..], 1),
        (&["app", "show", "suport"], 1),
        (&["calls", "list", "--app", "suport"], 0),
        (&["feedback", "summary", "--app", "suport"], 0),
        (
            &["key", "create", "k", "--role", "app", "--app", "suport"],
            0,
        ),
    ] {
        let named = run(&server, arguments);
        assert_eq!(named.code, Some(code), "{}", named.transcript());
        for expected in [message, "hint: did you mean `support`?"] {
            assert!(named.stderr.contains(expected), "{}", named.transcript());
        }
    }
}

#[test]
fn a_tip_is_shown_once() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    let server = FakeServer::start(vec![(CHAT, 200, answer("Yes."))]);
    let tips = [0, 1].map(|_| {
        let arguments = ["--url", &server.url, "call", "support"];
        let called = flywheel_with(&arguments, &[("XDG_STATE_HOME", &state)], "");
        assert_eq!(called.code, Some(0), "{}", called.transcript());
        called.stderr.contains("hint: ")
    });
    assert_eq!(tips, [true, false]);
}

#[test]
fn errors_in_the_openai_shape_are_understood() {
    let body = json!({"error": {"message": "app `support` does not exist", "type": "invalid_request_error"}});
    let server = FakeServer::start(vec![(CHAT, 404, body)]);
    for further in [&[][..], &["--stream"]] {
        let called = run(&server, &[&["call", "support"], further].concat());
        assert_eq!(called.code, Some(1));
        assert!(
            called
                .stderr
                .starts_with("error: app `support` does not exist\n"),
            "{}",
            called.stderr
        );
    }
}

#[test]
fn calls_are_shown_whole_and_harmless() {
    let call = json!({
        "id": "c-1", "started_at": "2020-01-02T03:04:05Z", "app": "support", "environment": "production",
        "manifest": "ab".repeat(32), "status": "ok", "latency_us": 1_240_000, "cost_nano_usd": 1_200_000,
        "usage": {"input_tokens": 100, "output_tokens": 20, "cached_input_tokens": 0},
        "variables": {"ticket": "It is\nbroken."},
        "messages": [{"role": "user", "content": "Summarize: It is\nbroken."}],
        "output": "\u{1b}[2JBroken.", "feedback": [
            {"kind": "rating", "value": 5.0, "author": "ann", "created_at": "2020-01-02T03:04:06Z"}],
    });
    let summary = json!({"items": [{"id": "c-1", "started_at": "2020-01-02T03:04:05Z", "app": "support",
        "environment": "production", "manifest": "ab".repeat(32), "status": "ok", "latency_us": 900,
        "cost_nano_usd": 1_200_000, "output_preview": "\u{1b}[2JBroken."}], "next": null});
    let manifest = json!({"id": "ab".repeat(32)});
    let server = FakeServer::start(vec![
        ("GET /api/v1/calls/c-1", 200, call),
        ("GET /api/v1/manifests/abababababab", 200, manifest),
        (
            "GET /api/v1/calls?app=support&manifest=abababababababababababababababababababababababababababababababab&status=ok&since=2020-01-01T00%3A00%3A00Z&limit=50",
            200,
            summary,
        ),
    ]);
    let shown = run(&server, &["calls", "show", "c-1"]);
    let listed = run(
        &server,
        &[
            "calls",
            "list",
            "--app",
            "support",
            "--manifest",
            "abababababab",
            "--status",
            "ok",
            "--since",
            "2020-01-01",
        ],
    );
    let folder = std::path::Path::new("/nowhere");
    let transcript = shown.portable(folder, &server.url) + &listed.portable(folder, &server.url);
    assert!(!transcript.contains('\u{1b}'));
    crate::snapshot::assert_snapshot("calls", &transcript);
}

const CALL_ID: &str = "0197f2a0-0000-7000-8000-1a2b3c4d5e6f";

/// A server that knows calls with one end of their ids.
fn server_with_calls(ids: &[&str]) -> FakeServer {
    let item = |id: &&str| json!({"id": id, "app": "support", "status": "ok", "started_at": "2020-01-02T03:04:05Z"});
    let items: Vec<Value> = ids.iter().map(item).collect();
    let stored = json!({"items": [{"id": "f-1", "stored": "stored"}]});
    let call = json!({"id": CALL_ID, "status": "ok"});
    FakeServer::start(vec![
        (
            "GET /api/v1/calls?id=1a2b3c4d5e6f&limit=6",
            200,
            json!({"items": items, "next": null}),
        ),
        (
            "GET /api/v1/calls/0197f2a0-0000-7000-8000-1a2b3c4d5e6f",
            200,
            call,
        ),
        ("POST /api/v1/feedback", 201, stored),
    ])
}

#[test]
fn a_part_of_an_id_stands_for_its_call() {
    let server = server_with_calls(&[CALL_ID]);
    let shown = run(&server, &["calls", "show", "1a2b3c4d5e6f"]);
    assert!(shown.stdout.contains(CALL_ID), "{}", shown.transcript());
    let send = ["feedback", "send", "1a2b3c4d5e6f", "--thumbs", "up"];
    let sent = run(&server, &send);
    assert_eq!(sent.code, Some(0), "{}", sent.transcript());
    assert!(!sent.stderr.contains("warning"), "{}", sent.stderr);
    assert_eq!(server.asked().last().unwrap().body["call_id"], CALL_ID);
}

#[test]
fn a_part_that_fits_several_calls_lists_them() {
    let other = CALL_ID.replace("f2a0", "f2a1");
    let server = server_with_calls(&[CALL_ID, &other]);
    for arguments in [
        &["calls", "show", "1a2b3c4d5e6f"][..],
        &["feedback", "send", "1a2b3c4d5e6f", "--thumbs", "up"],
    ] {
        let refused = run(&server, arguments);
        assert_eq!(refused.code, Some(1));
        for expected in ["`1a2b3c4d5e6f` fits several calls", CALL_ID, &other] {
            assert!(refused.stderr.contains(expected), "{}", refused.stderr);
        }
    }
    assert!(server.lines().iter().all(|line| line.starts_with("GET ")));
}

#[test]
fn feedback_on_a_call_that_is_not_known_yet_is_sent_and_said() {
    let server = server_with_calls(&[]);
    for id in ["1a2b3c4d5e6f", "c"] {
        let sent = run(&server, &["feedback", "send", id, "--thumbs", "up"]);
        assert_eq!(
            (sent.code, sent.stdout.as_str()),
            (Some(0), "stored as f-1\n")
        );
        let expected = format!("warning: no call `{id}` is known yet");
        assert!(sent.stderr.contains(&expected), "{}", sent.stderr);
        let missing = run(&server, &["calls", "show", id]);
        let expected = format!("error: there is no call `{id}`\nhint: ");
        assert!(missing.stderr.starts_with(&expected), "{}", missing.stderr);
    }
    let forbidden =
        json!({"title": "Forbidden", "status": 403, "code": "forbidden", "detail": "no"});
    let stored = json!({"items": [{"id": "f-1", "stored": "stored"}]});
    let server = FakeServer::start(vec![
        ("GET /api/v1/calls/c", 403, forbidden.clone()),
        ("GET /api/v1/calls/1a2b3c4d5e6f", 403, forbidden),
        ("POST /api/v1/feedback", 201, stored),
    ]);
    let sent = run(&server, &["feedback", "send", "c", "--thumbs", "up"]);
    assert_eq!(sent.code, Some(0), "{}", sent.transcript());
    assert!(!sent.stderr.contains("warning"), "{}", sent.stderr);
    let part = run(
        &server,
        &["feedback", "send", "1a2b3c4d5e6f", "--thumbs", "up"],
    );
    let expected =
        "warning: this key may not look calls up, so `1a2b3c4d5e6f` was taken for a whole id";
    assert!(part.stderr.contains(expected), "{}", part.transcript());
}

#[test]
fn each_kind_of_feedback_is_sent() {
    let stored = json!({"items": [{"id": "f-1", "stored": "stored"}]});
    let server = FakeServer::start(vec![("POST /api/v1/feedback", 201, stored)]);
    for (arguments, expected) in [
        (
            &["--thumbs", "up"][..],
            json!({"call_id": "c", "kind": "thumbs", "value": true}),
        ),
        (
            &["--rating", "4"],
            json!({"call_id": "c", "kind": "rating", "value": 4.0}),
        ),
        (
            &["--rating", "-1", "--scale", "-1..1"],
            json!({"call_id": "c", "kind": "rating", "value": -1.0, "scale": {"min": -1.0, "max": 1.0}}),
        ),
        (
            &["--comment", "too long", "--author", "ann"],
            json!({"call_id": "c", "kind": "comment", "text": "too long", "author": "ann"}),
        ),
        (
            &["--correction", "Yes."],
            json!({"call_id": "c", "kind": "correction", "text": "Yes."}),
        ),
        (
            &["--outcome", "handle_time=12.5"],
            json!({"call_id": "c", "kind": "outcome", "name": "handle_time", "value": 12.5}),
        ),
        (
            &["--outcome", "escalated=false"],
            json!({"call_id": "c", "kind": "outcome", "name": "escalated", "value": false}),
        ),
    ] {
        let sent = run(&server, &[&["feedback", "send", "c"], arguments].concat());
        assert_eq!(
            (sent.code, sent.stdout.as_str()),
            (Some(0), "stored as f-1\n"),
            "{}",
            sent.stderr
        );
        assert_eq!(server.asked().last().unwrap().body, expected);
    }
}
