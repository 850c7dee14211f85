//! What feedback says of a call: the latest of a series, and what that adds to a metric.

use flywheel_core::feedback::LARGEST_OUTCOME;
use flywheel_core::metric::{Metric, MetricKind, MetricSource};
use rusqlite::{Connection, OptionalExtension as _, named_params};

/// A series of a call.
pub(super) struct Said<'a> {
    pub(super) call: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: Option<&'a str>,
    /// What was said later than this does not count.
    pub(super) until: i64,
}

/// A piece of feedback, as far as it is taken in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Opinion {
    pub(super) value: Option<f64>,
    pub(super) scale: Option<(f64, f64)>,
    pub(super) at: i64,
}

pub(super) fn latest(
    connection: &Connection,
    said: &Said<'_>,
    to: i64,
) -> rusqlite::Result<Option<Opinion>> {
    connection
        .prepare_cached(
            "SELECT value, scale_min, scale_max, created_at
             FROM feedback
             WHERE call_id = :call AND kind = :kind AND name IS :name AND number <= :to AND created_at <= :until
             ORDER BY created_at DESC, number DESC
             LIMIT 1",
        )?
        .query_row(
            named_params! {
                ":call": said.call,
                ":kind": said.kind,
                ":name": said.name,
                ":to": to,
                ":until": said.until,
            },
            |row| {
                let min: Option<f64> = row.get(1)?;
                Ok(Opinion {
                    value: row.get(0)?,
                    scale: min.zip(row.get(2)?),
                    at: row.get(3)?,
                })
            },
        )
        .optional()
}

/// What a piece of feedback adds to numerator and denominator.
pub(super) fn part_of(metric: &Metric, series: &str, opinion: &Opinion) -> Option<(f64, f64)> {
    let is = |source: &MetricSource| matches!(source, MetricSource::Feedback(s) if s == series);
    let value = metric.value_of_feedback(opinion.value, opinion.scale)?;
    if value.abs() > LARGEST_OUTCOME {
        return None;
    }
    if metric.kind == MetricKind::Ratio {
        let x = if is(&metric.source) { value } else { 0.0 };
        let y = if metric.per.as_ref().is_some_and(is) {
            value
        } else {
            0.0
        };
        return Some((x, y));
    }
    Some((value, 1.0))
}
