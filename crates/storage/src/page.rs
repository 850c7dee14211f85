//! Keyset pages: a cursor names the last row that was seen, so rows that arrive meanwhile disturb nothing.

use serde::{Deserialize, Serialize};

/// How many rows a page has at most.
pub const LARGEST_PAGE: u32 = 1000;

/// Which page is asked for, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// How many rows, capped at [`LARGEST_PAGE`].
    pub limit: u32,
    /// Rows older than this one.
    pub before: Option<K>,
}

impl<K> PageRequest<K> {
    /// The first page.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self {
            limit: limit.clamp(1, LARGEST_PAGE),
            before: None,
        }
    }
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T, K> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// What to ask for next, absent on the last page.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Makes a page of rows fetched with one row more than the limit.
    #[must_use]
    pub fn from_rows(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> K) -> Self {
        let limit = limit as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = if has_more { rows.last().map(key) } else { None };
        Self { items: rows, next }
    }
}
