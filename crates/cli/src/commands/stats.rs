//! `flywheel stats`: the calculator on its own, for people who have numbers and no experiment. It asks no server.

mod checks;
mod comparisons;
mod inputs;
mod plans;

use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use flywheel_stats::Interval;
use flywheel_stats::undefined::{Defined, Undefined};
use serde_json::{Value, json};

use super::{Context, Outcome};
use crate::client::Target;
use crate::output::amounts;
use crate::output::table::Block;
use crate::printer::{Printer, Style};

/// Plan and judge comparisons: sample sizes, intervals, traffic splits, canaries; without a server
#[derive(Debug, Subcommand)]
pub(crate) enum StatsCommand {
    /// How many users a comparison needs, and how long that takes
    Size(plans::SizeArgs),
    /// Compare two rates, such as 840/1400 and 915/1400
    Rates(comparisons::RatesArgs),
    /// Compare two means
    Means(comparisons::MeansArgs),
    /// Compare grades from 1 upwards by how many gave each
    Ranks(comparisons::RanksArgs),
    /// Compare two rates per request, from a CSV file with a line for each request or user
    Ratios(comparisons::RatiosArgs),
    /// Whether users were split as planned
    Split(checks::SplitArgs),
    /// What a shadow canary's verdicts say
    Canary(checks::CanaryArgs),
    /// Make the statistics of an experiment on the server again from its calls and feedback
    Rebuild {
        /// The experiment
        experiment: String,
    },
}

/// How sure the answer is to be.
#[derive(Debug, Clone, Copy, Args)]
struct Level {
    /// The chance of a false alarm that is accepted
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = inputs::parse_open_share)]
    alpha: f64,
}

/// What came of a calculation.
struct Report {
    /// The answer in one sentence.
    headline: String,
    style: Style,
    entries: Vec<(&'static str, String)>,
    /// What to do next, or what to keep in mind.
    hint: Option<String>,
    value: Value,
}

/// `flywheel stats rebuild`, which alone asks a server.
pub(super) async fn rebuild(context: &Context<'_>, experiment: &str) -> Outcome {
    let target = Target::api("experiments").at(experiment).at("rebuild");
    let answer = context.client.post(&target, &json!({})).await?;
    context.printer.show(&answer, |_| {
        context.printer.note(&format!(
            "the statistics of {experiment} are being made again"
        ));
        context.printer.hint(&format!(
            "`flywheel experiment readout {experiment}` says how far it is"
        ));
        Ok(())
    })
}

impl StatsCommand {
    /// The experiment whose statistics are to be made again, which only a server can do.
    pub(super) fn to_rebuild(&self) -> Option<&str> {
        match self {
            Self::Rebuild { experiment } => Some(experiment),
            _ => None,
        }
    }

    pub(crate) fn run(self, printer: &Printer) -> Outcome {
        let report = match self {
            Self::Size(args) => args.report(),
            Self::Rates(args) => args.report(),
            Self::Means(args) => args.report(),
            Self::Ranks(args) => args.report(),
            Self::Ratios(args) => args.report(),
            Self::Split(args) => args.report(),
            Self::Canary(args) => args.report(),
            // Asked of a server by now.
            Self::Rebuild { .. } => return Ok(ExitCode::SUCCESS),
        }?;
        printer.show(&report.value, |_| {
            printer.line(report.style, &report.headline)?;
            let mut block = Block::new();
            for (name, text) in &report.entries {
                block.entry(name, text);
            }
            printer.block(&block)?;
            if let Some(hint) = &report.hint {
                printer.hint(hint);
            }
            Ok(())
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A value that has to be there for the answer to mean anything.
fn must<T>(what: &str, value: Defined<T>) -> anyhow::Result<T> {
    value.map_err(|undefined| anyhow!("{what}: {undefined}"))
}

/// A number, or why there is none.
fn shown<T>(value: Defined<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|undefined| format!("none: {undefined}"), show)
}

/// The same in JSON.
fn member<T>(value: Defined<T>, read: impl Fn(T) -> Value) -> Value {
    value.map_or_else(
        |undefined: Undefined| json!({"undefined": undefined.to_string()}),
        read,
    )
}

fn interval_json(interval: Interval) -> Value {
    json!({"low": interval.low, "high": interval.high})
}

/// A share in percent.
fn percent(share: f64) -> String {
    format!("{}%", trimmed(share * 100.0))
}

/// A difference of shares in points, with its sign.
fn points(difference: f64) -> String {
    format!("{} points", signed(difference * 100.0))
}

fn signed(value: f64) -> String {
    let text = trimmed(value);
    if value > 0.0 {
        format!("+{text}")
    } else {
        text
    }
}

/// Four digits that matter, without zeros behind them.
fn trimmed(value: f64) -> String {
    amounts::significant(value, 4)
}

/// A count with a comma between thousands.
fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.ceil());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn p_value(p: f64) -> String {
    if p < 0.0001 {
        "under 0.0001".to_owned()
    } else {
        trimmed(p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_legible() {
        assert_eq!(percent(0.6), "60%");
        assert_eq!(percent(0.012_345), "1.234%");
        assert_eq!(points(0.053_57), "+5.357 points");
        assert_eq!(count(1470.2), "1,471");
        assert_eq!(count(12.0), "12");
        assert_eq!(trimmed(-0.5), "-0.5");
        assert_eq!(p_value(1e-9), "under 0.0001");
    }
}
