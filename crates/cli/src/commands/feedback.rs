//! `flywheel feedback`: what people and apps say of calls.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::{Context, Outcome, feedback_import, feedback_summary};
use crate::arguments::{Assignment, parse_text};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;
use crate::printer::Style;

/// Send, import and summarise feedback
#[derive(Debug, Subcommand)]
pub(crate) enum FeedbackCommand {
    /// Say something of one call
    Send(SendArgs),
    /// Import feedback from a file with one JSON object a line; importing it again changes nothing
    Import {
        /// The file
        #[arg(value_name = "FILE.ndjson")]
        file: PathBuf,
    },
    /// Summarise feedback and signals, with intervals
    Summary(feedback_summary::SummaryArgs),
}

/// Feedback on one call.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["thumbs", "rating", "comment", "correction", "outcome"]))]
pub(crate) struct SendArgs {
    /// The call's id, which its answer had
    call_id: String,
    /// Good or bad
    #[arg(long, value_enum)]
    thumbs: Option<Thumbs>,
    /// A grade
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rating: Option<f64>,
    /// The grade's scale [default: 1..5]
    #[arg(
        long,
        value_name = "MIN..MAX",
        requires = "rating",
        allow_hyphen_values = true
    )]
    scale: Option<Scale>,
    /// Words
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    comment: Option<String>,
    /// The answer as it should have been
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    correction: Option<String>,
    /// What came of it: a number, true or false
    #[arg(long, value_name = "NAME=VALUE")]
    outcome: Option<Assignment>,
    /// Who says it
    #[arg(long)]
    author: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Thumbs {
    Up,
    Down,
}

/// The ends of a rating's scale.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    min: f64,
    max: f64,
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once("..").and_then(|(min, max)| {
            Some(Self {
                min: min.parse().ok()?,
                max: max.parse().ok()?,
            })
        });
        ends.filter(|scale| scale.min < scale.max)
            .ok_or_else(|| "expected MIN..MAX, such as `0..10`".to_owned())
    }
}

impl FeedbackCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Send(args) => send(args, context).await,
            Self::Import { file } => feedback_import::run(&file, context).await,
            Self::Summary(args) => args.run(context).await,
        }
    }
}

async fn send(args: SendArgs, context: &Context<'_>) -> Outcome {
    let answer = context
        .client
        .post(&Target::api("feedback"), &body(&args)?.into())
        .await?;
    context.printer.show(&answer, |answer| {
        let stored = answer.items("items").next();
        let id = stored.map(|item| item.text("id")).unwrap_or_default();
        context
            .printer
            .line(Style::Plain, &format!("stored as {id}"))?;
        context
            .printer
            .hint("`flywheel feedback summary` shows what all of it comes to");
        Ok(())
    })
}

fn body(args: &SendArgs) -> anyhow::Result<Map<String, Value>> {
    let mut body = Map::from_iter([("call_id".to_owned(), json!(args.call_id))]);
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    if let Some(thumbs) = args.thumbs {
        set("kind", "thumbs".into());
        set("value", matches!(thumbs, Thumbs::Up).into());
    } else if let Some(rating) = args.rating {
        set("kind", "rating".into());
        set("value", rating.into());
        if let Some(scale) = args.scale {
            set("scale", json!({"min": scale.min, "max": scale.max}));
        }
    } else if let Some(comment) = &args.comment {
        set("kind", "comment".into());
        set("text", comment.clone().into());
    } else if let Some(correction) = &args.correction {
        set("kind", "correction".into());
        set("text", correction.clone().into());
    } else if let Some(outcome) = &args.outcome {
        set("kind", "outcome".into());
        set("name", outcome.name.clone().into());
        set("value", outcome_value(&outcome.value)?);
    }
    if let Some(author) = &args.author {
        set("author", author.clone().into());
    }
    Ok(body)
}

fn outcome_value(text: &str) -> anyhow::Result<Value> {
    match text {
        "true" | "yes" => Ok(true.into()),
        "false" | "no" => Ok(false.into()),
        other => match other.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number.into()),
            _ => Err(Refusal::new(format!("outcome `{text}` is no number, true or false")).into()),
        },
    }
}

/// What the server says of one stored item.
pub(super) fn is_duplicate(item: Record<'_>) -> bool {
    item.text("stored") == "duplicate"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_two_ends() {
        assert_eq!(
            "0..10".parse(),
            Ok(Scale {
                min: 0.0,
                max: 10.0
            })
        );
        assert_eq!(
            "-1..1.5".parse(),
            Ok(Scale {
                min: -1.0,
                max: 1.5
            })
        );
        for wrong in ["", "5", "5..1", "1..1", "a..b"] {
            assert!(wrong.parse::<Scale>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn outcomes_are_numbers_or_answers() {
        for (text, expected) in [
            ("true", json!(true)),
            ("no", json!(false)),
            ("12.5", json!(12.5)),
            ("-3", json!(-3.0)),
        ] {
            assert_eq!(outcome_value(text).unwrap(), expected);
        }
        for wrong in ["", "often", "NaN", "inf"] {
            assert!(outcome_value(wrong).is_err(), "{wrong}");
        }
    }
}
