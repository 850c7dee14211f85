//! The binary `flywheel`: reads the command line, runs the command, and turns what came of it into an exit code.

mod arguments;
mod client;
mod commands;
mod config;
mod demo;
mod failure;
mod output;
mod printer;
mod serve;
mod system;
mod tips;

use std::env;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::Cli;
use printer::Printer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is wrong, told without the options that the environment gives: the line of usage would name them as if they were
/// needed.
fn without_environment() -> Option<clap::Error> {
    let bare = |arg: clap::Arg| arg.env(None);
    let command = Cli::command().mut_arg("url", bare).mut_arg("key", bare);
    command.try_get_matches().err()
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What was asked for is not known, because it could not be read; this much is.
        Err(error) => {
            let plain = error.use_stderr().then(without_environment).flatten();
            let error = plain.unwrap_or(error);
            return Printer::usage(&error, arguments::is_json_wanted(env::args_os()));
        }
    };
    let sources = system::sources();
    let printer = Printer::new(cli.global.color, cli.global.json, sources.clock.now());
    commands::run(cli, &printer, sources).unwrap_or_else(|error| failure::report(&error, &printer))
}
