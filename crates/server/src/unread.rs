//! What a handler leaves unread of a request's body.
//!
//! An answer may be known before the body has arrived: nobody serves the path, the key is wrong. The connection could not be
//! used for another request with the rest of the body still on its way, so it would be closed without a word, and a client
//! that had sent its next request on it would see it fail. The rest is read and thrown away if it is short; if not, the
//! client is told that the connection ends.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::header::{CONNECTION, HeaderValue};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// The most that is read for nothing, in bytes.
const LARGEST: usize = 256 << 10;

/// How long it may take to arrive.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that comes back when it is dropped before its end.
struct Watched {
    body: Body,
    /// Taken when the end was reached, or an error.
    unread: Option<oneshot::Sender<Body>>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.unread = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        if let Some(unread) = self.unread.take() {
            // Whoever waited for it may have gone with the connection.
            let _ = unread.send(std::mem::take(&mut self.body));
        }
    }
}

/// Answers, and then sees to the rest of the body.
pub(crate) async fn see_to_rest(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (unread, mut rest) = oneshot::channel();
    let request = request.map(|body| {
        Body::new(Watched {
            body,
            unread: Some(unread),
        })
    });
    let mut response = next.run(request).await;
    if let Ok(rest) = rest.try_recv() {
        let read = Limited::new(rest, LARGEST).collect();
        if !matches!(tokio::time::timeout(PATIENCE, read).await, Ok(Ok(_))) {
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use axum::routing::post;
    use futures_util::StreamExt as _;
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;

    fn router() -> Router {
        Router::new()
            .route(
                "/length",
                post(|body: Bytes| async move { body.len().to_string() }),
            )
            .layer(axum::middleware::from_fn(see_to_rest))
    }

    fn piece(bytes: usize) -> Result<Bytes, Infallible> {
        Ok(Bytes::from(vec![b'x'; bytes]))
    }

    async fn ask(path: &str, body: Body) -> Response {
        let request = Request::post(path).body(body).unwrap();
        router().oneshot(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_short_body_is_read() {
        let (sender, receiver) = oneshot::channel();
        let end = futures_util::stream::once(async move {
            let _ = sender.send(());
            piece(10)
        });
        let body = futures_util::stream::iter([piece(10)]).chain(end);
        let refused = ask("/nothing", Body::from_stream(body)).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert!(refused.headers().get(CONNECTION).is_none());
        assert!(receiver.await.is_ok(), "it was not read to its end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_on_and_on_is_told_that_the_connection_ends() {
        let endless = futures_util::stream::repeat_with(|| piece(10_000));
        let stalled = futures_util::stream::pending::<Result<Bytes, Infallible>>();
        for body in [Body::from_stream(endless), Body::from_stream(stalled)] {
            let refused = ask("/nothing", body).await;
            assert_eq!(refused.status(), StatusCode::NOT_FOUND);
            assert_eq!(refused.headers()[CONNECTION], "close");
        }
    }

    #[tokio::test]
    async fn a_body_that_is_read_is_left_alone() {
        let body = futures_util::stream::iter([piece(10), piece(20)]);
        let answer = ask("/length", Body::from_stream(body)).await;
        assert!(answer.headers().get(CONNECTION).is_none());
        let length = axum::body::to_bytes(answer.into_body(), 10).await.unwrap();
        assert_eq!(length, "30");
    }
}
