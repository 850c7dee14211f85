//! The stylesheet, the script and the icon, compiled in. Their paths carry a hash, so browsers may keep them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use flywheel_core::ContentHash;
use http::{HeaderValue, header};

use super::answer::PageError;
use crate::problem::Problem;

const STYLE: &str = include_str!("../../assets/console.css");
const SCRIPT: &str = include_str!("../../assets/console.js");
const ICON: &str = include_str!("../../assets/icon.svg");

static STYLE_PATH: LazyLock<String> = LazyLock::new(|| path("console", STYLE, "css"));
static ICON_PATH: LazyLock<String> = LazyLock::new(|| path("icon", ICON, "svg"));
static SCRIPT_PATH: LazyLock<String> = LazyLock::new(|| path("console", SCRIPT, "js"));

fn path(name: &str, content: &str, extension: &str) -> String {
    let hash = ContentHash::of_bytes(content.as_bytes());
    format!("/assets/{name}-{}.{extension}", hash.short())
}

pub(super) fn style_path() -> &'static str {
    &STYLE_PATH
}

pub(super) fn script_path() -> &'static str {
    &SCRIPT_PATH
}

pub(super) fn icon_path() -> &'static str {
    &ICON_PATH
}

/// `GET /assets/{asset}`
pub(super) async fn get_asset(Path(asset): Path<String>) -> Response {
    let is = |path: &str| path.strip_prefix("/assets/") == Some(asset.as_str());
    let (kind, content) = if is(style_path()) {
        ("text/css; charset=utf-8", STYLE)
    } else if is(script_path()) {
        ("text/javascript; charset=utf-8", SCRIPT)
    } else if is(icon_path()) {
        ("image/svg+xml", ICON)
    } else {
        let problem = Problem::not_found("there is no such file");
        return PageError::from(problem).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
    ];
    (headers, content).into_response()
}
