//! `flywheel history`: what an app served when, and who decided it.

use clap::Args;

use super::{Context, Outcome, id_cell};
use crate::arguments::PageArgs;
use crate::client::Target;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::Style;

/// Show the deployments of an app, newest first
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The app
    app: String,
    /// One environment [default: all]
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl HistoryArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let target = Target::api("apps")
            .at(&self.app)
            .at("deployments")
            .with_some("environment", self.environment.as_deref());
        let nothing = format!("nothing was ever deployed of {}", self.app);
        let mut is_empty = true;
        let shown = context
            .list(target, &self.page, &nothing, |answer| {
                let table = deployments(context, Record(answer));
                is_empty = table.is_empty();
                table
            })
            .await?;
        if !is_empty {
            let back = format!("flywheel rollback {} --to NUMBER", self.app);
            let printer = context.printer;
            printer.tip("rollback-to", &format!("`{back}` goes back to one of them"));
        }
        Ok(shown)
    }
}

fn deployments(context: &Context<'_>, answer: Record<'_>) -> Table {
    let mut table = Table::new(&[
        ">#",
        "when",
        "environment",
        "kind",
        "manifest",
        "prompt",
        "model",
        "by",
        "~reason",
        "~forced over",
    ])
    .giving_up(&["model", "by", "environment", "prompt"]);
    for deployment in answer.items("items") {
        let kind = deployment.text("kind");
        let style = if kind == "deploy" || kind == "promote" {
            Style::Plain
        } else {
            Style::Warning
        };
        table.row([
            deployment.shown("number").into(),
            context.ago(deployment, "created_at"),
            deployment.text("environment").into(),
            Cell::styled(kind, style),
            id_cell(deployment.short("manifest")),
            deployment.prompt_reference().into(),
            deployment.text("model").into(),
            deployment.text("actor").into(),
            deployment.text("reason").into(),
            Cell::styled(deployment.joined("forced_over"), Style::Bad),
        ]);
    }
    table
}
