//! Values that the cases write.

use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_core::deployment::DeploymentKind;
use flywheel_core::feedback::{Feedback, FeedbackBody};
use flywheel_core::model::Usage;
use flywheel_core::prompt::{PromptContent, PromptVersion};
use flywheel_core::{ContentHash, Manifest, PromptVersionId};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::deployments::NewDeployment;
use crate::prompts::NewPromptVersion;
use crate::{NewEvent, StateStore};

/// Text of every awkward kind: other scripts, combining and wide characters, quotes, NUL, line ends of all sorts.
pub const AWKWARD: &str =
    "naïve 用户 👩‍👩‍👧 \u{202e}rtl \"q\" 'q' \\ % _ \r\n\t \0 after \u{1f} e\u{301}";

/// A moment so many seconds after a fixed one, with microseconds.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond((1_700_000_000 + seconds) * 1_000_000 + 123_456).unwrap()
}

/// Reads a name.
pub fn name<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// Content with one message.
pub fn content(text: &str) -> PromptContent {
    serde_json::from_value(json!({
        "template_format": "jinja",
        "messages": [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": text},
        ],
        "model_id": "gpt-4o-mini",
        "model_version": "2024-07-18",
        "params": {"temperature": 0.1, "top_p": 0.123_456_789_012_345_68, "stop": ["END"]},
        "variables_schema": {"properties": {"a": {"const": null}}},
    }))
    .unwrap()
}

/// A version to be registered.
pub fn new_version(prompt: &str, text: &str) -> NewPromptVersion {
    NewPromptVersion {
        prompt: name(prompt),
        content: content(text),
        author: "ada".to_owned(),
        description: format!("says {text}"),
        created_at: at(0),
    }
}

/// Registers a version in a transaction of its own.
pub async fn registered(store: &dyn StateStore, prompt: &str, text: &str) -> PromptVersion {
    let mut transaction = store.begin().await.unwrap();
    let registered = transaction
        .prompts()
        .register(new_version(prompt, text))
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    registered.version
}

/// A manifest with a prompt version.
pub fn manifest(prompt: &str, version: PromptVersionId) -> Manifest {
    Manifest {
        model_id: name("gpt-4o-mini"),
        model_version: name("2024-07-18"),
        prompt_id: name(prompt),
        prompt_version: version,
        retriever_index_version: None,
        guards_version: None,
    }
}

/// A deployment of a manifest.
pub fn new_deployment(app: &str, environment: &str, manifest: ContentHash) -> NewDeployment {
    NewDeployment {
        app: name(app),
        environment: name(environment),
        manifest,
        previous_manifest: None,
        kind: DeploymentKind::Deploy,
        actor: "ada".to_owned(),
        reason: "better".to_owned(),
        created_at: at(0),
        forced_over: Vec::new(),
    }
}

/// A call with nothing but what every call has.
pub fn bare_call(id: &str, started_at: Timestamp) -> Call {
    Call {
        id: id.to_owned(),
        started_at,
        facts: CallFacts {
            app: None,
            environment: None,
            manifest: None,
            prompt: None,
            prompt_version: None,
            model_id: None,
            model_version: None,
            experiment: None,
            arm: None,
            unit: None,
            session: None,
            tags: Map::new(),
            idempotency_key: None,
            request_hash: None,
            redacted: false,
            status: CallStatus::Ok,
            error_kind: None,
            finish_reason: None,
            tool_success: None,
            streamed: false,
            fallback: false,
            attempts: 1,
            latency_us: Some(1000),
            first_byte_us: None,
            overhead_us: None,
            usage: None,
            cost_nano_usd: None,
        },
        content: CallContent::default(),
    }
}

/// A call of an app with an answer.
pub fn call(id: &str, app: &str, started_at: Timestamp) -> Call {
    let mut call = bare_call(id, started_at);
    call.facts.app = Some(name(app));
    call.facts.environment = Some(name("production"));
    call.content.messages = vec![json!({"role": "user", "content": format!("question {id}")})];
    call.content.output = Some(format!("answer {id}"));
    call
}

/// A call with everything that a call can have.
pub fn full_call(id: &str, started_at: Timestamp) -> Call {
    let mut call = call(id, "support", started_at);
    let facts = &mut call.facts;
    facts.manifest = Some(ContentHash::of_bytes(b"manifest"));
    facts.prompt = Some(name("team/summary:v2"));
    facts.prompt_version = Some(ContentHash::of_bytes(b"prompt"));
    facts.model_id = Some(name("gpt-4o-mini"));
    facts.model_version = Some(name("2024-07-18"));
    facts.experiment = Some(name("tone"));
    facts.arm = Some(name("control"));
    facts.unit = Some(format!("unit {AWKWARD}"));
    facts.session = Some("session".to_owned());
    facts.tags = members(json!({"tier": "gold", "n": 0.1, "none": null, "list": [1, "x"]}));
    facts.idempotency_key = Some(format!("key-{id}"));
    facts.request_hash = Some(ContentHash::of_bytes(b"request"));
    facts.redacted = true;
    facts.status = CallStatus::InvalidOutput;
    facts.error_kind = Some("schema".to_owned());
    facts.finish_reason = Some("stop".to_owned());
    facts.tool_success = Some(false);
    facts.streamed = true;
    facts.fallback = true;
    facts.attempts = u32::MAX;
    facts.latency_us = Some(1 << 52);
    facts.first_byte_us = Some(0);
    facts.overhead_us = Some(7);
    facts.usage = Some(Usage {
        input_tokens: 3,
        output_tokens: 0,
        cached_input_tokens: 2,
    });
    facts.cost_nano_usd = Some(-5);
    call.content = CallContent {
        variables: members(json!({"text": AWKWARD, "n": 1e300, "deep": {"x": [null, {}]}})),
        messages: vec![
            json!({"role": "system", "content": AWKWARD}),
            json!({"role": "user", "content": [{"type": "text", "text": "parts"}]}),
        ],
        output: Some(AWKWARD.to_owned()),
        raw_output: Some(String::new()),
        tool_calls: Some(json!([{"id": "t", "function": {"name": "f", "arguments": "{}"}}])),
        error: Some("it broke".to_owned()),
    };
    call
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A piece of feedback.
pub fn feedback(id: &str, call_id: &str, body: FeedbackBody, created_at: Timestamp) -> Feedback {
    Feedback {
        id: id.to_owned(),
        call_id: call_id.to_owned(),
        body,
        author: None,
        created_at,
    }
}

/// A thumb.
pub fn thumbs(value: bool) -> FeedbackBody {
    FeedbackBody::Thumbs { value }
}

/// An outcome.
pub fn outcome(outcome: &str, value: f64) -> FeedbackBody {
    FeedbackBody::Outcome {
        name: outcome.to_owned(),
        value,
    }
}

/// Calls as events.
pub fn call_events(calls: impl IntoIterator<Item = Call>) -> Vec<NewEvent> {
    calls
        .into_iter()
        .map(|call| NewEvent::Call(Box::new(call)))
        .collect()
}

/// Feedback as events.
pub fn feedback_events(pieces: impl IntoIterator<Item = Feedback>) -> Vec<NewEvent> {
    pieces
        .into_iter()
        .map(|piece| NewEvent::Feedback(Box::new(piece)))
        .collect()
}
