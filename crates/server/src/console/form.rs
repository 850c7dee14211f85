//! What pages take from a request: paths, queries and forms, in which an empty field is one that was not given.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use flywheel_storage::page::PageRequest;
use http::request::Parts;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use super::answer::PageError;
use super::show::encoded;
use crate::extract::{PathParams, unreadable_query};
use crate::problem::Problem;

/// The largest form, in bytes: a correction of a long answer fits.
const LARGEST_FORM: usize = 4 << 20;

/// The parameters in the path.
pub(super) struct PagePath<T>(pub(super) T);

/// The query.
pub(super) struct PageQuery<T>(pub(super) T);

/// A form that was sent.
pub(super) struct PageForm<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for PagePath<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, PageError> {
        let PathParams(path) = PathParams::from_request_parts(parts, state).await?;
        Ok(Self(path))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for PageQuery<T> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        let Query(query) =
            Query::try_from_uri(&parts.uri).map_err(|rejection| unreadable_query(&rejection))?;
        Ok(Self(query))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for PageForm<T> {
    type Rejection = PageError;

    async fn from_request(request: Request, _: &S) -> Result<Self, PageError> {
        let bytes = read(request).await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// The bytes of a form.
pub(super) async fn read(request: Request) -> Result<Vec<u8>, Problem> {
    let read = axum::body::to_bytes(request.into_body(), LARGEST_FORM).await;
    match read {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(error) => Err(
            Problem::invalid(format!("the form cannot be read: {error}"))
                .hint("a form may have 4 MiB; longer texts go through the API"),
        ),
    }
}

/// The fields of a form.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_urlencoded::from_bytes(bytes)
        .map_err(|error| Problem::invalid(format!("the form is not one of this page: {error}")))
}

/// A time, or the beginning of a day in UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) Timestamp);

impl Moment {
    /// A time as people type it.
    pub(super) fn typed(moment: Option<Self>) -> String {
        let text = moment.map_or_else(String::new, |moment| moment.0.to_string());
        text.strip_suffix("T00:00:00Z").unwrap_or(&text).to_owned()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let begin_of_day = || format!("{text}T00:00:00Z").parse().ok();
        let time = text.parse().ok().or_else(begin_of_day);
        time.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no time; write a date such as `2026-07-01`, or `2026-07-01T12:00:00Z`"
            )
        })
    }
}

/// The part of a list that a page's address asks for.
pub(super) fn page_request<K>(
    cursor: Option<&str>,
    parse: impl Fn(&str) -> Option<K>,
    limit: u32,
) -> Result<PageRequest<K>, Problem> {
    let before = match cursor {
        None => None,
        Some(cursor) => Some(
            parse(cursor)
                .ok_or_else(|| Problem::invalid("`cursor` is not one that a page was given"))?,
        ),
    };
    Ok(PageRequest {
        before,
        ..PageRequest::first(limit)
    })
}

/// The address of a page with what is given of its filters.
pub(super) fn address(path: &str, filters: &[(&str, Option<String>)]) -> String {
    let given: Vec<_> = filters
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))))
        .collect();
    match given.as_slice() {
        [] => path.to_owned(),
        given => format!("{path}?{}", given.join("&")),
    }
}

/// Reads a field that may be empty.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    let text = Option::<String>::deserialize(deserializer)?;
    text.as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(D::Error::custom)
}
