//! The help of every command, compared with committed files.

use crate::run::flywheel;
use crate::snapshot::assert_snapshot;

/// Follows the lists of commands that the help itself shows, so that no command is left out.
fn check(path: &[&str]) -> usize {
    let run = flywheel(&[path, &["--help"]].concat());
    assert_eq!(run.code, Some(0), "{}", run.transcript());
    assert_eq!(run.stderr, "");
    let name = [&["help"], path].concat().join("-");
    assert_snapshot(&name, &run.stdout);
    let listed = run
        .stdout
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1);
    let entries = listed.take_while(|line| !line.is_empty());
    // What is indented further goes on with the description above it.
    let names = entries.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = names
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    1 + commands
        .iter()
        .map(|command| check(&[path, &[command]].concat()))
        .sum::<usize>()
}

#[test]
fn every_command_explains_itself() {
    let pages = check(&[]);
    assert!(pages > 40, "only {pages} commands were found");
}

#[test]
fn help_is_a_command_too() {
    for path in [&[][..], &["prompt"], &["prompt", "diff"]] {
        let asked = flywheel(&[&["help"], path].concat());
        let option = flywheel(&[path, &["--help"]].concat());
        assert_eq!((asked.code, asked.stdout), (Some(0), option.stdout));
    }
    let unknown = flywheel(&["help", "prompts"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("'prompts'"), "{}", unknown.stderr);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let run = flywheel(&["completions", shell]);
        assert_eq!(run.code, Some(0));
        assert!(run.stdout.contains("rollback"), "{shell}");
    }
}

#[test]
fn help_does_not_show_the_key() {
    let run =
        crate::run::flywheel_with(&["deploy", "--help"], &[("FLYWHEEL_KEY", "fw_secret")], "");
    assert!(!run.stdout.contains("fw_secret"), "{}", run.stdout);
}
