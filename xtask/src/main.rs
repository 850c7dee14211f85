//! `cargo xtask`: the project's own commands for testing it and keeping it in order.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for developers: it prints, and takes the time from the system"
)]

mod bench;
mod cargo;
mod console;
mod crash;
mod random;
mod simulate;
mod test;
mod tidy;
mod vectors;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about = "Flywheel's own development commands"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the gateway against nginx and against its goals
    Bench(bench::Arguments),
    /// The provider that `bench` measures with
    #[command(hide = true)]
    BenchUpstream(bench::UpstreamArguments),
    /// Kill the server again and again under load and check that nothing acknowledged is missing
    Crash(crash::Arguments),
    /// Write pictures of every page of the console, for people to look at
    Screenshots(console::ScreenshotArguments),
    /// Follow the README's first command from a clean clone to the first page, and say how long that took
    FirstPage,
    /// Simulate what the statistics promise: levels, power, coverage, delays
    Simulate(simulate::Arguments),
    /// Run every check and test, as CI does
    Test(test::Arguments),
    /// Check sources and dependencies against the project's rules
    Tidy,
    /// Compare the statistics with reference values of other libraries
    Vectors(vectors::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchUpstream(arguments) => bench::run_upstream(&arguments),
        Command::Crash(arguments) => {
            cargo::Workspace::load().and_then(|workspace| crash::run(&arguments, &workspace))
        }
        Command::Screenshots(arguments) => cargo::Workspace::load()
            .and_then(|workspace| console::screenshots(&arguments, &workspace)),
        Command::FirstPage => {
            cargo::Workspace::load().and_then(|workspace| console::first_page(&workspace))
        }
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Tidy => cargo::Workspace::load().and_then(|workspace| tidy::run(&workspace)),
        Command::Vectors(arguments) => vectors::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
