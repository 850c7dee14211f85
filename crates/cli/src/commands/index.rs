//! `flywheel index`: the retriever indexes that manifests refer to.

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{Context, Outcome, id_cell};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;
use crate::output::table::Table;
use crate::printer::Style;

/// Register retriever indexes, so that no deployment names one that is gone
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// List registered index versions
    List,
    /// Register a version of an index as available
    Register {
        /// The version, as manifests are to name it
        version: String,
        /// The index it is a version of
        #[arg(long)]
        index: String,
    },
    /// Say that a version's content has moved into a newer one
    Migrate {
        /// The version that can no longer be read
        version: String,
        /// The version that has its content now
        #[arg(long, value_name = "VERSION")]
        to: String,
    },
    /// Say that a version is gone
    Drop {
        /// The version that can no longer be read
        version: String,
    },
}

impl IndexCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List => list(context).await,
            Self::Register { version, index } => {
                change(
                    context,
                    &version,
                    json!({"index": index, "state": "available"}),
                )
                .await
            }
            Self::Migrate { version, to } => {
                let index = index_of(context, &version).await?;
                let body = json!({"index": index, "state": "migrated_forward", "to": to});
                change(context, &version, body).await
            }
            Self::Drop { version } => {
                let index = index_of(context, &version).await?;
                change(
                    context,
                    &version,
                    json!({"index": index, "state": "dropped"}),
                )
                .await
            }
        }
    }
}

async fn list(context: &Context<'_>) -> Outcome {
    let answer = context.client.get(&Target::api("indexes")).await?;
    context.printer.show(&answer, |answer| {
        let mut table = Table::new(&["version", "index", "state", "moved to", "registered"]);
        for index in answer.items("items") {
            table.row([
                id_cell(index.text("version")),
                index.text("index").into(),
                state(index).into(),
                index.text("to").into(),
                context.ago(index, "created_at"),
            ]);
        }
        context.show_table(&table, "no retriever indexes yet")
    })
}

async fn change(context: &Context<'_>, version: &str, body: Value) -> Outcome {
    let target = Target::api("indexes").at(version);
    let answer = context.client.send(Method::PUT, &target, &body).await?;
    context.printer.show(&answer, |_| {
        let record = Record(&body);
        let line = format!("{version} of {} is {}", record.text("index"), state(record));
        context.printer.line(Style::Plain, &line)?;
        if record.text("state") != "available" {
            context
                .printer
                .hint("`flywheel rehearse APP` tells which earlier deployments need it");
        }
        Ok(())
    })
}

fn state(index: Record<'_>) -> String {
    index.text("state").replace('_', " ")
}

/// The index that a registered version belongs to.
async fn index_of(context: &Context<'_>, version: &str) -> anyhow::Result<String> {
    let indexes = context.client.all_items(&Target::api("indexes")).await?;
    let found = indexes
        .iter()
        .map(Record)
        .find(|index| index.text("version") == version);
    match found {
        Some(index) => Ok(index.text("index").to_owned()),
        None => Err(Refusal::with_hint(
            format!("index version `{version}` is not registered"),
            "see `flywheel index list`",
        )
        .into()),
    }
}
