//! `flywheel rehearse`: would the earlier manifests still work if one had to go back to them?

use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value, json};

use super::variables::{self, Variable};
use super::{Context, Outcome, id_cell};
use crate::client::Target;
use crate::failure::FAILED;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::Style;

/// Check that a rollback to earlier manifests would work
#[derive(Debug, Args)]
pub(crate) struct RehearseArgs {
    /// The app
    app: String,
    /// The environment [default: the app's last, usually production]
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// How many manifests back
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    last: u32,
    /// Also call the model of each, which costs what a call costs
    #[arg(long)]
    probe: bool,
    /// A variable for the probes: name=value, name=@file, or name:=JSON
    #[arg(short = 'v', long = "variable", value_name = "NAME=VALUE")]
    variables: Vec<Variable>,
}

impl RehearseArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut body = Map::from_iter([("last".to_owned(), json!(self.last))]);
        if let Some(environment) = self.environment {
            body.insert("environment".into(), environment.into());
        }
        if self.probe {
            body.insert("probe".into(), true.into());
        }
        let gave_variables = !self.variables.is_empty();
        if gave_variables {
            body.insert("variables".into(), variables::read(&self.variables)?.into());
        }
        let target = Target::api("apps").at(&self.app).at("rehearse");
        let body = Value::Object(body);
        let work = context.client.post_to_model(&target, &body);
        let answer = context
            .printer
            .waiting("trying earlier manifests", work)
            .await?;
        context.printer.show(&answer, |answer| {
            context.show_table(&items(answer), "nothing was deployed here yet")
        })?;
        let answer = Record(&answer);
        if answer.items("items").next().is_none() {
            return Ok(ExitCode::SUCCESS);
        }
        if answer.member("way_back").is_none() {
            context
                .printer
                .warning("there is no way back now: what is served is the oldest on it");
        }
        if answer.flag("passed") {
            context.printer.hint("each of these could be served again");
            return Ok(ExitCode::SUCCESS);
        }
        if !context.printer.is_json() {
            context
                .printer
                .error("a rollback to some of these would not work", &[]);
            let lacks_variables = answer
                .items("items")
                .filter_map(|item| item.record("probe")?.optional("problem"))
                .any(|problem| problem.contains("variable"));
            if lacks_variables && !gave_variables {
                context
                    .printer
                    .hint("give the probes their variables with -v name=value");
            }
        }
        Ok(ExitCode::from(FAILED))
    }
}

fn items(answer: Record<'_>) -> Table {
    let mut table = Table::new(&[
        "manifest",
        ">deployed",
        "checks",
        "probe",
        ">latency",
        "problem",
    ]);
    for item in answer.items("items") {
        let preflight = item.record("preflight");
        let mut problems: Vec<&str> = preflight
            .into_iter()
            .flat_map(|preflight| preflight.items("checks"))
            .filter_map(|check| check.optional("problem"))
            .collect();
        let probe = item.record("probe");
        problems.extend(probe.and_then(|probe| probe.optional("problem")));
        let latency = probe.and_then(|probe| probe.number("latency_ms"));
        table.row([
            id_cell(item.short("manifest")),
            format!("#{}", item.shown("deployment_number")).into(),
            result(preflight.map(|preflight| preflight.flag("passed"))),
            result(probe.map(|probe| probe.flag("ok"))),
            latency
                .map_or_else(String::new, |latency| amounts::duration(latency * 1000.0))
                .into(),
            problems.join("; ").into(),
        ]);
    }
    table
}

fn result(passed: Option<bool>) -> Cell {
    match passed {
        None => "".into(),
        Some(true) => Cell::styled("passed", Style::Good),
        Some(false) => Cell::styled("FAILED", Style::Bad),
    }
}
