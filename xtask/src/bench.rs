//! `cargo xtask bench`: one table of what the gateway costs, as ratios to nginx measured in the same run.

mod assignment;
mod bed;
pub(crate) mod connection;
mod console;
mod experiments;
mod feedback;
mod figures;
mod latency;
mod memory;
mod open_loop;
pub(crate) mod processes;
mod rollback;
mod streams;
mod throughput;
mod upstream;
mod wrk;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::cargo::{self, Workspace};
use bed::Bed;
use figures::Figures;

#[derive(Args)]
pub(crate) struct Arguments {
    /// How long each single measurement takes
    #[arg(long, default_value_t = 5, value_name = "N")]
    seconds: u64,
    /// How often each is repeated, nginx and gateway in turns; medians count
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Measure one thing only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// How many calls the console is measured on
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    calls: u32,
    /// How many events the experiment has; 10,000,000 take a quarter of an hour
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    events: u32,
    /// How long memory is watched under a steady load
    #[arg(long, default_value_t = 1, value_name = "MINUTES")]
    soak: u64,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when a goal is missed
    #[arg(long)]
    check: bool,
}

#[derive(Args)]
pub(crate) struct UpstreamArguments {
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Whole answers as fast as they go
    Throughput,
    /// Latency at half of that
    Latency,
    /// The same with 1,000 concurrent streams
    Streams,
    /// Batches of feedback
    Feedback,
    /// Deployments and rollbacks under load
    Rollback,
    /// The drawing of an arm
    Assignment,
    /// Memory idle, under load, and over time
    Memory,
    /// The console's pages, and the server at rest, on a million calls
    Console,
    /// An experiment's statistics: kept, read, made again
    Experiments,
}

/// Measures what runs in production: built for development, it builds that and hands over.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::load()?;
    let built = workspace.build_for_production()?;
    if cfg!(debug_assertions) {
        let mut optimised = Command::new(built.join("xtask"));
        return cargo::run(optimised.args(std::env::args_os().skip(1)));
    }
    let mut figures = Figures::default();
    runtime()?.block_on(measure(arguments, &workspace, &mut figures))?;
    println!("{figures}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.to_json()?)
            .with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    match figures.missed() {
        missed if arguments.check && missed > 0 => bail!("{missed} goals were missed"),
        _ => Ok(()),
    }
}

/// The provider that answers at once; it runs as a process of its own.
pub(crate) fn run_upstream(arguments: &UpstreamArguments) -> Result<()> {
    runtime()?.block_on(upstream::serve(arguments.address))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be started")
}

async fn measure(
    arguments: &Arguments,
    workspace: &Workspace,
    figures: &mut Figures,
) -> Result<()> {
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Part::Assignment) {
        assignment::measure(figures)?;
    }
    if arguments.only == Some(Part::Assignment) {
        return Ok(());
    }
    if wanted(Part::Console) {
        console::measure(workspace, arguments.calls, figures).await?;
    }
    if arguments.only == Some(Part::Console) {
        return Ok(());
    }
    if wanted(Part::Experiments) {
        experiments::measure(workspace, arguments.events, figures).await?;
    }
    if arguments.only == Some(Part::Experiments) {
        return Ok(());
    }
    let bed = Bed::start(workspace, arguments.seconds, arguments.rounds).await?;
    let memory = memory::Watch::start(bed.flywheel.id());
    if wanted(Part::Feedback) {
        feedback::measure(&bed, figures).await?;
    }
    if wanted(Part::Streams) {
        streams::measure(&bed, figures).await?;
    }
    if arguments
        .only
        .is_none_or(|only| only != Part::Streams && only != Part::Feedback)
    {
        let peaks = throughput::measure(&bed, figures)?;
        if wanted(Part::Latency) {
            latency::measure(&bed, peaks, figures).await?;
        }
        if wanted(Part::Rollback) {
            rollback::measure(&bed, peaks.flywheel / 2.0, figures).await?;
        }
        if wanted(Part::Memory) {
            memory
                .measure(&bed, peaks.flywheel / 2.0, arguments.soak, figures)
                .await?;
        }
    }
    Ok(())
}
