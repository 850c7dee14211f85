//! `flywheel feedback import`: a file of feedback, checked as a whole and sent in batches.
//!
//! Lines without an id get one made of their content, so that the same file sent twice, or the rest of a file after
//! an interruption, stores every line once.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use flywheel_core::ContentHash;
use flywheel_core::feedback::sent::NewFeedback;
use serde_json::{Value, json};

use super::{Context, Outcome, feedback};
use crate::client::{ClientError, ItemError, Problem, Target};
use crate::failure::Findings;
use crate::output::record::Record;

const BATCH: usize = 500;

struct Line {
    number: usize,
    feedback: Value,
}

/// Where the feedback comes from. It is read twice: once to check all of it, once to send it.
struct Source {
    path: PathBuf,
    /// What it is called where a place in it is told.
    name: String,
    /// What came from stdin, which can be read once only.
    held: Option<Vec<u8>>,
}

impl Source {
    fn new(path: &Path) -> anyhow::Result<Self> {
        if path != Path::new("-") {
            return Ok(Self {
                path: path.to_owned(),
                name: path.display().to_string(),
                held: None,
            });
        }
        let mut held = Vec::new();
        io::stdin()
            .read_to_end(&mut held)
            .context("cannot read stdin")?;
        Ok(Self {
            path: path.to_owned(),
            name: "stdin".to_owned(),
            held: Some(held),
        })
    }

    fn open(&self) -> anyhow::Result<Box<dyn BufRead + '_>> {
        Ok(match &self.held {
            Some(held) => Box::new(held.as_slice()),
            None => {
                let file = File::open(&self.path);
                let file = file.with_context(|| format!("cannot read `{}`", self.name))?;
                Box::new(BufReader::new(file))
            }
        })
    }
}

/// Imports a file, or stdin if the path is `-`.
pub(super) async fn run(path: &Path, context: &Context<'_>) -> Outcome {
    let source = Source::new(path)?;
    let total = check(&source)?;
    let mut progress = context.printer.progress(total);
    let (mut stored, mut duplicates) = (0_u64, 0_u64);
    let mut taken = Vec::new();
    let mut lines = lines(&source)?;
    loop {
        let batch: Vec<Line> = lines.by_ref().take(BATCH).collect::<anyhow::Result<_>>()?;
        if batch.is_empty() {
            break;
        }
        let body: Value = batch.iter().map(|line| line.feedback.clone()).collect();
        let answer = match context.client.post(&Target::api("feedback"), &body).await {
            Ok(answer) => answer,
            // The rest of the batch is stored, and sent again this would be refused again.
            Err(ClientError::Refused(problem)) if problem.code == "id_taken" => {
                taken.extend(findings(&problem, &source.name, &batch));
                progress.advance(batch.len() as u64);
                continue;
            }
            Err(error) => {
                drop(progress);
                return Err(explain(
                    error,
                    &source.name,
                    &batch,
                    stored + duplicates,
                    context,
                ));
            }
        };
        let repeated = Record(&answer)
            .items("items")
            .filter(|item| feedback::is_duplicate(*item));
        let repeated = repeated.count() as u64;
        duplicates += repeated;
        stored += batch.len() as u64 - repeated;
        progress.advance(batch.len() as u64);
    }
    drop(progress);
    if !taken.is_empty() {
        context
            .printer
            .note("all other entries are stored, now or before");
        return Err(Findings { findings: taken }.into());
    }
    if context.printer.is_json() {
        context
            .printer
            .json(&json!({"stored": stored, "duplicates": duplicates}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = format!("{stored} stored, {duplicates} known already");
    context
        .printer
        .line(crate::printer::Style::Plain, &summary)?;
    context
        .printer
        .hint("`flywheel feedback summary` shows what all of it comes to");
    Ok(ExitCode::SUCCESS)
}

/// Reads the whole file before anything of it is sent. Returns the number of its entries.
fn check(source: &Source) -> anyhow::Result<u64> {
    let name = &source.name;
    let mut entries = 0;
    let mut mistakes = Vec::new();
    let mut reader = source.open()?;
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        if reader
            .read_line(&mut text)
            .with_context(|| format!("cannot read `{name}`"))?
            == 0
        {
            break;
        }
        if text.trim().is_empty() {
            continue;
        }
        entries += 1;
        if let Err(mistake) = check_line(&text) {
            mistakes.push(format!("{name}:{number}:{mistake}"));
        }
    }
    if mistakes.is_empty() {
        Ok(entries)
    } else {
        Err(Findings { findings: mistakes }.into())
    }
}

/// What is wrong with a line, after the column if that is known.
fn check_line(text: &str) -> Result<(), String> {
    let value: Value = serde_json::from_str(text.trim_end()).map_err(|error| {
        let message = error.to_string();
        // The place in the line follows the line's own number.
        let message = message
            .rsplit_once(" at line ")
            .map_or(message.as_str(), |(message, _)| message);
        format!("{}: {message}", error.column())
    })?;
    let mistake = |message: &str| Err(format!(" {message}"));
    if !value.is_object() {
        return mistake("not a JSON object");
    }
    if Record(&value).text("call_id").is_empty() {
        return mistake("`call_id` is missing");
    }
    match serde_json::from_value::<NewFeedback>(value) {
        Ok(mut sent) => sent
            .body()
            .and_then(|body| body.check())
            .or_else(|error| mistake(&error.to_string())),
        Err(error) => mistake(&error.to_string()),
    }
}

/// The file's entries, each with an id.
fn lines(source: &Source) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>>> {
    let name = &source.name;
    let lines = source.open()?.lines().enumerate();
    Ok(lines.filter_map(move |(index, text)| {
        let text = match text {
            Ok(text) if text.trim().is_empty() => return None,
            Ok(text) => text,
            Err(error) => return Some(Err(error.into())),
        };
        let number = index + 1;
        let line = serde_json::from_str(&text)
            .with_context(|| format!("{name}:{number} changed while it was read"))
            .map(|feedback| Line {
                number,
                feedback: with_id(feedback),
            });
        Some(line)
    }))
}

fn with_id(mut feedback: Value) -> Value {
    if Record(&feedback).member("id").is_none() {
        let id = ContentHash::of_json(&feedback).to_string();
        feedback["id"] = id.into();
    }
    feedback
}

/// What the server has against lines of the file.
fn findings(problem: &Problem, name: &str, batch: &[Line]) -> Vec<String> {
    let of_line = |item: &ItemError| {
        let line = batch.get(item.index?)?;
        Some(format!("{name}:{}: {}", line.number, item.detail))
    };
    problem.errors.iter().filter_map(of_line).collect()
}

/// Says which lines of the file the server refuses, and how far the import came.
fn explain(
    error: ClientError,
    name: &str,
    batch: &[Line],
    done: u64,
    context: &Context<'_>,
) -> anyhow::Error {
    if let ClientError::Refused(problem) = &error
        && !context.printer.is_json()
    {
        for finding in findings(problem, name, batch) {
            context.printer.finding(&finding);
        }
    }
    if done > 0 {
        context.printer.note(&format!(
            "{done} entries were imported before this; import the file again to go on"
        ));
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_the_content_where_there_are_none() {
        let line = |text: &str| with_id(serde_json::from_str(text).unwrap());
        let thumbs = line(r#"{"call_id": "c", "kind": "thumbs", "value": true}"#);
        let reordered = line(r#"{"kind": "thumbs", "value": true, "call_id": "c"}"#);
        let other = line(r#"{"call_id": "c", "kind": "thumbs", "value": false}"#);
        assert_eq!(thumbs["id"], reordered["id"]);
        assert_ne!(thumbs["id"], other["id"]);
        assert_eq!(line(r#"{"id": "mine", "call_id": "c"}"#)["id"], "mine");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            (r#"{"call_id": "c", "kind": "rating", "value": 4}"#, None),
            (
                r#"{"call_id": "c", "kind": "rating", "value": 9}"#,
                Some("rating `9` lies outside"),
            ),
            (
                r#"{"kind": "thumbs", "value": true}"#,
                Some("`call_id` is missing"),
            ),
            ("[1]", Some("not a JSON object")),
            ("{", Some("1: EOF while parsing an object")),
            (
                r#"{"call_id": "c", "kind": "applause"}"#,
                Some("unknown variant"),
            ),
        ] {
            match (check_line(text), expected) {
                (Ok(()), None) => {}
                (Err(mistake), Some(part)) if mistake.contains(part) => {}
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
    }
}
