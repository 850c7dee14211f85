//! `flywheel push` and `flywheel pull`.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::fake_server::FakeServer;
use crate::run::{Run, flywheel};
use crate::snapshot::assert_snapshot;

const SUMMARY: &str = "\
---
prompt: support/summary
model: smollm2:135m
description: First version
params: {temperature: 0.5}
---

# user
Summarize: {ticket}
";

const MODELS: &str = "\
models:
  - model: smollm2:135m
    provider: local
    aliases: [stable]
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn run(server: &FakeServer, command: &[&str], folder: &Path, further: &[&str]) -> Run {
    let path = folder.display().to_string();
    flywheel(&[&["--url", &server.url], command, &[&path], further].concat())
}

#[test]
fn a_folder_is_pushed_as_one() {
    let folder = folder(&[
        ("support/summary.prompt.md", SUMMARY),
        ("models.yaml", MODELS),
        ("README.md", "no prompt"),
        (".git/old.prompt.md", "not ours"),
    ]);
    let answer = json!({
        "models": [{"model_id": "smollm2", "model_version": "135m", "created": true, "changed": false}],
        "prompts": [{"prompt": "support/summary", "version": "ab".repeat(32), "ordinal": 1, "created": true}],
    });
    let server = FakeServer::start(vec![("POST /api/v1/push", 200, answer.clone())]);
    let pushed = run(&server, &["push"], folder.path(), &["--message", "Shorter"]);
    assert_snapshot("push", &pushed.portable(folder.path(), &server.url));

    let sent = &server.asked()[0].body;
    assert_eq!(sent["prompts"][0]["prompt"], "support/summary");
    assert_eq!(sent["prompts"][0]["description"], "Shorter");
    assert_eq!(
        sent["prompts"][0]["content"]["messages"][0]["content"],
        "Summarize: {ticket}"
    );
    assert_eq!(sent["models"][0]["provider_model"], "smollm2");
    assert_eq!(sent["models"][0]["aliases"], json!(["stable"]));

    let json = run(&server, &["push"], folder.path(), &["--json"]);
    assert_eq!(json.json(), answer);
    assert_eq!(json.stderr, "");
}

#[test]
fn mistakes_in_files_are_all_told_and_nothing_is_sent() {
    let folder = folder(&[
        (
            "a.prompt.md",
            "---\nprompt: a\nmodel: m:1\nparams: {top_p: 7}\n---\n\n# user\nHello {name\n",
        ),
        ("b.prompt.md", "no front matter\n"),
        ("c.prompt.md", SUMMARY),
        ("models.yaml", "models:\n  - model: m:1\n"),
    ]);
    let server = FakeServer::start(vec![]);
    let refused = run(&server, &["push"], folder.path(), &[]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(refused.stdout, "");
    assert!(server.asked().is_empty());
    let lines: Vec<&str> = refused.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{}", refused.stderr);
    for (line, start) in lines.iter().zip([
        "a.prompt.md:4:",
        "a.prompt.md:8:",
        "b.prompt.md:1:1: ",
        "models.yaml:2:",
    ]) {
        let path = format!("{}/{start}", folder.path().display());
        assert!(line.starts_with(&path), "{line}");
    }
}

#[test]
fn models_that_cannot_serve_are_told() {
    let folder = folder(&[
        ("a.prompt.md", SUMMARY),
        ("b.prompt.md", &SUMMARY.replace("smollm2:135m", "gpt:1")),
    ]);
    let models = json!({"items": [{"model_id": "gpt", "model_version": "1", "provider": "azure",
        "problem": "provider `azure` is not in the configuration"}], "next": null});
    let server = FakeServer::start(vec![
        (
            "POST /api/v1/push",
            200,
            json!({"models": [], "prompts": []}),
        ),
        ("GET /api/v1/models", 200, models),
    ]);
    for further in [&[][..], &["--dry-run"]] {
        let pushed = run(&server, &["push"], folder.path(), further);
        assert_eq!(pushed.code, Some(0), "{}", pushed.transcript());
        for expected in [
            "warning: model `gpt:1` cannot serve: provider `azure` is not in the configuration\n",
            "warning: model `smollm2:135m` cannot serve: it is not registered",
        ] {
            assert!(pushed.stderr.contains(expected), "{}", pushed.stderr);
        }
    }
}

#[test]
fn what_the_server_refuses_is_told_by_file() {
    let folder = folder(&[("a.prompt.md", SUMMARY), ("models.yaml", MODELS)]);
    let problem = json!({
        "title": "Unprocessable Content", "status": 422, "code": "invalid",
        "detail": "2 items are wrong; nothing was stored",
        "errors": [{"kind": "model", "index": 0, "detail": "provider `local` is not configured"},
                   {"kind": "prompt", "index": 0, "detail": "model `smollm2:135m` is not registered"}],
    });
    let server = FakeServer::start(vec![("POST /api/v1/push", 422, problem)]);
    let refused = run(&server, &["push"], folder.path(), &[]);
    assert_snapshot(
        "push-refused",
        &refused.portable(folder.path(), &server.url),
    );
}

#[test]
fn a_dry_run_only_asks() {
    let folder = folder(&[("a.prompt.md", SUMMARY)]);
    let server = FakeServer::start(vec![]);
    let dry = run(&server, &["push"], folder.path(), &["--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.transcript());
    assert!(dry.stdout.contains("new"), "{}", dry.stdout);
    assert!(
        server.lines().iter().all(|line| line.starts_with("GET ")),
        "{:?}",
        server.lines()
    );
}

#[test]
fn an_empty_folder_has_nothing_to_push() {
    let folder = folder(&[("README.md", "")]);
    let server = FakeServer::start(vec![]);
    let refused = run(&server, &["push"], folder.path(), &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("has no files named *.prompt.md"),
        "{}",
        refused.stderr
    );
}

/// A server whose only prompt has this temperature in its latest version.
fn server_with(temperature: f64) -> FakeServer {
    let content = json!({
        "template_format": "fstring", "model_id": "smollm2", "model_version": "135m",
        "params": {"temperature": temperature},
        "messages": [{"role": "user", "content": "Summarize: {ticket}"}],
    });
    let version = json!({"prompt": "support/summary", "ordinal": 2, "version": "cd".repeat(32),
                         "description": "First version", "labels": [], "content": content});
    let prompts = json!({"items": [{"name": "support/summary", "versions": 1}], "next": null});
    FakeServer::start(vec![
        ("GET /api/v1/prompts", 200, prompts),
        (
            "GET /api/v1/prompts/support%2Fsummary/versions/latest",
            200,
            version,
        ),
        (
            "GET /api/v1/models",
            200,
            json!({"items": [], "next": null}),
        ),
    ])
}

#[test]
fn what_was_pulled_says_what_the_server_says() {
    let folder = tempfile::tempdir().unwrap();
    let server = server_with(0.5);
    let pulled = run(&server, &["pull"], folder.path(), &[]);
    assert_snapshot("pull", &pulled.portable(folder.path(), &server.url));
    let path = folder.path().join("support/summary.prompt.md");
    assert!(
        fs::read_to_string(&path)
            .unwrap()
            .contains("prompt: support/summary")
    );

    let again = run(&server, &["pull"], folder.path(), &["--json"]);
    assert_eq!(again.json()["written"], json!([]));
    assert_eq!(again.json()["unchanged"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_file_that_says_the_same_is_left_as_it_is() {
    let ours = format!("{}\n\n", SUMMARY.replace("params:", "# how warm\nparams:"));
    let folder = folder(&[("our-own-name.prompt.md", &ours)]);
    let server = server_with(0.5);
    let pulled = run(&server, &["pull"], folder.path(), &["--force", "--json"]);
    assert_eq!(
        pulled.json()["written"],
        json!([]),
        "{}",
        pulled.transcript()
    );
    let path = folder.path().join("our-own-name.prompt.md");
    assert_eq!(fs::read_to_string(&path).unwrap(), ours);
    // What is new of the prompt goes into the file that has it.
    let newer = server_with(0.9);
    let pulled = run(&newer, &["pull"], folder.path(), &["--force"]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.transcript());
    assert!(fs::read_to_string(&path).unwrap().contains("0.9"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn changes_that_are_nowhere_else_are_not_overwritten() {
    let folder = folder(&[("support/summary.prompt.md", SUMMARY)]);
    let path = folder.path().join("support/summary.prompt.md");
    let server = server_with(0.9);
    let refused = run(&server, &["pull"], folder.path(), &[]);
    assert_snapshot(
        "pull-refused",
        &refused.portable(folder.path(), &server.url),
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), SUMMARY);
    let forced = run(&server, &["pull"], folder.path(), &["--force"]);
    assert_eq!(forced.code, Some(0), "{}", forced.transcript());
    assert!(fs::read_to_string(&path).unwrap().contains("0.9"));
}

#[test]
fn hostile_names_do_not_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = json!({"items": [{"name": "a/../../../evil"}], "next": null});
    let server = FakeServer::start(vec![("GET /api/v1/prompts", 200, prompts)]);
    let refused = run(&server, &["pull"], folder.path(), &[]);
    assert_eq!(refused.code, Some(1));
    assert_eq!(server.lines().len(), 1, "nothing more is asked for");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_list_of_several_pages_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let page = |name: &str, next: Option<&str>| json!({"items": [{"name": name}], "next": next});
    let server = FakeServer::start(vec![
        ("GET /api/v1/prompts", 200, page("a", Some("a"))),
        (
            "GET /api/v1/prompts?limit=1000&cursor=a",
            200,
            page("b", None),
        ),
        ("GET /api/v1/prompts/a/versions/latest", 200, latest("a")),
        ("GET /api/v1/prompts/b/versions/latest", 200, latest("b")),
        ("GET /api/v1/models", 200, json!({"items": []})),
    ]);
    let pulled = run(&server, &["pull"], folder.path(), &[]);
    assert_eq!(pulled.code, Some(0), "{}", pulled.transcript());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

fn latest(prompt: &str) -> serde_json::Value {
    let content = json!({"template_format": "fstring", "model_id": "m", "model_version": "1",
        "messages": [{"role": "user", "content": "x"}]});
    json!({"prompt": prompt, "ordinal": 1, "labels": [], "content": content})
}
