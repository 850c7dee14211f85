//! Estimators and intervals: pure functions, without I/O and without panics.
//!
//! A function returns a value, or `None` with the reason in its documentation when there is none.

pub mod mean;
pub mod proportion;
pub mod quantile;

/// Two ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}
