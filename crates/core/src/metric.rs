//! Metrics: named readings of feedback and signals, which experiments compare and people follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::call::CallStatus;
use crate::feedback::RatingScale;
use crate::name::MetricName;

/// A named reading of feedback or signals, declared for an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Its name, unique in the app.
    pub name: MetricName,
    /// How its values are summed up.
    pub kind: MetricKind,
    /// Where its values come from, such as `thumbs`, `outcome:escalated` or `signal:latency_ms`.
    pub source: MetricSource,
    /// What the values are divided by, for ratios; `signal:calls` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<MetricSource>,
    /// Which way it improves.
    pub direction: Direction,
    /// The unit of its values, such as `ms`; none for shares and counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The scale of an ordinal metric, 1 to 5 if absent. Ratings on other scales are moved to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<RatingScale>,
    /// Which quantile it is, 0.95 if absent; for quantiles only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile: Option<f64>,
    /// What one unit counts for at most, so that a few extreme units do not decide: its total of counts, otherwise its own mean
    /// or ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<f64>,
    /// For how many hours after its call feedback counts; without end if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_hours: Option<u32>,
    /// Whether the same metric of a unit before its first exposure is used to reduce the variance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub covariate: bool,
}

/// How the values of a metric are summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// Yes or no per call, as a share of the calls that have a value.
    Binary,
    /// The mean over the calls that have a value.
    Continuous,
    /// A grade: ranks are compared, and the mean beside them.
    Ordinal,
    /// The total of a unit, averaged over all units that were exposed.
    Count,
    /// One sum divided by another.
    Ratio,
    /// A quantile over calls.
    Quantile,
}

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// Where a metric's values come from: a series of feedback, or a signal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MetricSource {
    /// A series of feedback: `thumbs`, `rating`, `comment`, `correction` or `outcome:<name>`.
    Feedback(String),
    /// What is measured without asking.
    Signal(Signal),
}

/// What is measured of a call without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// 1 for each call.
    Calls,
    /// Milliseconds from the request's arrival to the end of the answer.
    LatencyMs,
    /// Milliseconds to the provider's first byte.
    FirstByteMs,
    /// Tokens of the request.
    InputTokens,
    /// Tokens of the answer.
    OutputTokens,
    /// What the call cost, in US dollars.
    CostUsd,
    /// Whether the call failed at the provider or could not be served.
    HardFailure,
    /// Whether the answer failed the prompt's post-processing.
    SoftFailure,
    /// Of answers that call tools: whether each was offered and takes the arguments it gets.
    ToolSuccess,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Calls,
        Self::LatencyMs,
        Self::FirstByteMs,
        Self::InputTokens,
        Self::OutputTokens,
        Self::CostUsd,
        Self::HardFailure,
        Self::SoftFailure,
        Self::ToolSuccess,
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::LatencyMs => "latency_ms",
            Self::FirstByteMs => "first_byte_ms",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::CostUsd => "cost_usd",
            Self::HardFailure => "hard_failure",
            Self::SoftFailure => "soft_failure",
            Self::ToolSuccess => "tool_success",
        }
    }

    /// Its value for a call, if the call has one.
    #[must_use]
    pub fn of(self, call: &Measured) -> Option<f64> {
        let milliseconds = |us: u64| us as f64 / 1e3;
        let flag = |is: bool| f64::from(u8::from(is));
        match self {
            Self::Calls => Some(1.0),
            Self::LatencyMs => call.latency_us.map(milliseconds),
            Self::FirstByteMs => call.first_byte_us.map(milliseconds),
            Self::InputTokens => call.input_tokens.map(|tokens| tokens as f64),
            Self::OutputTokens => call.output_tokens.map(|tokens| tokens as f64),
            Self::CostUsd => call.cost_nano_usd.map(|nano| nano as f64 / 1e9),
            Self::HardFailure => Some(flag(matches!(
                call.status,
                CallStatus::ProviderError | CallStatus::GatewayError
            ))),
            Self::SoftFailure => Some(flag(call.status == CallStatus::InvalidOutput)),
            Self::ToolSuccess => call.tool_success.map(flag),
        }
    }
}

/// What is measured of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// How it ended.
    pub status: CallStatus,
    /// From the request's arrival to the end of the answer.
    pub latency_us: Option<u64>,
    /// To the provider's first byte.
    pub first_byte_us: Option<u64>,
    /// Tokens of the request.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// What it cost.
    pub cost_nano_usd: Option<i64>,
    /// Whether the tools it calls were offered and take their arguments.
    pub tool_success: Option<bool>,
}

/// How much wider each bucket of a histogram of signals is than the one before.
pub const BUCKET_WIDTH: f64 = 0.01;

/// The class of a value in a histogram whose buckets grow by [`BUCKET_WIDTH`]; zero and less are in the lowest.
#[must_use]
pub fn bucket(value: f64) -> i32 {
    if value < f64::MIN_POSITIVE {
        return i32::MIN;
    }
    (value.ln() / BUCKET_WIDTH.ln_1p()).floor() as i32
}

/// Why a metric cannot be declared so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidMetric {
    /// A source that is neither feedback nor a signal.
    #[error(
        "`{0}` is no source of values: use `thumbs`, `rating`, `comment`, `correction`, `outcome:<name>`, or `signal:` with one of {signals}", signals = signals()
    )]
    Source(String),
    /// A number that makes no sense.
    #[error("metric `{metric}`: `{member}` must be {rule}, not `{value}`")]
    Number {
        /// The metric.
        metric: MetricName,
        /// The member.
        member: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        value: f64,
    },
    /// A member that this kind does not use.
    #[error("metric `{metric}`: `{member}` means nothing for a {kind} metric")]
    Unused {
        /// The metric.
        metric: MetricName,
        /// The member.
        member: &'static str,
        /// Its kind.
        kind: &'static str,
    },
    /// A source that has no values of this kind.
    #[error("metric `{metric}`: `{source_name}` has no {kind} values; {hint}")]
    Kind {
        /// The metric.
        metric: MetricName,
        /// The source.
        source_name: String,
        /// The kind.
        kind: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

fn signals() -> String {
    Signal::ALL.map(Signal::as_str).join(", ")
}

impl fmt::Display for MetricSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Feedback(series) => formatter.write_str(series),
            Self::Signal(signal) => write!(formatter, "signal:{}", signal.as_str()),
        }
    }
}

impl FromStr for MetricSource {
    type Err = InvalidMetric;

    fn from_str(text: &str) -> Result<Self, InvalidMetric> {
        let unknown = || InvalidMetric::Source(text.to_owned());
        if let Some(name) = text.strip_prefix("signal:") {
            let signal = Signal::ALL.into_iter().find(|s| s.as_str() == name);
            return signal.map(Self::Signal).ok_or_else(unknown);
        }
        let is_outcome = text
            .strip_prefix("outcome:")
            .is_some_and(|name| !name.is_empty());
        let is_kind = ["thumbs", "rating", "comment", "correction"].contains(&text);
        if is_outcome || is_kind {
            return Ok(Self::Feedback(text.to_owned()));
        }
        Err(unknown())
    }
}

impl Serialize for MetricSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MetricSource {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for MetricSource {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MetricSource".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a metric's values come from: a series of feedback (`thumbs`, `rating`, `comment`, `correction`, `outcome:<name>`) or a signal (`signal:latency_ms`).",
        })
    }
}

impl MetricKind {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Continuous => "continuous",
            Self::Ordinal => "ordinal",
            Self::Count => "count",
            Self::Ratio => "ratio",
            Self::Quantile => "quantile",
        }
    }
}

/// How far a rating's histogram tells means apart: the scale has this many steps, which thirds, quarters and fifths of
/// the five grades all fall on.
pub const GRADES: u32 = 720;

impl Metric {
    /// The scale of an ordinal metric.
    #[must_use]
    pub fn rating_scale(&self) -> RatingScale {
        self.scale.unwrap_or_default()
    }

    /// What a unit's numerator counts for at most, given its denominator.
    #[must_use]
    pub fn most(&self, denominator: f64) -> f64 {
        match (self.cap, self.kind) {
            (None, _) => f64::INFINITY,
            (Some(cap), MetricKind::Count) => cap,
            (Some(cap), _) if denominator > 0.0 => cap * denominator,
            // There is no mean to be cut.
            (Some(_), _) => f64::INFINITY,
        }
    }

    /// Which quantile it is.
    #[must_use]
    pub fn quantile(&self) -> f64 {
        self.quantile.unwrap_or(0.95)
    }

    /// What its values are divided by: nothing for a unit's total, otherwise how many calls have a value, or the values of
    /// another source.
    #[must_use]
    pub fn denominator(&self) -> Option<MetricSource> {
        match self.kind {
            MetricKind::Ratio => Some(
                self.per
                    .clone()
                    .unwrap_or(MetricSource::Signal(Signal::Calls)),
            ),
            _ => None,
        }
    }

    /// Whether a series of feedback has a part in it.
    #[must_use]
    pub fn reads(&self, series: &str) -> bool {
        let is = |source: &MetricSource| matches!(source, MetricSource::Feedback(s) if s == series);
        is(&self.source) || self.per.as_ref().is_some_and(is)
    }

    /// Checks what the members say together.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidMetric> {
        let kind = self.kind.as_str();
        let unused = |member| InvalidMetric::Unused {
            metric: self.name.clone(),
            member,
            kind,
        };
        let number = |member, rule, value| InvalidMetric::Number {
            metric: self.name.clone(),
            member,
            rule,
            value,
        };
        let wrong = |source: &MetricSource, hint| InvalidMetric::Kind {
            metric: self.name.clone(),
            source_name: source.to_string(),
            kind,
            hint,
        };
        if self.per.is_some() && self.kind != MetricKind::Ratio {
            return Err(unused("per"));
        }
        if self.scale.is_some() && self.kind != MetricKind::Ordinal {
            return Err(unused("scale"));
        }
        match self.quantile {
            Some(_) if self.kind != MetricKind::Quantile => return Err(unused("quantile")),
            Some(q) if !(q > 0.0 && q < 1.0) => {
                return Err(number("quantile", "between 0 and 1", q));
            }
            _ => {}
        }
        match self.cap {
            Some(_) if matches!(self.kind, MetricKind::Quantile | MetricKind::Binary) => {
                return Err(unused("cap"));
            }
            Some(cap) if !(cap.is_finite() && cap > 0.0) => {
                return Err(number("cap", "a positive number", cap));
            }
            _ => {}
        }
        if let Some(scale) = self.scale
            && !(scale.min.is_finite() && scale.max.is_finite() && scale.min < scale.max)
        {
            return Err(number("scale", "from a lower to a higher end", scale.min));
        }
        let is_words = |source: &MetricSource| matches!(source, MetricSource::Feedback(series) if series == "comment" || series == "correction");
        let counts = matches!(self.kind, MetricKind::Count | MetricKind::Ratio);
        if is_words(&self.source) && !counts {
            return Err(wrong(&self.source, "count them, or make a ratio to calls"));
        }
        if self.kind == MetricKind::Ordinal
            && self.source != MetricSource::Feedback("rating".into())
        {
            return Err(wrong(&self.source, "only ratings are grades"));
        }
        if self.kind == MetricKind::Quantile && !matches!(self.source, MetricSource::Signal(_)) {
            return Err(wrong(
                &self.source,
                "quantiles are taken of signals, such as `signal:latency_ms`",
            ));
        }
        Ok(())
    }

    /// What feedback counts for: 1 for words, a rating moved to the metric's scale, otherwise the value itself. What is
    /// neither yes nor no says nothing of a share.
    #[must_use]
    pub fn value_of_feedback(&self, value: Option<f64>, scale: Option<(f64, f64)>) -> Option<f64> {
        let Some(value) = value else {
            return Some(1.0);
        };
        if self.kind == MetricKind::Binary && value != 0.0 && value != 1.0 {
            return None;
        }
        let (Some((min, max)), MetricKind::Ordinal) = (scale, self.kind) else {
            return Some(value);
        };
        let own = self.rating_scale();
        if (min, max) == (own.min, own.max) {
            return Some(value);
        }
        let share = (value - min) / (max - min);
        let moved = own.min + share * (own.max - own.min);
        moved.is_finite().then_some(moved)
    }

    /// The class of a unit's mean rating in a histogram of [`GRADES`] steps.
    #[must_use]
    pub fn grade(&self, mean: f64) -> i32 {
        let scale = self.rating_scale();
        let share = (mean - scale.min) / (scale.max - scale.min);
        (share.clamp(0.0, 1.0) * f64::from(GRADES)).round() as i32
    }
}

/// The metrics that every app has until it declares others.
#[must_use]
pub fn starter_set() -> Vec<Metric> {
    let feedback = |series: &str| MetricSource::Feedback(series.to_owned());
    let metric = |name: &str, kind, source, direction, unit: &str| {
        Some(Metric {
            name: name.parse().ok()?,
            kind,
            source,
            per: None,
            direction,
            unit: unit.to_owned(),
            scale: None,
            quantile: None,
            cap: None,
            window_hours: None,
            covariate: false,
        })
    };
    let signal = MetricSource::Signal;
    let (higher, lower) = (Direction::Higher, Direction::Lower);
    let yes_or_no = MetricKind::Binary;
    [
        metric("thumbs_up", yes_or_no, feedback("thumbs"), higher, ""),
        metric(
            "rating",
            MetricKind::Ordinal,
            feedback("rating"),
            higher,
            "",
        ),
        metric(
            "task_completed",
            yes_or_no,
            feedback("outcome:task_completed"),
            higher,
            "",
        ),
        metric(
            "escalated",
            yes_or_no,
            feedback("outcome:escalated"),
            lower,
            "",
        ),
        metric(
            "corrections",
            MetricKind::Ratio,
            feedback("correction"),
            lower,
            "per call",
        ),
        metric(
            "hard_failures",
            yes_or_no,
            signal(Signal::HardFailure),
            lower,
            "",
        ),
        metric(
            "soft_failures",
            yes_or_no,
            signal(Signal::SoftFailure),
            lower,
            "",
        ),
        metric(
            "latency_p95",
            MetricKind::Quantile,
            signal(Signal::LatencyMs),
            lower,
            "ms",
        ),
        metric(
            "cost_per_call",
            MetricKind::Continuous,
            signal(Signal::CostUsd),
            lower,
            "USD",
        ),
        metric(
            "output_tokens",
            MetricKind::Continuous,
            signal(Signal::OutputTokens),
            lower,
            "tokens",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_starter_set_is_whole_and_sound() {
        let metrics = starter_set();
        assert_eq!(metrics.len(), 10);
        for metric in &metrics {
            assert_eq!(metric.check(), Ok(()), "{}", metric.name);
        }
        let written = serde_json::to_string(&metrics).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<Metric>>(&written).unwrap(),
            metrics
        );
    }

    #[test]
    fn what_makes_no_metric_is_refused_by_name() {
        let base = starter_set().swap_remove(0);
        let mut quantile = base.clone();
        quantile.kind = MetricKind::Quantile;
        let mut per = base.clone();
        per.per = Some(MetricSource::Signal(Signal::Calls));
        let mut words = base.clone();
        words.source = "correction".parse().unwrap();
        let mut cap = base.clone();
        cap.kind = MetricKind::Count;
        cap.cap = Some(f64::NAN);
        for (metric, said) in [
            (quantile, "quantiles are taken of signals"),
            (per, "`per` means nothing"),
            (words, "count them"),
            (cap, "`cap` must be a positive number, not `NaN`"),
        ] {
            let error = metric.check().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let error = "signal:speed".parse::<MetricSource>().unwrap_err();
        assert!(error.to_string().contains("latency_ms"), "{error}");
    }

    #[test]
    fn ratings_are_moved_to_the_scale() {
        let rating = starter_set().swap_remove(1);
        assert_eq!(
            rating.value_of_feedback(Some(4.0), Some((1.0, 5.0))),
            Some(4.0)
        );
        assert_eq!(
            rating.value_of_feedback(Some(5.0), Some((0.0, 10.0))),
            Some(3.0)
        );
        assert_eq!(rating.grade(1.0), 0);
        assert_eq!(rating.grade(4.0), 540);
        assert_eq!(rating.grade(5.0), 720);
    }
}
