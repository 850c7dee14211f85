//! The binary `flywheel`: reads the command line, runs the command, and turns what came of it into an exit code.

mod arguments;
mod client;
mod commands;
mod config;
mod failure;
mod output;
mod printer;
mod serve;
mod system;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::Cli;
use printer::Printer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return Printer::usage(&error),
    };
    let sources = system::sources();
    let printer = Printer::new(cli.global.color, cli.global.json, sources.clock.now());
    commands::run(cli, &printer, sources).unwrap_or_else(|error| failure::report(&error, &printer))
}
