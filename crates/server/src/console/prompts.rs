//! Prompts, and one prompt: its history, what a version says, how two differ, where it is used and what people think of it.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use flywheel_core::diff::{Change, DiffLineKind, diff_prompts};
use flywheel_core::key::Permission;
use flywheel_core::prompt::PromptVersion;
use flywheel_core::{PromptName, PromptVersionId};
use flywheel_storage::deployments::PromptUse;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Frame, PageResult, page};
use super::evaluations::{self, EvaluationRow};
use super::form::{PagePath, PageQuery, given};
use super::overview::by_key;
use super::scores::{self, ScoreRow};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::registry::find_version;

/// How many prompts or versions a page shows.
const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromptsQuery {
    text: String,
    #[serde(deserialize_with = "given")]
    after: Option<PromptName>,
}

struct PromptRow {
    name: String,
    versions: String,
    latest: String,
    updated: Markup,
    matched: Option<String>,
}

#[derive(Template)]
#[template(path = "prompts.html")]
struct PromptsPage {
    frame: Frame,
    text: String,
    rows: Vec<PromptRow>,
    next: Option<String>,
}

/// `GET /prompts`
pub(super) async fn list_prompts(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<PromptsQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let mut session = context.state.read().await?;
    let mut found = session
        .prompts()
        .list(&query.text, query.after.as_ref(), PAGE + 1)
        .await?;
    let has_more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let next = found
        .last()
        .filter(|_| has_more)
        .map(|last| last.name.to_string());
    let rows = found
        .into_iter()
        .map(|prompt| PromptRow {
            name: prompt.name.to_string(),
            versions: show::count(prompt.versions),
            latest: prompt.latest.short().to_string(),
            updated: show::when(prompt.updated_at, now),
            matched: prompt.matched.map(|found| format!("in @{}", found.ordinal)),
        })
        .collect();
    page(&PromptsPage {
        frame: Frame::new(&context, &visitor, "Prompts", "/prompts"),
        text: query.text,
        rows,
        next,
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromptQuery {
    /// The version to show.
    #[serde(deserialize_with = "given")]
    version: Option<String>,
    /// What it is compared with; the one before it if absent.
    #[serde(deserialize_with = "given")]
    against: Option<String>,
    /// `side` shows both beside each other.
    #[serde(deserialize_with = "given")]
    view: Option<String>,
    #[serde(deserialize_with = "given")]
    before: Option<u64>,
    /// The version shown was saved just now.
    saved: bool,
}

impl PromptQuery {
    fn is_side_by_side(&self) -> bool {
        self.view.as_deref() == Some("side")
    }

    /// What links to other versions take along.
    fn kept(&self) -> String {
        let view = if self.is_side_by_side() {
            "&view=side"
        } else {
            ""
        };
        let before = self.before.map(|before| format!("&before={before}"));
        view.to_owned() + &before.unwrap_or_default()
    }
}

struct VersionRow {
    ordinal: u64,
    id: String,
    when: Markup,
    author: String,
    description: String,
    labels: Vec<String>,
    serving: Vec<String>,
    is_shown: bool,
    is_compared: bool,
    score: Option<ScoreRow>,
}

struct Use {
    app: String,
    environment: String,
    ordinal: Option<u64>,
    manifest: String,
    is_current: bool,
    when: Markup,
}

impl Use {
    fn new(item: PromptUse, ordinals: &BTreeMap<PromptVersionId, u64>, now: Timestamp) -> Self {
        Self {
            app: item.app.to_string(),
            environment: item.environment.to_string(),
            ordinal: ordinals.get(&item.prompt_version).copied(),
            manifest: item.manifest.to_string(),
            is_current: item.current,
            when: show::when(item.deployed_at, now),
        }
    }
}

/// One message of a version.
struct ShownMessage {
    role: &'static str,
    content: Markup,
}

/// A field that differs.
pub(super) struct ShownChange {
    pub(super) field: String,
    /// Lines, for texts.
    pub(super) lines: Vec<ShownLine>,
    pub(super) before: Option<Markup>,
    pub(super) after: Option<Markup>,
}

/// A line of a difference; for the view side by side with its counterpart.
pub(super) struct ShownLine {
    pub(super) class: &'static str,
    pub(super) sign: &'static str,
    pub(super) html: Markup,
}

#[derive(Template)]
#[template(path = "prompt.html")]
struct PromptPage {
    frame: Frame,
    name: String,
    shown: u64,
    shown_id: String,
    compared: Option<u64>,
    is_side_by_side: bool,
    /// What links to other versions take along.
    kept: String,
    description: String,
    model: String,
    format: &'static str,
    messages: Vec<ShownMessage>,
    settings: Vec<(String, Markup)>,
    changes: Vec<ShownChange>,
    evaluations: Vec<EvaluationRow>,
    versions: Vec<VersionRow>,
    next: Option<u64>,
    uses: Vec<Use>,
    is_saved: bool,
    places: Vec<Place>,
}

struct Place {
    app: String,
    environment: String,
}

/// Where another version of a prompt is served, if the visitor may deploy this one there.
fn places_for(visitor: &Visitor, uses: &[PromptUse], shown: &PromptVersion) -> Vec<Place> {
    uses.iter()
        .filter(|item| item.current && item.prompt_version != shown.version)
        .filter(|_| visitor.may(Permission::Change))
        .map(|item| Place {
            app: item.app.to_string(),
            environment: item.environment.to_string(),
        })
        .collect()
}

/// `GET /prompts/{prompt}`
pub(super) async fn show_prompt(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(name): PagePath<PromptName>,
    PageQuery(query): PageQuery<PromptQuery>,
) -> PageResult {
    let now = context.sources.clock.now();
    let mut session = context.state.read().await?;
    let reference = query.version.as_deref().unwrap_or("latest");
    let shown = find_version(&mut *session, &name, reference).await?;
    let compared = match &query.against {
        Some(reference) => Some(find_version(&mut *session, &name, reference).await?),
        None if shown.ordinal > 1 => {
            session
                .prompts()
                .get_by_ordinal(&name, shown.ordinal - 1)
                .await?
        }
        None => None,
    };
    let mut history = session
        .prompts()
        .history(&name, query.before, PAGE + 1)
        .await?;
    let has_more = history.len() > PAGE as usize;
    history.truncate(PAGE as usize);
    let mut uses = session.deployments().uses_of_prompt(&name, None).await?;
    uses.retain(|item| visitor.caller.must_cover(&item.app).is_ok());
    let scored = session.prompts().scores(&name, &shown.version).await?;
    let scored_before = match &compared {
        Some(older) => session.prompts().scores(&name, &older.version).await?,
        None => Vec::new(),
    };
    // Summing up may take longer than a session should be held.
    drop(session);
    let filter = SummaryFilter {
        apps: visitor.caller.apps().to_vec(),
        ..SummaryFilter::default()
    };
    let summaries = scores::by(&context, &filter, SummaryKey::PromptVersion).await?;
    let summaries = by_key(&summaries);
    let mut serving: BTreeMap<PromptVersionId, Vec<String>> = BTreeMap::new();
    for item in uses.iter().filter(|item| item.current) {
        let place = format!("{} {}", item.app, item.environment);
        serving.entry(item.prompt_version).or_default().push(place);
    }
    let places = places_for(&visitor, &uses, &shown);
    let ordinals: BTreeMap<_, _> = history
        .iter()
        .map(|version| (version.version, version.ordinal))
        .collect();
    let next = history.last().filter(|_| has_more).map(|last| last.ordinal);
    let versions = history
        .into_iter()
        .map(|version| {
            let id = version.version.to_string();
            VersionRow {
                ordinal: version.ordinal,
                when: show::when(version.created_at, now),
                author: version.author,
                description: version.description,
                labels: version.labels.iter().map(ToString::to_string).collect(),
                serving: serving.remove(&version.version).unwrap_or_default(),
                is_shown: version.ordinal == shown.ordinal,
                is_compared: compared
                    .as_ref()
                    .is_some_and(|other| other.ordinal == version.ordinal),
                score: summaries.get(id.as_str()).map(|row| ScoreRow::new(row)),
                id,
            }
        })
        .collect();
    let changes = match &compared {
        Some(older) => show_changes(&diff_prompts(&older.content, &shown.content).changes),
        None => Vec::new(),
    };
    page(&PromptPage {
        frame: Frame::new(&context, &visitor, name.as_str(), "/prompts"),
        name: name.to_string(),
        shown: shown.ordinal,
        shown_id: shown.version.to_string(),
        compared: compared.map(|version| version.ordinal),
        is_side_by_side: query.is_side_by_side(),
        kept: query.kept(),
        description: shown.description.clone(),
        model: format!("{}:{}", shown.content.model_id, shown.content.model_version),
        format: match shown.content.template_format {
            flywheel_core::prompt::TemplateFormat::Fstring => "{name}",
            flywheel_core::prompt::TemplateFormat::Jinja => "Jinja",
        },
        messages: messages_of(&shown),
        settings: settings_of(&shown),
        changes,
        evaluations: evaluations::rows(&scored, &scored_before, now),
        versions,
        next,
        is_saved: query.saved,
        places,
        uses: uses
            .into_iter()
            .map(|item| Use::new(item, &ordinals, now))
            .collect(),
    })
}

fn messages_of(version: &PromptVersion) -> Vec<ShownMessage> {
    let messages = version.content.messages.iter();
    messages
        .map(|message| ShownMessage {
            role: message.role.as_str(),
            content: show::text(&message.content),
        })
        .collect()
}

/// Everything that decides the behaviour beside messages and model.
fn settings_of(version: &PromptVersion) -> Vec<(String, Markup)> {
    let Value::Object(mut content) = version.content.to_json() else {
        return Vec::new();
    };
    for known in ["messages", "model_id", "model_version", "template_format"] {
        content.shift_remove(known);
    }
    let mut settings = Vec::new();
    if let Some(Value::Object(params)) = content.shift_remove("params") {
        settings.extend(params);
    }
    settings.extend(content);
    settings
        .into_iter()
        .map(|(name, value)| (name, value_text(&value)))
        .collect()
}

fn value_text(value: &Value) -> Markup {
    match value {
        Value::String(written) => show::text(written),
        Value::Array(_) | Value::Object(_) => {
            show::text(&serde_json::to_string_pretty(value).unwrap_or_default())
        }
        plain => show::text(&plain.to_string()),
    }
}

/// Differences, ready to be shown.
pub(super) fn show_changes(changes: &[Change]) -> Vec<ShownChange> {
    changes
        .iter()
        .map(|change| {
            let lines: Vec<_> = change.text.iter().flatten().map(shown_line).collect();
            let is_text = !lines.is_empty();
            let value = |value: &Option<Value>| value.as_ref().filter(|_| !is_text).map(value_text);
            ShownChange {
                field: change.field.clone(),
                before: value(&change.before),
                after: value(&change.after),
                lines,
            }
        })
        .collect()
}

fn shown_line(line: &flywheel_core::diff::DiffLine) -> ShownLine {
    let (class, sign) = match line.kind {
        DiffLineKind::Equal => ("same", " "),
        DiffLineKind::Removed => ("removed", "−"),
        DiffLineKind::Added => ("added", "+"),
        DiffLineKind::Skipped => ("skipped", " "),
    };
    let mut html = String::new();
    if let Some(count) = line.count {
        html = format!("{} equal lines", show::count(count as u64));
    }
    for span in &line.spans {
        let text = show::text(&span.text);
        if span.changed {
            html.push_str(&format!("<mark>{text}</mark>"));
        } else {
            html.push_str(&text.0);
        }
    }
    ShownLine {
        class,
        sign,
        html: Markup(html),
    }
}
