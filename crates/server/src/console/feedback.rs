//! What people say: the newest feedback, and its summary by version.

use askama::Template;
use axum::extract::State;
use flywheel_core::{AppName, ContentHash};
use flywheel_storage::events::{FeedbackFilter, FeedbackKey, SummaryFilter, SummaryKey};
use jiff::Timestamp;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::call::opinion_value;
use super::form::{PageQuery, given, page_request};
use super::labels::Labels;
use super::scores::{self, ScoreRow};
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::api::calls::covered_apps;
use crate::context::Context;

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
    cursor: Option<String>,
}

impl FeedbackQuery {
    fn is_app(&self, app: &str) -> bool {
        self.app
            .as_ref()
            .is_some_and(|chosen| chosen.as_str() == app)
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
        since: None,
        text: query.text.clone(),
    };
    let request = page_request(query.cursor.as_deref(), key_of, PAGE)?;
    let found = context.events.list_feedback(&filter, request).await?;
    let next = found.next.map(|key| {
        let cursor = format!(
            "{} {} {}",
            key.created_at.as_microsecond(),
            encoded(&key.call_id),
            encoded(&key.id)
        );
        let mut address = format!("/feedback?cursor={}", encoded(cursor));
        let given = [
            ("app", query.app.as_ref().map(ToString::to_string)),
            ("kind", query.kind.clone()),
            ("text", query.text.clone()),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                address.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        address
    });
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
        is_filtered: query.kind.is_some() || query.text.is_some() || query.app.is_some(),
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
    let summaries = scores::by(context, &filter, SummaryKey::PromptVersion).await?;
    let mut names = std::collections::BTreeMap::new();
    let mut session = context.state.read().await?;
    let prompts = session.prompts().list("", None, 200).await?;
    for prompt in prompts {
        for version in session.prompts().history(&prompt.name, None, 200).await? {
            names.insert(
                version.version.to_string(),
                (prompt.name.to_string(), version.ordinal),
            );
        }
    }
    let mut versions: Vec<_> = summaries
        .iter()
        .filter(|summary| !summary.series.is_empty())
        .map(|summary| {
            let known = names.get(&summary.key);
            VersionScore {
                name: known.map_or_else(
                    || summary.key.chars().take(12).collect(),
                    |(prompt, ordinal)| format!("{prompt}@{ordinal}"),
                ),
                href: known.map(|(prompt, ordinal)| {
                    format!("/prompts/{}?version={ordinal}", encoded(prompt))
                }),
                score: ScoreRow::new(summary),
            }
        })
        .collect();
    versions.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(versions)
}

fn key_of(cursor: &str) -> Option<FeedbackKey> {
    let mut parts = cursor.split(' ');
    let mut decoded = || {
        let part = percent_encoding::percent_decode_str(parts.next()?);
        part.decode_utf8().ok().map(String::from)
    };
    Some(FeedbackKey {
        created_at: Timestamp::from_microsecond(decoded()?.parse().ok()?).ok()?,
        call_id: decoded()?,
        id: decoded()?,
    })
}
