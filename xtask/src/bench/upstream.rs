//! A provider that answers at once: OpenAI chat completions, whole or streamed.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Events with text in a streamed answer.
pub(super) const EVENTS: u32 = 32;

/// How a request asks for time between two events, in microseconds; other providers know no such member.
pub(super) const PAUSE: &str = "pause_us";

static ANSWER: LazyLock<Bytes> = LazyLock::new(|| {
    let text = "The customer wants a missing lamp. ".repeat(15);
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000,
        "model": "bench-model",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text},
            "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 110, "total_tokens": 360},
    });
    answer.to_string().into()
});

static LINES: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let line = |choices, usage| {
        let mut chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "bench-model", "choices": choices,
        });
        if usage {
            chunk["usage"] = json!({"prompt_tokens": 250, "completion_tokens": 32});
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let text =
        json!([{"index": 0, "delta": {"content": " sixteen letters"}, "finish_reason": null}]);
    let end = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
    let mut lines = vec![line(text, false); EVENTS as usize];
    lines.push(line(end, false));
    lines.push(line(json!([]), true));
    lines.push(Bytes::from_static(b"data: [DONE]\n\n"));
    lines
});

/// Answers until the process is ended.
pub(super) async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        // A client that closes its connection has had what it wanted.
        tokio::spawn(async move { drop(connection.await) });
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let (kind, body) = if text.contains("\"stream\":true") {
        ("text/event-stream", events(pause_of(text)))
    } else {
        ("application/json", Full::new(ANSWER.clone()).boxed_unsync())
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn pause_of(request: &str) -> Duration {
    let after = request.split_once(PAUSE).map_or("", |(_, after)| after);
    let digits = after.trim_start_matches(['"', ':']);
    let digits = digits.split(|letter: char| !letter.is_ascii_digit()).next();
    Duration::from_micros(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

/// The lines of a stream, each sent by itself, as a model makes them.
fn events(pause: Duration) -> Body {
    let begun = Instant::now();
    let lines = stream::unfold(0, move |number| async move {
        let line = LINES.get(number as usize)?.clone();
        if number > 0 && number < EVENTS && !pause.is_zero() {
            tokio::time::sleep_until(begun + pause * number).await;
        } else {
            tokio::task::yield_now().await;
        }
        Some((Ok(Frame::data(line)), number + 1))
    });
    StreamBody::new(lines).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_is_read() {
        for (request, expected) in [
            (r#"{"pause_us":1500,"stream":true}"#, 1500),
            (r#"{"stream":true,"pause_us":20}"#, 20),
            (r#"{"stream":true}"#, 0),
        ] {
            assert_eq!(
                pause_of(request),
                Duration::from_micros(expected),
                "{request}"
            );
        }
    }
}
