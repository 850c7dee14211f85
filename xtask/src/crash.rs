//! `cargo xtask crash`: the server is killed again and again under load, and nothing it acknowledged may be missing.

mod check;
mod client;
mod compare;
mod ledger;
mod load;
mod report;
mod round;
mod server;
mod setup;
mod upstream;

use std::env;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tempfile::TempDir;

use crate::cargo::{BINARY, Workspace};
use crate::random::Random;
use report::Report;
use round::Rounds;
use server::Installation;

/// Violations that are printed; the first ones say most.
const MOST_SHOWN: usize = 20;

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often the server is ended under load
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Choose moments and actions from this number [default: the time]
    #[arg(long)]
    seed: Option<u64>,
    /// What the server's commits survive
    #[arg(long, value_enum, default_value_t = Durability::Process)]
    durability: Durability,
    /// Use an optimised binary
    #[arg(long)]
    release: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Durability {
    Process,
    Disk,
}

impl Arguments {
    /// As many rounds as every run of the tests has.
    pub(crate) fn for_tests() -> Self {
        Self {
            rounds: 10,
            seed: None,
            durability: Durability::Process,
            release: false,
        }
    }
}

/// Runs the rounds. The data folder is kept when a promise was broken.
pub(crate) fn run(arguments: &Arguments, workspace: &Workspace) -> Result<()> {
    let binary = workspace.flywheel(arguments.release)?;
    let seed = arguments.seed.unwrap_or_else(seed_of_now);
    eprintln!("{} rounds with --seed {seed}", arguments.rounds);
    let folder = TempDir::with_prefix("flywheel-crash-").context("cannot make a folder")?;
    let installation = Installation {
        binary,
        folder: folder.path().to_owned(),
        is_given: env::var_os(BINARY).is_some(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let begun = Instant::now();
    let mut report = Report::default();
    let outcome = runtime.block_on(run_rounds(arguments, installation, seed, &mut report));
    eprint!("{}", report.table(begun.elapsed()));
    if outcome.is_ok() && report.violations.is_empty() {
        return Ok(());
    }
    for violation in report.violations.iter().take(MOST_SHOWN) {
        eprintln!("{violation}");
    }
    if let Some(more) = report.violations.len().checked_sub(MOST_SHOWN + 1) {
        eprintln!("and {} more", more + 1);
    }
    eprintln!("kept: {}", folder.keep().display());
    outcome?;
    bail!(
        "{} promises were broken; the seed was {seed}",
        report.violations.len()
    )
}

async fn run_rounds(
    arguments: &Arguments,
    installation: Installation,
    seed: u64,
    report: &mut Report,
) -> Result<()> {
    let random = Random::new(seed);
    let mut rounds = Rounds::prepare(installation, arguments.durability, random).await?;
    let mut outcome = Ok(());
    for number in 1..=arguments.rounds {
        outcome = rounds.run(number, arguments.rounds, report).await;
        rounds.note(report);
        if outcome.is_err() || !report.violations.is_empty() {
            break;
        }
    }
    if outcome.is_ok() && report.violations.is_empty() {
        outcome = rounds.finish().await;
        rounds.note(report);
    }
    outcome
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |since| u64::from(since.subsec_nanos()))
}
