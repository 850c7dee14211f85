//! The console in a browser: its tests, and pictures of every page for people to look at.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
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

    /// Runs Node on the console's scripts.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<()> {
        cargo::run(
            &mut self
                .workspace
                .cargo(&["build", "--package", "flywheel-cli"]),
        )?;
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
