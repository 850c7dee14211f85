//! The command line: global options, commands, and the small syntaxes of their arguments.

#[cfg(test)]
mod reference;
mod values;

use std::ffi::OsString;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    app, audit, call, calls, completions, deploy, doctor, experiment, feedback, help, history,
    index, init, key, manifest_diff, model, prompt, pull, push, rehearse, rollback, stats,
};
use crate::demo;
use crate::failure::EXIT_CODES;
use crate::printer::ColorChoice;
use crate::serve;

pub(crate) use values::{
    When, parse_feedback_kind, parse_manifest, parse_manifest_or_none, parse_number, parse_price,
    parse_status, parse_when,
};

/// The operations layer for LLM applications: versioned prompts, reversible deployments, feedback
#[derive(Debug, Parser)]
#[command(name = "flywheel", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// The server
    #[arg(
        long,
        global = true,
        env = "FLYWHEEL_URL",
        default_value = "http://127.0.0.1:7700"
    )]
    pub(crate) url: String,
    /// The key to the server
    #[arg(long, global = true, env = "FLYWHEEL_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Print the server's JSON, and errors as problem documents
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour the output; auto does on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::DemoArgs),
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Doctor(doctor::DoctorArgs),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    #[command(subcommand)]
    Prompt(prompt::PromptCommand),
    #[command(subcommand)]
    Model(model::ModelCommand),
    #[command(subcommand)]
    Index(index::IndexCommand),
    #[command(subcommand)]
    App(app::AppCommand),
    Deploy(deploy::DeployArgs),
    Rollback(rollback::RollbackArgs),
    History(history::HistoryArgs),
    Diff(manifest_diff::DiffArgs),
    Rehearse(rehearse::RehearseArgs),
    Call(call::CallArgs),
    #[command(subcommand)]
    Calls(calls::CallsCommand),
    #[command(subcommand)]
    Feedback(feedback::FeedbackCommand),
    #[command(subcommand)]
    Experiment(experiment::ExperimentCommand),
    #[command(subcommand)]
    Key(key::KeyCommand),
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    #[command(subcommand)]
    Stats(stats::StatsCommand),
    Completions(completions::CompletionsArgs),
    Help(help::HelpArgs),
}

/// Whether a command line that cannot be read asks for JSON.
pub(crate) fn is_json_wanted(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments
        .take_while(|argument| argument != "--")
        .any(|argument| argument == "--json")
}

/// Which part of a list is asked for.
#[derive(Debug, Args)]
pub(crate) struct PageArgs {
    /// The most entries to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    /// Go on where an earlier list ended
    #[arg(long)]
    pub(crate) cursor: Option<String>,
}

/// `NAME` or `NAME@REF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionReference {
    /// The prompt.
    pub(crate) name: String,
    /// Twelve or more digits of the version's hash, an ordinal, `latest`, or a label.
    pub(crate) reference: Option<String>,
}

impl VersionReference {
    /// The reference, `latest` if none was given.
    pub(crate) fn reference_or_latest(&self) -> &str {
        self.reference.as_deref().unwrap_or("latest")
    }
}

impl FromStr for VersionReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, reference) = match text.split_once('@') {
            Some((name, reference)) => (name, Some(reference)),
            None => (text, None),
        };
        if name.is_empty() || reference.is_some_and(str::is_empty) {
            return Err("expected NAME or NAME@REF, such as `summary@3`".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            reference: reference.map(str::to_owned),
        })
    }
}

/// Refuses text that is empty or blank.
pub(crate) fn parse_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        Err("expected a text that is not empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn references_are_split_at_the_sign() {
        let parse = |text: &str| {
            text.parse::<VersionReference>()
                .map(|parsed| (parsed.name, parsed.reference))
        };
        assert_eq!(
            parse("team/summary:v2"),
            Ok(("team/summary:v2".to_owned(), None))
        );
        assert_eq!(
            parse("summary@3"),
            Ok(("summary".to_owned(), Some("3".to_owned())))
        );
        for wrong in ["", "@3", "summary@"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn global_options_go_before_and_after_the_command() {
        for line in [
            "flywheel --json --url http://h --color never prompt list",
            "flywheel prompt list --json --url http://h --color never",
            "flywheel prompt --json --url http://h list --color=never",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json, "{line}");
            assert_eq!(cli.global.url, "http://h", "{line}");
            assert_eq!(cli.global.color, ColorChoice::Never, "{line}");
        }
    }
}
