//! What an experiment is, on one screen: its state, its plan, its arms and what they have had so far.

use serde_json::{Value, json};

use super::super::{Context, feedback_summary, id_cell};
use super::share;
use crate::output::record::Record;
use crate::output::table::{Block, Table};
use crate::printer::Printed;

pub(super) fn show(context: &Context<'_>, experiment: Record<'_>) -> Printed {
    let mut block = Block::new();
    block
        .entry("experiment", experiment.text("name"))
        .entry("app", experiment.text("app"))
        .entry("environment", experiment.text("environment"))
        .entry("status", experiment.text("status"))
        .entry("hypothesis", experiment.text("hypothesis"))
        .entry("unit", experiment.text("unit"))
        .entry("exposure", share(experiment, "exposure"))
        .entry("layer", experiment.text("layer"))
        .entry("layer share", share(experiment, "layer_share"))
        .entry("created", context.when(experiment, "created_at"))
        .entry("started", context.when(experiment, "started_at"))
        .entry("stopped", context.when(experiment, "stopped_at"));
    context.printer.block(&block)?;
    if let Some(plan) = experiment.record("plan") {
        show_plan(context, experiment, plan)?;
    }
    let mut table = Table::new(&["arm", "prompt", "manifest", ">share"]);
    let serves = experiment.record("serves");
    for arm in experiment.items("arms") {
        let name = arm.text("name");
        let served = serves.and_then(|serves| serves.record(name));
        let follows = || match arm.member("manifest") {
            Some(_) => String::new(),
            None => format!("follows {}", experiment.text("environment")),
        };
        table.row([
            id_cell(name),
            served.map_or_else(follows, Record::prompt_reference).into(),
            arm.short("manifest").into(),
            share(arm, "weight").into(),
        ]);
    }
    context.printer.heading("Arms")?;
    context.printer.table(&table)?;
    let Some(summary) = experiment.member("summary") else {
        return Ok(());
    };
    // The items themselves, or a summary that holds them.
    let wrapped = json!({"items": summary});
    let holder = if summary.is_array() {
        &wrapped
    } else {
        summary
    };
    let results = feedback_summary::table(Record(holder), "arm");
    if results.is_empty() {
        return Ok(());
    }
    context.printer.heading("Calls and feedback so far")?;
    context.printer.table(&results)?;
    context.printer.hint(&format!(
        "`flywheel experiment readout {}` compares the arms, without units that were in two of them",
        experiment.text("name")
    ));
    Ok(())
}

/// An effect or a margin on a metric: in its unit, points for shares, or in per cent of what it is.
fn effect(value: Record<'_>, plan: Record<'_>, name: &str) -> String {
    let metric = plan.items("metrics").find(|m| m.text("name") == name);
    let is_share = metric.is_some_and(|metric| metric.text("kind") == "binary");
    let unit = metric.map_or("", |metric| metric.text("unit"));
    match (value.number("absolute"), value.number("relative")) {
        (Some(share), _) if is_share => match (share * 1e4).round() / 100.0 {
            1.0 => "1 point".to_owned(),
            points => format!("{points} points"),
        },
        (Some(absolute), _) if unit.is_empty() => absolute.to_string(),
        (Some(absolute), _) => format!("{absolute} {unit}"),
        (None, Some(share)) => format!("{}%", (share * 1e4).round() / 100.0),
        (None, None) => String::new(),
    }
}

fn show_plan(context: &Context<'_>, experiment: Record<'_>, plan: Record<'_>) -> Printed {
    let Some(primary) = plan.optional("primary") else {
        return Ok(());
    };
    let guardrails: Vec<String> = plan
        .items("guardrails")
        .map(|rule| {
            let name = rule.text("metric");
            let margin = rule
                .record("margin")
                .map(|margin| effect(margin, plan, name));
            format!("{name} by {}", margin.unwrap_or_default())
        })
        .collect();
    let mut block = Block::new();
    block
        .entry("primary", primary)
        .entry(
            "matters from",
            plan.record("mde")
                .map(|mde| effect(mde, plan, primary))
                .unwrap_or_default(),
        )
        .entry("guardrails", guardrails.join(", "))
        .entry("read", plan.text("mode"))
        .entry("minimum", format!("{} days", plan.shown("minimum_days")));
    if let Some(baseline) = plan.record("baseline") {
        let units = baseline.shown("units");
        let mean = baseline.number("mean").unwrap_or(0.0);
        block.entry("today", format!("{mean:.4} over {units} units"));
    }
    match plan.record("size") {
        Some(size) => {
            let number = |name: &str| size.number(name).unwrap_or(0.0);
            block.entry(
                "units",
                format!(
                    "up to {:.0}, {:.0} expected",
                    number("largest"),
                    number("expected")
                ),
            );
            let guess = if size.flag("days_are_guessed") {
                "about "
            } else {
                ""
            };
            if let Some(days) = size.number("days") {
                block.entry("takes", format!("{guess}{days:.0} days"));
            }
        }
        None => {
            let primary = plan.text("primary");
            let mut metrics = plan.items("metrics");
            let found = metrics.find(|metric| metric.text("name") == primary);
            let is_quantile = found.is_some_and(|metric| metric.text("kind") == "quantile");
            block.entry(
                "units",
                match is_quantile {
                    true => "unknown: of a quantile it is not estimated",
                    false => "unknown: the app's traffic until now does not tell",
                },
            );
        }
    }
    let planned = plan.record("size").and_then(|size| size.number("largest"));
    if let Some(Value::Object(units)) = plan.member("guardrail_units") {
        let slow: Vec<String> = units
            .iter()
            .filter_map(|(name, units)| Some((name, units.as_f64()?)))
            .filter(|(_, units)| planned.is_some_and(|planned| *units > planned))
            .map(|(name, units)| format!("{name} up to {units:.0}"))
            .collect();
        if !slow.is_empty() {
            block.entry("take more units", slow.join(", "));
        }
    }
    block.entry("plan hash", experiment.short("plan_hash"));
    context.printer.heading("Plan")?;
    context.printer.block(&block)?;
    let mut changes = Table::new(&["when", "by", "~what"]);
    for change in experiment.items("plan_changes") {
        let what = change.member("changed").and_then(Value::as_array);
        let what: Vec<&str> = what
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        changes.row([
            context.ago(change, "at"),
            change.text("by").into(),
            what.join(", ").into(),
        ]);
    }
    if changes.is_empty() {
        return Ok(());
    }
    context.printer.heading("Changed after the start")?;
    context.printer.table(&changes)
}
