//! `flywheel audit`: who did what, and whether the record of it is whole.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use flywheel_server::operations::audit;
use serde_json::Value;

use super::{Context, Outcome};
use crate::arguments::{PageArgs, When, parse_when};
use crate::client::Target;
use crate::failure::{FAILED, Refusal};
use crate::output::record::Record;
use crate::output::table::{Block, Table};

/// Read and verify the audit log
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List who did what, newest first
    List(ListArgs),
    /// Walk the chain of hashes and say whether any entry was changed, or removed from among the others
    Verify {
        /// Read this data folder, or a copy of one, instead of asking a server; nothing in it is changed
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// Which entries.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// By whom: a part of a key's name
    #[arg(long, value_name = "TEXT")]
    actor: Option<String>,
    /// Of a kind: a part of it, such as `rollback`
    #[arg(long, value_name = "TEXT")]
    action: Option<String>,
    /// To what: a part of its name
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Since a time (2026-07-01T12:00:00Z), a date, or for a while (15m, 6h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<When>,
    /// Until a time
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<When>,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    async fn run(self, context: &Context<'_>) -> Outcome {
        let now = context.sources.clock.now();
        let at = |when: Option<When>| when.map(|when| when.at(now));
        let filters = [
            ("actor", self.actor),
            ("action", self.action),
            ("subject", self.subject),
            ("since", at(self.since)),
            ("until", at(self.until)),
        ];
        let nothing = match filters.iter().any(|(_, value)| value.is_some()) {
            true => "no entry fits",
            false => "the audit log is empty",
        };
        let target = filters
            .into_iter()
            .fold(Target::api("audit"), |target, (name, value)| {
                target.with_some(name, value.as_deref())
            });
        context
            .list(target, &self.page, nothing, |answer| {
                entries(context, Record(answer))
            })
            .await
    }
}

impl AuditCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List(args) => args.run(context).await,
            Self::Verify { data: None } => verify_on_server(context).await,
            Self::Verify { data: Some(folder) } => verify_folder(&folder, context).await,
        }
    }
}

fn entries(context: &Context<'_>, answer: Record<'_>) -> Table {
    let mut table = Table::new(&[">#", "when", "actor", "action", "~subject", "~detail"])
        .giving_up(&["detail", "actor"]);
    for entry in answer.items("items") {
        table.row([
            entry.shown("number").into(),
            context.ago(entry, "at"),
            entry.text("actor").into(),
            entry.text("action").into(),
            entry.text("subject").into(),
            entry.member("detail").map(brief).unwrap_or_default().into(),
        ]);
    }
    table
}

/// How much of a text inside a detail, and of a whole detail, a line has; `--json` has all.
const LONGEST_TEXT: usize = 40;
const LONGEST_DETAIL: usize = 100;

/// A detail on one line: its members, long texts cut, what is nested only counted.
fn brief(detail: &Value) -> String {
    let inner = |value: &Value| match value {
        Value::String(text) => cut(
            &text.split_whitespace().collect::<Vec<_>>().join(" "),
            LONGEST_TEXT,
        ),
        Value::Array(items)
            if items
                .iter()
                .all(|item| item.is_string() || item.is_number())
                && items.len() <= 3 =>
        {
            let items: Vec<_> = items
                .iter()
                .map(|item| {
                    item.as_str()
                        .map_or_else(|| item.to_string(), str::to_owned)
                })
                .collect();
            cut(&items.join("+"), LONGEST_TEXT)
        }
        Value::Array(items) => format!("{} items", items.len()),
        Value::Object(members) => format!("{} members", members.len()),
        other => other.to_string(),
    };
    let whole = match detail {
        Value::Null => String::new(),
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name}={}", inner(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => inner(other),
    };
    cut(&whole, LONGEST_DETAIL)
}

fn cut(text: &str, most: usize) -> String {
    // Ids are known by their beginning.
    let is_id = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        return text[..12].to_owned();
    }
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

async fn verify_on_server(context: &Context<'_>) -> Outcome {
    let target = Target::api("audit/verify");
    let work = context.client.get(&target);
    let answer = context.printer.waiting("walking the chain", work).await?;
    show_verification(&answer, context)
}

async fn verify_folder(folder: &Path, context: &Context<'_>) -> Outcome {
    let file = folder.join("flywheel.db");
    if !file.is_file() {
        let problem = format!("there is no `flywheel.db` in `{}`", folder.display());
        return Err(Refusal::new(problem).into());
    }
    let work = async {
        let mut session = flywheel_storage_sql::inspect(&file).await?;
        audit::verify(&mut *session).await
    };
    let found = context.printer.waiting("walking the chain", work).await;
    let found =
        found.with_context(|| format!("cannot read the store in `{}`", folder.display()))?;
    show_verification(&serde_json::to_value(found)?, context)
}

fn show_verification(answer: &Value, context: &Context<'_>) -> Outcome {
    context.printer.show(answer, |result| {
        let mut block = Block::new();
        block
            .entry(
                "verified",
                if result.flag("verified") { "yes" } else { "NO" },
            )
            .entry("entries", result.shown("entries"))
            .entry("head", result.text("head"))
            .entry("problem", result.text("problem"));
        context.printer.block(&block)
    })?;
    if Record(answer).flag("verified") {
        return Ok(ExitCode::SUCCESS);
    }
    if !context.printer.is_json() {
        context
            .printer
            .error("the audit log was changed after it was written", &[]);
        context
            .printer
            .hint("compare it with a backup before you trust what comes after the broken entry");
    }
    Ok(ExitCode::from(FAILED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn details_fit_a_line() {
        for (detail, expected) in [
            (json!(null), ""),
            (json!({}), ""),
            (
                json!({"reason": "worse\n than before", "to": null, "force": true}),
                "reason=worse than before, force=true",
            ),
            (
                json!({"manifest": "ab".repeat(32), "weights": [5000, 5000]}),
                "manifest=abababababab, weights=5000+5000",
            ),
            (
                json!({"metrics": [{"a": 1}, {"b": 2}], "plan": {"alpha": 0.05}}),
                "metrics=2 items, plan=1 members",
            ),
        ] {
            assert_eq!(brief(&detail), expected);
        }
        let long =
            brief(&json!({"a": "x".repeat(500), "b": "y".repeat(500), "c": "z".repeat(500)}));
        assert!(
            long.chars().count() <= LONGEST_DETAIL + 1 && long.ends_with('…'),
            "{long}"
        );
        assert!(!long.contains(&"x".repeat(LONGEST_TEXT + 1)));
    }
}
