//! Summaries of feedback: rates and means with their intervals, latency and cost beside them.

pub mod weekly;

use flywheel_core::feedback::RatingScale;
use flywheel_core::{PromptName, PromptVersionId};
use flywheel_stats::{Interval, means, proportion};
use flywheel_storage::events::{SeriesSums, SummaryKey, SummaryRow};
use flywheel_storage::{StateSession, StorageResult};
use schemars::JsonSchema;
use serde::Serialize;

use super::served;
use weekly::MetricSummary;

/// The level of the intervals, hence 95%. They hold for one look, not for watching until they please.
const ALPHA: f64 = 0.05;

/// A row of a summary as people read it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Summary {
    /// The key's value.
    pub key: String,
    /// The prompt of the version or manifest that the key names, where it is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptName>,
    /// The number of that prompt's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_ordinal: Option<u64>,
    /// Of weeks, the Monday on which it begins, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub week: Option<String>,
    /// Of weeks, the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<PromptVersionId>,
    /// How many calls; of an arm, only those that its own manifest answered, which goes for everything below too.
    pub calls: u64,
    /// How many calls another manifest answered than the one that should have.
    pub fallbacks: u64,
    /// How many of them failed at the provider.
    pub provider_errors: u64,
    /// The mean latency of those that were timed.
    pub mean_latency_ms: Option<f64>,
    /// The mean cost of those that have one, in US dollars.
    pub mean_cost_usd: Option<f64>,
    /// Feedback on them, each call taken for independent of the others; none of weeks, which have metrics.
    pub series: Vec<Reading>,
    /// Of weeks, the app's metrics; calls of one user are not taken for independent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSummary>,
}

/// One series of feedback.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
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
    /// The scale that a mean of ratings is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<RatingScale>,
}

/// What a reading's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadingKind {
    /// A share of yes; its interval is Wilson's.
    Rate,
    /// A mean; its interval is Student's.
    Mean,
    /// A number of texts.
    Count,
}

/// The rows as people read them. All ratings are brought to the scale that most of them were given on, so that the rows
/// can be compared.
#[must_use]
pub fn summarize(rows: Vec<SummaryRow>) -> Vec<Summary> {
    let scale = most_used_scale(&rows);
    rows.into_iter()
        .map(|row| Summary::new(row, scale))
        .collect()
}

/// Names the prompt versions behind the rows' keys, where those are versions or manifests: people know them by name and
/// number. Content that several prompts have goes by the one that had it first, so that a copy changes no name.
///
/// # Errors
/// When the store fails.
pub async fn name_versions(
    session: &mut dyn StateSession,
    by: SummaryKey,
    summaries: &mut [Summary],
) -> StorageResult<()> {
    for summary in summaries {
        let named = match by {
            SummaryKey::PromptVersion | SummaryKey::Week => {
                let version = summary.key.rsplit('/').next().unwrap_or_default();
                match version.parse() {
                    Ok(version) => session.prompts().named(&version).await?.into_iter().next(),
                    Err(_) => None,
                }
            }
            SummaryKey::Manifest => match summary.key.parse() {
                Ok(manifest) => served::find(session, &manifest)
                    .await?
                    .and_then(|served| Some((served.prompt, served.prompt_ordinal?))),
                Err(_) => None,
            },
            _ => return Ok(()),
        };
        (summary.prompt, summary.prompt_ordinal) = named.unzip();
    }
    Ok(())
}

/// Of several that are used alike the narrowest, and of those the lowest.
fn most_used_scale(rows: &[SummaryRow]) -> RatingScale {
    let mut uses: Vec<(RatingScale, u64)> = Vec::new();
    let given = rows.iter().flat_map(|row| &row.series);
    for (scale, n) in given.flat_map(|series| &series.scales) {
        match uses.iter_mut().find(|(known, _)| known == scale) {
            Some((_, uses)) => *uses += n,
            None => uses.push((*scale, *n)),
        }
    }
    uses.sort_by(|(one, n), (other, m)| {
        let extent = |scale: &RatingScale| scale.max / 2.0 - scale.min / 2.0;
        (m.cmp(n))
            .then(extent(one).total_cmp(&extent(other)))
            .then(one.min.total_cmp(&other.min))
    });
    uses.first().map(|(scale, _)| *scale).unwrap_or_default()
}

impl Summary {
    fn new(row: SummaryRow, scale: RatingScale) -> Self {
        let per = |sum: f64, n: u64| (n > 0).then(|| sum / n as f64);
        Self {
            key: row.key,
            prompt: None,
            prompt_ordinal: None,
            week: None,
            prompt_version: None,
            calls: row.calls,
            fallbacks: row.fallbacks,
            provider_errors: row.provider_errors,
            mean_latency_ms: per(row.latency_us_sum as f64 / 1e3, row.calls_with_latency),
            mean_cost_usd: per(row.cost_nano_usd_sum as f64 / 1e9, row.calls_with_cost),
            series: row
                .series
                .into_iter()
                .map(|sums| Reading::new(sums, scale))
                .collect(),
            metrics: Vec::new(),
        }
    }
}

impl Reading {
    fn new(sums: SeriesSums, scale: RatingScale) -> Self {
        let SeriesSums {
            series,
            n,
            ones,
            zeros,
            sum,
            squared_deviations,
            scales,
        } = sums;
        let scale = (!scales.is_empty()).then_some(scale);
        let on_scale = |share: f64| match scale {
            Some(RatingScale { min, max }) => min * (1.0 - share) + max * share,
            None => share,
        };
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
                proportion::wilson_interval(ones, n, ALPHA).ok(),
            )
        } else {
            let value = (n > 0).then(|| sum / n as f64);
            let interval = means::student_interval(n, sum, squared_deviations, ALPHA).ok();
            // No mean of grades is beyond the best and the worst of them.
            let interval = interval.map(|found| match scale {
                Some(_) => Interval {
                    low: found.low.clamp(0.0, 1.0),
                    high: found.high.clamp(0.0, 1.0),
                },
                None => found,
            });
            (ReadingKind::Mean, value, interval)
        };
        let (low, high) = interval
            .map(|Interval { low, high }| (on_scale(low), on_scale(high)))
            .unzip();
        Self {
            series,
            n,
            kind,
            value: value.map(on_scale),
            low,
            high,
            scale,
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
            scales: Vec::new(),
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
            (
                sums("comment", 3, 0, 0, 0.0),
                ReadingKind::Count,
                3.0,
                false,
            ),
        ] {
            let reading = Reading::new(sums, RatingScale::default());
            assert_eq!(
                (reading.kind, reading.value),
                (kind, Some(value)),
                "{reading:?}"
            );
            assert_eq!(reading.low.is_some(), has_interval, "{reading:?}");
        }
    }

    #[test]
    fn no_mean_of_ratings_is_beyond_their_scale() {
        let ratings = SeriesSums {
            series: "rating".into(),
            n: 3,
            sum: 2.75,
            squared_deviations: 0.04,
            scales: vec![(RatingScale::default(), 3)],
            ..SeriesSums::default()
        };
        let reading = Reading::new(ratings, RatingScale::default());
        assert_eq!(reading.high, Some(5.0), "{reading:?}");
        assert!(reading.low > Some(1.0) && reading.low < reading.value);
    }

    #[test]
    fn ratings_are_read_on_the_scale_that_most_were_given_on() {
        let scale = |min, max| RatingScale { min, max };
        let row = |key: &str, n, sum, scales: &[(RatingScale, u64)]| SummaryRow {
            key: key.into(),
            series: vec![SeriesSums {
                series: "rating".into(),
                n,
                sum,
                squared_deviations: 0.08,
                scales: scales.to_vec(),
                ..SeriesSums::default()
            }],
            ..SummaryRow::default()
        };
        let (stars, points) = (scale(1.0, 5.0), scale(0.0, 10.0));
        for (rows, expected, values) in [
            // 4 and 5 stars; 8 and 10 points.
            (
                vec![
                    row("a", 2, 1.75, &[(stars, 2)]),
                    row("b", 3, 2.55, &[(points, 1), (stars, 2)]),
                ],
                stars,
                [4.5, 4.4],
            ),
            (
                vec![
                    row("a", 2, 1.0, &[(points, 2)]),
                    row("b", 3, 3.0, &[(points, 1), (stars, 2)]),
                ],
                points,
                [5.0, 10.0],
            ),
            // A tie.
            (
                vec![
                    row("a", 1, 0.0, &[(points, 1)]),
                    row("b", 1, 1.0, &[(stars, 1)]),
                ],
                stars,
                [1.0, 5.0],
            ),
        ] {
            for (row, value) in summarize(rows).into_iter().zip(values) {
                let reading = &row.series[0];
                assert_eq!(reading.scale, Some(expected));
                let read = reading.value.unwrap();
                assert!((read - value).abs() < 1e-9, "{reading:?}");
                if let (Some(low), Some(high)) = (reading.low, reading.high) {
                    let is_clipped = low == expected.min || high == expected.max;
                    let center = (low + high) / 2.0;
                    assert!(is_clipped || (center - value).abs() < 1e-9, "{reading:?}");
                    assert!(low < high, "{reading:?}");
                }
            }
        }
    }
}
