//! `cargo xtask test`: checks, unit tests, documentation and end-to-end tests, in that order.

pub(crate) mod e2e;

use std::env;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::cargo::{self, Workspace};
use crate::console::Browser;
use crate::crash;
use crate::simulate;
use crate::tidy;
use crate::vectors;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Run one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Run only the tests whose names contain this, and no checks
    filter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Unit, integration and documentation tests
    Unit,
    /// The built binary against a real model, in a browser, and killed again and again
    E2e,
    /// Formatting, lints, tidy, reference values, simulations and documentation
    Checks,
}

/// What a stage works with.
struct Context {
    workspace: Workspace,
    filter: Option<String>,
    /// In CI nothing may be left out: what is missing there is a failure.
    ci: bool,
}

const CRASH: &str = "crash";

enum Outcome {
    Passed,
    Skipped(String),
}

/// One line of the summary.
struct Stage {
    name: &'static str,
    part: Part,
    run: fn(&Context) -> Result<Outcome>,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        part: Part::Checks,
        run: format,
    },
    Stage {
        name: "clippy",
        part: Part::Checks,
        run: clippy,
    },
    Stage {
        name: "tidy",
        part: Part::Checks,
        run: tidy,
    },
    Stage {
        name: "vectors",
        part: Part::Checks,
        run: vectors,
    },
    Stage {
        name: "simulate",
        part: Part::Checks,
        run: simulate,
    },
    Stage {
        name: "deny",
        part: Part::Checks,
        run: deny,
    },
    Stage {
        name: "unit",
        part: Part::Unit,
        run: unit,
    },
    Stage {
        name: "documentation",
        part: Part::Checks,
        run: documentation,
    },
    Stage {
        name: "e2e",
        part: Part::E2e,
        run: e2e::run,
    },
    Stage {
        name: "console",
        part: Part::E2e,
        run: console,
    },
    Stage {
        name: CRASH,
        part: Part::E2e,
        run: crash,
    },
];

/// Runs every stage that was asked for, also after one has failed, so that one run tells everything.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.filter.is_some() && arguments.only == Some(Part::Checks) {
        bail!("the checks have no tests that a filter could choose from");
    }
    let context = Context {
        workspace: Workspace::load()?,
        filter: arguments.filter.clone(),
        ci: is_true(env::var("CI").ok().as_deref()),
    };
    let mut lines = Vec::new();
    let mut failed = Vec::new();
    for stage in STAGES.iter().filter(|stage| arguments.include(stage)) {
        eprintln!("== {}", stage.name);
        let start = Instant::now();
        let result = (stage.run)(&context);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
            failed.push(stage.name);
        }
        lines.push(Line {
            name: stage.name,
            result,
            took: start.elapsed(),
        });
    }
    eprintln!("== summary");
    for line in &lines {
        eprintln!("{line}");
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

impl Arguments {
    fn include(&self, stage: &Stage) -> bool {
        match self.only {
            Some(part) => stage.part == part,
            None => self.filter.is_none() || stage.part != Part::Checks,
        }
    }
}

struct Line {
    name: &'static str,
    result: Result<Outcome>,
    took: Duration,
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, result, took } = self;
        let seconds = took.as_secs_f64();
        match result {
            Ok(Outcome::Passed) => write!(formatter, "{name:<14} passed  {seconds:>7.1} s"),
            Ok(Outcome::Skipped(reason)) => write!(formatter, "{name:<14} SKIPPED  {reason}"),
            Err(_) => write!(formatter, "{name:<14} FAILED  {seconds:>7.1} s"),
        }
    }
}

fn format(context: &Context) -> Result<Outcome> {
    passed(context, &["fmt", "--all", "--check"])
}

fn clippy(context: &Context) -> Result<Outcome> {
    passed(
        context,
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )
}

fn tidy(context: &Context) -> Result<Outcome> {
    tidy::run(&context.workspace)?;
    Ok(Outcome::Passed)
}

/// The statistics against the committed values of other libraries.
fn vectors(context: &Context) -> Result<Outcome> {
    vectors::run_committed(&context.workspace)?;
    Ok(Outcome::Passed)
}

/// What the statistics promise, in as many runs as a minute allows.
fn simulate(_: &Context) -> Result<Outcome> {
    simulate::run(&simulate::Arguments::for_tests())?;
    Ok(Outcome::Passed)
}

/// cargo-deny takes long to build, so it is used where it is installed; tidy has the essentials.
fn deny(context: &Context) -> Result<Outcome> {
    if cargo::output(&mut context.workspace.cargo(&["deny", "--version"])).is_err() {
        let reason = "cargo-deny is not installed; tidy checked licences, sources and bans";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    passed(context, &["deny", "check", "bans", "licenses", "sources"])
}

fn unit(context: &Context) -> Result<Outcome> {
    let mut command = context
        .workspace
        .cargo(&["test", "--workspace", "--no-fail-fast"]);
    if let Some(filter) = &context.filter {
        command.args(["--", filter]);
    }
    cargo::run(&mut command)?;
    Ok(Outcome::Passed)
}

fn documentation(context: &Context) -> Result<Outcome> {
    let mut command = context
        .workspace
        .cargo(&["doc", "--workspace", "--no-deps"]);
    cargo::run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome::Passed)
}

/// The console in Chromium.
fn console(context: &Context) -> Result<Outcome> {
    let browser = match Browser::prepare(&context.workspace) {
        Ok(browser) => browser,
        Err(error) if context.ci => return Err(error),
        Err(error) => {
            eprintln!("*** TESTS OF THE CONSOLE NOT RUN: {error:#}");
            return Ok(Outcome::Skipped(format!("{error:#}")));
        }
    };
    let mut arguments = vec!["--test", "--test-reporter=spec", "--test-timeout=1200000"];
    if let Some(filter) = &context.filter {
        arguments.extend(["--test-name-pattern", filter]);
    }
    arguments.push("console.test.mjs");
    browser.run(&arguments)?;
    Ok(Outcome::Passed)
}

/// A few rounds every time; `cargo xtask crash` makes as many as one likes.
fn crash(context: &Context) -> Result<Outcome> {
    let filter = context.filter.as_deref();
    if filter.is_some_and(|filter| !CRASH.contains(filter)) {
        return Ok(Outcome::Skipped("the filter does not name it".to_owned()));
    }
    crash::run(&crash::Arguments::for_tests(), &context.workspace)?;
    Ok(Outcome::Passed)
}

fn passed(context: &Context, arguments: &[&str]) -> Result<Outcome> {
    cargo::run(&mut context.workspace.cargo(arguments))?;
    Ok(Outcome::Passed)
}

fn is_true(variable: Option<&str>) -> bool {
    !matches!(variable, None | Some("" | "0" | "false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_tests_and_leave_checks_out() {
        let names = |only, filter: Option<&str>| {
            let arguments = Arguments {
                only,
                filter: filter.map(str::to_owned),
            };
            let stages = STAGES.iter().filter(|stage| arguments.include(stage));
            stages.map(|stage| stage.name).collect::<Vec<_>>()
        };
        assert_eq!(names(None, None).len(), STAGES.len());
        assert_eq!(
            names(None, Some("rollback")),
            ["unit", "e2e", "console", "crash"]
        );
        assert_eq!(
            names(Some(Part::E2e), Some("rollback")),
            ["e2e", "console", "crash"]
        );
        assert_eq!(
            names(Some(Part::Checks), None),
            [
                "format",
                "clippy",
                "tidy",
                "vectors",
                "simulate",
                "deny",
                "documentation"
            ]
        );
    }

    #[test]
    fn ci_is_what_ci_systems_set() {
        assert!(is_true(Some("true")));
        assert!(is_true(Some("1")));
        assert!(!is_true(Some("false")));
        assert!(!is_true(None));
    }
}
