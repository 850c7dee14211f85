//! The explorer of calls: filters in the URL, pages by key, the same list as CSV and JSON, and a live tail.

use std::fmt::Write as _;

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use flywheel_core::call::CallStatus;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, ContentHash};
use flywheel_storage::StorageResult;
use flywheel_storage::events::{CallFilter, CallKey, CallSummary};
use flywheel_storage::page::PageRequest;
use http::header;
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::form::{Moment, PageQuery, given, page_request};
use super::labels::Labels;
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::api::calls::{covered_apps, cursor_of, parse_cursor, parse_status};
use crate::auth::Caller;
use crate::context::Context;
use crate::problem::ApiResult;

const PAGE: u32 = 50;

/// How many rows a CSV file has at most.
const LARGEST_EXPORT: u32 = 1000;

/// The kinds of feedback that calls can be found by.
const FEEDBACK: [&str; 6] = [
    "any",
    "thumbs",
    "rating",
    "comment",
    "correction",
    "outcome",
];

/// The filters, as they stand in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallsQuery {
    #[serde(deserialize_with = "given")]
    app: Option<AppName>,
    #[serde(deserialize_with = "given")]
    environment: Option<EnvironmentName>,
    #[serde(deserialize_with = "given")]
    manifest: Option<ContentHash>,
    #[serde(deserialize_with = "given")]
    prompt_version: Option<ContentHash>,
    #[serde(deserialize_with = "given")]
    experiment: Option<ExperimentName>,
    #[serde(deserialize_with = "given")]
    arm: Option<ArmName>,
    #[serde(deserialize_with = "given")]
    unit: Option<String>,
    #[serde(deserialize_with = "given")]
    session: Option<String>,
    #[serde(deserialize_with = "given")]
    status: Option<String>,
    #[serde(deserialize_with = "given")]
    text: Option<String>,
    #[serde(deserialize_with = "given")]
    feedback: Option<String>,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    until: Option<Moment>,
    #[serde(deserialize_with = "given")]
    cursor: Option<String>,
}

impl CallsQuery {
    /// What is asked for, within what the visitor may see.
    pub(super) fn filter(&self, caller: &Caller) -> ApiResult<CallFilter> {
        Ok(CallFilter {
            id: None,
            apps: covered_apps(caller, self.app.clone())?,
            environment: self.environment.clone(),
            manifest: self.manifest,
            prompt_version: self.prompt_version,
            experiment: self.experiment.clone(),
            arm: self.arm.clone(),
            unit: self.unit.clone(),
            session: self.session.clone(),
            status: parse_status(self.status.as_deref())?,
            since: self.since.map(|moment| moment.0),
            until: self.until.map(|moment| moment.0),
            text: self.text.clone(),
            feedback: self.feedback.clone(),
        })
    }

    /// The beginning of the time that is asked for, as people type it.
    fn since_typed(&self) -> String {
        Moment::typed(self.since)
    }

    fn is_app(&self, app: &str) -> bool {
        self.app
            .as_ref()
            .is_some_and(|chosen| chosen.as_str() == app)
    }

    /// The filters that a link brought and the form does not offer by itself.
    fn further(&self) -> Vec<(&'static str, String)> {
        let given = [
            (
                "environment",
                self.environment.as_ref().map(ToString::to_string),
            ),
            (
                "experiment",
                self.experiment.as_ref().map(ToString::to_string),
            ),
            ("arm", self.arm.as_ref().map(ToString::to_string)),
            ("manifest", self.manifest.map(|id| id.to_string())),
            (
                "prompt_version",
                self.prompt_version.map(|id| id.to_string()),
            ),
            ("until", self.until.map(|moment| moment.0.to_string())),
        ];
        let given = given.into_iter();
        given
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    fn page(&self, limit: u32) -> ApiResult<PageRequest<CallKey>> {
        page_request(self.cursor.as_deref(), parse_cursor, limit)
    }
}

/// A row of the list.
pub(super) struct CallRow {
    pub(super) id: String,
    pub(super) short: String,
    pub(super) when: Markup,
    pub(super) app: String,
    pub(super) version: String,
    pub(super) arm: String,
    pub(super) unit: Option<String>,
    pub(super) status: &'static str,
    pub(super) error: String,
    pub(super) latency: String,
    pub(super) tokens: String,
    pub(super) cost: String,
    pub(super) preview: Markup,
}

impl CallRow {
    /// Rows for calls, in their order.
    pub(super) async fn all(context: &Context, calls: &[CallSummary]) -> StorageResult<Vec<Self>> {
        let now = context.sources.clock.now();
        let mut labels = Labels::new(context.state.read().await?);
        let mut rows = Vec::with_capacity(calls.len());
        for call in calls {
            let facts = &call.facts;
            let label = labels
                .of(facts.prompt.as_ref(), facts.prompt_version)
                .await?;
            rows.push(Self::new(call, label, now));
        }
        Ok(rows)
    }

    fn new(call: &CallSummary, label: Option<String>, now: Timestamp) -> Self {
        let facts = &call.facts;
        let named = |name: Option<String>| name.unwrap_or_default();
        Self {
            short: short(&call.id),
            when: show::when(call.started_at, now),
            app: named(facts.app.as_ref().map(ToString::to_string)),
            version: named(label.or_else(|| facts.model_id.as_ref().map(ToString::to_string))),
            arm: match (&facts.experiment, &facts.arm) {
                (Some(experiment), Some(arm)) => format!("{experiment}/{arm}"),
                _ => String::new(),
            },
            unit: facts.unit.clone(),
            status: facts.status.as_str(),
            error: facts.error_kind.clone().unwrap_or_default(),
            latency: facts.latency_us.map_or_else(String::new, show::latency),
            tokens: facts.usage.map_or_else(String::new, |usage| {
                format!("{}→{}", usage.input_tokens, usage.output_tokens)
            }),
            cost: facts.cost_nano_usd.map_or_else(String::new, show::dollars),
            preview: show::line(call.output_preview.as_deref().unwrap_or_default()),
            id: call.id.clone(),
        }
    }
}

/// The end of an id, which tells calls of one moment apart.
fn short(id: &str) -> String {
    let start = id
        .char_indices()
        .rev()
        .nth(11)
        .map_or(0, |(start, _)| start);
    id[start..].to_owned()
}

#[derive(Template)]
#[template(path = "call_rows.html")]
pub(super) struct CallRows {
    pub(super) rows: Vec<CallRow>,
}

#[derive(Template)]
#[template(path = "calls.html")]
struct CallsPage {
    frame: Frame,
    query: CallsQuery,
    apps: Vec<String>,
    statuses: Vec<&'static str>,
    rows: CallRows,
    /// The address of the next page.
    next: Option<String>,
    /// The query without a cursor, for the same list in other forms.
    same: String,
    is_filtered: bool,
}

/// `GET /calls`
pub(super) async fn list_calls(
    State(context): State<Context>,
    visitor: Visitor,
    RawQuery(raw): RawQuery,
    PageQuery(query): PageQuery<CallsQuery>,
) -> PageResult {
    let filter = query.filter(&visitor.caller)?;
    let found = context
        .events
        .list_calls(&filter, query.page(PAGE)?)
        .await?;
    let raw = raw.unwrap_or_default();
    let kept: Vec<_> = raw
        .split('&')
        .filter(|pair| !pair.starts_with("cursor=") && !pair.ends_with('=') && !pair.is_empty())
        .map(|pair| match (pair.starts_with("since="), query.since) {
            // The API, where one of the links leads, takes times and no days.
            (true, Some(moment)) => format!("since={}", encoded(moment.0.to_string())),
            _ => pair.to_owned(),
        })
        .collect();
    let same = kept.join("&");
    let next = found.next.as_ref().map(|key| {
        let cursor = encoded(cursor_of(key));
        format!("/calls?{same}&cursor={cursor}")
    });
    let table = context.table.load();
    let mut apps: Vec<_> = table
        .apps()
        .filter(|app| visitor.caller.must_cover(app).is_ok())
        .map(ToString::to_string)
        .collect();
    apps.sort();
    page(&CallsPage {
        frame: Frame::new(&context, &visitor, "Calls", "/calls"),
        apps,
        statuses: CallStatus::ALL.map(CallStatus::as_str).to_vec(),
        rows: CallRows {
            rows: CallRow::all(&context, &found.items).await?,
        },
        next,
        is_filtered: !same.is_empty(),
        same,
        query,
    })
}

/// `GET /calls.csv`
pub(super) async fn list_calls_as_csv(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<CallsQuery>,
) -> PageResult {
    let filter = query.filter(&visitor.caller)?;
    let found = context
        .events
        .list_calls(&filter, query.page(LARGEST_EXPORT)?)
        .await?;
    let mut csv = String::from(
        "id,started_at,app,environment,prompt,prompt_version,manifest,model,experiment,arm,unit,session,status,error_kind,\
         latency_us,input_tokens,output_tokens,cost_nano_usd,output_beginning\r\n",
    );
    for call in &found.items {
        add_record(&mut csv, call);
    }
    Ok(as_file(csv, "calls.csv"))
}

fn add_record(csv: &mut String, call: &CallSummary) {
    let facts = &call.facts;
    let text = |value: Option<String>| value.unwrap_or_default();
    let fields = [
        call.id.clone(),
        call.started_at.to_string(),
        text(facts.app.as_ref().map(ToString::to_string)),
        text(facts.environment.as_ref().map(ToString::to_string)),
        text(facts.prompt.as_ref().map(ToString::to_string)),
        text(facts.prompt_version.map(|version| version.to_string())),
        text(facts.manifest.map(|manifest| manifest.to_string())),
        text(facts.model_id.as_ref().map(ToString::to_string)),
        text(facts.experiment.as_ref().map(ToString::to_string)),
        text(facts.arm.as_ref().map(ToString::to_string)),
        text(facts.unit.clone()),
        text(facts.session.clone()),
        facts.status.as_str().to_owned(),
        text(facts.error_kind.clone()),
        text(facts.latency_us.map(|latency| latency.to_string())),
        text(facts.usage.map(|usage| usage.input_tokens.to_string())),
        text(facts.usage.map(|usage| usage.output_tokens.to_string())),
        text(facts.cost_nano_usd.map(|cost| cost.to_string())),
        text(call.output_preview.clone()),
    ];
    let quoted: Vec<_> = fields.iter().map(|field| csv_field(field)).collect();
    let _ = write!(csv, "{}\r\n", quoted.join(","));
}

/// A field as RFC 4180 has it. Spreadsheets run what begins like a formula, so such text is made plain by an apostrophe.
pub(super) fn csv_field(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || field.contains(['"', ',', '\n', '\r']) {
        format!("\"{guard}{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

pub(super) fn as_file(csv: String, name: &str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, csv).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (field, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=cmd()", "\"'=cmd()\""),
            ("two\nlines", "\"two\nlines\""),
        ] {
            assert_eq!(csv_field(field), expected);
        }
    }

    #[test]
    fn the_end_of_an_id_is_cut_between_characters() {
        assert_eq!(
            short("01234567-89ab-7cde-8f01-0123456789ab"),
            "0123456789ab"
        );
        assert_eq!(short("é"), "é");
        assert_eq!(short("support:éééééééééééé"), "éééééééééééé");
    }
}
