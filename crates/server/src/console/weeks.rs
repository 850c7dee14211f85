//! An app week by week: every metric of each prompt version with its interval, on the app's page and as CSV.

use std::fmt::Write as _;

use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::metric::MetricKind;
use flywheel_core::name::EnvironmentName;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::answer::PageResult;
use super::calls::{as_file, csv_field};
use super::form::{PagePath, PageQuery, given};
use super::scores::Score;
use super::session::Visitor;
use super::show;
use crate::context::Context;
use crate::operations::summary::Summary;
use crate::operations::summary::weekly::{MetricSummary, Weekly, WeeklyQuery, weekly};
use crate::problem::ApiResult;

/// How many weeks the page of an app has, the present one included.
const WEEKS: i64 = 8;

/// A prompt version in a week.
pub(super) struct WeekRow {
    pub(super) week: String,
    pub(super) version: String,
    pub(super) calls: String,
    pub(super) readings: Vec<Score>,
}

/// The last weeks, newest first, and which share of the events is taken in if not all are.
pub(super) async fn rows(
    context: &Context,
    app: &AppName,
    environment: &EnvironmentName,
    now: Timestamp,
) -> ApiResult<(Vec<WeekRow>, Option<String>)> {
    let mut found = last_weeks(context, app, environment, now).await?;
    found.rows.reverse();
    let rows = found
        .rows
        .iter()
        .map(|row| WeekRow {
            week: row.week.clone().unwrap_or_default(),
            version: version(row),
            calls: show::count(row.calls),
            readings: row
                .metrics
                .iter()
                .filter(|metric| metric.value.is_some())
                .map(score)
                .collect(),
        })
        .collect();
    Ok((rows, found.taken_in.map(show::percent)))
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

fn score(metric: &MetricSummary) -> Score {
    let is_share = metric.kind == MetricKind::Binary;
    let shown = |value: f64| match metric.unit.as_str() {
        _ if is_share => show::percent(value),
        "USD" => show::dollars((value * 1e9) as i64),
        "ms" => show::latency((value * 1e3).max(0.0) as u64),
        _ => format!("{value:.2}"),
    };
    let (least, most) = match metric.scale {
        Some(scale) => (scale.min, scale.max),
        None if is_share => (0.0, 1.0),
        None => (0.0, 0.0),
    };
    let place = |value: f64| ((value - least) / (most - least) * 100.0).clamp(0.0, 100.0);
    let bar = match (metric.value, metric.low, metric.high) {
        (Some(value), Some(low), Some(high)) if most > least => {
            Some((place(low), place(value), place(high)))
        }
        _ => None,
    };
    Score {
        name: metric.metric.to_string(),
        value: metric.value.map_or_else(|| "–".to_owned(), shown),
        interval: match (metric.low, metric.high) {
            (Some(low), Some(high)) => format!("{} to {}", shown(low), shown(high)),
            _ => metric
                .undefined
                .as_ref()
                .map_or_else(String::new, |reason| format!("no interval: {reason}")),
        },
        n: Some(match metric.units == metric.n {
            true => show::count(metric.n),
            false => format!(
                "{} of {} users",
                show::count(metric.n),
                show::count(metric.units)
            ),
        }),
        bar,
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
