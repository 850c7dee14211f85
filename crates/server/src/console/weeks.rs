//! An app week by week: every metric of each prompt version with its interval, on the app's page and as CSV.

use std::fmt::Write as _;

use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::metric::MetricKind;
use flywheel_core::name::{EnvironmentName, MetricName};
use flywheel_stats::undefined::Undefined;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::answer::PageResult;
use super::calls::{as_file, csv_field};
use super::form::{PagePath, PageQuery, given};
use super::session::Visitor;
use super::show;
use crate::context::Context;
use crate::operations::summary::Summary;
use crate::operations::summary::weekly::{MetricSummary, Weekly, WeeklyQuery, weekly};
use crate::problem::ApiResult;

/// How many weeks the page of an app has, the present one included.
const WEEKS: i64 = 8;

/// The metrics that have values, and what each prompt version came to in each week.
#[derive(Default)]
pub(super) struct WeekTable {
    pub(super) metrics: Vec<String>,
    pub(super) rows: Vec<WeekRow>,
    /// Which share of the events is taken in, if not all are.
    pub(super) taken_in: Option<String>,
}

/// A prompt version in a week.
pub(super) struct WeekRow {
    pub(super) week: String,
    pub(super) version: String,
    pub(super) calls: String,
    pub(super) cells: Vec<WeekCell>,
}

/// What a metric came to.
pub(super) struct WeekCell {
    pub(super) value: String,
    /// Its interval, or in short why it has none.
    pub(super) interval: String,
    /// How many values of how many users, and how the interval was made.
    pub(super) behind: String,
}

/// The last weeks, newest first.
pub(super) async fn table(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    now: Timestamp,
) -> ApiResult<WeekTable> {
    let mut found = last_weeks(context, app, environment, now).await?;
    found.rows.reverse();
    // What no week has a value of would be an empty column.
    let all = found.rows.iter().flat_map(|row| &row.metrics);
    let mut metrics: Vec<&MetricName> = Vec::new();
    for metric in all.filter(|metric| metric.value.is_some()) {
        if !metrics.contains(&&metric.metric) {
            metrics.push(&metric.metric);
        }
    }
    let cells = |row: &Summary| {
        let cell = |name: &&MetricName| {
            let metric = row.metrics.iter().find(|metric| metric.metric == **name);
            metric.map_or_else(WeekCell::none, WeekCell::new)
        };
        metrics.iter().map(cell).collect()
    };
    let rows = found.rows.iter().map(|row| WeekRow {
        week: row.week.clone().unwrap_or_default(),
        version: version(row),
        calls: show::count(row.calls),
        cells: cells(row),
    });
    Ok(WeekTable {
        rows: rows.collect(),
        metrics: metrics.iter().map(ToString::to_string).collect(),
        taken_in: found.taken_in.map(show::percent),
    })
}

async fn last_weeks(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    now: Timestamp,
) -> ApiResult<Weekly> {
    let asked = WeeklyQuery {
        app: app.clone(),
        environment: Some(environment.clone()),
        since: now
            .checked_sub(SignedDuration::from_hours(24 * 7 * (WEEKS - 1)))
            .ok(),
        until: None,
    };
    weekly(context, asked).await
}

fn version(row: &Summary) -> String {
    match (&row.prompt, row.prompt_ordinal) {
        (Some(prompt), Some(ordinal)) => format!("{prompt}@{ordinal}"),
        _ => row
            .prompt_version
            .map(|version| version.short().to_string())
            .unwrap_or_default(),
    }
}

impl WeekCell {
    fn none() -> Self {
        Self {
            value: "–".to_owned(),
            interval: "no values".to_owned(),
            behind: String::new(),
        }
    }

    fn new(metric: &MetricSummary) -> Self {
        let Some(value) = metric.value else {
            return Self::none();
        };
        let shown = |value: f64| match metric.unit.as_str() {
            _ if metric.kind == MetricKind::Binary => show::percent(value),
            "USD" => show::dollars((value * 1e9) as i64),
            "ms" => show::latency((value * 1e3).max(0.0) as u64),
            _ => format!("{value:.2}"),
        };
        let n = format!(
            "{} values of {} users",
            show::count(metric.n),
            show::count(metric.units)
        );
        let (interval, behind) = match (metric.low, metric.high, &metric.undefined) {
            (Some(low), Some(high), _) => (
                format!("{} to {}", shown(low), shown(high)),
                format!("{n}; {}", metric.method),
            ),
            (_, _, Some(reason)) => {
                let is_constant = *reason == Undefined::ZeroVariance.to_string();
                let short = if is_constant {
                    "all alike"
                } else {
                    "no interval"
                };
                (short.to_owned(), format!("{n}; {reason}"))
            }
            _ => (String::new(), n),
        };
        Self {
            value: shown(value),
            interval,
            behind,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WeeksQuery {
    #[serde(deserialize_with = "given")]
    environment: Option<EnvironmentName>,
}

/// `GET /apps/{app}/weeks.csv`
pub(super) async fn list_weeks_as_csv(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<AppName>,
    PageQuery(query): PageQuery<WeeksQuery>,
) -> PageResult {
    visitor.caller.must_cover(&name)?;
    let now = context.sources.clock.now();
    let environment = {
        let mut session = context.state.read().await?;
        let app = crate::operations::deploy::find_app(&mut *session, &name).await?;
        crate::operations::deploy::find_environment(&app, query.environment.as_ref())?
    };
    let found = last_weeks(&context, &name, &environment, now).await?;
    let mut csv = String::from(
        "week,prompt,prompt_version,version,calls,metric,kind,unit,units,n,value,low,high,method,undefined\r\n",
    );
    let text = |value: Option<String>| value.unwrap_or_default();
    let number = |value: Option<f64>| text(value.map(|value| value.to_string()));
    for row in &found.rows {
        for metric in &row.metrics {
            let fields = [
                text(row.week.clone()),
                text(row.prompt.as_ref().map(ToString::to_string)),
                text(row.prompt_version.map(|version| version.to_string())),
                text(row.prompt_ordinal.map(|ordinal| ordinal.to_string())),
                row.calls.to_string(),
                metric.metric.to_string(),
                metric.kind.as_str().to_owned(),
                metric.unit.clone(),
                metric.units.to_string(),
                metric.n.to_string(),
                number(metric.value),
                number(metric.low),
                number(metric.high),
                metric.method.to_owned(),
                text(metric.undefined.clone()),
            ];
            let quoted: Vec<_> = fields.iter().map(|field| csv_field(field)).collect();
            let _ = write!(csv, "{}\r\n", quoted.join(","));
        }
    }
    Ok(as_file(csv, "weeks.csv"))
}
