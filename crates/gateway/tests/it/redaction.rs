//! Personal data is passed on, and stored without.

use flywheel_core::redaction::{BuiltinPattern, Redactor};
use flywheel_gateway::testsuite::{Reply, samples};
use serde_json::json;

use crate::app::{Setup, TestApp};
use crate::collect::{complete, failure, joined, stream};

const MAIL: &str = "ada@example.org";

fn redacting() -> Setup {
    let custom = [("ticket".to_owned(), "TCK-[0-9]+".to_owned())];
    let redactor = Redactor::new(&BuiltinPattern::ALL, &custom).unwrap();
    Setup {
        redactor,
        ..Setup::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_of_a_whole_answer_is_redacted() {
    let calls = json!([{"id": "c1", "type": "function",
        "function": {"name": "mail", "arguments": format!("{{\"to\": \"{MAIL}\"}}")}}]);
    let message = json!({"role": "assistant", "content": format!("Hi {MAIL}, see TCK-17"),
        "tool_calls": calls});
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let app = TestApp::with(
        redacting(),
        [Reply::json(200, &samples::completion_of(&[choice]))],
    )
    .await;
    let further = json!({
        "messages": [{"role": "user", "content": [{"type": "text", "text": format!("I am {MAIL}")}]}],
        "flywheel": {"variables": {"name": MAIL}, "tags": {"contact": MAIL}},
    });
    let (completion, _) = complete(app.ask(further).await);
    assert!(
        app.provider
            .request(1)
            .await
            .json()
            .to_string()
            .contains(MAIL)
    );
    assert!(
        json!(completion).to_string().contains(MAIL),
        "the caller gets what was said"
    );
    let call = app.store.call(1).await;
    let stored = json!(call).to_string();
    assert!(
        !stored.contains(MAIL) && !stored.contains("TCK-17"),
        "{stored}"
    );
    assert_eq!(
        call.content.output.as_deref(),
        Some("Hi [email], see [ticket]")
    );
    assert_eq!(call.content.variables["name"], "[email]");
    assert_eq!(call.facts.tags["contact"], "[email]");
}

/// Split over several chunks, it is found all the same.
#[tokio::test(start_paused = true)]
async fn what_is_stored_of_a_stream_is_redacted() {
    let words = ["I am a", "da@exam", "ple.o", "rg."];
    let app = TestApp::with(redacting(), [Reply::stream(samples::stream_of(&words))]).await;
    let chunks = stream(app.ask(json!({"stream": true})).await)
        .until_done()
        .await;
    assert_eq!(joined(&chunks, 0), "I am ada@example.org.");
    assert_eq!(
        app.store.call(1).await.content.output.as_deref(),
        Some("I am [email].")
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_of_a_failure_is_redacted() {
    let reply = Reply::failure(400, &format!("`{MAIL}` is not allowed"));
    let app = TestApp::with(redacting(), [reply]).await;
    let error = failure(app.ask(json!({})).await);
    assert!(error.to_string().contains(MAIL));
    let stored = app.store.call(1).await.content.error.unwrap();
    assert!(stored.contains("`[email]` is not allowed"), "{stored}");
}
