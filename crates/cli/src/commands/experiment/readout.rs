//! What an experiment says, on one screen: the verdict, what speaks against the numbers, the metrics.

use serde_json::Value;

use super::super::{Context, Outcome, id_cell};
use crate::client::Target;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::{Printed, Style};

/// `flywheel experiment readout`
pub(super) async fn readout(context: &Context<'_>, name: &str) -> Outcome {
    let target = Target::api("experiments").at(name).at("readout");
    let answer = context.client.get(&target).await?;
    context
        .printer
        .show(&answer, |readout| show(context, readout))
}

fn style(state: &str) -> Style {
    match state {
        "better" => Style::Good,
        "invalid" | "abort" | "worse" => Style::Bad,
        _ => Style::Strong,
    }
}

fn show(context: &Context<'_>, readout: Record<'_>) -> Printed {
    let printer = context.printer;
    if let Some(verdict) = readout.record("verdict") {
        printer.line(style(verdict.text("state")), verdict.text("headline"))?;
        printer.line(Style::Plain, verdict.text("reason"))?;
        printer.hint(verdict.text("next"));
    }
    printer.heading("Checks")?;
    let mut checks = Table::new(&["check", "state", "~what was found"]);
    for check in readout.items("checks") {
        let state = check.text("state");
        let style = match state {
            "failed" => Style::Bad,
            "warning" => Style::Warning,
            _ => Style::Plain,
        };
        checks.row([
            check.text("name").into(),
            Cell::styled(state, style),
            check.text("detail").into(),
        ]);
    }
    printer.table(&checks)?;
    if let Some(outcomes) = readout.record("outcomes") {
        printer.line(Style::Plain, outcomes.text("said"))?;
    }
    printer.heading("Arms")?;
    let mut arms = Table::new(&["arm", ">units", ">expected", ">dropped"]);
    for arm in readout.items("arms") {
        arms.row([
            id_cell(arm.text("arm")),
            whole(arm.number("units")).into(),
            whole(arm.number("expected").map(f64::round)).into(),
            whole(arm.number("dropped")).into(),
        ]);
    }
    printer.table(&arms)?;
    metrics(context, readout)
}

fn metrics(context: &Context<'_>, readout: Record<'_>) -> Printed {
    context.printer.heading("Metrics, against the control")?;
    let mut table = Table::new(&[
        "metric",
        "arm",
        ">control",
        ">arm's",
        ">difference",
        "interval",
        "says",
    ])
    .giving_up(&["control"]);
    let control = readout
        .items("arms")
        .find(|arm| arm.member("is_control") == Some(&Value::Bool(true)))
        .map(|arm| arm.text("arm").to_owned())
        .unwrap_or_default();
    let is_invalid = readout
        .record("verdict")
        .is_some_and(|verdict| verdict.text("state") == "invalid");
    let mut notes: Vec<(String, Vec<String>)> = Vec::new();
    for metric in readout.items("metrics") {
        let Some(declared) = metric.record("metric") else {
            continue;
        };
        let is_share = declared.text("kind") == "binary";
        let unit = declared.text("unit");
        let of = |arm: &str| {
            let found = metric.items("arms").find(|value| value.text("arm") == arm);
            found.and_then(|value| value.number("value"))
        };
        for found in metric.items("comparisons") {
            let arm = found.text("arm");
            let interval = found.number("low").zip(found.number("high"));
            let interval = interval.map_or_else(
                || "–".to_owned(),
                |(low, high)| format!("{} to {}", signed(low, is_share), signed(high, is_share)),
            );
            let (says, style) = match is_invalid {
                true => ("not to be used", Style::Dim),
                false => says(metric.text("role"), found),
            };
            if let Some(why) = found.optional("note").map(str::to_owned) {
                let name = format!("{} of {arm}", declared.text("name"));
                match notes.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, names)) => names.push(name),
                    None => notes.push((why, vec![name])),
                }
            }
            table.row([
                declared.text("name").into(),
                arm.into(),
                value(of(&control), is_share, unit).into(),
                value(of(arm), is_share, unit).into(),
                found
                    .number("difference")
                    .map_or_else(|| "–".to_owned(), |d| with_unit(signed(d, is_share), unit))
                    .into(),
                interval.into(),
                Cell::styled(says, style),
            ]);
        }
    }
    context.printer.table(&table)?;
    if let Some(level) = shared_level(readout) {
        context.printer.line(Style::Dim, &level)?;
    }
    for (why, names) in notes {
        let names = names.join(", ");
        context
            .printer
            .line(Style::Dim, &format!("{names}: {why}"))?;
    }
    Ok(())
}

/// What is said of the primary metric's intervals where several arms share their level.
fn shared_level(readout: Record<'_>) -> Option<String> {
    let mut metrics = readout.items("metrics");
    let primary = metrics.find(|metric| metric.text("role") == "primary")?;
    let mut comparisons = primary.items("comparisons");
    let alpha = comparisons.next()?.number("alpha")?;
    let arms = 1 + comparisons.count();
    (arms > 1).then(|| {
        format!(
            "intervals of {} are at {:.1}%, so that those of all {arms} arms hold together",
            primary
                .record("metric")
                .map(|metric| metric.text("name"))
                .unwrap_or_default(),
            (1.0 - alpha) * 100.0
        )
    })
}

/// What an interval says, or how a guardrail stands.
fn says(role: &str, found: Record<'_>) -> (&'static str, Style) {
    if role == "guardrail" {
        return match found.text("guardrail") {
            "holds" if found.text("finding") == "worse" => ("holds, but worse", Style::Good),
            "holds" => ("holds", Style::Good),
            "violated" => ("violated", Style::Bad),
            "unmeasured" => ("no values", Style::Dim),
            _ => ("not settled", Style::Plain),
        };
    }
    match found.text("finding") {
        "better" => ("better", Style::Good),
        "worse" => ("worse", Style::Bad),
        _ => ("", Style::Plain),
    }
}

fn whole(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| format!("{number:.0}"))
}

fn value(value: Option<f64>, is_share: bool, unit: &str) -> String {
    match (value, is_share) {
        (None, _) => "–".to_owned(),
        (Some(share), true) => format!("{}%", trimmed(share * 100.0)),
        (Some(value), false) => with_unit(trimmed(value), unit),
    }
}

fn with_unit(number: String, unit: &str) -> String {
    match unit {
        "" => number,
        unit => format!("{number} {unit}"),
    }
}

/// A difference with its sign, in points for shares.
fn signed(difference: f64, is_share: bool) -> String {
    let scaled = if is_share {
        difference * 100.0
    } else {
        difference
    };
    let text = trimmed(scaled);
    let sign = if scaled > 0.0 && text != "0" { "+" } else { "" };
    let unit = if is_share { " pt" } else { "" };
    format!("{sign}{text}{unit}")
}

fn trimmed(value: f64) -> String {
    amounts::significant(value, 3)
}

const UNIT_COLUMNS: &str = "unit,arm,epoch,first_at,counts,segments,metric,x,y,x_before,y_before";
const SUM_COLUMNS: &str = "metric,part,arm,epoch,day,n,capped,any,not_all,x,y,x_before,y_before,\
    xx,xy,yy,x_xb,y_xb,xb_xb,x_yb,y_yb,xb_yb,yb_yb";

/// `flywheel experiment sums`: a line for each metric, arm and day, for whoever computes intervals at any time again.
pub(super) async fn sums(context: &Context<'_>, name: &str) -> Outcome {
    let target = Target::api("experiments").at(name).at("sums");
    let answer = context.client.get(&target).await?;
    let found = Record(&answer).items("items");
    if context.printer.is_json() {
        for one in found {
            context.printer.json_line(one.0)?;
        }
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let mut lines = vec![SUM_COLUMNS.to_owned()];
    lines.extend(found.map(|one| {
        let mut cells: Vec<String> = ["metric", "part", "arm"]
            .map(|name| one.text(name).to_owned())
            .to_vec();
        cells.push(one.shown("epoch"));
        cells.push(one.text("day").to_owned());
        cells.extend(["n", "capped", "any", "not_all"].map(|name| one.shown(name)));
        for name in ["sums", "products"] {
            let numbers = one.member(name).and_then(Value::as_array);
            cells.extend(numbers.into_iter().flatten().map(Value::to_string));
        }
        cells.join(",")
    }));
    context.printer.write_lines(&lines)?;
    Ok(std::process::ExitCode::SUCCESS)
}

/// `flywheel experiment units`: a line for each unit and metric, for whoever computes again.
pub(super) async fn units(context: &Context<'_>, name: &str) -> Outcome {
    let target = Target::api("experiments")
        .at(name)
        .at("units")
        .with("limit", "5000");
    let mut after: Option<String> = None;
    let mut lines = vec![UNIT_COLUMNS.to_owned()];
    loop {
        let page = match &after {
            Some(after) => target.clone().with("after", after),
            None => target.clone(),
        };
        let answer = context.client.get(&page).await?;
        if context.printer.is_json() {
            for unit in answer["items"].as_array().into_iter().flatten() {
                context.printer.json_line(unit)?;
            }
        } else {
            for unit in Record(&answer).items("items") {
                add_lines(&mut lines, unit);
            }
            context.printer.write_lines(&lines)?;
            lines.clear();
        }
        match answer["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(std::process::ExitCode::SUCCESS),
        }
    }
}

/// `flywheel experiment histograms`: a line for each range, for whoever computes quantiles again.
pub(super) async fn histograms(context: &Context<'_>, name: &str) -> Outcome {
    let target = Target::api("experiments").at(name).at("histograms");
    let answer = context.client.get(&target).await?;
    let found = Record(&answer).items("items");
    if context.printer.is_json() {
        for one in found {
            context.printer.json_line(one.0)?;
        }
    } else {
        let mut lines = vec!["metric,of,arm,epoch,unit,low,high,count".to_owned()];
        found.for_each(|one| add_ranges(&mut lines, one));
        context.printer.write_lines(&lines)?;
    }
    Ok(std::process::ExitCode::SUCCESS)
}

fn add_ranges(lines: &mut Vec<String>, found: Record<'_>) {
    let texts = ["metric", "of", "arm"].map(|name| found.text(name));
    let (epoch, unit) = (found.shown("epoch"), quoted(found.text("unit")));
    for range in found.items("buckets") {
        let number = |name: &str| {
            range
                .member(name)
                .map_or_else(String::new, Value::to_string)
        };
        let numbers = ["low", "high", "count"].map(number).join(",");
        lines.push(format!("{},{epoch},{unit},{numbers}", texts.join(",")));
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn add_lines(lines: &mut Vec<String>, unit: Record<'_>) {
    let metrics = unit.member("metrics").and_then(Value::as_object);
    let tags = unit.member("segments").and_then(Value::as_array);
    let tags: Vec<&str> = tags
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let tags = tags.join(";");
    for (metric, values) in metrics.into_iter().flatten() {
        let numbers: Vec<String> = values
            .as_array()
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        lines.push(format!(
            "{},{},{},{},{},{},{metric},{}",
            quoted(unit.text("unit")),
            unit.text("arm"),
            unit.member("epoch")
                .map_or(0, |epoch| epoch.as_u64().unwrap_or(0)),
            unit.text("first_at"),
            unit.member("counts").is_some_and(|counts| counts == true),
            quoted(&tags),
            numbers.join(",")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_of_shares_are_in_points() {
        assert_eq!(signed(0.0613, true), "+6.13 pt");
        assert_eq!(signed(-12.0, false), "-12");
        assert_eq!(signed(0.0, true), "0 pt");
        assert_eq!(value(Some(0.6), true, ""), "60%");
    }

    #[test]
    fn ranges_are_lines_with_all_their_digits() {
        let found = json!({"metric": "latency_p95", "of": "calls", "arm": "x", "epoch": 1, "unit": "ms",
                           "buckets": [{"low": 99.12345678901234, "high": 100.5, "count": 7}]});
        let mut lines = Vec::new();
        add_ranges(&mut lines, Record(&found));
        assert_eq!(
            lines,
            ["latency_p95,calls,x,1,ms,99.12345678901234,100.5,7"]
        );
    }

    #[test]
    fn units_are_lines_that_a_spreadsheet_reads() {
        let unit = json!({"unit": "a,\"b\"", "arm": "x", "epoch": 0, "first_at": "2026-01-01T00:00:00Z",
                          "counts": true, "segments": ["language=de", "plan=pro"], "metrics": {"m": [1.5, 2, 0, 0]}});
        let mut lines = Vec::new();
        add_lines(&mut lines, Record(&unit));
        assert_eq!(
            lines,
            ["\"a,\"\"b\"\"\",x,0,2026-01-01T00:00:00Z,true,language=de;plan=pro,m,1.5,2,0,0"]
        );
    }
}
