//! `cargo xtask simulate`: what the statistics promise about levels, power, coverage and delays, held against simulations.
//!
//! Every figure comes from the public functions of `flywheel-stats`, called as whoever reads a result calls them: with the
//! floors of a first look, at every look. Seed and run decide all random numbers, so that a table can be made again. Only the
//! ninth goal goes through a running server, which draws who is in which arm.

mod canary;
mod coverage;
mod detector;
mod draw;
mod level;
mod power;
mod requests;
mod runs;
mod sequences;
mod speed;
mod split;
mod streams;
mod table;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use runs::Plan;
use table::Table;

/// Standard errors that a simulated figure may lie beyond its bound: two when somebody reads the table, four where a build
/// must not fail by chance.
const SIGMAS: f64 = 2.0;
const SIGMAS_SHORT: f64 = 4.0;

const SEED: u64 = 1;
const THREADS: usize = 2;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Fewer runs, in about a minute, with wider tolerances: for CI
    #[arg(long)]
    short: bool,
    /// Simulate one thing only
    #[arg(long, value_enum, value_name = "NAME")]
    only: Option<Goal>,
    /// Other random numbers
    #[arg(long, default_value_t = SEED, value_name = "N")]
    seed: u64,
    /// Write the table to this file too
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// The acceptance goals, but for the first of all: reference values are `cargo xtask vectors`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// How often identical arms are ever told apart
    Level,
    /// How often a planned difference is found
    Power,
    /// How often intervals hold the truth
    Coverage,
    /// How often sequences hold it at every look
    Sequences,
    /// What a canary alerts on and promotes
    Canary,
    /// How often a traffic split is called broken
    Split,
    /// How long change detectors run, and how soon they see a change
    Detector,
    /// How long calls take
    Speed,
    /// How often identical arms are told apart when an app sends requests to a running server
    Requests,
}

type Simulation = fn(&Plan, &mut Table) -> Result<()>;

const SIMULATIONS: &[(Goal, Simulation)] = &[
    (Goal::Level, level::simulate),
    (Goal::Power, power::simulate),
    (Goal::Coverage, coverage::simulate),
    (Goal::Sequences, sequences::simulate),
    (Goal::Canary, canary::simulate),
    (Goal::Split, split::simulate),
    (Goal::Detector, detector::simulate),
    (Goal::Speed, speed::measure),
    (Goal::Requests, requests::simulate),
];

/// The development build simulates too: its profile optimises `flywheel-stats`, where the time goes.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let plan = Plan {
        seed: arguments.seed,
        threads: THREADS,
        short: arguments.short,
    };
    let mut table = Table::new(if arguments.short {
        SIGMAS_SHORT
    } else {
        SIGMAS
    });
    let wanted = |goal| arguments.only.is_none_or(|only| only == goal);
    for (_, simulation) in SIMULATIONS.iter().filter(|(goal, _)| wanted(*goal)) {
        simulation(&plan, &mut table)?;
    }
    println!("{table}");
    if let Some(path) = &arguments.markdown {
        fs::write(path, table.to_markdown(&arguments.command()))
            .with_context(|| format!("`{}` cannot be written", path.display()))?;
    }
    match table.missed() {
        0 => Ok(()),
        missed => bail!("{missed} goals were missed"),
    }
}

impl Arguments {
    /// What every run of the tests simulates.
    pub(crate) fn for_tests() -> Self {
        Self {
            short: true,
            only: None,
            seed: SEED,
            markdown: None,
        }
    }

    /// What makes the same table again.
    fn command(&self) -> String {
        let mut command = "cargo xtask simulate".to_owned();
        if self.short {
            command += " --short";
        }
        if let Some(only) = self.only.and_then(|goal| goal.to_possible_value()) {
            command += &format!(" --only {}", only.get_name());
        }
        format!("{command} --seed {}", self.seed)
    }
}
