//! Anthropic and Azure through the whole path, with answers as these providers give them.

use std::time::Duration;

use flywheel_core::call::CallStatus;
use flywheel_core::model::Usage;
use flywheel_gateway::error::Culprit;
use flywheel_gateway::provider::anthropic::{AnthropicFormat, AnthropicOptions};
use flywheel_gateway::provider::azure::{AzureFormat, AzureOptions};
use flywheel_gateway::secret::Secret;
use flywheel_gateway::testsuite::Reply;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, content};
use crate::clock::NOW;
use crate::collect::{complete, failure, joined, stream};

fn anthropic() -> Setup {
    let params = json!({"temperature": 0.2, "max_tokens": 50, "stop": ["END"]});
    Setup {
        content: content(json!({"params": params})),
        connect: Box::new(|provider, options| {
            let api_key = Some(Secret::new("sk-ant-1"));
            let format = AnthropicOptions {
                api_key,
                ..AnthropicOptions::default()
            };
            provider.endpoint("fake", AnthropicFormat::new(format).unwrap(), options)
        }),
        ..Setup::default()
    }
}

const MESSAGE: &str = r#"{"id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant",
"model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":"Hello Ada, 你好"}],
"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":25,
"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":15,
"service_tier":"standard"}}"#;

const EVENTS: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type": "ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello Ada"}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":", 你好"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}

event: message_stop
data: {"type":"message_stop"}

"#;

const CLAUDE_USAGE: Usage = Usage {
    input_tokens: 30,
    output_tokens: 15,
    cached_input_tokens: 5,
};

#[tokio::test(start_paused = true)]
async fn anthropic_whole() {
    let app = TestApp::with(anthropic(), [Reply::new(200, "application/json", MESSAGE)]).await;
    let (completion, recorded) = complete(app.ask(json!({"user": "u1"})).await);
    assert!(recorded);
    let sent = app.provider.request(1).await;
    assert_eq!(sent.path_and_query, "/v1/messages");
    assert_eq!(sent.header("x-api-key"), Some("sk-ant-1"));
    assert_eq!(sent.header("authorization"), None);
    let body = sent.json();
    assert_eq!(body["model"], "m-at-provider");
    assert_eq!(body["max_tokens"], 50);
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert!(body["system"].to_string().contains("You greet."), "{body}");
    assert_eq!(body["messages"].as_array().unwrap().len(), 1);
    assert_eq!(completion["object"], "chat.completion");
    assert_eq!(
        completion["created"], NOW,
        "the format has no time of its own"
    );
    assert_eq!(
        completion["choices"][0]["message"]["content"],
        "Hello Ada, 你好"
    );
    assert_eq!(completion["choices"][0]["finish_reason"], "stop");
    let call = app.store.call(1).await;
    assert_eq!(completion["id"], call.id.as_str());
    assert_eq!(call.facts.usage, Some(CLAUDE_USAGE));
    assert!(call.facts.cost_nano_usd.is_some());
    assert_eq!(
        call.content.messages[0]["role"], "system",
        "recorded as rendered"
    );
}

#[tokio::test(start_paused = true)]
async fn anthropic_streamed() {
    for bytes in [1, 11, 100_000] {
        let reply = Reply::stream(EVENTS).in_pieces_of(bytes);
        let app = TestApp::with(anthropic(), [reply]).await;
        let further = json!({"stream": true, "stream_options": {"include_usage": true}});
        let chunks = stream(app.ask(further).await).until_done().await;
        assert_eq!(app.provider.request(1).await.json()["stream"], true);
        assert_eq!(joined(&chunks, 0), "Hello Ada, 你好");
        assert!(
            chunks.iter().all(|chunk| chunk["created"] == NOW),
            "{chunks:?}"
        );
        let last = chunks.last().unwrap();
        assert_eq!(last["usage"]["prompt_tokens"], 30);
        assert_eq!(last["flywheel"]["recorded"], true);
        let call = app.store.call(1).await;
        assert_eq!(call.facts.usage, Some(CLAUDE_USAGE));
        assert_eq!(call.facts.finish_reason.as_deref(), Some("stop"));
    }
}

#[tokio::test(start_paused = true)]
async fn anthropic_failing() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error",
        "message": "Overloaded"}});
    let event = format!("event: error\ndata: {error}\n\n");
    let cut = EVENTS.find("event: content_block_stop").unwrap();
    for (reply, is_retried) in [
        (Reply::json(529, &error), true),
        (Reply::stream(event.clone()), true),
        (Reply::stream(format!("{}{event}", &EVENTS[..cut])), false),
        (Reply::stream(&EVENTS[..cut]), false),
    ] {
        let app = TestApp::with(anthropic(), [reply.event_by_event(), Reply::stream(EVENTS)]).await;
        let asking = app.begin(json!({"stream": true}));
        if is_retried {
            app.jitter.drawn(1).await;
            tokio::time::advance(Duration::from_secs(1)).await;
            let chunks = stream(asking.await.unwrap()).until_done().await;
            assert_eq!(joined(&chunks, 0), "Hello Ada, 你好");
            continue;
        }
        let events = stream(asking.await.unwrap()).whatever_comes().await;
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert!(last["error"]["message"].is_string(), "{last}");
        let call = app.store.call(1).await;
        assert_eq!(call.facts.status, CallStatus::ProviderError);
        assert_eq!(call.content.output.as_deref(), Some("Hello Ada, 你好"));
    }
}

/// What a provider cannot be asked for is refused by name, without asking it.
#[tokio::test(start_paused = true)]
async fn anthropic_refuses_what_it_cannot_do() {
    for member in ["seed", "n", "logit_bias"] {
        let app = TestApp::with(anthropic(), []).await;
        let value = if member == "logit_bias" {
            json!({"1": 2})
        } else {
            json!(2)
        };
        let error = failure(app.ask(json!({member: value})).await);
        assert_eq!(error.failure.status().as_u16(), 400, "{error}");
        assert!(
            error.to_string().contains(&format!("`{member}`")),
            "{error}"
        );
        assert!(app.provider.received().is_empty());
        assert_eq!(
            app.store.call(1).await.facts.error_kind.as_deref(),
            Some("unsupported")
        );
        assert!(!app.endpoint.breaker.is_open());
    }
}

fn azure() -> Setup {
    Setup {
        connect: Box::new(|provider, options| {
            let api_key = Some(Secret::new("azure-key-1"));
            let format = AzureOptions {
                api_key,
                ..AzureOptions::default()
            };
            provider.endpoint("fake", AzureFormat::new(format).unwrap(), options)
        }),
        ..Setup::default()
    }
}

const AZURE_EVENTS: &str = r#"data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}

data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":1735689600,"id":"chatcmpl-a","model":"gpt-4o-mini-2024-07-18","object":"chat.completion.chunk","system_fingerprint":"fp_a","usage":null}

data: {"choices":[{"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"delta":{"content":"Hello Ada"},"finish_reason":null,"index":0,"logprobs":null}],"created":1735689600,"id":"chatcmpl-a","model":"gpt-4o-mini-2024-07-18","object":"chat.completion.chunk","system_fingerprint":"fp_a","usage":null}

data: {"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"stop","index":0,"logprobs":null}],"created":1735689600,"id":"chatcmpl-a","model":"gpt-4o-mini-2024-07-18","object":"chat.completion.chunk","system_fingerprint":"fp_a","usage":null}

data: {"choices":[],"created":1735689600,"id":"chatcmpl-a","model":"gpt-4o-mini-2024-07-18","object":"chat.completion.chunk","system_fingerprint":"fp_a","usage":{"completion_tokens":9,"prompt_tokens":12,"total_tokens":21}}

data: [DONE]

"#;

#[tokio::test(start_paused = true)]
async fn azure_streamed() {
    let app = TestApp::with(azure(), [Reply::stream(AZURE_EVENTS).in_pieces_of(13)]).await;
    let lines = stream(app.ask(json!({"stream": true})).await);
    let id = lines.about.call_id.clone();
    let chunks = lines.until_done().await;
    let sent = app.provider.request(1).await;
    assert_eq!(
        sent.path_and_query,
        "/v1/openai/deployments/m-at-provider/chat/completions?api-version=2024-10-21"
    );
    assert_eq!(sent.header("api-key"), Some("azure-key-1"));
    assert_eq!(sent.json().get("model"), None);
    assert_eq!(joined(&chunks, 0), "Hello Ada");
    assert!(chunks.iter().all(|chunk| chunk["id"] == id.as_str()));
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["flywheel"]["recorded"], true);
    let usage = Usage {
        input_tokens: 12,
        output_tokens: 9,
        cached_input_tokens: 0,
    };
    assert_eq!(app.store.call(1).await.facts.usage, Some(usage));
}

#[tokio::test(start_paused = true)]
async fn azure_refusing() {
    let filtered = json!({"error": {"message": "The response was filtered", "type": null,
        "param": "prompt", "code": "content_filter", "status": 400}});
    let app = TestApp::with(azure(), [Reply::json(400, &filtered)]).await;
    let error = failure(app.ask(json!({})).await);
    assert_eq!(
        (error.failure.code(), error.failure.culprit()),
        ("content_filter", Culprit::Client)
    );
    assert_eq!(error.failure.status().as_u16(), 400);
    assert_eq!(app.provider.received().len(), 1);
}
