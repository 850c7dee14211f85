//! `cargo xtask vectors`: compares the statistics with reference values of other libraries.

mod answer;
mod fixed;
mod inputs;
mod judges;
mod plans;
mod sequences;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cargo::Workspace;
use answer::{Answer, Got};
use inputs::{Failure, Inputs};

/// The reference values of the repository.
const COMMITTED: &str = "crates/stats/tests/vectors.json";

#[derive(Args)]
pub(crate) struct Arguments {
    /// A JSON file of vectors, each with `fn`, `inputs`, `expected` and `tol`
    path: PathBuf,
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

/// One call and what it must return.
#[derive(Deserialize)]
struct Vector {
    id: String,
    #[serde(rename = "fn")]
    function: String,
    inputs: Value,
    /// Members and their values; null, for a member or for all, is an undefined state.
    expected: Option<Map<String, Value>>,
    #[serde(default)]
    tol: Tolerance,
}

/// A number passes when it differs by at most `abs` + `rel` times what was expected.
#[derive(Clone, Copy, Default, Deserialize)]
struct Tolerance {
    #[serde(default)]
    rel: f64,
    #[serde(default)]
    abs: f64,
}

/// A member that is not what it must be.
#[derive(Debug, PartialEq)]
struct Miss {
    id: String,
    function: String,
    member: String,
    expected: String,
    got: String,
}

type Function = fn(&Inputs<'_>) -> Result<Answer, Failure>;

/// Compares one file and fails when anything differs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    check(&arguments.path)
}

/// Compares the committed file.
pub(crate) fn run_committed(workspace: &Workspace) -> Result<()> {
    check(&workspace.root.join(COMMITTED))
}

fn check(path: &Path) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let Vectors { vectors } = serde_json::from_str(&text)
        .with_context(|| format!("cannot understand `{}`", path.display()))?;
    ensure!(!vectors.is_empty(), "`{}` has no vectors", path.display());
    let results: Vec<Vec<Miss>> = vectors.iter().map(compare).collect();
    let missed = results.iter().filter(|misses| !misses.is_empty()).count();
    let misses: Vec<Miss> = results.into_iter().flatten().collect();
    print_table(&misses);
    println!(
        "{} vectors, {} passed, {missed} missed, {} members differ",
        vectors.len(),
        vectors.len() - missed,
        misses.len()
    );
    if missed > 0 {
        bail!("{missed} of {} vectors missed", vectors.len());
    }
    Ok(())
}

fn print_table(misses: &[Miss]) {
    if misses.is_empty() {
        return;
    }
    println!(
        "{:<42} {:<36} {:<14} {:<24} got",
        "id", "fn", "member", "expected"
    );
    for miss in misses {
        println!(
            "{:<42} {:<36} {:<14} {:<24} {}",
            miss.id, miss.function, miss.member, miss.expected, miss.got
        );
    }
}

/// What one vector misses.
fn compare(vector: &Vector) -> Vec<Miss> {
    let miss = |member: &str, expected: String, got: String| Miss {
        id: vector.id.clone(),
        function: vector.function.clone(),
        member: member.to_owned(),
        expected,
        got,
    };
    let Some(function) = find(&vector.function) else {
        return vec![miss("", String::new(), "no such function".to_owned())];
    };
    let answer = match function(&Inputs::new(&vector.inputs)) {
        Ok(answer) => answer,
        Err(Failure::Undefined(reason)) => Answer::undefined(reason),
        Err(Failure::Unreadable(reason)) => return vec![miss("", String::new(), reason)],
    };
    if let Some(member) = answer.not_a_number() {
        let got = "NaN, which no function may return".to_owned();
        return vec![miss(&member, String::new(), got)];
    }
    let Some(expected) = &vector.expected else {
        let defined = answer.first_defined().into_iter();
        return defined
            .map(|(member, got)| miss(member, "undefined".to_owned(), got.to_string()))
            .collect();
    };
    expected
        .iter()
        .filter(|(member, expected)| !agrees(expected, answer.member(member), vector.tol))
        .map(|(member, expected)| {
            let got = answer
                .member(member)
                .map_or("nothing".to_owned(), Got::to_string);
            miss(member, shown(expected), got)
        })
        .collect()
}

fn shown(expected: &Value) -> String {
    if expected.is_null() {
        "undefined".to_owned()
    } else {
        expected.to_string()
    }
}

fn agrees(expected: &Value, got: Option<&Got>, tolerance: Tolerance) -> bool {
    let within = |expected: &Value, got: f64| match inputs::number_of(expected) {
        Some(expected) if expected.is_infinite() => got == expected,
        Some(expected) => (got - expected).abs() <= tolerance.abs + tolerance.rel * expected.abs(),
        None => false,
    };
    match (expected, got) {
        (Value::Null, Some(Got::Undefined(_))) => true,
        (Value::Array(expected), Some(Got::Numbers(got))) => {
            expected.len() == got.len()
                && expected
                    .iter()
                    .zip(got)
                    .all(|(expected, got)| within(expected, *got))
        }
        (expected, Some(Got::Number(got))) => within(expected, *got),
        _ => false,
    }
}

fn find(name: &str) -> Option<Function> {
    [
        plans::FUNCTIONS,
        fixed::FUNCTIONS,
        sequences::FUNCTIONS,
        judges::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
    .find(|(known, _)| *known == name)
    .map(|(_, function)| *function)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn misses(vector: Value) -> Vec<Miss> {
        compare(&serde_json::from_value(vector).unwrap())
    }

    #[test]
    fn members_are_compared_within_their_tolerance() {
        let vector = |expected: Value, n: Value| {
            json!({"id": "1", "fn": "wilson_interval", "expected": expected,
                "inputs": {"successes": 0, "n": n, "alpha": 0.05},
                "tol": {"rel": 1e-9, "abs": 1e-12}})
        };
        let upper = 0.161_125_158_052_8;
        assert_eq!(
            misses(vector(json!({"lower": 0.0, "upper": upper}), json!(20))),
            []
        );
        assert_eq!(
            misses(vector(json!({"upper": upper + 1e-6}), json!(20))).len(),
            1
        );
        assert_eq!(misses(vector(json!({"upper": null}), json!(20))).len(), 1);
        assert_eq!(misses(vector(json!({"other": 1.0}), json!(20))).len(), 1);
        assert_eq!(
            misses(vector(json!({"lower": null, "upper": null}), json!(0))),
            []
        );
        assert_eq!(misses(vector(Value::Null, json!(0))), []);
        assert_eq!(misses(vector(Value::Null, json!(20))).len(), 1);
    }

    #[test]
    fn unknown_functions_and_missing_inputs_are_misses() {
        let unknown = json!({"id": "1", "fn": "wilson", "inputs": {}, "expected": {}});
        assert_eq!(misses(unknown)[0].got, "no such function");
        let missing = json!({"id": "1", "fn": "wilson_interval", "inputs": {}, "expected": {}});
        assert_eq!(misses(missing)[0].got, "the input `successes` is missing");
    }
}
