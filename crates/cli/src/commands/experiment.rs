//! `flywheel experiment`: A/B/n tests between manifests.

mod plan;
mod readout;
mod show;

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::deploy::show_move;
use super::{Context, Outcome, id_cell};
use crate::arguments::{VersionReference, parse_manifest, parse_text};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::Table;

const ALL_BASIS_POINTS: u32 = 10_000;

/// Compare manifests on live traffic
#[derive(Debug, Subcommand)]
pub(crate) enum ExperimentCommand {
    /// List experiments
    List {
        /// Only those that stand there [default: all that are not archived]
        #[arg(long, value_parser = ["draft", "running", "stopped", "archived"])]
        status: Option<String>,
    },
    /// Show an experiment and what came of it so far
    Show {
        /// The experiment
        name: String,
    },
    /// Create an experiment; it does nothing until it is started
    Create(Box<CreateArgs>),
    /// Start dividing the traffic
    Start {
        /// The experiment
        name: String,
    },
    /// Stop dividing the traffic; all of it goes to the environment's manifest again
    Stop {
        /// The experiment
        name: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Put an experiment that does not run away, with its statistics as they are
    Archive {
        /// The experiment
        name: String,
    },
    /// Say what an experiment has found: verdict, checks, every metric with its interval
    Readout {
        /// The experiment
        name: String,
    },
    /// Deploy an arm and stop the experiment, with what it found as the evidence
    Promote(PromoteArgs),
    /// Print the units and what came together of each metric, as CSV, to compute every number again
    Units {
        /// The experiment
        name: String,
    },
    /// The sums at the end of each day, from which intervals at any time follow: CSV, or JSON lines with `--json`
    Sums {
        /// The experiment
        name: String,
    },
    /// Print how latencies, grades, totals and delays of outcomes are distributed in each arm, as CSV
    Histograms {
        /// The experiment
        name: String,
    },
    /// Change what is allocated, or the plan; after the start every result says so
    Set(SetArgs),
}

/// What is promoted.
#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// The experiment
    name: String,
    /// The arm whose manifest is deployed
    #[arg(long)]
    arm: String,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    reason: String,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Promote although the readout or a check objects; the history will tell
    #[arg(long)]
    force: bool,
}

/// What of an experiment is changed.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The experiment
    name: String,
    /// The share of the traffic that takes part; nobody moves between arms
    #[arg(long, value_name = "PERCENT", value_parser = amounts::parse_share)]
    exposure: Option<u32>,
    /// The arms' shares in their order, in percent, such as `80,20`; units that get another arm count in neither
    #[arg(long, value_name = "PERCENTS", value_delimiter = ',', value_parser = amounts::parse_basis_points)]
    weights: Option<Vec<u32>>,
    /// The smallest effect that matters: 5pt, 5% or a number in the metric's unit
    #[arg(long, value_name = "EFFECT")]
    mde: Option<plan::Effect>,
    /// A metric and its margin, such as `latency_p95=10%`; replaces all guardrails
    #[arg(long = "guardrail", value_name = "METRIC=MARGIN")]
    guardrails: Vec<plan::Guardrail>,
    /// Full days before an arm may be promoted
    #[arg(long, value_name = "DAYS")]
    min_days: Option<u32>,
}

/// A new experiment.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// The app
    #[arg(long)]
    app: String,
    /// The environment [default: the app's last, usually production]
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// An arm: a prompt version (`b=summary@2`) or a manifest, and its share of those who take part in percent
    /// (`b=summary@2:10`) [without any share: equal ones]. `rest=environment` follows what is deployed, beside an arm
    /// that is held out from it
    #[arg(
        long = "arm",
        value_name = "NAME=PROMPT@REF[:PERCENT]",
        required = true
    )]
    arms: Vec<Arm>,
    /// What is randomised: user, session or request
    #[arg(long, value_parser = ["user", "session", "request"])]
    unit: Option<String>,
    /// The share of the traffic that takes part [default: 100]
    #[arg(long, value_name = "PERCENT", value_parser = amounts::parse_share)]
    exposure: Option<u32>,
    /// What is expected to come of it
    #[arg(long, value_name = "TEXT")]
    hypothesis: Option<String>,
    /// The layer: experiments in one layer exclude each other
    #[arg(long)]
    layer: Option<String>,
    /// The share of the layer that it takes
    #[arg(long, value_name = "PERCENT", value_parser = amounts::parse_share)]
    layer_share: Option<u32>,
    #[command(flatten)]
    plan: plan::PlanArgs,
    /// Only tell what it would be, and how many units and days it takes
    #[arg(long)]
    dry_run: bool,
}

/// `name=prompt@version` or `name=manifest`, each with `:percent` behind it or without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arm {
    name: String,
    serves: Serves,
    /// In basis points.
    weight: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Serves {
    Manifest(String),
    Prompt(VersionReference),
    /// Whatever the environment serves at any time.
    Environment,
}

/// What stands for it.
const FOLLOWING: &str = "environment";

impl FromStr for Arm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected NAME=PROMPT@REF, NAME=MANIFEST or NAME=environment, perhaps with :PERCENT, such as `short=summary@2:10`"
                .to_owned()
        };
        let (name, rest) = text.split_once('=').ok_or_else(expected)?;
        // Names of prompts may have colons, which stand before the sign.
        let (before, after) = rest.split_at(rest.find('@').unwrap_or(0));
        let (served, weight) = match after.rsplit_once(':') {
            None => (rest, None),
            Some((reference, percent)) => {
                let weight = amounts::parse_basis_points(percent)?;
                (&rest[..before.len() + reference.len()], Some(weight))
            }
        };
        let serves = if served == FOLLOWING {
            Serves::Environment
        } else if before.is_empty() {
            Serves::Manifest(parse_manifest(served).map_err(|_| expected())?)
        } else {
            Serves::Prompt(served.parse().map_err(|_| expected())?)
        };
        if name.is_empty() {
            return Err(expected());
        }
        let name = name.to_owned();
        Ok(Self {
            name,
            serves,
            weight,
        })
    }
}

impl ExperimentCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::List { status } => list(context, status).await,
            Self::Archive { name } => act(context, &name, "archive", &json!({}), "archived").await,
            Self::Show { name } => {
                let answer = context
                    .client
                    .get(&Target::api("experiments").at(&name))
                    .await?;
                context
                    .printer
                    .show(&answer, |experiment| show::show(context, experiment))
            }
            Self::Create(args) => create(*args, context).await,
            Self::Start { name } => {
                let body = json!({});
                act(context, &name, "start", &body, "started").await
            }
            Self::Stop { name, reason } => {
                let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
                act(context, &name, "stop", &body, "stopped").await
            }
            Self::Readout { name } => readout::readout(context, &name).await,
            Self::Promote(args) => promote(args, context).await,
            Self::Units { name } => readout::units(context, &name).await,
            Self::Sums { name } => readout::sums(context, &name).await,
            Self::Histograms { name } => readout::histograms(context, &name).await,
            Self::Set(args) => set(args, context).await,
        }
    }
}

async fn promote(args: PromoteArgs, context: &Context<'_>) -> Outcome {
    let target = Target::api("experiments").at(&args.name);
    let experiment = context.client.get(&target).await?;
    let app = Record(&experiment).text("app").to_owned();
    let mut body = json!({"arm": args.arm, "reason": args.reason});
    for (member, value) in [("dry_run", args.dry_run), ("force", args.force)] {
        if value {
            body[member] = true.into();
        }
    }
    let answer = context.client.post(&target.at("promote"), &body).await?;
    show_move(context, &app, &answer, false)
}

async fn set(args: SetArgs, context: &Context<'_>) -> Outcome {
    let target = Target::api("experiments").at(&args.name);
    if plan::has_points(args.mde, &args.guardrails) {
        let experiment = context.client.get(&target).await?;
        let metrics = json!({"items": experiment["plan"]["metrics"]});
        let primary = experiment["plan"]["primary"].as_str();
        plan::must_be_shares(Record(&metrics), primary, args.mde, &args.guardrails)?;
    }
    let mut body = json!({});
    for (member, value) in [
        ("exposure", args.exposure.map(Value::from)),
        ("weights", args.weights.map(Value::from)),
        ("mde", args.mde.map(plan::Effect::value)),
        ("guardrails", plan::guardrails(&args.guardrails)),
        ("minimum_days", args.min_days.map(Value::from)),
    ] {
        if let Some(value) = value {
            body[member] = value;
        }
    }
    let answer = context.client.send(Method::PATCH, &target, &body).await?;
    context
        .printer
        .show(&answer, |experiment| show::show(context, experiment))
}

async fn create(args: CreateArgs, context: &Context<'_>) -> Outcome {
    args.plan.check(&args.app, context).await?;
    let mut body = json!({"name": args.name, "app": args.app, "arms": arms(args.arms)?});
    for (member, value) in [
        ("environment", args.environment.map(Value::from)),
        ("unit", args.unit.map(Value::from)),
        ("exposure", args.exposure.map(Value::from)),
        ("hypothesis", args.hypothesis.map(Value::from)),
        ("layer", args.layer.map(Value::from)),
        ("layer_share", args.layer_share.map(Value::from)),
    ] {
        if let Some(value) = value {
            body[member] = value;
        }
    }
    let plan = args.plan.body();
    if plan.as_object().is_some_and(|plan| !plan.is_empty()) {
        body["plan"] = plan;
    }
    if args.dry_run {
        body["dry_run"] = true.into();
    }
    let answer = context
        .client
        .post(&Target::api("experiments"), &body)
        .await?;
    context.printer.show(&answer, |experiment| {
        show::show(context, experiment)?;
        if args.dry_run {
            context.printer.note("nothing was made");
            return Ok(());
        }
        context.printer.hint(&format!(
            "start it with `flywheel experiment start {}`",
            args.name
        ));
        Ok(())
    })
}

/// The arms as the server wants them. Without weights, the last takes what equal shares leave over.
fn arms(arms: Vec<Arm>) -> anyhow::Result<Value> {
    let weights: Vec<u32> = arms.iter().filter_map(|arm| arm.weight).collect();
    let given: u32 = weights.iter().sum();
    if !weights.is_empty() && weights.len() != arms.len() {
        return Err(Refusal::misuse(
            "--arm: you gave some arms a share and some none",
            "expected a share for each, adding up to 100%, or for none of them",
        )
        .into());
    }
    if !weights.is_empty() && given != ALL_BASIS_POINTS {
        let given = amounts::basis_points(f64::from(given));
        return Err(Refusal::misuse(
            format!("--arm: the shares you gave add up to {given}"),
            "expected 100%, or no shares at all, which divides equally",
        )
        .into());
    }
    let count = u32::try_from(arms.len())?;
    let share = ALL_BASIS_POINTS / count;
    let last_share = ALL_BASIS_POINTS - share * (count - 1);
    let last = arms.len() - 1;
    let arm = |(index, arm): (usize, Arm)| {
        let equal = if index == last { last_share } else { share };
        let mut body = json!({"name": arm.name, "weight": arm.weight.unwrap_or(equal)});
        match arm.serves {
            Serves::Manifest(id) => body["manifest"] = id.into(),
            Serves::Environment => body["follows_environment"] = true.into(),
            Serves::Prompt(version) => {
                body["version"] = version.reference_or_latest().into();
                body["prompt"] = version.name.into();
            }
        }
        body
    };
    Ok(arms.into_iter().enumerate().map(arm).collect())
}

async fn act(context: &Context<'_>, name: &str, action: &str, body: &Value, done: &str) -> Outcome {
    let target = Target::api("experiments").at(name).at(action);
    let answer = context.client.post(&target, body).await?;
    if context.printer.is_json() {
        context.printer.json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    context.printer.note(&format!("{done} {name}"));
    context.printer.hint(&format!(
        "`flywheel experiment readout {name}` says what comes of it"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context<'_>, status: Option<String>) -> Outcome {
    let target = Target::api("experiments").with_some("status", status.as_deref());
    let answer = context.client.get(&target).await?;
    context.printer.show(&answer, |answer| {
        let mut table = Table::new(&[
            "experiment",
            "app",
            "environment",
            "status",
            "arms",
            ">exposure",
            "started",
            "stopped",
        ])
        .giving_up(&["stopped", "started", "environment"]);
        for experiment in answer.items("items") {
            let names: Vec<&str> = experiment
                .items("arms")
                .map(|arm| arm.text("name"))
                .collect();
            table.row([
                id_cell(experiment.text("name")),
                experiment.text("app").into(),
                experiment.text("environment").into(),
                experiment.text("status").into(),
                names.join(", ").into(),
                share(experiment, "exposure").into(),
                context.ago(experiment, "started_at"),
                context.ago(experiment, "stopped_at"),
            ]);
        }
        context.show_table(&table, "no experiments yet")
    })
}

fn share(record: Record<'_>, member: &str) -> String {
    record
        .number(member)
        .map_or_else(String::new, amounts::basis_points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(texts: &[&str]) -> anyhow::Result<Vec<u64>> {
        let parsed = texts.iter().map(|text| text.parse().unwrap()).collect();
        let arms = arms(parsed)?;
        Ok(arms
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|arm| arm["weight"].as_u64())
            .collect())
    }

    #[test]
    fn arms_are_read() {
        let manifest = || Serves::Manifest("1a2b3c4d5e6f".to_owned());
        let prompt = |text: &str| Serves::Prompt(text.parse().unwrap());
        for (text, serves, weight) in [
            ("a=1a2b3c4d5e6f", manifest(), None),
            ("a=1a2b3c4d5e6f:50", manifest(), Some(5000)),
            ("a=summary@2", prompt("summary@2"), None),
            ("a=environment", Serves::Environment, None),
            ("a=environment:50", Serves::Environment, Some(5000)),
            (
                "a=team/summary:v2@stable:12.5%",
                prompt("team/summary:v2@stable"),
                Some(1250),
            ),
        ] {
            let name = "a".to_owned();
            let expected = Arm {
                name,
                serves,
                weight,
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in [
            "control",
            "=1a2b3c4d5e6f",
            "a=",
            "a=x",
            "a=@2",
            "a=p@",
            "a=p@2:many",
            "a=p@2:101",
            "a=1a2b3c4d5e6f:5000",
        ] {
            assert!(wrong.parse::<Arm>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn arms_without_shares_get_equal_ones() {
        let equal = weights(&["a=p@1", "b=p@2", "c=p@3"]).unwrap();
        assert_eq!(equal, [3333, 3333, 3334]);
        let given = weights(&["a=p@1:10", "b=p@2:90"]).unwrap();
        assert_eq!(given, [1000, 9000]);
        assert!(weights(&["a=p@1:10", "b=p@2"]).is_err());
        assert!(weights(&["a=p@1:10", "b=p@2:80"]).is_err());
    }
}
