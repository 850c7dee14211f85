//! One call: what was asked and answered, how long each part took, what it cost, and what people said of it.

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse as _;
use flywheel_core::call::Call;
use flywheel_core::feedback::{Feedback, FeedbackBody, RatingScale};
use flywheel_core::key::Permission;
use flywheel_storage::NewEvent;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Frame, PageResult, go_to, page};
use super::form::{PageForm, PagePath, given};
use super::labels::Labels;
use super::session::Visitor;
use super::show::{self, Markup, encoded};
use crate::context::Context;
use crate::operations::call_ids;
use crate::operations::sent_events::{self, SentEvent};
use crate::problem::{ApiResult, Problem};

struct ShownMessage {
    role: String,
    content: Markup,
}

struct Opinion {
    kind: String,
    value: Markup,
    author: String,
    when: Markup,
}

/// A part of the time that a call took.
struct Part {
    class: &'static str,
    name: &'static str,
    shown: String,
    /// Where it lies in the whole, in percent.
    from: f64,
    width: f64,
}

#[derive(Template)]
#[template(path = "call.html")]
struct CallPage {
    frame: Frame,
    id: String,
    when: Markup,
    exact: String,
    status: &'static str,
    facts: Vec<(&'static str, Markup)>,
    parts: Vec<Part>,
    error: Option<Markup>,
    messages: Vec<ShownMessage>,
    variables: Option<Markup>,
    output: Option<Markup>,
    raw_output: Option<Markup>,
    plain_output: String,
    tool_calls: Option<Markup>,
    opinions: Vec<Opinion>,
    raw: Markup,
    may_rate: bool,
    can_replay: bool,
    /// What was typed of feedback, and why it was not taken.
    typed: OpinionForm,
    problem: Option<Markup>,
}

/// `GET /calls/{call}`
pub(super) async fn show_call(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(id): PagePath<String>,
) -> PageResult {
    let call = find(&context, &visitor, &id).await?;
    let output = call.content.output.clone().unwrap_or_default();
    let typed = OpinionForm {
        correction: output.clone(),
        original: output,
        ..OpinionForm::default()
    };
    page(&describe(&context, &visitor, call, typed, None).await?)
}

async fn describe(
    context: &Context,
    visitor: &Visitor,
    call: Call,
    typed: OpinionForm,
    problem: Option<Markup>,
) -> ApiResult<CallPage> {
    let now = context.sources.clock.now();
    let mut labels = Labels::new(context.state.read().await?);
    let label = labels
        .of(call.facts.prompt.as_ref(), call.facts.prompt_version)
        .await?;
    let feedback = context.events.feedback_on(&call.id).await?;
    let raw = serde_json::to_string_pretty(&call).unwrap_or_default();
    let pretty =
        |value: &Value| show::text(&serde_json::to_string_pretty(value).unwrap_or_default());
    let content = &call.content;
    let variables =
        (!content.variables.is_empty()).then(|| pretty(&content.variables.clone().into()));
    Ok(CallPage {
        frame: Frame::new(context, visitor, "Call", "/calls"),
        when: show::when(call.started_at, now),
        exact: show::exact(call.started_at),
        status: call.facts.status.as_str(),
        facts: facts_of(&call, label),
        parts: parts_of(&call),
        error: content.error.as_deref().map(show::text),
        messages: content.messages.iter().map(message).collect(),
        variables,
        output: content.output.as_deref().map(show::text),
        raw_output: content.raw_output.as_deref().map(show::text),
        plain_output: content.output.clone().unwrap_or_default(),
        tool_calls: content.tool_calls.as_ref().map(pretty),
        opinions: feedback
            .iter()
            .rev()
            .map(|piece| opinion(piece, show::when(piece.created_at, now)))
            .collect(),
        raw: show::text(&raw),
        may_rate: visitor.may(Permission::Call),
        can_replay: call.facts.prompt.is_some() && call.facts.prompt_version.is_some(),
        typed,
        problem,
        id: call.id,
    })
}

pub(super) async fn find(context: &Context, visitor: &Visitor, id: &str) -> ApiResult<Call> {
    let call = call_ids::get_visible(context, &visitor.caller, id).await?;
    call.ok_or_else(|| {
        Problem::not_found(format!("there is no call `{id}`")).hint(
            "it may have been removed by retention; the search finds calls by a part of their id",
        )
    })
}

fn message(message: &Value) -> ShownMessage {
    let role = message.get("role").and_then(Value::as_str);
    let content = match message.get("content") {
        Some(Value::String(text)) => show::text(text),
        Some(Value::Null) | None => show::text(&message.to_string()),
        Some(parts) => show::text(&serde_json::to_string_pretty(parts).unwrap_or_default()),
    };
    ShownMessage {
        role: role.unwrap_or("?").to_owned(),
        content,
    }
}

/// Feedback's value in words.
pub(super) fn opinion_value(body: &FeedbackBody) -> Markup {
    match body {
        FeedbackBody::Thumbs { value: true } => show::text("👍 up"),
        FeedbackBody::Thumbs { value: false } => show::text("👎 down"),
        FeedbackBody::Rating { value, scale } => show::text(&format!("{value} of {}", scale.max)),
        FeedbackBody::Comment { text } | FeedbackBody::Correction { text } => show::text(text),
        FeedbackBody::Outcome { name, value } => show::text(&format!("{name} = {value}")),
    }
}

fn opinion(piece: &Feedback, when: Markup) -> Opinion {
    Opinion {
        kind: piece.body.kind().to_owned(),
        value: opinion_value(&piece.body),
        author: piece.author.clone().unwrap_or_default(),
        when,
    }
}

fn link(href: &str, text: &str) -> Markup {
    Markup(format!("<a href=\"{href}\">{}</a>", show::text(text)))
}

fn facts_of(call: &Call, label: Option<String>) -> Vec<(&'static str, Markup)> {
    let facts = &call.facts;
    let mut shown = Vec::new();
    if let Some(app) = &facts.app {
        let environment = facts.environment.as_ref().map_or("", |name| name.as_str());
        let href = format!(
            "/apps/{}?environment={}",
            encoded(app.as_str()),
            encoded(environment)
        );
        shown.push(("app", link(&href, &format!("{app} {environment}"))));
    }
    if let (Some(prompt), Some(version)) = (&facts.prompt, facts.prompt_version) {
        let href = format!("/prompts/{}?version={version}", encoded(prompt.as_str()));
        shown.push(("prompt", link(&href, &label.unwrap_or_default())));
    }
    if let Some(manifest) = facts.manifest {
        let href = format!("/calls?manifest={manifest}");
        shown.push(("manifest", link(&href, &manifest.short().to_string())));
    }
    if let (Some(model), Some(version)) = (&facts.model_id, &facts.model_version) {
        shown.push(("model", show::text(&format!("{model}:{version}"))));
    }
    if let (Some(experiment), Some(arm)) = (&facts.experiment, &facts.arm) {
        let href = format!("/experiments/{}", encoded(experiment.as_str()));
        shown.push(("experiment", link(&href, &format!("{experiment}/{arm}"))));
    }
    if let Some(unit) = &facts.unit {
        let href = format!("/users/{}", encoded(unit));
        shown.push(("user", link(&href, unit)));
    }
    if let Some(session) = &facts.session {
        let href = format!("/sessions/{}", encoded(session));
        shown.push(("session", link(&href, session)));
    }
    if let Some(latency) = facts.latency_us {
        shown.push(("latency", show::text(&show::latency(latency))));
    }
    if let Some(usage) = facts.usage {
        let tokens = format!(
            "{} in, {} out{}",
            show::count(usage.input_tokens),
            show::count(usage.output_tokens),
            match usage.cached_input_tokens {
                0 => String::new(),
                cached => format!(", {} cached", show::count(cached)),
            }
        );
        shown.push(("tokens", show::text(&tokens)));
    }
    if let Some(cost) = facts.cost_nano_usd {
        shown.push(("cost", show::text(&show::dollars(cost))));
    }
    if let Some(is_success) = facts.tool_success {
        let how = match is_success {
            true => "called as they were offered",
            false => "not offered, or called with other arguments than they take",
        };
        shown.push(("tools", show::text(how)));
    }
    let attempts = facts.attempts;
    if attempts > 1 {
        shown.push(("attempts", show::text(&attempts.to_string())));
    }
    if facts.fallback {
        shown.push(("fallback", show::text("another manifest answered")));
    }
    if let Some(reason) = &facts.finish_reason {
        shown.push(("finish", show::text(reason)));
    }
    if !facts.tags.is_empty() {
        let tags = Value::Object(facts.tags.clone()).to_string();
        shown.push(("tags", show::text(&tags)));
    }
    shown
}

fn parts_of(call: &Call) -> Vec<Part> {
    let facts = &call.facts;
    let Some(total) = facts.latency_us.filter(|total| *total > 0) else {
        return Vec::new();
    };
    let overhead = facts.overhead_us.unwrap_or(0).min(total);
    let first = facts
        .first_byte_us
        .unwrap_or(total)
        .min(total)
        .max(overhead);
    let share = |part: u64| part as f64 / total as f64 * 100.0;
    let part = |class, name, from: u64, to: u64| Part {
        class,
        name,
        shown: show::latency(to - from),
        from: share(from),
        width: share(to - from),
    };
    let parts = [
        part("own", "gateway", 0, overhead),
        part("first", "until the first byte", overhead, first),
        part("rest", "until the last byte", first, total),
    ];
    parts.into_iter().filter(|part| part.width > 0.0).collect()
}

/// What was typed about a call.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OpinionForm {
    #[serde(deserialize_with = "given")]
    rating: Option<f64>,
    #[serde(deserialize_with = "given")]
    thumbs: Option<String>,
    comment: String,
    correction: String,
    /// The answer as it was, to tell whether the correction corrects anything.
    original: String,
}

impl OpinionForm {
    fn has_grade(&self, grade: &i32) -> bool {
        self.rating == Some(f64::from(*grade))
    }

    /// The answer as it should have been, if that is not how it was.
    fn corrected(&self) -> Option<String> {
        let correction = unix_lines(&self.correction);
        let is_other = correction != unix_lines(&self.original);
        (is_other && !correction.trim().is_empty()).then_some(correction)
    }

    /// Everything that is said with it.
    fn bodies(&self) -> Vec<FeedbackBody> {
        let mut bodies = Vec::new();
        if let Some(value) = self.rating {
            let scale = RatingScale::default();
            bodies.push(FeedbackBody::Rating { value, scale });
        }
        if let Some(thumbs) = &self.thumbs {
            let value = thumbs == "up";
            bodies.push(FeedbackBody::Thumbs { value });
        }
        if !self.comment.trim().is_empty() {
            let text = unix_lines(&self.comment);
            bodies.push(FeedbackBody::Comment { text });
        }
        if let Some(text) = self.corrected() {
            bodies.push(FeedbackBody::Correction { text });
        }
        bodies
    }
}

/// Lines as they were before a form was made of them.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// `POST /calls/{call}/feedback`
pub(super) async fn send_feedback(
    State(context): State<Context>,
    visitor: Visitor,
    PagePath(id): PagePath<String>,
    PageForm(form): PageForm<OpinionForm>,
) -> PageResult {
    let call = find(&context, &visitor, &id).await?;
    let now = context.sources.clock.now();
    let said = form.bodies().into_iter().map(|body| Feedback {
        id: context.sources.id_at(now),
        call_id: call.id.clone(),
        body,
        author: Some(visitor.caller.name.clone()),
        created_at: now,
    });
    let said: Vec<_> = said.collect();
    let problem = match said.iter().find_map(|feedback| feedback.check().err()) {
        Some(error) => Some(error.to_string()),
        None if said.is_empty() => Some("rate, comment or correct the answer first".to_owned()),
        None => None,
    };
    if let Some(problem) = problem {
        let problem = Some(show::prose(&problem));
        let shown = describe(&context, &visitor, call, form, problem).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page(&shown)?).into_response());
    }
    let sent = said.into_iter().map(|feedback| SentEvent {
        event: NewEvent::Feedback(Box::new(feedback)),
        has_own_id: false,
        left_open: Vec::new(),
    });
    let sent = sent.collect();
    sent_events::store(&context, &visitor.caller, sent).await?;
    Ok(go_to(&format!("/calls/{}#feedback", encoded(&call.id))))
}
