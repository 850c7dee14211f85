//! `docs/cli.md`, written from the definitions of the commands. `UPDATE_SNAPSHOTS=1` writes it anew.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");

const HEAD: &str = "\
# Command line

Written from the program's own definitions; `flywheel help COMMAND` says the same. Commands end with 0 when they did what was asked, 1 when that \
failed or was refused, 2 when the command line is wrong, 3 when the server cannot be reached or failed itself. With `--json` they print the server's JSON, and errors as problem documents.

";

fn reference() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = HEAD.to_owned();
    text.push_str("## Options of every command\n\n");
    let global: Vec<_> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .collect();
    arguments(&mut text, &global);
    for sub in command.get_subcommands() {
        describe(&mut text, sub, "flywheel");
    }
    text
}

fn describe(text: &mut String, command: &Command, above: &str) {
    if command.is_hide_set() {
        return;
    }
    let path = format!("{above} {}", command.get_name());
    if command.has_subcommands() {
        for sub in command.get_subcommands() {
            describe(text, sub, &path);
        }
        return;
    }
    let about = command.get_about().map(ToString::to_string);
    let _ = write!(text, "\n## `{path}`\n\n{}.\n", about.unwrap_or_default());
    let own: Vec<_> = command
        .get_arguments()
        .filter(|argument| !argument.is_global_set() && !argument.is_hide_set())
        .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        .collect();
    if !own.is_empty() {
        text.push('\n');
        arguments(text, &own);
    }
}

fn arguments(text: &mut String, arguments: &[&Arg]) {
    text.push_str("| | |\n| --- | --- |\n");
    for argument in arguments {
        let meaning = argument.get_long_help().or_else(|| argument.get_help());
        let mut meaning = meaning.map(ToString::to_string).unwrap_or_default();
        let values: Vec<_> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() && argument.get_action().takes_values() {
            let _ = write!(meaning, ": {}", values.join(", "));
        }
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        if !defaults.is_empty() && argument.get_action().takes_values() {
            let _ = write!(meaning, " (default {})", defaults.join(", "));
        }
        if let Some(variable) = argument.get_env() {
            let _ = write!(meaning, "; also `{}`", variable.to_string_lossy());
        }
        let meaning = meaning.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(
            text,
            "| `{}` | {meaning} |",
            name(argument).replace('|', "\\|")
        );
    }
}

/// As it is typed.
fn name(argument: &Arg) -> String {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            names.join(" ")
        });
    match (argument.get_long(), argument.get_short()) {
        (None, _) => value.unwrap_or_else(|| argument.get_id().to_string().to_uppercase()),
        (Some(long), short) => {
            let short = short.map_or_else(String::new, |short| format!("-{short}, "));
            let value = value.map_or_else(String::new, |value| format!(" {value}"));
            format!("{short}--{long}{value}")
        }
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    let expected = reference();
    if written == expected {
        return;
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(FILE, expected).unwrap();
        return;
    }
    panic!("docs/cli.md does not say what the commands are: run the tests with UPDATE_SNAPSHOTS=1");
}
