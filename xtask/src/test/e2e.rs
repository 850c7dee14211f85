//! The built binary under Python clients, in front of a real model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Context, Outcome};
use crate::cargo::{self, Workspace};

/// pytest's exit code when it found no test to run.
const NOTHING_COLLECTED: i32 = 5;

const OLDEST_PYTHON: &str = "3.11";

pub(super) fn run(context: &Context) -> Result<Outcome> {
    let workspace = &context.workspace;
    let python = match prepare_environment(workspace) {
        Ok(python) => python,
        Err(error) if context.ci => return Err(error),
        Err(error) => {
            eprintln!("*** END-TO-END TESTS NOT RUN: {error:#}");
            return Ok(Outcome::Skipped(format!("{error:#}")));
        }
    };
    cargo::run(&mut workspace.cargo(&["build", "--package", "flywheel-cli"]))?;

    let mut pytest = Command::new(python);
    pytest
        .args([
            "-m",
            "pytest",
            "tests/e2e",
            "-ra",
            "--strict-markers",
            "-p",
            "no:cacheprovider",
        ])
        .current_dir(&workspace.root)
        .env("FLYWHEEL_BIN", workspace.target.join("debug/flywheel"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(filter) = &context.filter {
        pytest.args(["-k", filter]);
    }
    eprintln!("$ pytest tests/e2e");
    let status = pytest.status().context("cannot start pytest")?;
    match status.code() {
        Some(0) => Ok(Outcome::Passed),
        Some(NOTHING_COLLECTED) if context.filter.is_some() => {
            Ok(Outcome::Skipped("no test matches the filter".to_owned()))
        }
        _ => bail!("`pytest tests/e2e` failed: {status}"),
    }
}

/// The Python of the environment in the target folder, which is made anew when its recipe has changed.
pub(crate) fn prepare_environment(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("e2e-venv");
    let python = folder.join("bin/python");
    let made_from = folder.join("made-from.txt");

    let requirements_file = workspace.root.join("xtask/e2e/requirements.txt");
    let requirements = fs::read_to_string(&requirements_file)
        .with_context(|| format!("cannot read `{}`", requirements_file.display()))?;
    let recipe = format!("{}\n{requirements}", system_python()?);
    if fs::read_to_string(&made_from).is_ok_and(|made_from| made_from == recipe) {
        return Ok(python);
    }

    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    cargo::run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).context(
        "cannot make a Python environment (on Debian it needs the package python3-venv)",
    )?;
    install(&python, &requirements_file).context(
        "cannot install the end-to-end tests' packages (is a package registry reachable?)",
    )?;
    fs::write(&made_from, recipe)
        .with_context(|| format!("cannot write `{}`", made_from.display()))?;
    Ok(python)
}

/// The version of `python3`, which is part of the environment's recipe.
fn system_python() -> Result<String> {
    let program = format!(
        "import sys; print(sys.version); sys.exit(sys.version_info < ({}))",
        OLDEST_PYTHON.replace('.', ",")
    );
    cargo::output(Command::new("python3").args(["-c", &program]))
        .with_context(|| format!("Python {OLDEST_PYTHON} or later is needed as `python3`"))
}

/// The list is complete, so pip resolves nothing.
fn install(python: &Path, requirements: &Path) -> Result<()> {
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ];
    cargo::run(
        Command::new(python)
            .args(arguments)
            .arg("--requirement")
            .arg(requirements),
    )
}
