//! The `flywheel` command.
mod config; mod printer; mod serve; mod system;
use clap::Parser;
#[derive(Parser)] enum Cli { Serve(serve::ServeArgs) }
fn main() -> anyhow::Result<std::process::ExitCode> { let Cli::Serve(a) = Cli::parse(); serve::run(a, &printer::Printer) }
