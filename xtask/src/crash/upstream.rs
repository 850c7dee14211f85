//! A provider in the format of OpenAI whose answers follow from the question, and take their time.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use crate::random::Random;

/// Lists show the first 200 characters of an output, so whole answers stay below.
const WORDS: [&str; 8] = [
    "prompt",
    "réponse",
    "語",
    "rollback",
    "a\tb",
    "\"quoted\"",
    "🙂",
    "line\nbreak",
];

/// What the model says to a token.
pub(super) fn answer_to(token: &str) -> String {
    pieces_of(token).concat()
}

fn pieces_of(token: &str) -> Vec<String> {
    let mut random = Random::of_text(token);
    let count = random.within(2..13);
    let words = (0..count).filter_map(|_| random.one_of(&WORDS).map(|word| format!(" {word}")));
    [token.to_owned()].into_iter().chain(words).collect()
}

/// The provider. It answers until it is dropped.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    asked: Asked,
    _accepting: JoinSet<()>,
}

/// The tokens it was asked about.
type Asked = Arc<Mutex<HashSet<String>>>;

impl Upstream {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .context("the provider cannot listen")?;
        let address = listener.local_addr()?;
        let asked = Asked::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&asked)));
        Ok(Self {
            address,
            asked,
            _accepting: accepting,
        })
    }

    /// Everything it was asked about since this was called last.
    pub(super) fn take_asked(&self) -> HashSet<String> {
        std::mem::take(&mut *lock(&self.asked))
    }
}

fn lock(asked: &Asked) -> MutexGuard<'_, HashSet<String>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, asked: Asked) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        // Without it the system holds the small pieces of a stream back.
        let _ = stream.set_nodelay(true);
        let asked = Arc::clone(&asked);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&asked)));
            // The other side is killed again and again; that connections break is the point.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Asked,
) -> Result<Response<Pieces>, hyper::Error> {
    let bytes = request.into_body().collect().await?.to_bytes();
    let question: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let last = question["messages"].as_array().and_then(|all| all.last());
    let content = last.and_then(|message| message["content"].as_str());
    let Some(token) = content.and_then(|text| text.split_whitespace().last()) else {
        let mut response = Response::new(Pieces::at_once("{\"error\":{\"message\":\"no token\"}}"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    lock(&asked).insert(token.to_owned());
    let (pieces, content_type) = if question["stream"] == true {
        (stream_of(token), "text/event-stream")
    } else {
        (whole_of(token), "application/json")
    };
    let mut response = Response::new(pieces);
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

fn whole_of(token: &str) -> Pieces {
    let message = json!({"role": "assistant", "content": answer_to(token)});
    let completion = json!({
        "id": format!("up-{token}"),
        "object": "chat.completion",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 11, "total_tokens": 18},
    });
    let wait = Random::of_text(token).milliseconds(1..60);
    Pieces::new([(wait, completion.to_string())])
}

fn stream_of(token: &str) -> Pieces {
    let mut random = Random::of_text(token);
    let chunk = |delta: Value, finish_reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
        let chunk = json!({
            "id": format!("up-{token}"),
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "fake",
            "choices": [choice],
        });
        format!("data: {chunk}\n\n")
    };
    let mut events = vec![chunk(
        json!({"role": "assistant", "content": ""}),
        Value::Null,
    )];
    let contents = pieces_of(token).into_iter();
    events.extend(contents.map(|piece| chunk(json!({"content": piece}), Value::Null)));
    events.push(chunk(json!({}), "stop".into()));
    events.push("data: [DONE]\n\n".to_owned());
    Pieces::new(
        events
            .into_iter()
            .map(|event| (random.milliseconds(0..30), event)),
    )
}

/// A body whose pieces come one by one, each after its wait.
struct Pieces {
    left: VecDeque<(Duration, Bytes)>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    fn new(pieces: impl IntoIterator<Item = (Duration, String)>) -> Self {
        let pieces = pieces.into_iter();
        Self {
            left: pieces.map(|(wait, text)| (wait, text.into())).collect(),
            waiting: None,
        }
    }

    fn at_once(text: &str) -> Self {
        Self::new([(Duration::ZERO, text.to_owned())])
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((wait, _)) = self.left.front() else {
            return Poll::Ready(None);
        };
        let wait = *wait;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(wait)));
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        let piece = self.left.pop_front().map(|(_, bytes)| bytes);
        Poll::Ready(piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_follow_from_the_token_and_fit_a_preview() {
        for number in 0..200 {
            let token = format!("r{number}-whole0n1");
            let answer = answer_to(&token);
            assert_eq!(answer, answer_to(&token));
            assert!(answer.starts_with(&token));
            assert!(answer.chars().count() < 200, "{answer}");
        }
        assert_ne!(answer_to("a"), answer_to("b"));
    }
}
