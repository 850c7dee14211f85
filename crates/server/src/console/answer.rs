//! What handlers of pages answer with: a page, a way to another, or a page that says what went wrong.

use std::sync::Arc;

use askama::Template;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::assets;
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::problem::Problem;

/// What handlers return.
pub(super) type PageResult = Result<Response, PageError>;

/// What every page has around its content.
pub(super) struct Frame {
    pub(super) title: String,
    /// The entry of the navigation that the page belongs to.
    pub(super) section: &'static str,
    /// The visitor's name and role, unless nobody is known.
    pub(super) visitor: Option<(String, &'static str)>,
    pub(super) is_signed_in: bool,
    /// What the configuration wants said on every page.
    pub(super) notice: Option<String>,
    pub(super) style: &'static str,
    pub(super) script: &'static str,
    pub(super) icon: &'static str,
}

/// A place in the navigation.
pub(super) struct Place {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    /// The second key of its shortcut, after `g`.
    pub(super) key: char,
}

/// The navigation.
pub(super) const PLACES: [Place; 9] = [
    place("Overview", "/", 'o'),
    place("Prompts", "/prompts", 'p'),
    place("Playground", "/playground", 'y'),
    place("Calls", "/calls", 'c'),
    place("Feedback", "/feedback", 'f'),
    place("Experiments", "/experiments", 'e'),
    place("Models", "/models", 'm'),
    place("Audit", "/audit", 'a'),
    place("Settings", "/settings", 's'),
];

/// The place that a path belongs to.
fn place_of(path: &str) -> Option<&'static Place> {
    let first = path.split('/').nth(1).unwrap_or_default();
    let first = match first {
        "apps" => "",
        "sessions" | "users" => "calls",
        "calculator" => "experiments",
        other => other,
    };
    PLACES.iter().find(|place| place.path[1..] == *first)
}

const fn place(name: &'static str, path: &'static str, key: char) -> Place {
    Place { name, path, key }
}

impl Frame {
    pub(super) fn new(
        context: &Context,
        visitor: &Visitor,
        title: impl Into<String>,
        section: &'static str,
    ) -> Self {
        Self {
            visitor: Some((visitor.caller.name.clone(), visitor.caller.role().as_str())),
            is_signed_in: visitor.is_signed_in,
            notice: context.options.notice.clone(),
            ..Self::bare(title)
        }
        .in_section(section)
    }

    /// For pages that anybody may see.
    pub(super) fn bare(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section: "",
            visitor: None,
            is_signed_in: false,
            notice: None,
            style: assets::style_path(),
            script: assets::script_path(),
            icon: assets::icon_path(),
        }
    }

    fn in_section(mut self, section: &'static str) -> Self {
        self.section = section;
        self
    }

    pub(super) fn places(&self) -> &'static [Place] {
        if self.visitor.is_some() { &PLACES } else { &[] }
    }
}

/// Renders a page.
pub(super) fn page(template: &impl Template) -> PageResult {
    Ok(Html(render(template)?).into_response())
}

pub(super) fn render(template: &impl Template) -> Result<String, PageError> {
    template.render().map_err(|error| {
        tracing::error!(error.message = %error, "a page could not be rendered");
        let detail = "the page could not be rendered; the server's log says why";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into()
    })
}

/// Sends the browser to another page after a change.
pub(super) fn go_to(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
}

/// A page that says what went wrong and what to do.
#[derive(Debug)]
pub(super) struct PageError(pub(super) Problem);

impl<E: Into<Problem>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// What went wrong, carried by a response until it is known who is to be told.
#[derive(Debug, Clone)]
struct Untold(Arc<Problem>);

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.0.status().into_response();
        response.extensions_mut().insert(Untold(Arc::new(self.0)));
        response
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    status: u16,
    detail: Markup,
    hint: Option<Markup>,
    /// The way on.
    place: &'static Place,
}

/// Makes a page of a response that only says what went wrong. A visitor who is known keeps the navigation.
pub(super) fn tell(
    context: &Context,
    visitor: Option<&Visitor>,
    path: &str,
    mut response: Response,
) -> Response {
    let Some(Untold(problem)) = response.extensions_mut().remove() else {
        return response;
    };
    let status = problem.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let place = place_of(path);
    let page = ProblemPage {
        frame: match visitor {
            Some(visitor) => Frame::new(
                context,
                visitor,
                title,
                place.map_or("", |place| place.path),
            ),
            None => Frame::bare(title),
        },
        status: status.as_u16(),
        detail: show::prose(problem.detail()),
        hint: problem.advice().map(show::prose),
        place: place.unwrap_or(&PLACES[0]),
    };
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => (status, problem.detail().to_owned()).into_response(),
    }
}
