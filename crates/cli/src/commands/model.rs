//! `flywheel model`: registered models, what serves them and what they cost.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use super::{Context, Outcome, id_cell};
use crate::arguments::parse_price;
use crate::client::Target;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::Style;

/// Register models and what serves them
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// List registered models
    List,
    /// Register a model version, or change what serves it
    Register(RegisterArgs),
    /// Point an alias at a version
    Alias {
        /// The model
        id: String,
        /// The alias, such as `stable`
        alias: String,
        /// The version it is to stand for
        version: String,
    },
}

/// A model version and what serves it.
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// The model, such as `gpt-4o-mini`
    id: String,
    /// Its version, such as `2024-07-18`
    version: String,
    /// The provider in the server's configuration
    #[arg(long)]
    provider: String,
    /// The provider's own name for it, if it is another
    #[arg(long, value_name = "NAME")]
    provider_model: Option<String>,
    /// US dollars for a million tokens sent
    #[arg(long, value_name = "USD", requires = "output_price", value_parser = parse_price)]
    input_price: Option<f64>,
    /// US dollars for a million tokens received
    #[arg(long, value_name = "USD", requires = "input_price", value_parser = parse_price)]
    output_price: Option<f64>,
    /// US dollars for a million tokens sent that the provider had cached
    #[arg(long, value_name = "USD", requires = "input_price", value_parser = parse_price)]
    cached_input_price: Option<f64>,
}

impl ModelCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List => list(context).await,
            Self::Register(args) => register(args, context).await,
            Self::Alias { id, alias, version } => {
                let target = Target::api("models").at(&id).at("aliases").at(&alias);
                let body = json!({"model_version": version});
                let answer = context.client.send(Method::PUT, &target, &body).await?;
                context.printer.show(&answer, |_| {
                    context
                        .printer
                        .line(Style::Plain, &format!("{id}:{alias} is {id}:{version} now"))
                })
            }
        }
    }
}

async fn list(context: &Context<'_>) -> Outcome {
    let answer = context.client.get(&Target::api("models")).await?;
    context.printer.show(&answer, |answer| {
        let mut table = Table::new(&[
            "model",
            "aliases",
            "provider",
            "provider model",
            ">input",
            ">output",
            "registered",
            "~problem",
        ])
        .giving_up(&["registered", "provider model", "aliases", "output", "input"]);
        for model in answer.items("items") {
            table.row([
                id_cell(full_name(model)),
                model.joined("aliases").into(),
                model.text("provider").into(),
                model.text("provider_model").into(),
                price(model, "input").into(),
                price(model, "output").into(),
                context.ago(model, "created_at"),
                Cell::styled(model.text("problem"), Style::Bad),
            ]);
        }
        context.show_table(&table, "no models yet")?;
        if table.is_empty() {
            context
                .printer
                .hint("register one with `flywheel model register ID VERSION --provider P`");
        }
        Ok(())
    })
}

fn full_name(model: Record<'_>) -> String {
    format!("{}:{}", model.text("model_id"), model.text("model_version"))
}

fn price(model: Record<'_>, member: &str) -> String {
    let price = model.record("price").and_then(|price| price.number(member));
    price.map_or_else(String::new, |price| format!("${price}"))
}

async fn register(args: RegisterArgs, context: &Context<'_>) -> Outcome {
    let target = Target::api("models")
        .at(&args.id)
        .at("versions")
        .at(&args.version);
    let mut body = json!({"provider": args.provider});
    if let Some(name) = args.provider_model {
        body["provider_model"] = name.into();
    }
    if let (Some(input), Some(output)) = (args.input_price, args.output_price) {
        body["price"] = json!({"input": input, "output": output});
        if let Some(cached) = args.cached_input_price {
            body["price"]["cached_input"] = cached.into();
        }
    }
    let answer = context.client.send(Method::PUT, &target, &body).await?;
    context.printer.show(&answer, |model| {
        let (provider, own_name) = (model.text("provider"), model.text("provider_model"));
        let line = format!("{} is served by {provider} as {own_name}", full_name(model));
        context.printer.line(Style::Plain, &line)?;
        if let Some(problem) = model.optional("problem") {
            context.printer.warning(problem);
        }
        let reference = full_name(model);
        context.printer.hint(&format!(
            "use it in a prompt file with `model: {reference}`"
        ));
        Ok(())
    })
}
