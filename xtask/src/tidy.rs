//! `cargo xtask tidy`: rules that neither the compiler nor clippy knows.

mod direction;
mod license;
mod manifests;
mod packages;
mod sources;

use std::fmt;

use anyhow::{Result, bail};

use crate::cargo::Workspace;

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Prints every finding; an error says that there were some.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut findings = sources::check(workspace)?;
    findings.extend(manifests::check(workspace)?);
    findings.extend(direction::check(workspace));
    findings.extend(packages::check(workspace)?);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("tidy found 1 problem"),
        count => bail!("tidy found {count} problems"),
    }
}
