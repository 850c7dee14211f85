//! What people think of versions: feedback summed up, with its uncertainty, ready to be shown.

use flywheel_storage::StorageResult;
use flywheel_storage::events::{SummaryFilter, SummaryKey};

use super::show;
use crate::context::Context;
use crate::operations::summary::{Reading, ReadingKind, Summary, summarize};

/// A row of a table of versions.
pub(super) struct ScoreRow {
    pub(super) calls: String,
    pub(super) failures: String,
    pub(super) latency: String,
    pub(super) cost: String,
    pub(super) readings: Vec<Score>,
}

/// One series of feedback.
pub(super) struct Score {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) interval: String,
    /// How many calls have it, unless that is the value.
    pub(super) n: Option<String>,
    /// The place of the value and of the ends of its interval on the scale, each from 0 to 100.
    pub(super) bar: Option<(f64, f64, f64)>,
}

/// Feedback by a key.
pub(super) async fn by(
    context: &Context,
    filter: &SummaryFilter,
    key: SummaryKey,
) -> StorageResult<Vec<Summary>> {
    Ok(summarize(context.events.summarize(filter, key).await?))
}

/// The series that stands for what people think: ratings or thumbs, whichever more calls have.
pub(super) fn headline(summary: &Summary) -> Option<&Reading> {
    summary
        .series
        .iter()
        .filter(|reading| reading.series == "rating" || reading.series == "thumbs")
        .max_by_key(|reading| reading.n)
}

impl ScoreRow {
    pub(super) fn new(summary: &Summary) -> Self {
        Self {
            calls: show::count(summary.calls),
            failures: show::count(summary.provider_errors),
            latency: summary
                .mean_latency_ms
                .map_or_else(|| "–".to_owned(), |mean| show::latency((mean * 1e3) as u64)),
            cost: summary
                .mean_cost_usd
                .map_or_else(|| "–".to_owned(), |mean| show::dollars((mean * 1e9) as i64)),
            readings: summary.series.iter().map(Score::new).collect(),
        }
    }
}

impl Score {
    pub(super) fn new(reading: &Reading) -> Self {
        let shown = |value: f64| match reading.kind {
            ReadingKind::Rate => show::percent(value),
            ReadingKind::Mean => format!("{value:.2}"),
            ReadingKind::Count => show::count(value as u64),
        };
        let interval = match (reading.low, reading.high) {
            (Some(low), Some(high)) => format!("{} to {}", shown(low), shown(high)),
            _ => String::new(),
        };
        let (least, most) = match (reading.kind, reading.scale) {
            (ReadingKind::Rate, _) => (0.0, 1.0),
            (_, Some(scale)) => (scale.min, scale.max),
            _ => (0.0, 0.0),
        };
        let place = |value: f64| ((value - least) / (most - least) * 100.0).clamp(0.0, 100.0);
        let bar = match (reading.value, reading.low, reading.high) {
            (Some(value), Some(low), Some(high)) if most > least => {
                Some((place(low), place(value), place(high)))
            }
            _ => None,
        };
        let of_most = match (reading.kind, reading.scale) {
            (ReadingKind::Mean, Some(scale)) => format!(" of {}", scale.max),
            _ => String::new(),
        };
        let name = match reading.series.as_str() {
            "thumbs" => "thumbs up".to_owned(),
            "comment" | "correction" if reading.n != 1 => format!("{}s", reading.series),
            other => other.replacen("outcome:", "", 1),
        };
        Self {
            name,
            value: reading
                .value
                .map_or_else(|| "–".to_owned(), |value| shown(value) + &of_most),
            interval,
            n: (reading.kind != ReadingKind::Count).then(|| show::count(reading.n)),
            bar,
        }
    }
}
