//! The commands, one file for each group, and what they share.

pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod call;
mod call_id;
pub(crate) mod calls;
pub(crate) mod completions;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod experiment;
pub(crate) mod feedback;
mod feedback_import;
mod feedback_list;
mod feedback_summary;
pub(crate) mod help;
pub(crate) mod history;
pub(crate) mod index;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod manifest_diff;
pub(crate) mod model;
pub(crate) mod prompt;
mod prompt_annotations;
mod prompt_folder;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rehearse;
pub(crate) mod rollback;
pub(crate) mod stats;
mod suggestion;
mod variables;

use std::process::ExitCode;

use anyhow::Context as _;
use flywheel_gateway::clock::Sources;
use serde_json::Value;

use crate::arguments::{Cli, Command, PageArgs};
use crate::client::{Client, ClientError, Target};
use crate::demo;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::{Printed, Printer, Style};
use crate::serve;

/// What a command comes to.
pub(crate) type Outcome = anyhow::Result<ExitCode>;

/// What a command works with.
pub(crate) struct Context<'a> {
    client: Client,
    printer: &'a Printer,
    sources: Sources,
}

/// Runs a command to its end.
pub(crate) fn run(cli: Cli, printer: &Printer, sources: Sources) -> Outcome {
    let command = match cli.command {
        Command::Completions(args) => return args.run(printer),
        Command::Help(args) => return Ok(args.run(printer)),
        Command::Init(args) => return args.run(printer),
        Command::Stats(command) if command.to_rebuild().is_none() => return command.run(printer),
        Command::Serve(args) => return serve::run(args, printer),
        Command::Demo(args) => return demo::run(args, printer, sources),
        client_command => client_command,
    };
    let client = Client::new(&cli.global.url, cli.global.key.as_deref())?;
    let context = Context {
        client,
        printer,
        sources,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .context("cannot start the runtime")?
        .block_on(async {
            match context.run(command).await {
                Err(error) => Err(context.with_suggestion(error).await),
                done => done,
            }
        })
}

impl Context<'_> {
    async fn run(&self, command: Command) -> Outcome {
        match command {
            Command::Doctor(args) => args.run(self).await,
            Command::Push(args) => args.run(self).await,
            Command::Pull(args) => args.run(self).await,
            Command::Prompt(command) => command.run(self).await,
            Command::Model(command) => command.run(self).await,
            Command::Index(command) => command.run(self).await,
            Command::App(command) => command.run(self).await,
            Command::Deploy(args) => args.run(self).await,
            Command::Rollback(args) => args.run(self).await,
            Command::History(args) => args.run(self).await,
            Command::Diff(args) => args.run(self).await,
            Command::Rehearse(args) => args.run(self).await,
            Command::Call(args) => args.run(self).await,
            Command::Calls(command) => command.run(self).await,
            Command::Feedback(command) => command.run(self).await,
            Command::Experiment(command) => command.run(self).await,
            Command::Key(command) => command.run(self).await,
            Command::Audit(command) => command.run(self).await,
            Command::Stats(command) => {
                stats::rebuild(self, command.to_rebuild().unwrap_or_default()).await
            }
            // These need no client and have been run by now.
            Command::Completions(_)
            | Command::Help(_)
            | Command::Init(_)
            | Command::Serve(_)
            | Command::Demo(_) => Ok(ExitCode::SUCCESS),
        }
    }

    /// Asks for one page of a list and shows it as a table.
    async fn list(
        &self,
        target: Target,
        page: &PageArgs,
        nothing: &str,
        table: impl FnOnce(&Value) -> Table,
    ) -> Outcome {
        let limit = page.limit.to_string();
        let target = target
            .with("limit", &limit)
            .with_some("cursor", page.cursor.as_deref());
        let answer = self.client.get(&target).await?;
        self.printer.show(&answer, |list| {
            self.show_table(&table(&answer), nothing)?;
            if let Some(next) = list.optional("next") {
                self.printer
                    .hint(&format!("there are more: add --cursor {next}"));
            }
            Ok(())
        })
    }

    /// Shows a table, or says that there is nothing in it.
    fn show_table(&self, table: &Table, nothing: &str) -> Printed {
        if table.is_empty() {
            self.printer.note(nothing);
            return Ok(());
        }
        self.printer.table(table)
    }

    /// Asks for something that need not exist.
    async fn find(&self, target: &Target) -> Result<Option<Value>, ClientError> {
        match self.client.get(target).await {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::Refused(problem)) if problem.status == http::StatusCode::NOT_FOUND => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A cell that says how long ago a time member was.
    fn ago(&self, record: Record<'_>, name: &str) -> Cell {
        self.printer.ago(record.time(name)).into()
    }

    /// A time member in full, and how long ago that was.
    fn when(&self, record: Record<'_>, name: &str) -> String {
        match record.optional(name) {
            Some(time) => match self.printer.ago(record.time(name)) {
                // A date says nothing that the time does not.
                ago if ago.is_empty() || time.starts_with(&ago) => time.to_owned(),
                ago => format!("{time} ({ago})"),
            },
            None => String::new(),
        }
    }
}

/// A cell for an identity, which stands out.
fn id_cell(id: impl AsRef<str>) -> Cell {
    Cell::styled(id, Style::Strong)
}

/// A table of the differences between two manifests, which the answer has under these names.
fn member_changes(answer: Record<'_>, before: &str, after: &str) -> Table {
    let mut table = Table::new(&["member", "before", "after"]);
    let shown = |change: Record<'_>, value: &str, manifest: &str| {
        if change.member(value).is_none() {
            return "none".to_owned();
        }
        let ordinal = answer
            .record(manifest)
            .map(|found| found.shown("prompt_ordinal"));
        match ordinal.filter(|ordinal| !ordinal.is_empty()) {
            Some(ordinal) if change.text("member") == "prompt_version" => {
                format!("@{ordinal} {}", change.short(value))
            }
            _ => change.short(value),
        }
    };
    for change in answer.items("changes") {
        table.row([
            change.text("member").into(),
            Cell::styled(shown(change, "before", before), Style::Bad),
            Cell::styled(shown(change, "after", after), Style::Good),
        ]);
    }
    table
}
