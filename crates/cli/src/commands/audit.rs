//! `flywheel audit`: who did what, and whether the record of it is whole.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, Outcome};
use crate::arguments::PageArgs;
use crate::client::Target;
use crate::failure::FAILED;
use crate::output::record::Record;
use crate::output::table::{Block, Table};

/// Read and verify the audit log
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List who did what, newest first
    List(PageArgs),
    /// Walk the chain of hashes and say whether any entry was changed or removed
    Verify,
}

impl AuditCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List(page) => {
                let nothing = "the audit log is empty";
                context
                    .list(Target::api("audit"), &page, nothing, |answer| {
                        entries(context, Record(answer))
                    })
                    .await
            }
            Self::Verify => verify(context).await,
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
            entry.shown("detail").into(),
        ]);
    }
    table
}

async fn verify(context: &Context<'_>) -> Outcome {
    let target = Target::api("audit/verify");
    let answer = context
        .printer
        .waiting("walking the chain", context.client.get(&target))
        .await?;
    context.printer.show(&answer, |result| {
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
    if Record(&answer).flag("verified") {
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
