//! The fake provider: a local HTTP server that answers as its script says, for tests of this crate and of the server.
//!
//! Nothing in it sleeps. Where a test has to decide when something happens, it holds a [`Gate`] and opens it.

#![expect(
    clippy::unwrap_used,
    reason = "a fake for tests, where a panic is the right way to fail"
)]

pub mod samples;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::connect::Connector;
use crate::endpoint::{Endpoint, EndpointOptions, client_over};
use crate::provider::format::ProviderFormat;

/// A gate that is shut until a test opens it, once for each piece that is to pass.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    /// Lets one piece through.
    pub fn open(&self) {
        self.open_for(1);
    }

    /// Lets so many pieces through.
    pub fn open_for(&self, pieces: usize) {
        self.0.add_permits(pieces);
    }

    /// Waits until the gate is opened.
    pub async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// A request that the fake provider got.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: Method,
    /// Its path and query.
    pub path_and_query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Received {
    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How one request is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    before: Option<Gate>,
    between: Option<Gate>,
    status: StatusCode,
    headers: HeaderMap,
    pieces: Vec<Bytes>,
    end: End,
}

/// What follows the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The answer's proper end.
    Complete,
    /// The connection is cut.
    Cut,
    /// Nothing, for ever.
    Stall,
    /// The connection is cut before even the head.
    HangUp,
}

impl Reply {
    /// An answer with a status and a body in one piece.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let content_type = HeaderValue::from_str(content_type).unwrap();
        Self {
            before: None,
            between: None,
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]),
            pieces: vec![body.into()],
            end: End::Complete,
        }
    }

    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// An error in OpenAI's form.
    #[must_use]
    pub fn failure(status: u16, message: &str) -> Self {
        Self::json(
            status,
            &serde_json::json!({"error": {"message": message, "type": "error"}}),
        )
    }

    /// A stream of server-sent events.
    #[must_use]
    pub fn stream(events: impl Into<Bytes>) -> Self {
        Self::new(200, "text/event-stream", events)
    }

    /// The connection is cut before anything is answered.
    #[must_use]
    pub fn hang_up() -> Self {
        Self {
            end: End::HangUp,
            ..Self::stream("")
        }
    }

    /// Nothing is ever answered.
    #[must_use]
    pub fn silence() -> Self {
        Self::stream("").held_by(&Gate::default())
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
        self
    }

    /// Nothing is answered before the gate is opened.
    #[must_use]
    pub fn held_by(mut self, gate: &Gate) -> Self {
        self.before = Some(gate.clone());
        self
    }

    /// Each piece, and the end, waits for the gate to be opened once more.
    #[must_use]
    pub fn gated_by(mut self, gate: &Gate) -> Self {
        self.between = Some(gate.clone());
        self
    }

    /// Sends the body in pieces of so many bytes, wherever that cuts a line or a character.
    #[must_use]
    pub fn in_pieces_of(mut self, bytes: usize) -> Self {
        let whole = self.pieces.concat();
        self.pieces = whole.chunks(bytes).map(Bytes::copy_from_slice).collect();
        self
    }

    /// Sends each server-sent event as a piece of its own.
    #[must_use]
    pub fn event_by_event(mut self) -> Self {
        let whole = String::from_utf8(self.pieces.concat()).unwrap();
        self.pieces = whole
            .split_inclusive("\n\n")
            .map(|event| Bytes::from(event.to_owned()))
            .collect();
        self
    }

    /// Cuts the connection after the last piece instead of ending the answer.
    #[must_use]
    pub fn then_cut(mut self) -> Self {
        self.end = End::Cut;
        self
    }

    /// Falls silent after the last piece, the connection open.
    #[must_use]
    pub fn then_stall(mut self) -> Self {
        self.end = End::Stall;
        self
    }
}

/// A local HTTP server in a provider's place. It is gone when it is dropped.
pub struct FakeProvider {
    address: SocketAddr,
    shared: Arc<Shared>,
    _shutdown: DropGuard,
}

struct Shared {
    script: Mutex<VecDeque<Reply>>,
    received: watch::Sender<Vec<Received>>,
    /// Answers that the client did not wait for.
    abandoned: watch::Sender<usize>,
    /// Connections that clients opened.
    connections: watch::Sender<usize>,
}

impl FakeProvider {
    /// Starts a provider that answers requests in their order with these replies. A request beyond them gets a 501,
    /// which is never retried.
    pub async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script.into_iter().collect()),
            received: watch::Sender::default(),
            abandoned: watch::Sender::default(),
            connections: watch::Sender::default(),
        });
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(
            listener,
            Arc::clone(&shared),
            shutdown.clone(),
            tasks.clone(),
        ));
        Self {
            address,
            shared,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Adds a reply to the script.
    pub fn then(&self, reply: Reply) {
        self.shared
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(reply);
    }

    /// The base URL of its API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// An endpoint that reaches it.
    #[must_use]
    pub fn endpoint(
        &self,
        name: &str,
        format: impl ProviderFormat + 'static,
        options: EndpointOptions,
    ) -> Endpoint {
        // The system's certificates take long to read, and no test needs them twice.
        static CONNECTOR: OnceLock<Connector> = OnceLock::new();
        let connector = CONNECTOR.get_or_init(|| Connector::new(Duration::from_secs(60)).unwrap());
        let client = client_over(connector.clone());
        Endpoint::http(
            name,
            Box::new(format),
            self.url().parse().unwrap(),
            client,
            options,
        )
    }

    /// The requests it got so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.borrow().clone()
    }

    /// How many connections clients have opened so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Waits until it got so many requests in all, and returns the last of them.
    pub async fn request(&self, number: usize) -> Received {
        let mut received = self.shared.received.subscribe();
        let list = received
            .wait_for(|list| list.len() >= number)
            .await
            .unwrap();
        list[number - 1].clone()
    }

    /// Waits until clients have closed the connection under so many unfinished answers.
    pub async fn abandoned(&self, answers: usize) {
        let mut abandoned = self.shared.abandoned.subscribe();
        abandoned.wait_for(|count| *count >= answers).await.unwrap();
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let (socket, _) = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted.unwrap(),
        };
        socket.set_nodelay(true).unwrap();
        shared.connections.send_modify(|count| *count += 1);
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| answer(Arc::clone(&shared), request));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                // A connection that was cut, by the script or the client, ends with an error.
                _ = connection => {}
            }
        });
    }
}

/// The script wants the connection to be cut.
#[derive(Debug, thiserror::Error)]
#[error("the script cuts the connection")]
struct CutByScript;

type ReplyBody = StreamBody<BoxStream<'static, Result<Frame<Bytes>, CutByScript>>>;

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, CutByScript> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutByScript)?.to_bytes();
    let reply = {
        let mut script = shared.script.lock().unwrap_or_else(PoisonError::into_inner);
        script
            .pop_front()
            .unwrap_or_else(|| Reply::failure(501, "the script has ended"))
    };
    let mut underway = Underway {
        shared: Arc::clone(&shared),
        is_complete: false,
    };
    shared.received.send_modify(|list| {
        list.push(Received {
            method: head.method,
            path_and_query: head.uri.to_string(),
            headers: head.headers,
            body,
        });
    });
    if let Some(gate) = &reply.before {
        gate.pass().await;
    }
    if reply.end == End::HangUp {
        underway.is_complete = true;
        return Err(CutByScript);
    }
    let mut response = Response::new(StreamBody::new(body_of(reply.clone(), underway)));
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    Ok(response)
}

fn body_of(
    reply: Reply,
    underway: Underway,
) -> BoxStream<'static, Result<Frame<Bytes>, CutByScript>> {
    let Reply {
        between,
        pieces,
        end,
        ..
    } = reply;
    let state = (pieces.into_iter(), underway);
    let frames = stream::unfold(state, move |(mut pieces, mut underway)| {
        let between = between.clone();
        async move {
            match &between {
                Some(gate) => gate.pass().await,
                // What was sent before leaves, and is read, before this piece.
                None => tokio::task::yield_now().await,
            }
            if let Some(piece) = pieces.next() {
                return Some((Ok(Frame::data(piece)), (pieces, underway)));
            }
            if end == End::Stall {
                std::future::pending::<Infallible>().await;
            }
            let is_cut = end == End::Cut && !underway.is_complete;
            underway.is_complete = true;
            is_cut.then(|| (Err(CutByScript), (pieces, underway)))
        }
    });
    Box::pin(frames)
}

/// An answer that is being given; dropped before its end, it was abandoned by the client.
struct Underway {
    shared: Arc<Shared>,
    is_complete: bool,
}

impl Drop for Underway {
    fn drop(&mut self) {
        if !self.is_complete {
            self.shared.abandoned.send_modify(|count| *count += 1);
        }
    }
}
