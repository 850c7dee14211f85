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

use clap::Parser as _;

use arguments::Cli;
use printer::Printer;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What was asked for is not known, because it could not be read; this much is.
        Err(error) => return Printer::usage(&error, arguments::is_json_wanted(env::args_os())),
    };
    let sources = system::sources();
    let printer = Printer::new(cli.global.color, cli.global.json, sources.clock.now());
    commands::run(cli, &printer, sources).unwrap_or_else(|error| failure::report(&error, &printer))
}
