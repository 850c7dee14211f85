//! `flywheel diff`: what differs between two manifests.

use clap::Args;

use super::{Context, Outcome, member_changes};
use crate::arguments::parse_manifest;
use crate::client::Target;
use crate::output::difference;

/// Show what differs between two manifests, their prompts included
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The older manifest: twelve or more digits of its id
    #[arg(value_name = "MANIFEST", value_parser = parse_manifest)]
    from: String,
    /// The newer manifest
    #[arg(value_name = "MANIFEST", value_parser = parse_manifest)]
    to: String,
}

impl DiffArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let target = Target::api("manifest-diff")
            .with("from", &self.from)
            .with("to", &self.to);
        let answer = context.client.get(&target).await?;
        context.printer.show(&answer, |answer| {
            let table = member_changes(answer, "from", "to");
            context.show_table(&table, "the two are the same manifest")?;
            let Some(prompt) = answer
                .record("prompt")
                .filter(|prompt| prompt.items("changes").next().is_some())
            else {
                return Ok(());
            };
            context.printer.heading("In the prompt")?;
            let lines = difference::lines(prompt.items("changes"), |style, text| {
                context.printer.paint(style, text)
            });
            context.printer.write_lines(&lines)
        })
    }
}
