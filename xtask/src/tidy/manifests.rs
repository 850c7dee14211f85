//! Rules for Cargo.toml: a reason for every dependency, and the workspace's lints in every crate.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Finding;
use crate::cargo::Workspace;

const ROOT_MANIFEST: &str = "Cargo.toml";

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let root = read(&workspace.root.join(ROOT_MANIFEST))?;
    let mut findings = unexplained_dependencies(&root);
    for package in &workspace.packages {
        if !inherits_lints(&read(&package.manifest_path)?) {
            let path = workspace.relative(&package.manifest_path);
            findings.push(Finding::new(
                path,
                1,
                "lacks `[lints]` with `workspace = true`",
            ));
        }
    }
    Ok(findings)
}

/// A comment speaks for the lines below it, up to the next blank one. Our own crates need no reason.
fn unexplained_dependencies(manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut section = "";
    let mut explained = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim();
        }
        if line.trim().is_empty() || line.starts_with('[') {
            explained = false;
        } else if line.starts_with('#') {
            explained = true;
        } else if section == "[workspace.dependencies]" && !explained {
            // A line that continues an entry starts with a blank or a bracket.
            let name = line.split_once('=').map_or("", |(name, _)| name.trim_end());
            let is_entry = line.starts_with(|first: char| first.is_ascii_alphanumeric());
            if is_entry && !line.contains("path = ") {
                let message = format!("no comment says why `{name}` is needed");
                findings.push(Finding::new(ROOT_MANIFEST, index + 1, message));
            }
        }
    }
    findings
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]")
        && lines
            .take_while(|line| !line.starts_with('['))
            .any(|line| line == "workspace = true")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_speaks_for_its_block() {
        let manifest = r#"
[workspace.dependencies]
ours = { path = "crates/ours" }

# Two that belong together.
http = "1"
http-body = { version = "1", features = [
    "one",
] }

serde = "1"

[profile.dev]
debug = 1
"#;
        let found = unexplained_dependencies(manifest);
        let expected = Finding::new("Cargo.toml", 11, "no comment says why `serde` is needed");
        assert_eq!(found, [expected]);
    }

    #[test]
    fn lints_are_inherited_in_their_own_section() {
        let check = |manifest, expected| assert_eq!(inherits_lints(manifest), expected);
        check("[lints]\nworkspace = true\n", true);
        check("[lints]\n\n[other]\nworkspace = true\n", false);
        check("[package]\nworkspace = true\n", false);
    }
}
