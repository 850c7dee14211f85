//! How an app has been doing: charts over a span of time, with what was deployed marked in them, and the numbers behind them.

use flywheel_core::AppName;
use flywheel_core::deployment::Deployment;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::events::{ActivityRow, SummaryFilter, SummaryKey, Window};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::Deserialize;

use super::chart::{Amount, Chart, Mark, Numbers, Point};
use super::scores::{self, Score};
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::summary::{ReadingKind, Summary};
use crate::problem::ApiResult;

/// How far back a page looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Span {
    #[serde(rename = "24h")]
    Day,
    #[default]
    #[serde(rename = "7d")]
    Week,
    #[serde(rename = "30d")]
    Month,
}

impl Span {
    pub(super) const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// The window that ends with the slot under way.
    pub(super) fn window(self, now: Timestamp) -> Window {
        let (slot_seconds, slots) = match self {
            Self::Day => (3600, 24),
            Self::Week => (4 * 3600, 42),
            Self::Month => (86_400, 30),
        };
        let slot = i64::from(slot_seconds);
        let end = (now.as_second().div_euclid(slot) + 1) * slot;
        let since = Timestamp::from_second(end - slot * i64::from(slots)).unwrap_or(now);
        Window {
            since,
            slot_seconds,
            slots,
        }
    }

    /// A slot of a chart, in words.
    fn slot_name(self) -> &'static str {
        match self {
            Self::Day => "hour",
            Self::Week => "4 hours",
            Self::Month => "day",
        }
    }

    /// Feedback is sparser than calls: a day at a time, but for a single day.
    pub(super) fn feedback_key(self) -> SummaryKey {
        match self {
            Self::Day => SummaryKey::Hour,
            _ => SummaryKey::Day,
        }
    }
}

/// How an app has been doing, as charts and as the numbers behind them.
pub(super) struct Figures {
    pub(super) calls: String,
    pub(super) failures: String,
    pub(super) latency: String,
    pub(super) cost: String,
    /// The newest score, and of when it is.
    pub(super) score: Option<(Score, String)>,
    /// Whether a chart marks what was deployed, and whether one shows how sure it is.
    pub(super) has_marks: bool,
    pub(super) has_bands: bool,
    pub(super) charts: Vec<Markup>,
    pub(super) numbers: Vec<Numbers>,
}

/// What was seen of an app in a window.
pub(super) struct Sight {
    span: Span,
    pub(super) window: Window,
    slots: Vec<ActivityRow>,
    total: ActivityRow,
    feedback: Vec<Summary>,
}

impl Sight {
    pub(super) async fn take(
        context: &Context,
        app: &AppName,
        environment: &EnvironmentName,
        span: Span,
        now: Timestamp,
    ) -> ApiResult<Self> {
        let window = span.window(now);
        let apps = [app.clone()];
        let events = &context.events;
        let rows = events.activity(&apps, Some(environment), window).await?;
        let mut slots = vec![ActivityRow::default(); window.slots as usize];
        let mut total = ActivityRow::default();
        for row in rows {
            total.add(&row);
            if let Some(slot) = slots.get_mut(row.slot as usize) {
                *slot = row;
            }
        }
        let filter = SummaryFilter {
            apps: apps.to_vec(),
            environment: Some(environment.clone()),
            since: Some(window.since),
            ..SummaryFilter::default()
        };
        let feedback = scores::by(context, &filter, span.feedback_key()).await?;
        Ok(Self {
            span,
            window,
            slots,
            total,
            feedback,
        })
    }

    /// The charts, with marks where a deployment changed what was served.
    pub(super) fn figures(&self, history: &[Deployment]) -> Figures {
        let marks = marks(history, self.window);
        let of_slots = |read: fn(&ActivityRow) -> Option<f64>| {
            self.slots
                .iter()
                .map(|slot| read(slot).map(Point::plain))
                .collect::<Vec<_>>()
        };
        let slot = self.span.slot_name();
        let chart = |title, amount, points, as_bars| Chart {
            title,
            amount,
            window: self.window,
            points,
            marks: &marks,
            ends: None,
            as_bars,
        };
        let charts = [
            chart(
                format!("Calls per {slot}"),
                Amount::Count,
                of_slots(|slot| Some(slot.calls as f64)),
                true,
            ),
            chart(
                "Failed calls".to_owned(),
                Amount::Percent,
                of_slots(failed_share),
                true,
            ),
            chart(
                "Latency p95".to_owned(),
                Amount::Microseconds,
                of_slots(|slot| slot.latency_quantile(0.95).map(|latency| latency as f64)),
                false,
            ),
            chart(
                format!("Cost per {slot}"),
                Amount::NanoDollars,
                of_slots(|slot| (slot.calls > 0).then_some(slot.cost_nano_usd as f64)),
                true,
            ),
        ];
        let mut drawn: Vec<_> = charts.iter().map(Chart::draw).collect();
        let mut numbers = vec![Numbers::of(&charts)];
        let mut feedback_marks = Vec::new();
        let mut has_bands = false;
        if let Some(feedback) = self.feedback_chart(history, &mut feedback_marks) {
            drawn.insert(2, feedback.draw());
            let mut points = feedback.points.iter().flatten();
            has_bands = points.any(|point| point.interval.is_some());
            numbers.push(Numbers::of(&[feedback]));
        }
        let mut scores = self.feedback.iter().filter_map(|summary| {
            let reading = scores::headline(summary)?;
            Some((Score::new(reading), self.when_said(&summary.key)))
        });
        let dash = || "–".to_owned();
        Figures {
            calls: show::count(self.total.calls),
            failures: failed_share(&self.total).map_or_else(dash, show::percent),
            latency: self
                .total
                .latency_quantile(0.95)
                .map_or_else(dash, show::latency),
            cost: show::dollars(self.total.cost_nano_usd),
            score: scores.next_back(),
            has_marks: !marks.is_empty(),
            has_bands,
            charts: drawn,
            numbers,
        }
    }

    /// When feedback of a slot was given, in words.
    fn when_said(&self, key: &str) -> String {
        match slot_begin(key) {
            Some(at) if self.span == Span::Day => at.strftime("since %H:%M UTC").to_string(),
            Some(at) if at + SignedDuration::from_hours(24) >= self.window.until() => {
                "today".to_owned()
            }
            Some(at) => at.strftime("on %b %-d").to_string(),
            None => key.to_owned(),
        }
    }

    fn feedback_chart<'a>(
        &self,
        history: &[Deployment],
        marks: &'a mut Vec<Mark>,
    ) -> Option<Chart<'a>> {
        let most = self
            .feedback
            .iter()
            .filter_map(scores::headline)
            .max_by_key(|reading| reading.n)?;
        let (slot_seconds, slots) = match self.span {
            Span::Day => (3600, 24),
            Span::Week => (86_400, 7),
            Span::Month => (86_400, 30),
        };
        let mut points = vec![None; slots];
        let begin = match self.span {
            Span::Day => self.window.since,
            // The days of the window, the one under way included.
            _ => {
                let end = self.window.until() - SignedDuration::from_secs(1);
                let day = end.round(
                    jiff::TimestampRound::new()
                        .smallest(Unit::Hour)
                        .mode(jiff::RoundMode::Floor),
                );
                let day = day.unwrap_or(end).as_second().div_euclid(86_400) + 1;
                Timestamp::from_second((day - slots as i64) * 86_400).ok()?
            }
        };
        for summary in &self.feedback {
            let Some(at) = slot_begin(&summary.key) else {
                continue;
            };
            let slot = (at.as_second() - begin.as_second()).div_euclid(i64::from(slot_seconds));
            let reading = summary
                .series
                .iter()
                .find(|reading| reading.series == most.series);
            let (Ok(slot), Some(reading)) = (usize::try_from(slot), reading) else {
                continue;
            };
            if let (Some(place), Some(value)) = (points.get_mut(slot), reading.value) {
                *place = Some(Point {
                    value,
                    interval: reading.low.zip(reading.high),
                });
            }
        }
        let (title, amount, ends) = match (most.kind, most.scale) {
            (ReadingKind::Rate, _) => ("Thumbs up", Amount::Percent, (0.0, 1.0)),
            (_, Some(scale)) => ("Rating", Amount::Score, (scale.min, scale.max)),
            _ => return None,
        };
        let slot = if slot_seconds == 3600 { "hour" } else { "day" };
        let window = Window {
            since: begin,
            slot_seconds,
            slots: slots as u32,
        };
        *marks = self::marks(history, window);
        Some(Chart {
            title: format!("{title} by {slot}"),
            amount,
            window,
            points,
            marks,
            ends: Some(ends),
            as_bars: false,
        })
    }
}

/// When the day or the hour began that a summary's key names.
fn slot_begin(key: &str) -> Option<Timestamp> {
    let time = match key.len() {
        10 => format!("{key}T00:00:00Z"),
        _ => format!("{key}:00:00Z"),
    };
    time.parse().ok()
}

/// Where in a window deployments changed what was served.
fn marks(history: &[Deployment], window: Window) -> Vec<Mark> {
    let since = window.since.as_second() as f64;
    let length = f64::from(window.slot_seconds) * f64::from(window.slots);
    history
        .iter()
        .map(|deployment| Mark {
            place: (deployment.created_at.as_second() as f64 - since) / length,
            text: format!(
                "#{} {} by {}: {}",
                deployment.number,
                deployment.kind.as_str(),
                deployment.actor,
                deployment.reason
            ),
        })
        .filter(|mark| (0.0..=1.0).contains(&mark.place))
        .collect()
}

fn failed_share(slot: &ActivityRow) -> Option<f64> {
    let failed = slot.hard_failures + slot.invalid_outputs;
    (slot.calls > 0).then(|| failed as f64 / slot.calls as f64)
}
