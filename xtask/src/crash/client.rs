//! A client of the server's API that tells an answer from a connection that broke.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

/// Longer than any request may take, SIGTERM's drain included.
const PATIENCE: Duration = Duration::from_secs(40);

pub(super) struct Client {
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    base: String,
    in_flight: AtomicUsize,
}

/// The connection could not be made, or broke before the whole answer was there.
#[derive(Debug)]
pub(super) struct Gone;

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

/// What came of a streamed chat.
#[derive(Default)]
pub(super) struct Streamed {
    pub(super) status: u16,
    pub(super) id: String,
    pub(super) text: String,
    /// What the last chunk said of the record.
    pub(super) recorded: Option<bool>,
    /// Whether `[DONE]` was read.
    pub(super) done: bool,
    /// What was sent in place of a chunk.
    pub(super) error: Option<String>,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build_http();
        let base = base.to_owned();
        Self {
            http,
            base,
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Requests whose answer is not there yet.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Gone> {
        self.send(Method::GET, path, None, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Gone> {
        self.send(Method::POST, path, None, body.to_string().into())
            .await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Bytes,
    ) -> Result<Answer, Gone> {
        let whole = async {
            let response = self.request(method, path, idempotency_key, body).await?;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.map_err(|_| Gone)?;
            let bytes = bytes.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
            let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
            Ok(Answer { status, body })
        };
        self.counted(whole).await
    }

    /// A streamed chat, read to its end, or left after so many chunks.
    pub(super) async fn stream(
        &self,
        body: &Value,
        leave_after: Option<usize>,
    ) -> Result<Streamed, Gone> {
        let path = "/v1/chat/completions";
        let read = async {
            let response = self
                .request(Method::POST, path, None, body.to_string().into())
                .await?;
            read_stream(response, leave_after).await
        };
        self.counted(read).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        idempotency_key: Option<&str>,
        body: Bytes,
    ) -> Result<Response<Incoming>, Gone> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::new(body)).map_err(|_| Gone)?;
        self.http.request(request).await.map_err(|_| Gone)
    }

    async fn counted<T>(&self, request: impl Future<Output = Result<T, Gone>>) -> Result<T, Gone> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let outcome = timeout(PATIENCE, request).await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        outcome.unwrap_or(Err(Gone))
    }
}

async fn read_stream(
    response: Response<Incoming>,
    leave_after: Option<usize>,
) -> Result<Streamed, Gone> {
    let mut streamed = Streamed {
        status: response.status().as_u16(),
        ..Streamed::default()
    };
    let mut body = response.into_body();
    let mut unread = Vec::new();
    let mut chunks = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Gone)?.into_data() else {
            continue;
        };
        unread.extend_from_slice(&data);
        while let Some(end) = unread.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = unread.drain(..end + 2).collect();
            streamed.take(&String::from_utf8_lossy(&event));
            chunks += 1;
        }
        if leave_after.is_some_and(|most| chunks >= most) {
            return Ok(streamed);
        }
    }
    if !unread.is_empty() && streamed.error.is_none() {
        streamed.error = Some(String::from_utf8_lossy(&unread).into_owned());
    }
    Ok(streamed)
}

impl Streamed {
    fn take(&mut self, event: &str) {
        let data = event.trim_end().strip_prefix("data: ").unwrap_or(event);
        if data == "[DONE]" {
            self.done = true;
            return;
        }
        let chunk: Value = serde_json::from_str(data).unwrap_or_default();
        let Some(id) = chunk["id"].as_str() else {
            self.error = Some(data.to_owned());
            return;
        };
        id.clone_into(&mut self.id);
        let delta = &chunk["choices"][0]["delta"]["content"];
        self.text.push_str(delta.as_str().unwrap_or_default());
        if let Some(recorded) = chunk["flywheel"]["recorded"].as_bool() {
            self.recorded = Some(recorded);
        }
    }
}
