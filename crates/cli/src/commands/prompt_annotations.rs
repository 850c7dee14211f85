//! `flywheel prompt label` and `flywheel prompt score`: what people and evaluations say of a version.

use clap::Args;
use http::Method;
use serde_json::json;

use super::prompt::version;
use super::{Context, Outcome};
use crate::arguments::parse_number;
use crate::client::Target;
use crate::output::amounts;

/// A label and where it goes.
#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// The prompt
    name: String,
    /// The version
    #[arg(value_name = "REF")]
    reference: String,
    /// The label
    label: String,
    /// Take the label away
    #[arg(long)]
    remove: bool,
}

/// A score of an evaluation.
#[derive(Debug, Args)]
pub(crate) struct ScoreArgs {
    /// The prompt
    name: String,
    /// The version
    #[arg(value_name = "REF")]
    reference: String,
    /// What was measured, such as `exact_match`
    metric: String,
    /// The value
    #[arg(allow_negative_numbers = true, value_parser = parse_number)]
    value: f64,
    /// Over how many examples
    #[arg(long, value_name = "N")]
    n: u64,
    /// What it was measured on
    #[arg(long)]
    dataset: Option<String>,
}

impl LabelArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let LabelArgs {
            name,
            reference,
            label,
            remove,
        } = self;
        let target = Target::api("prompts").at(&name).at("labels").at(&label);
        if remove {
            let answer = context.client.delete(&target).await?;
            return context.printer.show(&answer, |_| {
                context
                    .printer
                    .note(&format!("took label `{label}` from {name}"));
                Ok(())
            });
        }
        let answer = context
            .client
            .send(Method::PUT, &target, &json!({"version": reference}))
            .await?;
        context.printer.show(&answer, |_| {
            context
                .printer
                .note(&format!("{name}@{label} is {name}@{reference} now"));
            Ok(())
        })
    }
}

impl ScoreArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let target = version(&self.name, &self.reference).at("scores");
        let mut body = json!({"metric": self.metric, "value": self.value, "n": self.n});
        if let Some(dataset) = self.dataset {
            body["dataset"] = dataset.into();
        }
        let answer = context.client.post(&target, &body).await?;
        context.printer.show(&answer, |_| {
            let value = amounts::number(self.value);
            context.printer.note(&format!(
                "recorded {} {value} over {} examples",
                self.metric, self.n
            ));
            context.printer.hint(&format!(
                "`flywheel prompt show {}@{}` shows all scores",
                self.name, self.reference
            ));
            Ok(())
        })
    }
}
