//! Signing in with a key, and out again. What was typed into a form whose session had ended is kept and offered again.

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;

use super::answer::{Frame, PageError, PageResult, go_to, page};
use super::form::{self, PageForm, PageQuery};
use super::session::{Visitor, cookie};
use super::show::{self, encoded};
use crate::context::Context;

#[derive(Template)]
#[template(path = "signin.html")]
struct SignInPage {
    frame: Frame,
    /// Where to go afterwards.
    next: String,
    /// The form that was sent without a session.
    resume: String,
    problem: Option<&'static str>,
    any_key_made: bool,
}

/// What was sent without a session, to be sent again.
#[derive(Template)]
#[template(path = "resume.html")]
struct ResumePage {
    frame: Frame,
    next: String,
    fields: Vec<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Door {
    next: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SignIn {
    key: String,
    next: String,
    resume: String,
}

/// Asks who it is, and keeps what was asked for.
pub(super) async fn ask(context: &Context, request: Request) -> Response {
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .to_owned();
    if request.method() == Method::GET {
        return go_to(&format!("/signin?next={}", encoded(&target)));
    }
    let resume = match form::read(request).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(problem) => return PageError::from(problem).into_response(),
    };
    let page = SignInPage {
        frame: Frame::bare("Sign in"),
        next: target,
        resume,
        problem: Some("Your session has ended. Sign in to go on; what you sent is kept."),
        any_key_made: context.keys.load().any_made(),
    };
    answer(StatusCode::UNAUTHORIZED, &page)
}

fn answer(status: StatusCode, page: &SignInPage) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => status.into_response(),
    }
}

/// A path on this server: whoever sends a link must not be able to lead away from here.
fn local(next: &str) -> &str {
    let is_local = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    if is_local { next } else { "/" }
}

/// `GET /signin`
pub(super) async fn show_signin(
    State(context): State<Context>,
    PageQuery(door): PageQuery<Door>,
) -> PageResult {
    page(&SignInPage {
        frame: Frame::bare("Sign in"),
        next: local(&door.next).to_owned(),
        resume: String::new(),
        problem: None,
        any_key_made: context.keys.load().any_made(),
    })
}

/// `POST /signin`
pub(super) async fn sign_in(
    State(context): State<Context>,
    headers: HeaderMap,
    PageForm(sent): PageForm<SignIn>,
) -> PageResult {
    let keys = context.keys.load();
    let next = local(&sent.next).to_owned();
    let Some(caller) = keys.holder(sent.key.trim()) else {
        let page = SignInPage {
            frame: Frame::bare("Sign in"),
            next,
            resume: sent.resume,
            problem: Some("This key is not known, or was revoked."),
            any_key_made: keys.any_made(),
        };
        return Ok(answer(StatusCode::UNAUTHORIZED, &page));
    };
    let token = context.sessions.begin(&context, caller.identity());
    let mut response = if sent.resume.is_empty() {
        go_to(&next)
    } else {
        let visitor = Visitor {
            caller,
            is_signed_in: true,
        };
        page(&ResumePage {
            frame: Frame::new(&context, &visitor, "Go on", ""),
            next,
            fields: form::parse(sent.resume.as_bytes())?,
        })?
    };
    let headers_out = response.headers_mut();
    headers_out.insert(header::SET_COOKIE, cookie(&token, &headers));
    Ok(response)
}

/// `POST /signout`
pub(super) async fn sign_out(State(context): State<Context>, headers: HeaderMap) -> Response {
    context.sessions.end(&headers);
    let mut response = go_to("/signin");
    let headers_out = response.headers_mut();
    headers_out.insert(header::SET_COOKIE, cookie("", &headers));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_stays_on_this_server() {
        for (next, expected) in [
            ("/calls?app=x", "/calls?app=x"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\\evil.example", "/"),
            ("", "/"),
        ] {
            assert_eq!(local(next), expected);
        }
    }
}
