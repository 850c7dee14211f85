//! What handlers answer with: bodies whose type says what is in them.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

/// A page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; null on the last.
    pub next: Option<String>,
}

/// Something that was made: 201.
#[derive(Debug)]
pub struct Created<T>(pub T);

/// Something that was made (201), or was there already (200).
#[derive(Debug)]
pub enum CreatedOrThere<T> {
    /// It was made.
    Created(T),
    /// It was there.
    There(T),
}

/// A list with the cursor of its next page.
pub fn list<T>(items: Vec<T>, next: Option<String>) -> Json<List<T>> {
    Json(List { items, next })
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl<T: Serialize> IntoResponse for CreatedOrThere<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Created(body) => Created(body).into_response(),
            Self::There(body) => Json(body).into_response(),
        }
    }
}
