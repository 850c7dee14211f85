//! The crates of others: how many, from where, under which licence, and which never.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::{Finding, license};
use crate::cargo::Workspace;

const LOCK_FILE: &str = "Cargo.lock";

/// Each package is compile time, and somebody else's code to trust.
const MOST_PACKAGES: usize = 450;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// C libraries for TLS, which rustls with ring replaces, and Git, which is the user's. `deny.toml` has the same list.
const BANNED: &[&str] = &["aws-lc-sys", "git2", "native-tls", "openssl", "openssl-sys"];

/// A package as the lock file has it.
#[derive(Default)]
struct Locked<'a> {
    line: usize,
    name: &'a str,
    source: Option<&'a str>,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let path = workspace.root.join(LOCK_FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let locked = read_lock_file(&text);
    ensure!(
        !locked.is_empty(),
        "no package found in `{}`",
        path.display()
    );
    let mut findings = check_locked(&locked);
    findings.extend(check_licenses(workspace, &locked)?);
    Ok(findings)
}

fn check_locked(locked: &[Locked<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if locked.len() > MOST_PACKAGES {
        let message = format!("{} packages, more than {MOST_PACKAGES}", locked.len());
        findings.push(Finding::new(LOCK_FILE, 1, message));
    }
    for package in locked {
        if BANNED.contains(&package.name) {
            let message = format!("`{}` is banned", package.name);
            findings.push(Finding::new(LOCK_FILE, package.line, message));
        }
        // Our own crates have no source.
        if let Some(source) = package.source.filter(|source| *source != REGISTRY) {
            let message = format!("`{}` comes from `{source}`, not crates.io", package.name);
            findings.push(Finding::new(LOCK_FILE, package.line, message));
        }
    }
    findings
}

/// The lock file has no licences, so these are of the packages that this platform compiles.
fn check_licenses(workspace: &Workspace, locked: &[Locked<'_>]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in workspace.compiled_packages()? {
        let expression = package.license.as_deref().unwrap_or("none");
        if !license::is_allowed(expression) {
            let line = locked
                .iter()
                .find(|one| one.name == package.name)
                .map_or(1, |one| one.line);
            let message = format!(
                "`{} {}` has the licence `{expression}`, which is not allowed",
                package.name, package.version
            );
            findings.push(Finding::new(LOCK_FILE, line, message));
        }
    }
    Ok(findings)
}

/// Cargo writes the file itself, one member a line, so reading lines is enough.
fn read_lock_file(text: &str) -> Vec<Locked<'_>> {
    let mut packages: Vec<Locked<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line == "[[package]]" {
            packages.push(Locked {
                line: index + 1,
                ..Locked::default()
            });
        }
        let Some((package, (key, value))) = packages.last_mut().zip(line.split_once(" = ")) else {
            continue;
        };
        match key {
            "name" => package.name = value.trim_matches('"'),
            "source" => package.source = Some(value.trim_matches('"')),
            _ => {}
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_packages_and_foreign_sources_are_found() {
        let text = r#"version = 4

[[package]]
name = "anyhow"
version = "1.0.0"
source = "registry+https://github.com/rust-lang/crates.io-index"

[[package]]
name = "flywheel-core"
version = "0.1.0"
dependencies = [
 "anyhow",
]

[[package]]
name = "openssl"
version = "0.10.0"
source = "git+https://example.com/openssl"
"#;
        let locked = read_lock_file(text);
        assert_eq!(locked.len(), 3);
        let found: Vec<String> = check_locked(&locked)
            .iter()
            .map(Finding::to_string)
            .collect();
        assert_eq!(
            found,
            [
                "Cargo.lock:15: `openssl` is banned",
                "Cargo.lock:15: `openssl` comes from `git+https://example.com/openssl`, not crates.io",
            ]
        );
    }
}
