//! The console in a browser: its tests, and pictures of every page for people to look at.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;

use crate::cargo::{self, Workspace};
use crate::test::e2e::prepare_environment;

#[derive(Args)]
pub(crate) struct ScreenshotArguments {
    /// Where the pictures go
    #[arg(default_value = "target/screenshots")]
    folder: PathBuf,
}

const TESTS: &str = "tests/console";
const OLDEST_NODE: u32 = 20;

/// What runs the console's scripts.
pub(crate) struct Browser<'a> {
    workspace: &'a Workspace,
    chromium: PathBuf,
    /// The Python that can start a real model.
    python: PathBuf,
}

impl<'a> Browser<'a> {
    /// Finds Node and Chromium, and installs the pinned packages and the model.
    pub(crate) fn prepare(workspace: &'a Workspace) -> Result<Self> {
        let check =
            format!("process.exit(parseInt(process.versions.node) < {OLDEST_NODE} ? 1 : 0)");
        cargo::output(Command::new("node").args(["-e", &check]))
            .with_context(|| format!("Node {OLDEST_NODE} or later is needed as `node`"))?;
        let chromium = [
            "/usr/bin/chromium",
            "/usr/bin/chromium-browser",
            "/usr/bin/google-chrome",
        ]
        .into_iter()
        .map(Path::new)
        .find(|path| path.exists())
        .context("no Chromium is installed (on Debian: `apt-get install chromium`)")?
        .to_owned();
        let folder = workspace.root.join(TESTS);
        let lock = folder.join("package-lock.json");
        let installed = folder.join("node_modules/.package-lock.json");
        let time = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
        if time(&installed) < time(&lock) {
            let mut install = Command::new("npm");
            install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
            cargo::run(install.current_dir(&folder)).context(
                "cannot install the browser tests' packages (is a package registry reachable?)",
            )?;
        }
        Ok(Self {
            workspace,
            chromium,
            python: prepare_environment(workspace)?,
        })
    }

    /// Runs Node on the console's scripts, with the program as it now is.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        cargo::run(
            &mut self
                .workspace
                .cargo(&["build", "--package", "flywheel-cli"]),
        )?;
        self.run_script(arguments)
    }

    fn run_script(&self, arguments: &[&str]) -> Result<()> {
        cargo::run(
            Command::new("node")
                .args(arguments)
                .current_dir(self.workspace.root.join(TESTS))
                .env(
                    "FLYWHEEL_BINARY",
                    self.workspace.target.join("debug/flywheel"),
                )
                .env("CHROMIUM", &self.chromium)
                .env("PYTHON", &self.python),
        )
    }
}

/// Writes pictures of every page in both themes and widths, full and empty.
pub(crate) fn screenshots(arguments: &ScreenshotArguments, workspace: &Workspace) -> Result<()> {
    let folder = workspace.root.join(&arguments.folder);
    let browser = Browser::prepare(workspace)?;
    browser.run(&["screenshots.mjs", &folder.to_string_lossy()])
}

/// From a clean clone to the first page in a browser with data on it, by the README's first command, and how long that took.
pub(crate) fn first_page(workspace: &Workspace) -> Result<()> {
    const FIRST_COMMAND: &str = "cargo run --release -- demo";
    let readme = std::fs::read_to_string(workspace.root.join("README.md"))?;
    let first = readme.lines().find_map(|line| line.strip_prefix("    "));
    ensure!(
        first == Some(FIRST_COMMAND),
        "the README's first command is {first:?}, not `{FIRST_COMMAND}`"
    );
    let browser = Browser::prepare(workspace)?;
    let folder = tempfile::Builder::new()
        .prefix("first-page-")
        .tempdir_in(&workspace.target)?;
    let begun = Instant::now();
    let clone = folder.path().join("flywheel");
    cargo::run(
        Command::new("git")
            .args(["clone", "--quiet"])
            .arg(&workspace.root)
            .arg(&clone),
    )?;
    let words: Vec<_> = FIRST_COMMAND.split(' ').collect();
    let mut demo = Command::new(words[0])
        .args(&words[1..])
        .current_dir(&clone)
        .env_remove("CARGO_TARGET_DIR")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the demo cannot be started")?;
    let said = BufReader::new(demo.stderr.take().context("the demo says nothing")?);
    let mut address = None;
    for line in said.lines() {
        let line = line?;
        eprintln!("{line}");
        if let Some((_, rest)) = line.split_once("listening on ") {
            address = rest.split(',').next().map(str::to_owned);
            break;
        }
    }
    let shown = match &address {
        Some(address) => browser.run_script(&["first-page.mjs", address]),
        None => Err(anyhow!("the demo ended before it listened")),
    };
    let took = begun.elapsed().as_secs_f64();
    // By now the program has taken the place of cargo.
    let ended = Command::new("kill")
        .args(["-TERM", &demo.id().to_string()])
        .status();
    ended.context("the demo cannot be ended")?;
    demo.wait()?;
    shown?;
    println!("from a clean clone to the first page: {took:.0} s, building included");
    Ok(())
}
