//! Cargo and what it says of the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// Names the server's binary to use in place of one that is built here.
pub(crate) const BINARY: &str = "FLYWHEEL_BIN";

/// The workspace around the current folder.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    /// Our own crates.
    pub(crate) packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) manifest_path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Absent for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
}

/// The profile of what runs in production, which is what is worth measuring.
const PRODUCTION: &str = "production";

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        metadata(&["--no-deps"])
    }

    /// Every package compiled on this platform, ours and those of others.
    pub(crate) fn compiled_packages(&self) -> Result<Vec<Package>> {
        let platform = host_platform()?;
        let everything: Self = metadata(&["--filter-platform", &platform])?;
        Ok(everything.packages)
    }

    /// `path` as people write it: relative to the root.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root)
            .unwrap_or(path)
            .display()
            .to_string()
    }

    /// The server: the one that is given, or one that is built here.
    pub(crate) fn flywheel(&self, optimised: bool) -> Result<PathBuf> {
        if let Some(binary) = env::var_os(BINARY) {
            return Ok(env::current_dir()?.join(binary));
        }
        let mut command = self.cargo(&["build", "--package", "flywheel-cli"]);
        let profile = if optimised {
            command.arg("--release");
            "release"
        } else {
            "debug"
        };
        run(&mut command)?;
        Ok(self.target.join(profile).join("flywheel"))
    }

    /// Builds the server and this program as they run in production. Returns the folder of both.
    pub(crate) fn build_for_production(&self) -> Result<PathBuf> {
        let packages = ["-p", "flywheel-cli", "-p", "xtask"];
        run(self
            .cargo(&["build", "--profile", PRODUCTION])
            .args(packages))?;
        Ok(self.in_production())
    }

    /// Where what was built for production is.
    pub(crate) fn in_production(&self) -> PathBuf {
        self.target.join(PRODUCTION)
    }

    /// A cargo command that works on this workspace.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = cargo();
        command.args(arguments).current_dir(&self.root);
        command
    }
}

/// Runs a command with its output passed through, after a line that names it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = command_line(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// What a command prints on standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed no UTF-8"))
}

fn metadata(arguments: &[&str]) -> Result<Workspace> {
    let text = output(
        cargo()
            .args(["metadata", "--format-version", "1"])
            .args(arguments),
    )?;
    serde_json::from_str(&text).context("unexpected output of `cargo metadata`")
}

fn host_platform() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = [name].into_iter().chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
