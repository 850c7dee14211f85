//! The live tail: calls as they are recorded, as server-sent events that hold rows ready to be shown.

use std::convert::Infallible;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flywheel_storage::events::{CallFilter, CallKey};
use flywheel_storage::page::PageRequest;
use futures_util::stream;
use http::{HeaderValue, header};

use super::answer::PageError;
use super::calls::{CallRow, CallRows, CallsQuery};
use super::form::PageQuery;
use super::session::Visitor;
use crate::auth::Caller;
use crate::context::Context;

/// How often it is looked for new calls.
const EVERY: Duration = Duration::from_secs(1);

/// How many rows one event brings at most; of more, the newest are shown.
const MOST_ROWS: u32 = 50;

/// After so many looks the browser connects anew, and who it is is checked again.
const LOOKS: u32 = 300;

struct Tail {
    context: Context,
    caller: Caller,
    filter: CallFilter,
    newest: Option<CallKey>,
    looks: u32,
}

/// `GET /calls/tail`
pub(super) async fn tail_calls(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<CallsQuery>,
) -> Result<Response, PageError> {
    let filter = query.filter(&visitor.caller)?;
    let newest = context
        .events
        .list_calls(&filter, PageRequest::first(1))
        .await?;
    let tail = Tail {
        context,
        caller: visitor.caller,
        filter,
        newest: newest.items.first().map(|call| CallKey {
            started_at: call.started_at,
            id: call.id.clone(),
        }),
        looks: LOOKS,
    };
    let events = stream::unfold(tail, |mut tail| async {
        let event = tail.next().await?;
        Some((Ok::<Bytes, Infallible>(event), tail))
    });
    let mut response = Body::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    Ok(response)
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        self.looks = self.looks.checked_sub(1)?;
        tokio::select! {
            () = self.context.shutdown.cancelled() => return None,
            () = tokio::time::sleep(EVERY) => {}
        }
        // A key that was revoked sees nothing more.
        if self.caller.identity() != "local" {
            let keys = self.context.keys.load();
            keys.signed_in(self.caller.identity())?;
        }
        let mut filter = self.filter.clone();
        let since = self.newest.as_ref().map(|newest| newest.started_at);
        filter.since = since.max(filter.since);
        let page = PageRequest::first(MOST_ROWS);
        let found = self.context.events.list_calls(&filter, page).await.ok()?;
        let mut fresh = found.items;
        fresh.retain(|call| {
            let newest = self.newest.as_ref();
            newest
                .is_none_or(|newest| (call.started_at, &call.id) > (newest.started_at, &newest.id))
        });
        let Some(first) = fresh.first() else {
            // Says that the connection lives, and notices when nobody is there any more.
            return Some(Bytes::from_static(b": nothing new\n\n"));
        };
        self.newest = Some(CallKey {
            started_at: first.started_at,
            id: first.id.clone(),
        });
        let rows = CallRow::all(&self.context, &fresh).await.ok()?;
        let html = CallRows { rows }.render().ok()?;
        let lines: Vec<_> = html.lines().map(|line| format!("data: {line}\n")).collect();
        Some(format!("event: calls\n{}\n", lines.concat()).into())
    }
}
