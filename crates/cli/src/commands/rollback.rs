//! `flywheel rollback`: moves an environment's pointer back.

use clap::Args;

use super::deploy::{MoveOptions, show_move};
use super::{Context, Outcome};
use crate::arguments::{parse_manifest, parse_text};
use crate::client::Target;

/// Go back to the manifest that was deployed before, or to an earlier one
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The app
    app: String,
    #[command(flatten)]
    move_options: MoveOptions,
    /// The manifest to go back to: twelve or more digits of its id
    #[arg(long, value_name = "MANIFEST", conflicts_with = "steps", value_parser = parse_manifest)]
    to: Option<String>,
    /// How many manifests to go back [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", default_value = "rollback", value_parser = parse_text)]
    reason: String,
}

impl RollbackArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut body = self.move_options.members();
        if let Some(manifest) = self.to {
            body.insert("to".into(), manifest.into());
        }
        if let Some(steps) = self.steps {
            body.insert("steps".into(), steps.into());
        }
        body.insert("reason".into(), self.reason.into());
        let target = Target::api("apps").at(&self.app).at("rollback");
        let answer = context.client.post(&target, &body.into()).await?;
        show_move(context, &self.app, &answer)
    }
}
