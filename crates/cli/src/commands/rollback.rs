//! `flywheel rollback`: moves an environment's pointer back.

use std::str::FromStr;

use clap::Args;
use serde_json::{Map, Value};

use super::deploy::{MoveOptions, show_move};
use super::{Context, Outcome};
use crate::arguments::{parse_manifest, parse_text};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::{Record, plain};

/// Go back to the manifest that was deployed before, or to an earlier one
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The app
    app: String,
    #[command(flatten)]
    move_options: MoveOptions,
    /// What to go back to: a deployment's number, as `flywheel history` shows it, or twelve or more digits of a manifest's id
    #[arg(long, value_name = "NUMBER|MANIFEST", conflicts_with = "steps")]
    to: Option<Past>,
    /// How many manifests to go back [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", default_value = "rollback", value_parser = parse_text)]
    reason: String,
}

/// Something that was deployed before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Past {
    Deployment(u64),
    Manifest(String),
}

impl FromStr for Past {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Eleven digits and fewer are no manifest.
        let number = text.strip_prefix('#').unwrap_or(text);
        if number.len() < 12
            && let Ok(number) = number.parse()
        {
            return Ok(Self::Deployment(number));
        }
        parse_manifest(text).map(Self::Manifest).map_err(|_| {
            "expected a deployment's number or 12 or more digits of a manifest's id, as `flywheel history` shows them"
                .to_owned()
        })
    }
}

/// The deployment with a number. Numbers are counted over all apps and environments.
async fn deployment(context: &Context<'_>, app: &str, number: u64) -> anyhow::Result<Value> {
    // The newest that is older than the next.
    let target = Target::api("apps")
        .at(app)
        .at("deployments")
        .with("limit", "1")
        .with("cursor", &number.saturating_add(1).to_string());
    let answer = context.client.get(&target).await?;
    let found = answer["items"].as_array().and_then(|items| items.first());
    let found = found.filter(|deployment| deployment["number"] == number);
    found.cloned().ok_or_else(|| {
        let hint = format!("`flywheel history {app}` lists them");
        Refusal::with_hint(format!("{app} has no deployment #{number}"), hint).into()
    })
}

/// Says in the request what to go back to: a deployment's manifest, in its environment.
fn go_back_to(
    body: &mut Map<String, Value>,
    number: u64,
    deployment: Record<'_>,
) -> anyhow::Result<()> {
    let environment = Value::from(deployment.text("environment"));
    let meant = body.entry("environment").or_insert(environment.clone());
    if *meant != environment {
        let problem = format!(
            "--to: #{number} is a deployment in {}, not in {}",
            plain(&environment),
            plain(meant)
        );
        return Err(Refusal::with_hint(problem, "give its own environment, or none").into());
    }
    body.insert("to".into(), deployment.text("manifest").into());
    Ok(())
}

impl RollbackArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut body = self.move_options.members();
        match self.to {
            Some(Past::Manifest(manifest)) => {
                body.insert("to".into(), manifest.into());
            }
            Some(Past::Deployment(number)) => {
                let deployment = deployment(context, &self.app, number).await?;
                go_back_to(&mut body, number, Record(&deployment))?;
            }
            None => {}
        }
        if let Some(steps) = self.steps {
            body.insert("steps".into(), steps.into());
        }
        body.insert("reason".into(), self.reason.into());
        let target = Target::api("apps").at(&self.app).at("rollback");
        let answer = context.client.post(&target, &body.into()).await?;
        show_move(context, &self.app, &answer, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deployed_has_a_number_and_a_manifest() {
        let manifest = |text: &str| Past::Manifest(text.to_owned());
        for (text, expected) in [
            ("7", Past::Deployment(7)),
            ("#7", Past::Deployment(7)),
            ("12345678901", Past::Deployment(12_345_678_901)),
            ("123456789012", manifest("123456789012")),
            ("1a2b3c4d5e6f", manifest("1a2b3c4d5e6f")),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in ["", "#", "-1", "1a2b", "#1a2b3c4d5e6f", "summary@2"] {
            assert!(wrong.parse::<Past>().is_err(), "{wrong}");
        }
    }
}
