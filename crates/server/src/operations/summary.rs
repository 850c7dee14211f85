//! Summaries of feedback: rates and means with their intervals, latency and cost beside them.

use flywheel_stats::{Interval, mean, proportion};
use flywheel_storage::events::{SeriesSums, SummaryRow};
use serde::Serialize;

/// The confidence of the intervals. They hold for one look, not for watching until they please.
const CONFIDENCE: f64 = 0.95;

/// A row of a summary as people read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The key's value.
    pub key: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed at the provider.
    pub provider_errors: u64,
    /// Their mean latency.
    pub mean_latency_ms: Option<f64>,
    /// The mean cost of those that have one, in US dollars.
    pub mean_cost_usd: Option<f64>,
    /// Feedback on them.
    pub series: Vec<Reading>,
}

/// One series of feedback.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading {
    /// Which.
    pub series: String,
    /// How many calls have it; the latest counts where one has several.
    pub n: u64,
    /// What `value` is.
    pub kind: ReadingKind,
    /// A rate from 0 to 1, a mean, or a count.
    pub value: Option<f64>,
    /// The lower end of the 95% interval, where there is one.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
}

/// What a reading's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadingKind {
    /// A share of yes; its interval is Wilson's.
    Rate,
    /// A mean; its interval is Student's.
    Mean,
    /// A number of texts.
    Count,
}

impl From<SummaryRow> for Summary {
    fn from(row: SummaryRow) -> Self {
        let per = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
        Self {
            key: row.key,
            calls: row.calls,
            provider_errors: row.provider_errors,
            mean_latency_ms: per(row.latency_us_sum as f64 / 1e3, row.calls),
            mean_cost_usd: per(row.cost_nano_usd_sum as f64 / 1e9, row.calls_with_cost),
            series: row.series.into_iter().map(Reading::from).collect(),
        }
    }
}

impl From<SeriesSums> for Reading {
    fn from(sums: SeriesSums) -> Self {
        let SeriesSums {
            series,
            n,
            ones,
            zeros,
            sum,
            squared_deviations,
        } = sums;
        let is_text = series == "comment" || series == "correction";
        // A rating of 1 on a scale from 1 to 5 is no yes, so only what can be nothing but yes or no is a rate.
        let is_binary = series == "thumbs" || (series.starts_with("outcome:") && ones + zeros == n);
        let (kind, value, interval) = if is_text {
            (ReadingKind::Count, Some(n as f64), None)
        } else if is_binary {
            let rate = (n > 0).then(|| ones as f64 / n as f64);
            (
                ReadingKind::Rate,
                rate,
                proportion::wilson_interval(ones, n, CONFIDENCE),
            )
        } else {
            let value = (n > 0).then(|| sum / n as f64);
            let interval = mean::student_interval(n, sum, squared_deviations, CONFIDENCE);
            (ReadingKind::Mean, value, interval)
        };
        let (low, high) = interval.map(|Interval { low, high }| (low, high)).unzip();
        Self {
            series,
            n,
            kind,
            value,
            low,
            high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_series_is_read_as_what_it_is() {
        let sums = |series: &str, n, ones, zeros, sum| SeriesSums {
            series: series.into(),
            n,
            ones,
            zeros,
            sum,
            squared_deviations: 2.0,
        };
        for (sums, kind, value, has_interval) in [
            (sums("thumbs", 10, 7, 3, 7.0), ReadingKind::Rate, 0.7, true),
            (
                sums("outcome:escalated", 4, 1, 3, 1.0),
                ReadingKind::Rate,
                0.25,
                true,
            ),
            (
                sums("outcome:handle_time", 4, 1, 0, 50.0),
                ReadingKind::Mean,
                12.5,
                true,
            ),
            (sums("rating", 2, 2, 0, 2.0), ReadingKind::Mean, 1.0, true),
            (sums("rating", 1, 0, 0, 4.0), ReadingKind::Mean, 4.0, false),
            (
                sums("comment", 3, 0, 0, 0.0),
                ReadingKind::Count,
                3.0,
                false,
            ),
        ] {
            let reading = Reading::from(sums);
            assert_eq!(
                (reading.kind, reading.value),
                (kind, Some(value)),
                "{reading:?}"
            );
            assert_eq!(reading.low.is_some(), has_interval, "{reading:?}");
        }
    }
}
