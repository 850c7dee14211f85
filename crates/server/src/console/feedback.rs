//! What people say: the newest feedback, and its summary by version.

use askama::Template;
use axum::extract::State;
use flywheel_core::{AppName, ContentHash};
use flywheel_storage::events::{FeedbackFilter, FeedbackKey, SummaryFilter, SummaryKey};
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::call::opinion_value;
use super::form::{Moment, PageQuery, address, given, page_request};
use super::labels::Labels;
use super::scores::{self, ScoreRow};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::api::calls::covered_apps;
use crate::api::feedback::list::{cursor_of, parse_cursor};
use crate::context::Context;
use crate::operations::summary::{Summary, name_versions};

const PAGE: u32 = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FeedbackQuery {
    #[serde(deserialize_with = "given")]
    app: Option<AppName>,
    #[serde(deserialize_with = "given")]
    kind: Option<String>,
    #[serde(deserialize_with = "given")]
    text: Option<String>,
    #[serde(deserialize_with = "given")]
    prompt_version: Option<ContentHash>,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    cursor: Option<String>,
}

impl FeedbackQuery {
    fn is_app(&self, app: &str) -> bool {
        self.app
            .as_ref()
            .is_some_and(|chosen| chosen.as_str() == app)
    }

    fn since_typed(&self) -> String {
        Moment::typed(self.since)
    }

    /// The filters as they stand in the address.
    fn filters(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("app", self.app.as_ref().map(ToString::to_string)),
            ("kind", self.kind.clone()),
            ("text", self.text.clone()),
            (
                "prompt_version",
                self.prompt_version.map(|id| id.to_string()),
            ),
            ("since", self.since.map(|moment| moment.0.to_string())),
        ]
    }

    /// The same filters, from a place on.
    fn address(&self, key: &FeedbackKey) -> String {
        let mut filters = self.filters();
        filters.push(("cursor", Some(cursor_of(key))));
        address("/feedback", &filters)
    }
}

struct Row {
    kind: &'static str,
    value: Markup,
    author: String,
    when: Markup,
    app: String,
    version: String,
    call_id: String,
}

struct VersionScore {
    name: String,
    href: Option<String>,
    score: ScoreRow,
}

#[derive(Template)]
#[template(path = "feedback.html")]
struct FeedbackPage {
    frame: Frame,
    query: FeedbackQuery,
    apps: Vec<String>,
    versions: Vec<VersionScore>,
    rows: Vec<Row>,
    next: Option<String>,
    is_filtered: bool,
}

const KINDS: [&str; 5] = ["thumbs", "rating", "comment", "correction", "outcome"];

/// `GET /feedback`
pub(super) async fn list_feedback(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<FeedbackQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let apps = covered_apps(&visitor.caller, query.app.clone())?;
    let filter = FeedbackFilter {
        apps: apps.clone(),
        kind: query.kind.clone(),
        prompt_version: query.prompt_version,
        since: query.since.map(|moment| moment.0),
        text: query.text.clone(),
    };
    let request = page_request(query.cursor.as_deref(), parse_cursor, PAGE)?;
    let found = context.events.list_feedback(&filter, request).await?;
    let next = found.next.as_ref().map(|key| query.address(key));
    let mut labels = Labels::new(context.state.read().await?);
    let mut rows = Vec::with_capacity(found.items.len());
    for listed in found.items {
        let version = labels
            .of(listed.prompt.as_ref(), listed.prompt_version)
            .await?;
        rows.push(Row {
            version: version.unwrap_or_default(),
            kind: listed.feedback.body.kind(),
            value: opinion_value(&listed.feedback.body),
            author: listed.feedback.author.unwrap_or_default(),
            when: show::when(listed.feedback.created_at, now),
            app: listed.app.map_or_else(String::new, |app| app.to_string()),
            call_id: listed.feedback.call_id,
        });
    }
    let versions = versions(&context, apps).await?;
    let table = context.table.load();
    let mut names: Vec<_> = table
        .apps()
        .filter(|app| visitor.caller.must_cover(app).is_ok())
        .map(ToString::to_string)
        .collect();
    names.sort();
    page(&FeedbackPage {
        frame: Frame::new(&context, &visitor, "Feedback", "/feedback"),
        is_filtered: query.filters().iter().any(|(_, value)| value.is_some()),
        query,
        apps: names,
        versions,
        rows,
        next,
    })
}

/// Feedback by prompt version, under the names that people know.
async fn versions(
    context: &Context,
    apps: Vec<AppName>,
) -> Result<Vec<VersionScore>, super::answer::PageError> {
    let filter = SummaryFilter {
        apps,
        ..SummaryFilter::default()
    };
    let by = SummaryKey::PromptVersion;
    let mut summaries = scores::by(context, &filter, by).await?;
    name_versions(&mut *context.state.read().await?, by, &mut summaries).await?;
    let name = |summary: &Summary| {
        let prompt = summary.prompt.as_ref().map(ToString::to_string);
        (prompt, summary.prompt_ordinal, summary.key.clone())
    };
    summaries.sort_by_key(name);
    let rated = summaries
        .iter()
        .filter(|summary| !summary.series.is_empty());
    let versions = rated
        .map(|summary| {
            let known = summary.prompt.as_ref().zip(summary.prompt_ordinal);
            VersionScore {
                name: known.map_or_else(
                    || summary.key.chars().take(12).collect(),
                    |(prompt, ordinal)| format!("{prompt}@{ordinal}"),
                ),
                href: known.map(|(prompt, ordinal)| {
                    format!("/prompts/{}?version={ordinal}", encoded(prompt.as_str()))
                }),
                score: ScoreRow::new(summary),
            }
        })
        .collect();
    Ok(versions)
}
