//! `flywheel deploy`: moves an environment's pointer to a manifest.

use std::process::ExitCode;

use clap::{ArgGroup, Args};
use serde_json::{Map, Value};

use super::{Context, Outcome, member_changes};
use crate::arguments::{VersionReference, parse_manifest, parse_manifest_or_none, parse_text};
use crate::client::Target;
use crate::failure::FAILED;
use crate::output::record::Record;
use crate::output::table::{Block, Cell, Table};
use crate::printer::{Printed, Style};

/// Deploy a prompt version, or a manifest, to an environment of an app
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["prompt", "manifest"]))]
pub(crate) struct DeployArgs {
    /// The app
    app: String,
    #[command(flatten)]
    move_options: MoveOptions,
    /// The prompt version to deploy [without REF: the latest]
    #[arg(long, value_name = "NAME[@REF]")]
    prompt: Option<VersionReference>,
    /// The version of the retriever index it is to read [without it: as deployed now]
    #[arg(long, value_name = "VERSION|none", requires = "prompt")]
    retriever_index_version: Option<String>,
    /// The version of its soft-failure guards [without it: as deployed now]
    #[arg(long, value_name = "VERSION|none", requires = "prompt")]
    guards_version: Option<String>,
    /// The manifest to deploy: twelve or more digits of its id
    #[arg(long, value_name = "ID", value_parser = parse_manifest)]
    manifest: Option<String>,
    /// Why, for those who read the history
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    reason: String,
}

/// What takes a member out of the manifest.
const NONE: &str = "none";

/// What a deployment and a rollback have in common.
#[derive(Debug, Args)]
pub(super) struct MoveOptions {
    /// The environment [default: the app's last, usually production]
    #[arg(long = "env", alias = "environment", value_name = "ENV")]
    environment: Option<String>,
    /// Refuse unless this manifest, or none, is deployed now
    #[arg(long, value_name = "MANIFEST|none", value_parser = parse_manifest_or_none)]
    expect: Option<String>,
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Deploy although checks fail; the history will tell
    #[arg(long)]
    force: bool,
}

impl DeployArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut body = self.move_options.members();
        if let Some(prompt) = &self.prompt {
            body.insert("prompt".into(), prompt.name.clone().into());
            if let Some(version) = &prompt.reference {
                body.insert("version".into(), version.clone().into());
            }
        }
        for (name, value) in [
            ("retriever_index_version", self.retriever_index_version),
            ("guards_version", self.guards_version),
        ] {
            if let Some(value) = value {
                let value = Some(value).filter(|value| value != NONE);
                body.insert(name.into(), value.into());
            }
        }
        if let Some(manifest) = self.manifest {
            body.insert("manifest".into(), manifest.into());
        }
        body.insert("reason".into(), self.reason.into());
        let target = Target::api("apps").at(&self.app).at("deploy");
        let answer = context.client.post(&target, &body.into()).await?;
        show_move(context, &self.app, &answer, false)
    }
}

impl MoveOptions {
    /// The members of the request's body.
    pub(super) fn members(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(environment) = &self.environment {
            body.insert("environment".into(), environment.clone().into());
        }
        if let Some(expected) = &self.expect {
            body.insert("expected_manifest".into(), expected.clone().into());
        }
        for (name, value) in [("dry_run", self.dry_run), ("force", self.force)] {
            if value {
                body.insert(name.into(), true.into());
            }
        }
        body
    }
}

/// Shows what a deployment or a rollback did, or would do.
pub(super) fn show_move(
    context: &Context<'_>,
    app: &str,
    answer: &Value,
    is_rollback: bool,
) -> Outcome {
    let shown = context
        .printer
        .show(answer, |answer| match answer.record("deployment") {
            Some(deployment) if answer.flag("unchanged") => show_unchanged(context, deployment),
            Some(deployment) => show_deployment(context, answer, deployment),
            None => show_dry_run(context, app, answer, is_rollback),
        })?;
    let preflight = Record(answer).record("preflight");
    let failed = preflight
        .is_some_and(|preflight| preflight.member("passed").is_some() && !preflight.flag("passed"));
    let moved = Record(answer).record("deployment").is_some();
    Ok(if failed && !moved {
        ExitCode::from(FAILED)
    } else {
        shown
    })
}

fn show_deployment(context: &Context<'_>, answer: Record<'_>, deployment: Record<'_>) -> Printed {
    let (app, environment) = (deployment.text("app"), deployment.text("environment"));
    let verb = match deployment.text("kind") {
        "rollback" => "rolled back",
        "promote" => "promoted",
        "contain" => "contained",
        _ => "deployed",
    };
    let headline = format!(
        "{verb} {app} in {environment}: #{}",
        deployment.shown("number")
    );
    context.printer.line(Style::Good, &headline)?;
    let mut block = Block::new();
    block
        .entry("manifest", deployment.text("manifest"))
        .entry("prompt", deployment.prompt_reference())
        .entry("before", before(answer))
        .entry("model", deployment.text("model"))
        .entry("by", deployment.text("actor"))
        .entry("reason", deployment.text("reason"))
        .entry("forced over", deployment.joined("forced_over"))
        .entry("stopped", answer.joined("stopped_experiments"));
    context.printer.block(&block)?;
    show_changes(context, answer)?;
    warn_of_taken_back(context, answer, deployment.text("kind") == "rollback");
    let running = answer.joined("running_experiments");
    if !running.is_empty() {
        context.printer.warning(&format!(
            "experiment {running} goes on: its units are served by its arms"
        ));
    }
    if deployment.text("kind") == "rollback" {
        context.printer.hint(&format!(
            "`flywheel history {app} --env {environment}` shows what was served when"
        ));
    } else if deployment.optional("previous_manifest").is_some() {
        context.printer.hint(&format!(
            "undo it with `flywheel rollback {app} --env {environment}`"
        ));
    } else {
        let call = format!("flywheel call {app}@{environment} -v name=value");
        context.printer.hint(&format!("try it with `{call}`"));
    }
    Ok(())
}

/// Says who rolled back what is deployed here, or would be, and why; and when it was rolled back already.
fn warn_of_taken_back(context: &Context<'_>, answer: Record<'_>, is_rollback: bool) {
    let replaced = answer.record("replaced");
    if let Some(before) = replaced.filter(|before| is_rollback && before.text("kind") == "rollback")
    {
        context.printer.warning(&format!(
            "{} rolled it back already (#{}, {}): {}; this goes further back",
            before.text("actor"),
            before.shown("number"),
            context.printer.ago(before.time("created_at")),
            before.text("reason")
        ));
    }
    if let Some(rollback) = answer.record("taken_back") {
        context.printer.warning(&format!(
            "{} rolled this manifest back here (#{}): {}",
            rollback.text("actor"),
            rollback.shown("number"),
            rollback.text("reason")
        ));
    }
}

fn show_unchanged(context: &Context<'_>, deployment: Record<'_>) -> Printed {
    let (app, environment) = (deployment.text("app"), deployment.text("environment"));
    let headline =
        format!("{app} serves this manifest in {environment} already: nothing was changed");
    context.printer.line(Style::Plain, &headline)?;
    let mut block = Block::new();
    block
        .entry("manifest", deployment.text("manifest"))
        .entry("since", context.when(deployment, "created_at"))
        .entry("by", deployment.text("actor"))
        .entry("reason", deployment.text("reason"));
    context.printer.block(&block)
}

/// What was served before: its prompt version, and its manifest.
fn before(answer: Record<'_>) -> String {
    match answer.record("previous") {
        Some(previous) => {
            let known = [version(previous), previous.text("id").to_owned()];
            known
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect::<Vec<_>>()
                .join(", manifest ")
        }
        None => "nothing".to_owned(),
    }
}

fn show_dry_run(
    context: &Context<'_>,
    app: &str,
    answer: Record<'_>,
    is_rollback: bool,
) -> Printed {
    context.printer.line(
        Style::Strong,
        &format!("dry run for {app}: nothing was changed"),
    )?;
    let manifest = answer.record("manifest");
    let mut block = Block::new();
    block
        .entry(
            "manifest",
            manifest
                .map(|manifest| manifest.text("id"))
                .unwrap_or_default(),
        )
        .entry("prompt", manifest.map(version).unwrap_or_default())
        .entry("before", before(answer));
    for (name, member) in [
        ("would stop", "stopped_experiments"),
        ("goes on", "running_experiments"),
    ] {
        let experiments = answer.joined(member);
        if !experiments.is_empty() {
            block.entry(name, experiments);
        }
    }
    context.printer.block(&block)?;
    warn_of_taken_back(context, answer, is_rollback);
    show_changes(context, answer)?;
    if let Some(preflight) = answer.record("preflight") {
        context.printer.heading("Checks")?;
        context.printer.table(&checks(preflight))?;
    }
    Ok(())
}

/// The prompt version of a manifest.
fn version(manifest: Record<'_>) -> String {
    match manifest.member("prompt_ordinal") {
        Some(_) => format!(
            "{}@{}",
            manifest.text("prompt_id"),
            manifest.shown("prompt_ordinal")
        ),
        None => manifest.text("prompt_id").to_owned(),
    }
}

fn show_changes(context: &Context<'_>, answer: Record<'_>) -> Printed {
    let table = member_changes(answer, "previous", "manifest");
    if table.is_empty() {
        return Ok(());
    }
    context.printer.heading("Changes")?;
    context.printer.table(&table)
}

/// The checks of a preflight as a table.
pub(super) fn checks(preflight: Record<'_>) -> Table {
    let mut table = Table::new(&["check", "result", "problem", "hint"]);
    for check in preflight.items("checks") {
        let (result, style) = match check.optional("problem") {
            None => ("passed", Style::Good),
            Some(_) => ("FAILED", Style::Bad),
        };
        table.row([
            check.text("name").into(),
            Cell::styled(result, style),
            check.text("problem").into(),
            check.text("hint").into(),
        ]);
    }
    table
}
