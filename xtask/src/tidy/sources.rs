//! Rules for Rust source files: how they begin, how long they are, and words they do without.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Finding;
use crate::cargo::Workspace;

/// Lines of a file that are not tests.
const MOST_LINES: usize = 600;
/// The same for nine files out of ten.
const USUAL_LINES: usize = 350;

const VAGUE_NAMES: &[&str] = &["common", "helper", "helpers", "util", "utils"];
const UNFINISHED: &[&str] = &["FIXME", "TODO", "XXX"];
const UNFINISHED_MACRO: &str = "todo!";
const TEST_ATTRIBUTES: &[&str] = &["#[ignore", "#[should_panic"];
const PRINT_MACROS: &[&str] = &["eprint!", "eprintln!", "print!", "println!"];
const PRINTER: &str = "crates/cli/src/printer.rs";

struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

pub(super) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut sources = Vec::new();
    for folder in ["crates", "xtask"] {
        collect(workspace, &workspace.root.join(folder), &mut sources)?;
    }
    let mut findings: Vec<Finding> = sources.iter().flat_map(Source::check).collect();
    findings.extend(check_usual_length(&sources));
    Ok(findings)
}

fn collect(workspace: &Workspace, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let cannot_read = || format!("cannot read `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot_read)? {
        let path = entry.with_context(cannot_read)?.path();
        if path.is_dir() {
            collect(workspace, &path, sources)?;
        } else if path.extension() == Some(OsStr::new("rs")) {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read `{}`", path.display()))?;
            sources.push(Source {
                path: workspace.relative(&path).replace('\\', "/"),
                text,
            });
        }
    }
    Ok(())
}

fn check_usual_length(sources: &[Source]) -> Option<Finding> {
    let programs = sources.iter().filter(|source| !source.is_test_file());
    let mut lengths: Vec<_> = programs
        .map(|source| (source.program_lines(), source))
        .collect();
    lengths.sort_by_key(|(length, _)| *length);
    let rank = (lengths.len() * 9).div_ceil(10).checked_sub(1)?;
    let (length, source) = lengths.get(rank)?;
    (*length > USUAL_LINES).then(|| {
        let message = format!(
            "more than one file in ten is longer than {USUAL_LINES} lines without tests, \
             up to this one with {length}"
        );
        Finding::new(&*source.path, 1, message)
    })
}

impl Source {
    fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !self.text.starts_with("//!") {
            findings.push(self.finding(1, "does not begin with `//!` and what it is for"));
        }
        let program_lines = self.program_lines();
        if program_lines > MOST_LINES && !self.is_test_file() {
            let message = format!("{program_lines} lines without tests, more than {MOST_LINES}");
            findings.push(self.finding(MOST_LINES + 1, message));
        }
        let names = Path::new(&self.path).with_extension("");
        for name in names.iter().filter_map(OsStr::to_str) {
            if VAGUE_NAMES.contains(&name) {
                findings.push(self.finding(1, format!("`{name}` does not say what is in it")));
            }
        }
        for (index, line) in self.text.lines().enumerate() {
            let is_test = self.is_test_file() || index >= program_lines;
            let messages = self.check_line(line, is_test).into_iter();
            findings.extend(messages.map(|message| self.finding(index + 1, message)));
        }
        findings
    }

    fn check_line(&self, line: &str, is_test: bool) -> Vec<String> {
        let mut messages = Vec::new();
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        for word in UNFINISHED.iter().filter(|word| has_word(comment, word)) {
            messages.push(format!(
                "`{word}`: do it now, or write it where work is planned"
            ));
        }
        if has_call(code, UNFINISHED_MACRO) {
            messages.push(format!("`{UNFINISHED_MACRO}` is unfinished work"));
        }
        for attribute in TEST_ATTRIBUTES {
            if code.trim_start().starts_with(attribute) {
                messages.push(format!(
                    "`{attribute}]`: a test runs, and says what it expects"
                ));
            }
        }
        if is_test && has_call(code, "sleep") {
            messages.push("a test waits for an event or moves a paused clock".to_owned());
        }
        if !self.may_print() {
            for print in PRINT_MACROS.iter().filter(|print| has_call(code, print)) {
                messages.push(format!("`{print}` outside {PRINTER}"));
            }
        }
        if let Some(name) = inline_module(code).filter(|name| VAGUE_NAMES.contains(name)) {
            messages.push(format!("`{name}` does not say what is in it"));
        }
        messages
    }

    /// Lines before the test module. A lone test item, such as `#[cfg(test)] mod tests;`, does not end the count.
    fn program_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let starts_tests = |index: &usize| {
            // Past further attributes, of one line or several, to the item itself.
            let mut after = lines[*index..].iter().skip(1);
            let item = after.find(|line| line.starts_with(char::is_alphabetic));
            let is_module = item.is_some_and(|item| item.contains("mod ") && item.ends_with('{'));
            lines[*index] == "#[cfg(test)]" && is_module
        };
        (0..lines.len()).find(starts_tests).unwrap_or(lines.len())
    }

    /// Integration tests, benches, and test modules with a file of their own.
    fn is_test_file(&self) -> bool {
        let mut names = self.path.split('/');
        names.any(|name| matches!(name, "tests" | "benches" | "tests.rs"))
    }

    /// Build scripts talk to cargo by printing.
    fn may_print(&self) -> bool {
        self.path == PRINTER || self.path.starts_with("xtask/") || self.path.ends_with("/build.rs")
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding::new(&*self.path, line, message)
    }
}

/// The name in `mod name {` and `pub mod name {`.
fn inline_module(code: &str) -> Option<&str> {
    let declaration = code.trim().strip_suffix('{')?.trim_end();
    let (before, name) = declaration.rsplit_once(' ')?;
    (before == "mod" || before.ends_with(" mod")).then_some(name)
}

/// Whether `name` is called, as a function or a macro.
fn has_call(code: &str, name: &str) -> bool {
    occurrences(code, name).any(|(_, after)| after.starts_with(['(', '[', '{']))
}

fn has_word(text: &str, word: &str) -> bool {
    occurrences(text, word).any(|(_, after)| !after.starts_with(is_word_character))
}

/// What stands before and after each occurrence that does not begin inside a longer word.
fn occurrences<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let around = |(start, found): (usize, &str)| (&text[..start], &text[start + found.len()..]);
    text.match_indices(name)
        .map(around)
        .filter(|(before, _)| !before.ends_with(is_word_character))
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let found: Vec<String> = source.check().iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found.starts_with(expected),
                "`{found}` does not start with `{expected}`"
            );
        }
    }

    #[test]
    fn files_begin_with_what_they_are_for() {
        check("crates/core/src/a.rs", "//! Assignment.\nmod b;\n", &[]);
        check(
            "crates/core/src/a.rs",
            "mod b;\n",
            &["crates/core/src/a.rs:1: does not begin"],
        );
    }

    #[test]
    fn only_lines_before_the_test_module_count() {
        let lines = |count| "let x = 1;\n".repeat(count);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(700));
        check(
            "crates/core/src/a.rs",
            &format!("//! A.\n{}{tests}", lines(599)),
            &[],
        );
        check(
            "crates/core/src/a.rs",
            &format!("//! A.\n#[cfg(test)]\nmod tests;\n{}", lines(598)),
            &["crates/core/src/a.rs:601: 601 lines"],
        );
        check(
            "crates/core/tests/a.rs",
            &format!("//! A.\n{}", lines(700)),
            &[],
        );
        check(
            "crates/core/src/a/tests.rs",
            &format!("//! A.\n{}", lines(700)),
            &[],
        );
    }

    #[test]
    fn the_ninth_file_of_ten_is_of_usual_length() {
        let source = |path: &str, count| Source {
            path: path.to_owned(),
            text: "let x = 1;\n".repeat(count),
        };
        let mut sources: Vec<Source> = (0..8).map(|_| source("a.rs", 100)).collect();
        sources.push(source("b.rs", 350));
        sources.push(source("c.rs", 500));
        assert_eq!(check_usual_length(&sources), None);
        sources[8] = source("b.rs", 351);
        let path = check_usual_length(&sources).map(|finding| finding.path);
        assert_eq!(path.as_deref(), Some("b.rs"));
        assert_eq!(check_usual_length(&[]), None);
    }

    #[test]
    fn modules_have_telling_names() {
        check(
            "crates/core/src/utils.rs",
            "//! A.\n",
            &["crates/core/src/utils.rs:1: `utils`"],
        );
        check(
            "crates/core/tests/common/mod.rs",
            "//! A.\n",
            &["crates/core/tests/common/mod.rs:1: `common`"],
        );
        check(
            "crates/core/src/a.rs",
            "//! A.\npub mod helpers {\n}\n",
            &["crates/core/src/a.rs:2"],
        );
        check(
            "crates/core/src/a.rs",
            "//! A.\npub mod commonality {\n}\n",
            &[],
        );
    }

    #[test]
    fn unfinished_work_is_found_in_comments_and_code() {
        let path = "crates/core/src/a.rs";
        for word in UNFINISHED {
            check(
                path,
                &format!("//! A.\n// {word}: later\n"),
                &["crates/core/src/a.rs:2: "],
            );
            check(path, &format!("//! A.\nlet text = \"{word}\";\n"), &[]);
            check(path, &format!("//! A.\n// {word}S\n"), &[]);
        }
        check(
            path,
            &format!("//! A.\n{UNFINISHED_MACRO}()\n"),
            &["crates/core/src/a.rs:2: "],
        );
        for attribute in TEST_ATTRIBUTES {
            check(
                path,
                &format!("//! A.\n    {attribute}]\n"),
                &["crates/core/src/a.rs:2: "],
            );
        }
    }

    #[test]
    fn tests_do_not_wait_for_time_to_pass() {
        let call = concat!("tokio::time::sle", "ep(second).await;");
        check(
            "crates/core/tests/a.rs",
            &format!("//! A.\n{call}\n"),
            &["crates/core/tests/a.rs:2"],
        );
        check("crates/core/src/a.rs", &format!("//! A.\n{call}\n"), &[]);
        check(
            "crates/core/src/a.rs",
            &format!("//! A.\n#[cfg(test)]\nmod tests {{\n{call}\n}}\n"),
            &["crates/core/src/a.rs:4"],
        );
        check(
            "crates/core/tests/a.rs",
            "//! A.\nasleep(1); sleeper(2);\n",
            &[],
        );
    }

    #[test]
    fn only_the_printer_prints() {
        let text = "//! A.\n// println!(\"in a comment\")\nprintln!(\"{x}\");\n";
        check(
            "crates/core/src/a.rs",
            text,
            &["crates/core/src/a.rs:3: `println!`"],
        );
        check(PRINTER, text, &[]);
        check("xtask/src/main.rs", text, &[]);
        check("crates/core/build.rs", text, &[]);
    }
}
