//! Who visits: sessions behind a cookie, and the checks before every page.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flywheel_core::ContentHash;
use flywheel_core::key::Permission;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};

use super::answer::{self, PageError};
use super::signin;
use crate::auth::{Caller, is_local};
use crate::context::Context;
use crate::problem::Problem;

/// How long a session lasts without a visit.
const IDLE: SignedDuration = SignedDuration::from_hours(12);

/// More sessions than this are not kept: the one that was idle longest ends.
const MOST_SESSIONS: usize = 10_000;

const COOKIE: &str = "flywheel_session";

/// The sessions in force, by the hash of their tokens. They end with the process.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<ContentHash, Session>>);

#[derive(Debug)]
struct Session {
    key_id: String,
    ends_at: Timestamp,
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ContentHash, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session for whoever holds the key, and returns its token.
    pub(super) fn begin(&self, context: &Context, key_id: &str) -> String {
        let mut random = [0_u8; 32];
        context.sources.entropy.fill(&mut random);
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = context.sources.clock.now();
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.ends_at > now);
        if sessions.len() >= MOST_SESSIONS {
            let oldest = sessions
                .iter()
                .min_by_key(|(_, session)| session.ends_at)
                .map(|(token, _)| *token);
            oldest.map(|oldest| sessions.remove(&oldest));
        }
        sessions.insert(
            ContentHash::of_bytes(token.as_bytes()),
            Session {
                key_id: key_id.to_owned(),
                ends_at: now + IDLE,
            },
        );
        token
    }

    fn visit(&self, token: &str, now: Timestamp) -> Option<String> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(&ContentHash::of_bytes(token.as_bytes()))?;
        if session.ends_at <= now {
            return None;
        }
        session.ends_at = now + IDLE;
        Some(session.key_id.clone())
    }

    /// Ends the session of a request, if it has one.
    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(token) = token_of(headers) {
            self.lock().remove(&ContentHash::of_bytes(token.as_bytes()));
        }
    }
}

/// Who looks at a page.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// Whether there is a session that can be ended.
    pub(super) is_signed_in: bool,
}

impl Visitor {
    /// Whether the visitor may do something, so that pages offer only that.
    pub(super) fn may(&self, permission: Permission) -> bool {
        self.caller.role().allows(permission)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Problem::new(status, "internal", "the page has no permission").into()
        })
    }
}

/// The cookie that carries a session's token. Without TLS in front of the server a browser would not send a `Secure`
/// cookie back, so that is set only where the request came through TLS.
pub(super) fn cookie(token: &str, headers: &HeaderMap) -> HeaderValue {
    let is_tls = headers
        .get("x-forwarded-proto")
        .is_some_and(|value| value.as_bytes() == b"https");
    let secure = if is_tls { "; Secure" } else { "" };
    let age = if token.is_empty() { 0 } else { IDLE.as_secs() };
    let text =
        format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn token_of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

/// Who makes a request, if that is known.
fn recognise(context: &Context, headers: &HeaderMap) -> Option<Visitor> {
    let keys = context.keys.load();
    if !keys.any_made() {
        let is_here = context.options.loopback_only && is_local(headers);
        return is_here.then(|| Visitor {
            caller: Caller::local(),
            is_signed_in: false,
        });
    }
    let now = context.sources.clock.now();
    let key_id = context.sessions.visit(token_of(headers)?, now)?;
    // A key that was revoked ends the sessions begun with it.
    Some(Visitor {
        caller: keys.signed_in(&key_id)?,
        is_signed_in: true,
    })
}

/// Whether a browser sent this from one of our own pages. Browsers say where a request comes from in `Sec-Fetch-Site`,
/// older ones in `Origin`; what says neither is no browser, and has no cookie that it was tricked into sending.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    match (text("origin"), text("host")) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority == host),
        (Some(_), None) => false,
    }
}

/// Lets a visitor in, or shows the way to the door.
pub(super) async fn enter(
    State((context, permission)): State<(Context, Option<Permission>)>,
    request: Request,
    next: Next,
) -> Response {
    let is_change = request.method() != Method::GET;
    let visitor = recognise(&context, request.headers());
    let path = request.uri().path().to_owned();
    let response = if is_change && !is_from_here(request.headers()) {
        let problem = Problem::forbidden("this was sent from another site")
            .hint("open the page here and send it from there");
        PageError::from(problem).into_response()
    } else {
        match let_in(&context, permission, visitor.clone(), request).await {
            Ok(request) => next.run(request).await,
            Err(response) => *response,
        }
    };
    let mut response = answer::tell(&context, visitor.as_ref(), &path, response);
    protect(response.headers_mut());
    response
}

/// What a visitor of a path that no page has is told.
pub(super) fn turn_away(
    context: &Context,
    headers: &HeaderMap,
    path: &str,
    problem: Problem,
) -> Response {
    let visitor = recognise(context, headers);
    let response = PageError::from(problem).into_response();
    let mut response = answer::tell(context, visitor.as_ref(), path, response);
    protect(response.headers_mut());
    response
}

async fn let_in(
    context: &Context,
    permission: Option<Permission>,
    visitor: Option<Visitor>,
    mut request: Request,
) -> Result<Request, Box<Response>> {
    let Some(permission) = permission else {
        if let Some(visitor) = visitor {
            request.extensions_mut().insert(visitor);
        }
        return Ok(request);
    };
    let Some(visitor) = visitor else {
        return Err(Box::new(signin::ask(context, request).await));
    };
    let refused = |problem: Problem| Box::new(PageError::from(problem).into_response());
    visitor
        .caller
        .must_be_allowed(permission)
        .map_err(refused)?;
    if let Err(wait) = context.rate_limiter.check(visitor.caller.identity()) {
        let detail = format!(
            "this key has used up its requests; the next is due in {} ms",
            wait.as_millis()
        );
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        return Err(refused(problem));
    }
    request.extensions_mut().insert(visitor.caller.clone());
    request.extensions_mut().insert(visitor);
    Ok(request)
}

/// Nothing but our own files runs or is shown, and nobody frames our pages.
pub(super) fn protect(headers: &mut HeaderMap) {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                          form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_from_our_own_pages_only() {
        for (site, origin, expected) in [
            (Some("same-origin"), None, true),
            (Some("none"), None, true),
            (Some("cross-site"), Some("http://here:7700"), false),
            (Some("same-site"), None, false),
            (None, Some("http://here:7700"), true),
            (None, Some("http://here:7701"), false),
            (None, Some("null"), false),
            (None, None, true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static("here:7700"));
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert("origin", HeaderValue::from_static(origin));
            }
            assert_eq!(is_from_here(&headers), expected, "{site:?} {origin:?}");
        }
    }
}
