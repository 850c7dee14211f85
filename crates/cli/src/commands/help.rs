//! `flywheel help`: the help of a command.

use std::process::ExitCode;

use clap::{Args, Parser as _};

use crate::arguments::Cli;
use crate::printer::Printer;

/// Explain a command
#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// The command, such as `prompt diff` [without: all of them]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

impl HelpArgs {
    /// Reads the command line that the command's own `--help` would be.
    pub(crate) fn run(self, printer: &Printer) -> ExitCode {
        let line = std::iter::once("flywheel".to_owned())
            .chain(self.command)
            .chain(["--help".to_owned()]);
        match Cli::try_parse_from(line) {
            Ok(_) => ExitCode::SUCCESS,
            Err(told) => Printer::usage(&told, printer.is_json()),
        }
    }
}
