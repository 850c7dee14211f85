//! One HTTP connection of the load generator.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection that is kept open.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what it would say of a failure the sender says too.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Self { address, sender })
    }

    async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        if self.sender.is_closed() {
            *self = Self::open(self.address).await?;
        }
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn exchange(
        &mut self,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let (head, body) = self.send("POST", path, body).await?.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    }

    /// Gets a page.
    pub(crate) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let (head, body) = self.send("GET", path, Bytes::new()).await?.into_parts();
        ensure!(head.status.is_success(), "{path}: {}", head.status);
        Ok(body.collect().await?.to_bytes())
    }

    /// Calls our own API.
    pub(crate) async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (head, body) = self
            .send(method, path, body.to_string().into())
            .await?
            .into_parts();
        let bytes = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            bail!(
                "{method} {path}: {} {}",
                head.status,
                String::from_utf8_lossy(&bytes)
            );
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{path} answered no JSON"))
    }

    /// Sends a request whose answer is a stream and notes when each of its events came.
    pub(crate) async fn stream(&mut self, path: &str, body: Bytes) -> Result<Vec<Instant>> {
        let (head, mut body) = self.send("POST", path, body).await?.into_parts();
        ensure!(head.status.is_success(), "{}", head.status);
        let mut arrivals = Vec::with_capacity(64);
        let mut done = false;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            let now = Instant::now();
            let text = String::from_utf8_lossy(&data);
            let events = text.matches("\"delta\":{\"content\"").count();
            arrivals.extend(std::iter::repeat_n(now, events));
            done |= text.contains("[DONE]");
        }
        ensure!(done, "the stream ended early");
        Ok(arrivals)
    }
}
