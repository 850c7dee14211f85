//! `flywheel app`: apps, their environments and what they serve now.

mod metrics;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{Context, Outcome, id_cell};
use crate::arguments::parse_manifest_or_none;
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;
use crate::output::table::{Block, Table};
use crate::printer::Printed;

/// Create apps and see what they serve
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// List apps
    List,
    /// Show an app and what each of its environments serves
    Show {
        /// The app
        app: String,
    },
    /// Create an app
    Create(SettingsArgs),
    /// Change an app
    Set(SettingsArgs),
    /// List the metrics that experiments of an app read, or set them
    Metrics(metrics::MetricsArgs),
}

/// An app's settings.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgs {
    /// The app, such as `support-summarizer`
    app: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Its environments in the order of promotion; the last is the default [new apps: staging,production]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    environments: Option<Vec<String>>,
    /// A manifest member that deployments must have: retriever_index_version, guards_version, or none
    #[arg(long, value_name = "MEMBER", value_parser = ["retriever_index_version", "guards_version", "none"])]
    require: Vec<String>,
    /// The manifest that answers when the deployed one's provider fails, or none
    #[arg(long, value_name = "MANIFEST|none", value_parser = parse_manifest_or_none)]
    fallback: Option<String>,
}

impl AppCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List => list(context).await,
            Self::Show { app } => {
                let answer = context.client.get(&Target::api("apps").at(&app)).await?;
                context.printer.show(&answer, |app| show(context, app))
            }
            Self::Create(args) => put(args, true, context).await,
            Self::Set(args) => put(args, false, context).await,
            Self::Metrics(args) => args.run(context).await,
        }
    }
}

async fn list(context: &Context<'_>) -> Outcome {
    let answer = context.client.get(&Target::api("apps")).await?;
    context.printer.show(&answer, |answer| {
        let mut table = Table::new(&[
            "app",
            "environment",
            "manifest",
            "prompt",
            "deployed",
            "~description",
        ])
        .giving_up(&["description", "manifest"]);
        for app in answer.items("items") {
            let environments = app
                .items("environments")
                .map(|name| name.0.as_str().unwrap_or_default());
            for (index, environment) in environments.enumerate() {
                let deployed = current(app, environment);
                let first = |text: &str| {
                    if index == 0 {
                        text.to_owned()
                    } else {
                        String::new()
                    }
                };
                table.row([
                    id_cell(first(app.text("name"))),
                    environment.into(),
                    deployed
                        .map(|one| one.short("manifest"))
                        .unwrap_or_default()
                        .into(),
                    deployed
                        .map(Record::prompt_reference)
                        .unwrap_or_default()
                        .into(),
                    deployed.map_or_else(|| "".into(), |one| context.ago(one, "created_at")),
                    first(app.text("description")).into(),
                ]);
            }
        }
        context.show_table(&table, "no apps yet")?;
        if table.is_empty() {
            context
                .printer
                .hint("create one with `flywheel app create APP`");
        }
        Ok(())
    })
}

fn current<'a>(app: Record<'a>, environment: &str) -> Option<Record<'a>> {
    app.items("current")
        .find(|deployment| deployment.text("environment") == environment)
}

fn show(context: &Context<'_>, app: Record<'_>) -> Printed {
    let mut block = Block::new();
    block
        .entry("app", app.text("name"))
        .entry("description", app.text("description"))
        .entry("environments", app.joined("environments"))
        .entry("requires", app.joined("required_members"))
        .entry("fallback", app.short("fallback_manifest"))
        .entry("created", context.when(app, "created_at"));
    context.printer.block(&block)?;
    let mut table = Table::new(&[
        "environment",
        ">#",
        "manifest",
        "prompt",
        "model",
        "deployed",
        "by",
        "~reason",
    ])
    .giving_up(&["model", "by", "#"]);
    for deployment in app.items("current") {
        table.row([
            deployment.text("environment").into(),
            deployment.shown("number").into(),
            id_cell(deployment.short("manifest")),
            deployment.prompt_reference().into(),
            deployment.text("model").into(),
            context.ago(deployment, "created_at"),
            deployment.text("actor").into(),
            deployment.text("reason").into(),
        ]);
    }
    if table.is_empty() {
        context.printer.note("nothing is deployed yet");
        let name = app.text("name");
        context.printer.hint(&format!(
            "`flywheel deploy {name} --prompt NAME --reason TEXT` deploys a prompt"
        ));
        return Ok(());
    }
    context.printer.heading("Deployed now")?;
    context.printer.table(&table)
}

/// The server makes no difference between creating and changing; a person who mistypes a name does.
async fn put(args: SettingsArgs, create: bool, context: &Context<'_>) -> Outcome {
    let name = args.app.clone();
    let target = Target::api("apps").at(&name);
    let exists = context.find(&target).await?.is_some();
    if create && exists {
        let hint = format!("change it with `flywheel app set {name}`");
        return Err(Refusal::with_hint(format!("app `{name}` exists already"), hint).into());
    }
    if !create && !exists {
        let hint = format!("create it with `flywheel app create {name}`");
        return Err(Refusal::with_hint(format!("app `{name}` does not exist"), hint).into());
    }
    let answer = context
        .client
        .send(Method::PUT, &target, &settings(args))
        .await?;
    context.printer.show(&answer, |app| show(context, app))
}

fn settings(args: SettingsArgs) -> Value {
    let mut body = Map::new();
    if let Some(description) = args.description {
        body.insert("description".into(), description.into());
    }
    if let Some(environments) = args.environments {
        body.insert("environments".into(), environments.into());
    }
    if !args.require.is_empty() {
        let members: Vec<String> = args
            .require
            .into_iter()
            .filter(|member| member != "none")
            .collect();
        body.insert("required_members".into(), members.into());
    }
    if let Some(fallback) = args.fallback {
        let fallback = if fallback == "none" {
            Value::Null
        } else {
            json!(fallback)
        };
        body.insert("fallback_manifest".into(), fallback);
    }
    body.into()
}
