//! `flywheel calls`: what was asked and answered.

use anyhow::Result;
use clap::{Args, Subcommand};
use flywheel_core::ContentHash;
use serde_json::Value;

use super::feedback_list::said;
use super::{Context, Outcome, call_id, id_cell, prompt};
use crate::arguments::{
    PageArgs, VersionReference, When, parse_feedback_kind, parse_manifest, parse_status, parse_when,
};
use crate::client::Target;
use crate::output::amounts;
use crate::output::record::{Record, plain};
use crate::output::table::{Block, Cell, Table};
use crate::output::text;
use crate::printer::{Printed, Style};

/// Look at recorded calls
#[derive(Debug, Subcommand)]
pub(crate) enum CallsCommand {
    /// List calls, newest first
    List(Box<FilterArgs>),
    /// Show a call with its messages, its answer and its feedback
    Show {
        /// The call's id, or 8 or more characters of its beginning or its end
        id: String,
    },
}

/// Which calls.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Of an app
    #[arg(long)]
    app: Option<String>,
    /// In an environment
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// Served by a manifest
    #[arg(long, value_name = "ID", value_parser = parse_manifest)]
    manifest: Option<String>,
    /// Rendered from a prompt version [without REF: the latest]
    #[arg(long, value_name = "NAME[@REF]|HASH")]
    prompt_version: Option<VersionReference>,
    /// In an experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// In an arm of it
    #[arg(long)]
    arm: Option<String>,
    /// Of a unit, usually a user
    #[arg(long, alias = "user")]
    unit: Option<String>,
    /// Of a session
    #[arg(long)]
    session: Option<String>,
    /// That ended so: ok, provider_error, invalid_output, client_closed, bad_request or gateway_error
    #[arg(long, value_parser = parse_status)]
    status: Option<String>,
    /// Since a time (2026-07-01T12:00:00Z), a date, or for a while (15m, 6h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<When>,
    /// Until a time
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<When>,
    /// With a text in the messages or the answer
    #[arg(long)]
    text: Option<String>,
    /// With feedback of a kind: thumbs, rating, comment, correction, outcome, or any
    #[arg(long, value_name = "KIND", value_parser = parse_feedback_kind)]
    feedback: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl CallsCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List(filter) => {
                let target = filter.target(context).await?;
                let nothing = "no calls match";
                let mut is_empty = false;
                let shown = context
                    .list(target, &filter.page, nothing, |answer| {
                        let table = summaries(context, Record(answer));
                        is_empty = table.is_empty();
                        table
                    })
                    .await?;
                if is_empty {
                    context.explain_nothing(filter.app.as_deref()).await?;
                }
                Ok(shown)
            }
            Self::Show { id } => {
                let found = call_id::find(context, &id).await?;
                let answer = found.ok_or_else(|| call_id::unknown(&id))?;
                context.printer.show(&answer, |call| show(context, call))
            }
        }
    }
}

impl FilterArgs {
    async fn target(&self, context: &Context<'_>) -> Result<Target> {
        let now = context.sources.clock.now();
        let since = self.since.map(|when| when.at(now));
        let until = self.until.map(|when| when.at(now));
        let manifest = match &self.manifest {
            Some(prefix) => {
                Some(whole_id(context, Target::api("manifests").at(prefix), prefix, "id").await?)
            }
            None => None,
        };
        let prompt_version = whole_version(context, self.prompt_version.as_ref()).await?;
        let filters = [
            ("app", &self.app),
            ("environment", &self.environment),
            ("manifest", &manifest),
            ("prompt_version", &prompt_version),
            ("experiment", &self.experiment),
            ("arm", &self.arm),
            ("unit", &self.unit),
            ("session", &self.session),
            ("status", &self.status),
            ("since", &since),
            ("until", &until),
            ("text", &self.text),
            ("feedback", &self.feedback),
        ];
        Ok(filters
            .into_iter()
            .fold(Target::api("calls"), |target, (name, value)| {
                target.with_some(name, value.as_deref())
            }))
    }
}

/// The whole id of the prompt version that a person means, if any.
pub(super) async fn whole_version(
    context: &Context<'_>,
    version: Option<&VersionReference>,
) -> Result<Option<String>> {
    let Some(version) = version else {
        return Ok(None);
    };
    let target = prompt::version(&version.name, version.reference_or_latest());
    let id = whole_id(context, target, &version.name, "version").await?;
    Ok(Some(id))
}

/// The whole hash that a person means by a shorter text, as the server knows it.
async fn whole_id(
    context: &Context<'_>,
    target: Target,
    text: &str,
    member: &str,
) -> Result<String> {
    if text.parse::<ContentHash>().is_ok() {
        return Ok(text.to_owned());
    }
    let answer = context.client.get(&target).await?;
    Ok(Record(&answer).text(member).to_owned())
}

fn summaries(context: &Context<'_>, answer: Record<'_>) -> Table {
    let mut table = Table::new(&[
        "call",
        "when",
        "app",
        "environment",
        "manifest",
        "arm",
        "unit",
        "status",
        ">latency",
        ">cost",
        "~output",
    ])
    .giving_up(&[
        "manifest",
        "unit",
        "cost",
        "environment",
        "arm",
        "latency",
        "app",
    ]);
    for call in answer.items("items") {
        let id = call.text("id");
        table.row([
            id_cell(id).or_short(amounts::short_call_id(id)),
            context.ago(call, "started_at"),
            call.text("app").into(),
            call.text("environment").into(),
            call.short("manifest").into(),
            call.text("arm").into(),
            call.text("unit").into(),
            Cell::styled(call.text("status"), status_style(call)),
            latency(call, "latency_us").into(),
            call.number("cost_nano_usd")
                .map_or_else(String::new, amounts::nano_dollars)
                .into(),
            call.text("output_preview").into(),
        ]);
    }
    table
}

fn status_style(call: Record<'_>) -> Style {
    if call.text("status") == "ok" {
        Style::Good
    } else {
        Style::Bad
    }
}

fn latency(call: Record<'_>, name: &str) -> String {
    call.number(name)
        .map_or_else(String::new, amounts::duration)
}

fn show(context: &Context<'_>, call: Record<'_>) -> Printed {
    let model = format!("{}:{}", call.text("model_id"), call.text("model_version"));
    let arm = [call.text("experiment"), call.text("arm")].join(" ");
    let mut block = Block::new();
    block
        .entry("call", call.text("id"))
        .entry("started", context.when(call, "started_at"))
        .entry("app", call.text("app"))
        .entry("environment", call.text("environment"))
        .entry("manifest", call.text("manifest"))
        .entry("prompt", call.text("prompt"))
        .entry("version", call.text("prompt_version"))
        .entry("model", model.trim_matches(':'))
        .entry("experiment", arm.trim())
        .entry("unit", call.text("unit"))
        .entry("session", call.text("session"))
        .entry("tags", call.shown("tags"))
        .entry("status", call.text("status"))
        .entry("error kind", call.text("error_kind"))
        .entry("error", call.text("error"))
        .entry("finish reason", call.text("finish_reason"))
        .entry("latency", latency(call, "latency_us"))
        .entry("first byte", latency(call, "first_byte_us"))
        .entry("attempts", call.shown("attempts"))
        .entry("tokens", tokens(call))
        .entry(
            "cost",
            call.number("cost_nano_usd")
                .map_or_else(String::new, amounts::nano_dollars),
        );
    context.printer.block(&block)?;
    if let Some(Value::Object(variables)) = call.member("variables") {
        context.printer.heading("Variables")?;
        for (name, value) in variables {
            section(context, name, &plain(value))?;
        }
    }
    if call.member("messages").is_some() {
        context.printer.heading("Messages")?;
        for message in call.items("messages") {
            section(context, message.text("role"), &message.shown("content"))?;
        }
    }
    for (heading, name) in [
        ("Output", "output"),
        ("Output before post-processing", "raw_output"),
        ("Tool calls", "tool_calls"),
    ] {
        if call.member(name).is_some() {
            context.printer.heading(heading)?;
            context
                .printer
                .write_lines(&[text::visible_lines(call.shown(name).trim_end())])?;
        }
    }
    show_feedback(context, call)
}

fn tokens(call: Record<'_>) -> String {
    let Some(usage) = call.record("usage") else {
        return String::new();
    };
    let cached = usage
        .number("cached_input_tokens")
        .filter(|cached| *cached > 0.0);
    let cached = cached.map_or_else(String::new, |cached| format!(" ({cached} cached)"));
    format!(
        "{} in{cached}, {} out",
        usage.shown("input_tokens"),
        usage.shown("output_tokens")
    )
}

/// A name in one style and a text of several lines below it.
fn section(context: &Context<'_>, name: &str, content: &str) -> Printed {
    context.printer.line(Style::Dim, &format!("[{name}]"))?;
    context
        .printer
        .write_lines(&[text::visible_lines(content.trim_end())])
}

fn show_feedback(context: &Context<'_>, call: Record<'_>) -> Printed {
    let mut table = Table::new(&["kind", "what", "by", "when"]);
    for feedback in call.items("feedback") {
        table.row([
            feedback.text("kind").into(),
            said(feedback).into(),
            feedback.text("author").into(),
            context.ago(feedback, "created_at"),
        ]);
    }
    if table.is_empty() {
        let id = call.text("id");
        context.printer.hint(&format!(
            "no feedback yet: `flywheel feedback send {id} --thumbs up`"
        ));
        return Ok(());
    }
    context.printer.heading("Feedback")?;
    context.printer.table(&table)
}
