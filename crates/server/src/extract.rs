//! Extractors whose rejections are problem documents that say what, where and what to do.

use std::convert::Infallible;
use std::error::Error;
use std::marker::PhantomData;
use std::time::Duration;

use axum::RequestExt as _;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use bytes::{Bytes, BytesMut};
use flywheel_gateway::request::json_problem;
use flywheel_storage::page::{LARGEST_PAGE, PageRequest};
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::LengthLimitError;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::auth::Caller;
use crate::context::Context;
use crate::problem::Problem;

/// How many items one request may bring: more would hold up the records of live calls.
pub(crate) const MOST_ITEMS: usize = 5000;

/// A JSON body.
pub struct JsonBody<T>(pub T);

/// A body of one JSON value, of an array of them, or of one on each line.
pub struct JsonItems<T>(pub Vec<T>);

/// The query.
pub struct QueryParams<T>(pub T);

/// The parameters in the path.
pub struct PathParams<T>(pub T);

/// The raw body, if it is not too large.
pub struct RawBody(pub Bytes);

/// The request whole, for handlers that read its body themselves. `T` describes what they read.
pub struct RawRequest<T>(pub Request, pub PhantomData<T>);

/// The header `Idempotency-Key`.
pub struct IdempotencyKey(pub Option<HeaderValue>);

impl<T> FromRequest<Context> for RawRequest<T> {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &Context) -> Result<Self, Infallible> {
        Ok(Self(request, PhantomData))
    }
}

impl FromRequest<Context> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Problem> {
        let admit = |_| Ok::<(), Infallible>(());
        match read_body(context, request, admit).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(Unread::Problem(problem)) => Err(problem),
            Err(Unread::Refused(never)) => match never {},
        }
    }
}

/// How long the next piece of a body is waited for. What has arrived takes its share of memory meanwhile.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// Why a body was not read to its end.
pub(crate) enum Unread<E> {
    /// It is too large, or broke off.
    Problem(Problem),
    /// `admit` refused it.
    Refused(E),
}

/// Reads a body, asking `admit` for each piece that arrives.
pub(crate) async fn read_body<E>(
    context: &Context,
    request: Request,
    mut admit: impl FnMut(usize) -> Result<(), E>,
) -> Result<Bytes, Unread<E>> {
    let mut pieces = request.into_limited_body().into_data_stream();
    let mut body = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let Ok(piece) = tokio::time::timeout(PIECE_WITHIN, pieces.next()).await else {
            return Err(Unread::Problem(stalled()));
        };
        let Some(piece) = piece else {
            break;
        };
        let piece = piece.map_err(|error| Unread::Problem(unreadable(context, &error)))?;
        admit(piece.len()).map_err(Unread::Refused)?;
        // Most bodies come in one piece, which then is passed on without a copy.
        if body.is_empty() && joined.is_empty() {
            body = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut body));
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() {
        body
    } else {
        joined.freeze()
    })
}

fn stalled() -> Problem {
    let detail = format!("no more of the body came for {} s", PIECE_WITHIN.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "body_stalled", detail)
        .hint("send the body without a pause")
}

fn unreadable(context: &Context, error: &axum::Error) -> Problem {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            let limit = context.options.largest_body;
            return Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!(
                    "the body is larger than {limit} bytes, which `limits.body_bytes` in the server's configuration allows"
                ),
            )
            .hint("send less at a time, or raise `limits.body_bytes` in the configuration");
        }
        cause = error.source();
    }
    Problem::new(
        StatusCode::BAD_REQUEST,
        "body_interrupted",
        "the body broke off",
    )
}

impl<T: DeserializeOwned> FromRequest<Context> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Problem> {
        let RawBody(bytes) = RawBody::from_request(request, context).await?;
        // A request that needs nothing may come without a body.
        let text = if bytes.is_empty() { &b"{}"[..] } else { &bytes };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| malformed::<T>(text, &error))
    }
}

impl<T: DeserializeOwned> FromRequest<Context> for JsonItems<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, context: &Context) -> Result<Self, Problem> {
        let RawBody(bytes) = RawBody::from_request(request, context).await?;
        let items = read_items(&bytes)?;
        if items.len() > MOST_ITEMS {
            let detail = format!("one request may bring {MOST_ITEMS} items at most");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Problem::new(status, "too_many_items", detail).hint("send fewer at a time"));
        }
        Ok(Self(items))
    }
}

fn read_items<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, Problem> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return serde_json::from_slice(bytes).map_err(|error| {
            let items = serde_json::from_slice::<Vec<Value>>(bytes);
            malformed_items::<T>(bytes, &error, items.unwrap_or_default())
        });
    }
    let items = serde_json::Deserializer::from_slice(bytes).into_iter();
    let items: Vec<T> = items
        .take(MOST_ITEMS + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            let items = serde_json::Deserializer::from_slice(bytes).into_iter();
            let items = items.take(MOST_ITEMS + 1).map_while(Result::ok).collect();
            malformed_items::<T>(bytes, &error, items)
        })?;
    if items.is_empty() {
        let status = StatusCode::BAD_REQUEST;
        return Err(Problem::new(status, "malformed_body", "the body is empty"));
    }
    Ok(items)
}

/// Which of several items cannot be read, and why, so that a sender need not count commas.
fn malformed_items<T: DeserializeOwned>(
    bytes: &[u8],
    error: &serde_json::Error,
    items: Vec<Value>,
) -> Problem {
    if !error.is_data() {
        return malformed::<T>(bytes, error);
    }
    let of = items.len();
    let mut errors = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if let Err(error) = serde_path_to_error::deserialize::<_, T>(item) {
            errors.push((index, with_path(&error)));
        }
    }
    if errors.is_empty() {
        return Problem::invalid(error.to_string());
    }
    Problem::invalid_items(of, errors)
}

fn malformed<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Problem {
    if error.is_data() {
        // Read again, as few bodies are wrong: which member it is says more than line and column.
        let read = serde_json::from_slice::<Value>(bytes).ok();
        let told = read.and_then(|body| serde_path_to_error::deserialize::<_, T>(body).err());
        return Problem::invalid(told.map_or_else(|| error.to_string(), |told| with_path(&told)));
    }
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed_body",
        json_problem(bytes, error),
    )
}

/// What is wrong, after the place where it is.
fn with_path(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let message = error.inner().to_string();
    let path = error.path().to_string();
    let (parent, last) = path.rsplit_once('.').unwrap_or(("", &path));
    // An unknown member is named by the message already.
    let place = if message.contains(&format!("field `{last}`")) {
        parent
    } else {
        &path
    };
    match place {
        "" | "." | "?" => message,
        place => format!("`{place}`: {message}"),
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(query)| Self(query))
            .map_err(|rejection| unreadable_query(&rejection))
    }
}

/// A query in which a parameter cannot be read: its name, and why.
pub(crate) fn unreadable_query(rejection: &QueryRejection) -> Problem {
    let text = rejection.body_text();
    let told = text.strip_prefix("Failed to deserialize query string: ");
    Problem::invalid(told.unwrap_or(&text))
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PathParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path))
            .map_err(|rejection| Problem::invalid(rejection.body_text()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(parts.headers.get("idempotency-key").cloned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the route has no permission",
            )
        })
    }
}

/// Refuses a query with a parameter that is not among `known`: a filter that does nothing would look as if it did.
///
/// # Errors
/// When there is one.
pub fn check_parameters(uri: &Uri, known: &[String]) -> Result<(), Problem> {
    let Query(given) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|rejection| unreadable_query(&rejection))?;
    let Some((unknown, _)) = given.iter().find(|(name, _)| !known.contains(name)) else {
        return Ok(());
    };
    let detail = format!("there is no parameter `{unknown}` here");
    let hint = match known {
        [] => "this takes no parameters in its address".to_owned(),
        known => format!("there are `{}`", known.join("`, `")),
    };
    Err(Problem::new(StatusCode::BAD_REQUEST, "unknown_parameter", detail).hint(hint))
}

/// The query members of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct PageQuery {
    /// Where the page before ended: its `next`.
    pub cursor: Option<String>,
    /// How many items, from 1 to 1000; 50 if absent.
    #[schemars(range(min = 1, max = LARGEST_PAGE))]
    pub limit: Option<u32>,
}

impl PageQuery {
    /// The page that is asked for, its cursor read by `parse`.
    ///
    /// # Errors
    /// When the cursor is none of ours, or the limit is out of range.
    pub fn request<K>(&self, parse: impl Fn(&str) -> Option<K>) -> Result<PageRequest<K>, Problem> {
        let before = match &self.cursor {
            None => None,
            Some(cursor) => Some(parse(cursor).ok_or_else(|| {
                Problem::invalid(format!("cursor `{cursor}` is none that this list gave out"))
            })?),
        };
        Ok(PageRequest {
            limit: self.limit()?,
            before,
        })
    }

    /// How many items are asked for.
    ///
    /// # Errors
    /// When that is none, or more than a page holds: fewer than were asked for would look like all there are.
    pub fn limit(&self) -> Result<u32, Problem> {
        let limit = self.limit.unwrap_or(50);
        if (1..=LARGEST_PAGE).contains(&limit) {
            return Ok(limit);
        }
        let detail = format!("`limit` is `{limit}`, it must be from 1 to {LARGEST_PAGE}");
        Err(Problem::invalid(detail).hint("the rest of a longer list is at its `next`"))
    }
}
/// Tells a member that is null from one that is absent.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
