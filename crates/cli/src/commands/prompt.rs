//! `flywheel prompt`: prompts, their versions, and what is known about these.

use clap::Subcommand;
use flywheel_core::PromptContent;
use flywheel_core::prompt_file::{self, PromptFile};

use super::prompt_annotations::{LabelArgs, ScoreArgs};
use super::{Context, Outcome, id_cell};
use crate::arguments::{PageArgs, VersionReference};
use crate::client::Target;
use crate::output::amounts;
use crate::output::difference;
use crate::output::record::Record;
use crate::output::table::{Block, Cell, Table};
use crate::output::text;
use crate::printer::{Printed, Style};

/// Look at prompts and their versions
#[derive(Debug, Subcommand)]
pub(crate) enum PromptCommand {
    /// List prompts
    List {
        /// Only those with this text in their names, or in a version's content, description or label
        text: Option<String>,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show a version of a prompt: its content, scores and uses
    Show {
        /// The version: a hash prefix, an ordinal, a label or `latest` after the @ [without REF: the latest]
        #[arg(value_name = "NAME[@REF]")]
        prompt: VersionReference,
    },
    /// List the versions of a prompt, newest first
    History {
        /// The prompt
        name: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show what differs between two versions
    Diff {
        /// The prompt
        name: String,
        /// The older version: a hash prefix, an ordinal, a label or `latest`
        from: String,
        /// The newer version
        to: String,
    },
    /// List where a prompt, or one version of it, is or was deployed
    Uses {
        /// The prompt or the version
        #[arg(value_name = "NAME[@REF]")]
        prompt: VersionReference,
    },
    /// Put a label on a version, or move it there
    Label(LabelArgs),
    /// Record what an evaluation found about a version
    Score(ScoreArgs),
}

impl PromptCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List { text, page } => {
                let target = Target::api("prompts").with_some("text", text.as_deref());
                let nothing = match &text {
                    Some(text) => {
                        format!("no prompt matches `{text}`")
                    }
                    None => "no prompts; push some with `flywheel push DIR`".to_owned(),
                };
                context
                    .list(target, &page, &nothing, |answer| {
                        prompts(context, Record(answer))
                    })
                    .await
            }
            Self::Show { prompt } => {
                let answer = context
                    .client
                    .get(&version(&prompt.name, prompt.reference_or_latest()))
                    .await?;
                context
                    .printer
                    .show(&answer, |version| show(context, version))
            }
            Self::History { name, page } => {
                let target = Target::api("prompts").at(&name).at("versions");
                context
                    .list(target, &page, "no versions", |answer| {
                        versions(context, Record(answer))
                    })
                    .await
            }
            Self::Diff { name, from, to } => diff(context, &name, &from, &to).await,
            Self::Uses { prompt } => {
                let target = Target::api("prompts")
                    .at(&prompt.name)
                    .at("uses")
                    .with_some("version", prompt.reference.as_deref());
                let answer = context.client.get(&target).await?;
                context.printer.show(&answer, |answer| {
                    context.show_table(&uses(context, answer, "items"), "it was never deployed")
                })
            }
            Self::Label(args) => args.run(context).await,
            Self::Score(args) => args.run(context).await,
        }
    }
}

/// A version of a prompt.
pub(super) fn version(name: &str, reference: &str) -> Target {
    Target::api("prompts").at(name).at("versions").at(reference)
}

fn prompts(context: &Context<'_>, answer: Record<'_>) -> Table {
    let is_search = answer
        .items("items")
        .any(|prompt| prompt.record("matched").is_some());
    let columns = ["prompt", ">versions", "latest", "updated", "found in"];
    let columns = &columns[..if is_search { 5 } else { 4 }];
    let mut table = Table::new(columns);
    for prompt in answer.items("items") {
        let latest = match prompt.record("latest") {
            Some(latest) => latest.short("version"),
            None => amounts::short_id(&prompt.shown("latest")).to_owned(),
        };
        let name = id_cell(prompt.text("name"));
        let versions = prompt.shown("versions").into();
        let updated = context.ago(prompt, "updated_at");
        if !is_search {
            table.row([name, versions, latest.into(), updated]);
            continue;
        }
        let found = match prompt.record("matched") {
            Some(matched) => format!("{} of #{}", matched.text("in"), matched.shown("ordinal")),
            None => "name".to_owned(),
        };
        table.row([name, versions, latest.into(), updated, found.into()]);
    }
    table
}

fn versions(context: &Context<'_>, answer: Record<'_>) -> Table {
    let mut table = Table::new(&[
        ">#",
        "version",
        "status",
        "labels",
        "author",
        "registered",
        "~description",
    ])
    .giving_up(&["author", "labels", "registered"]);
    for version in answer.items("items") {
        table.row([
            version.shown("ordinal").into(),
            id_cell(version.short("version")),
            status(version),
            version.joined("labels").into(),
            version.text("author").into(),
            context.ago(version, "created_at"),
            version.text("description").into(),
        ]);
    }
    table
}

fn status(version: Record<'_>) -> Cell {
    let status = version.text("status");
    Cell::styled(
        status,
        if status == "production" {
            Style::Good
        } else {
            Style::Plain
        },
    )
}

fn uses(context: &Context<'_>, record: Record<'_>, member: &str) -> Table {
    let mut table = Table::new(&[
        "app",
        "environment",
        "manifest",
        "version",
        "now",
        "deployed",
    ]);
    for one in record.items(member) {
        table.row([
            one.text("app").into(),
            one.text("environment").into(),
            id_cell(one.short("manifest")),
            one.short("prompt_version").into(),
            if one.flag("current") {
                Cell::styled("yes", Style::Good)
            } else {
                "no".into()
            },
            context.ago(one, "deployed_at"),
        ]);
    }
    table
}

fn show(context: &Context<'_>, version: Record<'_>) -> Printed {
    let mut block = Block::new();
    block
        .entry("prompt", version.prompt_reference())
        .entry("version", version.text("version"))
        .entry("status", version.text("status"))
        .entry("labels", version.joined("labels"))
        .entry("author", version.text("author"))
        .entry("registered", context.when(version, "created_at"))
        .entry("description", version.text("description"));
    context.printer.block(&block)?;
    let mut scores = Table::new(&["metric", ">value", ">n", "dataset", "recorded"]);
    for score in version.items("scores") {
        scores.row([
            score.text("metric").into(),
            score
                .number("value")
                .map_or_else(String::new, amounts::number)
                .into(),
            score.shown("n").into(),
            score.text("dataset").into(),
            context.ago(score, "recorded_at"),
        ]);
    }
    let uses = uses(context, version, "uses");
    for (heading, table) in [("Scores", &scores), ("Uses", &uses)] {
        if !table.is_empty() {
            context.printer.heading(heading)?;
            context.printer.table(table)?;
        }
    }
    context.printer.heading("Prompt file")?;
    context
        .printer
        .write_lines(&[text::visible_lines(content_text(version).trim_end())])
}

/// The content as a prompt file; as JSON, should a newer server have content that this program does not know.
fn content_text(version: Record<'_>) -> String {
    let Some(content) = version.member("content") else {
        return String::new();
    };
    let name = version.text("prompt").parse();
    match (name, PromptContent::from_json(content.clone())) {
        (Ok(name), Ok(content)) => prompt_file::format(&PromptFile {
            name,
            description: None,
            labels: Vec::new(),
            content,
        }),
        _ => serde_json::to_string_pretty(content).unwrap_or_default(),
    }
}

async fn diff(context: &Context<'_>, name: &str, from: &str, to: &str) -> Outcome {
    let target = Target::api("prompts")
        .at(name)
        .at("diff")
        .with("from", from)
        .with("to", to);
    let answer = context.client.get(&target).await?;
    context.printer.show(&answer, |answer| {
        let side = |member: &str| {
            let version = answer.record(member);
            version.map_or_else(String::new, |version| {
                format!(
                    "{name}@{} ({})",
                    version.shown("ordinal"),
                    version.short("version")
                )
            })
        };
        context
            .printer
            .line(Style::Bad, &format!("--- {}", side("from")))?;
        context
            .printer
            .line(Style::Good, &format!("+++ {}", side("to")))?;
        let lines = difference::lines(answer.items("changes"), |style, text| {
            context.printer.paint(style, text)
        });
        if lines.is_empty() {
            context.printer.note("the two are the same version");
        }
        context.printer.write_lines(&lines)
    })
}
