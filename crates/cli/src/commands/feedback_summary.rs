//! `flywheel feedback summary`: what feedback and signals come to, by arm, version, manifest, model, day or hour, or week by
//! week.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{Context, Outcome, id_cell};
use crate::arguments::{When, parse_when};
use crate::client::Target;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::Table;
use crate::printer::OutputError;

/// What is summarised, and how it is divided.
#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// What the rows stand for; weeks are by prompt version, with every metric of an app
    #[arg(long, value_enum, default_value_t = Division::PromptVersion)]
    by: Division,
    /// The same as --by week
    #[arg(long, conflicts_with = "by", requires = "app")]
    weekly: bool,
    /// Of an app
    #[arg(long)]
    app: Option<String>,
    /// In an environment
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// In an experiment
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// Since a time (2026-07-01T12:00:00Z), a date, or for a while (15m, 6h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<When>,
    /// Until a time
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<When>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Division {
    Arm,
    #[value(alias = "prompt_version")]
    PromptVersion,
    Manifest,
    Model,
    Week,
    Day,
    Hour,
}

impl Division {
    fn as_str(self) -> &'static str {
        match self {
            Self::Arm => "arm",
            Self::PromptVersion => "prompt_version",
            Self::Manifest => "manifest",
            Self::Model => "model",
            Self::Week => "week",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

impl SummaryArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let by = if self.weekly { Division::Week } else { self.by };
        let now = context.sources.clock.now();
        let at = |when: Option<When>| when.map(|when| when.at(now));
        let target = Target::api("feedback/summary")
            .with("by", by.as_str())
            .with_some("app", self.app.as_deref())
            .with_some("environment", self.environment.as_deref())
            .with_some("experiment", self.experiment.as_deref())
            .with_some("since", at(self.since).as_deref())
            .with_some("until", at(self.until).as_deref());
        let work = context.client.get(&target);
        let answer = context.printer.waiting("adding it up", work).await?;
        let shown = context.printer.show(&answer, |answer| {
            if matches!(by, Division::Week) {
                return show_weeks(context, answer);
            }
            context.show_table(&table(answer, by.as_str()), "no calls match")?;
            let mut series = answer.items("items").flat_map(|item| item.items("series"));
            if series.any(|series| series.member("low").is_some()) {
                context.printer.hint("95% ranges, as if every call were somebody else's: where users call often, `--weekly` and experiments count them together");
            }
            let fallbacks: f64 = answer
                .items("items")
                .filter_map(|item| item.number("fallbacks"))
                .sum();
            if matches!(by, Division::Arm) && fallbacks > 0.0 {
                let fallbacks = amounts::number(fallbacks);
                context.printer.note(&format!(
                    "{fallbacks} calls were answered by another manifest than their arm's and count for none"
                ));
            }
            Ok(())
        })?;
        if Record(&answer).items("items").next().is_none() {
            context.explain_nothing(self.app.as_deref()).await?;
        }
        Ok(shown)
    }
}

fn show_weeks(context: &Context<'_>, answer: Record<'_>) -> Result<(), OutputError> {
    context.show_table(&weeks(answer), "no calls match")?;
    let mut metrics = answer.items("items").flat_map(|item| item.items("metrics"));
    if metrics.any(|metric| metric.member("low").is_some()) {
        context.printer.hint(
            "ranges hold the true value in 95 of 100 cases; calls of one user count together, and `--json` says how",
        );
    }
    if let Some(share) = answer.number("taken_in") {
        let share = amounts::percent(share);
        context.printer.note(&format!(
            "{share} of all calls and feedback are counted so far; ask again for the rest"
        ));
    }
    Ok(())
}

/// One row for each week, version and metric that has a value.
fn weeks(summary: Record<'_>) -> Table {
    let mut table = Table::new(&[
        "week of", "prompt", ">calls", "metric", ">users", ">n", ">value", "range",
    ]);
    for item in summary.items("items") {
        let version = match item.prompt_reference() {
            named if named.is_empty() => item.short("prompt_version"),
            named => named,
        };
        let mut first = Some([item.text("week").to_owned(), version, item.shown("calls")]);
        let valued = item
            .items("metrics")
            .filter(|metric| metric.number("value").is_some());
        for metric in valued {
            let [week, version, calls] = first.take().unwrap_or_default();
            let shown = |number: f64| amount(metric, number);
            let range = match (metric.number("low"), metric.number("high")) {
                (Some(low), Some(high)) => format!("{} to {}", shown(low), shown(high)),
                _ => metric.text("undefined").to_owned(),
            };
            table.row([
                week.into(),
                version.into(),
                calls.into(),
                metric.text("metric").to_owned().into(),
                metric.shown("units").into(),
                metric.shown("n").into(),
                metric
                    .number("value")
                    .map_or_else(String::new, shown)
                    .into(),
                range.into(),
            ]);
        }
    }
    table
}

/// A value of a metric in its unit.
fn amount(metric: Record<'_>, number: f64) -> String {
    match (metric.text("kind"), metric.text("unit")) {
        ("binary", _) => amounts::percent(number),
        (_, "ms") => amounts::duration(number * 1000.0),
        (_, "USD") => amounts::dollars(number),
        (_, "") => amounts::number(number),
        (_, unit) => format!("{} {unit}", amounts::number(number)),
    }
}

/// One row for each group and each series of feedback in it.
pub(super) fn table(summary: Record<'_>, division: &'static str) -> Table {
    let mut table = Table::new(&[
        division, "prompt", ">calls", ">errors", ">latency", ">cost", "feedback", ">n", ">value",
        "range",
    ]);
    let mut items: Vec<_> = summary.items("items").collect();
    // Hashes have no order that means anything to people.
    items.sort_by_key(|item| {
        let ordinal = item.member("prompt_ordinal").and_then(Value::as_u64);
        (item.text("prompt"), ordinal)
    });
    for item in items {
        let latency = item
            .number("mean_latency_ms")
            .map(|latency| amounts::duration(latency * 1000.0));
        let cost = item.number("mean_cost_usd").map(amounts::dollars);
        let mut first = Some([
            item.short("key"),
            item.prompt_reference(),
            item.shown("calls"),
            item.shown("provider_errors"),
            latency.unwrap_or_default(),
            cost.unwrap_or_default(),
        ]);
        let mut series: Vec<[String; 4]> = item.items("series").map(series_cells).collect();
        if series.is_empty() {
            series.push(Default::default());
        }
        for [name, n, value, range] in series {
            let [key, prompt, calls, errors, latency, cost] = first.take().unwrap_or_default();
            table.row([
                id_cell(key),
                prompt.into(),
                calls.into(),
                errors.into(),
                latency.into(),
                cost.into(),
                name.into(),
                n.into(),
                value.into(),
                range.into(),
            ]);
        }
    }
    table
}

fn series_cells(series: Record<'_>) -> [String; 4] {
    let is_rate = series.text("kind") == "rate";
    let shown = |number: f64| {
        if is_rate {
            amounts::percent(number)
        } else {
            amounts::number(number)
        }
    };
    let range = match (series.number("low"), series.number("high")) {
        (Some(low), Some(high)) => format!("{} to {}", shown(low), shown(high)),
        _ => String::new(),
    };
    let value = series.number("value").map_or_else(String::new, shown);
    let mut name = series.text("series").to_owned();
    if let Some(scale) = series.record("scale")
        && let (Some(min), Some(max)) = (scale.number("min"), scale.number("max"))
    {
        name = format!("{name} {}..{}", amounts::number(min), amounts::number(max));
    }
    [name, series.shown("n"), value, range]
}
