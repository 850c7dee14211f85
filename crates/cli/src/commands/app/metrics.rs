//! `flywheel app metrics`: what experiments of an app read.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::super::{Context, Outcome, id_cell};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;
use crate::output::table::Table;
use crate::printer::Printed;

/// Which metrics.
#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// The app
    app: String,
    /// A JSON file with all of the app's metrics, as `--json` prints them; `-` reads the standard input
    #[arg(long, value_name = "FILE")]
    set: Option<PathBuf>,
    /// Go back to the metrics that every app begins with
    #[arg(long, conflicts_with = "set")]
    reset: bool,
}

impl MetricsArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let target = Target::api("apps").at(&self.app);
        let metrics = match (&self.set, self.reset) {
            (Some(path), _) => Some(read(path)?),
            (None, true) => Some(Value::Null),
            (None, false) => None,
        };
        if let Some(metrics) = metrics {
            let body = json!({"metrics": metrics});
            context.client.send(Method::PUT, &target, &body).await?;
        }
        let answer = context.client.get(&target.at("metrics")).await?;
        context
            .printer
            .show(&answer, |answer| show(context, answer))
    }
}

/// The metrics in a file: a list, or an answer with `items`.
fn read(path: &Path) -> anyhow::Result<Value> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let shown = path.display();
    let text = text.with_context(|| format!("cannot read `{shown}`"))?;
    let found: Value =
        serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))?;
    let metrics = match found {
        Value::Object(mut answer) => answer.remove("items").unwrap_or_default(),
        other => other,
    };
    if metrics.is_array() {
        return Ok(metrics);
    }
    let hint = "`flywheel app metrics APP --json` shows what one looks like";
    Err(Refusal::with_hint(format!("`{shown}` holds no list of metrics"), hint).into())
}

fn show(context: &Context<'_>, answer: Record<'_>) -> Printed {
    let mut table = Table::new(&["metric", "kind", "source", "better", "unit", "cap"])
        .giving_up(&["cap", "unit"]);
    for metric in answer.items("items") {
        let source = match metric.optional("per") {
            Some(per) => format!("{} / {per}", metric.text("source")),
            None => metric.text("source").to_owned(),
        };
        table.row([
            id_cell(metric.text("name")),
            metric.text("kind").into(),
            source.into(),
            metric.text("direction").into(),
            metric.text("unit").into(),
            metric.shown("cap").into(),
        ]);
    }
    context.show_table(&table, "no metrics")
}
