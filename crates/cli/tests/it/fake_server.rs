//! A server that answers what a test tells it to, and remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// One answer: to which request, with which status and body.
pub(crate) type Route = (&'static str, u16, Value);

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// `METHOD /path?query`.
    pub(crate) line: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

pub(crate) struct FakeServer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Ends the server when it is dropped.
    _runtime: Runtime,
}

impl FakeServer {
    /// A server with these routes. A JSON text is sent as it is, anything else as JSON.
    pub(crate) fn start(routes: Vec<Route>) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        runtime.spawn(accept(listener, Arc::new(routes), Arc::clone(&asked)));
        Self {
            url,
            asked,
            _runtime: runtime,
        }
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The first lines of the requests so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

async fn accept(listener: TcpListener, routes: Arc<Vec<Route>>, asked: Arc<Mutex<Vec<Asked>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (routes, asked) = (Arc::clone(&routes), Arc::clone(&asked));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &routes, &asked));
            // A client that goes away ends its connection with an error, which is nobody's concern.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    routes: &[Route],
    asked: &Mutex<Vec<Asked>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let line = format!("{} {}", head.method, head.uri);
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let authorization = head
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    asked.lock().unwrap().push(Asked {
        line: line.clone(),
        authorization: authorization.map(str::to_owned),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let missing = json!({"title": "Not Found", "status": 404, "code": "not_found",
                         "detail": format!("no route for `{line}`")});
    let (status, body) = routes
        .iter()
        .find(|(route, ..)| *route == line)
        .map_or((404, missing), |(_, status, body)| (*status, body.clone()));
    let body = match body {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if line.contains(" /v1/") {
        let id = HeaderValue::from_static("c-1");
        response.headers_mut().insert("x-request-id", id);
    }
    Ok(response)
}
