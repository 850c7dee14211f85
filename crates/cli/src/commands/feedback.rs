//! `flywheel feedback`: what people and apps say of calls.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::{Context, Outcome, call_id, feedback_import, feedback_list, feedback_summary};
use crate::arguments::{parse_number, parse_text};
use crate::client::Target;
use crate::failure;
use crate::output::record::Record;
use crate::printer::Style;

/// Send, import, list and summarise feedback
#[derive(Debug, Subcommand)]
pub(crate) enum FeedbackCommand {
    /// Say something of one call
    Send(SendArgs),
    /// Import feedback from a file with one JSON object a line; importing it again changes nothing
    Import {
        /// The file, or - for stdin
        #[arg(value_name = "FILE.ndjson")]
        file: PathBuf,
    },
    /// List feedback, newest first
    List(feedback_list::ListArgs),
    /// Summarise feedback and signals, with intervals
    Summary(feedback_summary::SummaryArgs),
}

/// Feedback on one call.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["thumbs", "rating", "comment", "correction", "outcome"]))]
pub(crate) struct SendArgs {
    /// The call's id, which its answer had, or 8 or more characters of its beginning or its end
    call_id: String,
    /// Good or bad
    #[arg(long, value_enum)]
    thumbs: Option<Thumbs>,
    /// A grade
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_number)]
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
    outcome: Option<OutcomeValue>,
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
                min: parse_number(min).ok()?,
                max: parse_number(max).ok()?,
            })
        });
        ends.filter(|scale| scale.min < scale.max)
            .ok_or_else(|| "expected MIN..MAX, such as `0..10`".to_owned())
    }
}

/// What came of a call, by name.
#[derive(Debug, Clone, PartialEq)]
struct OutcomeValue {
    name: String,
    value: Value,
}

impl FromStr for OutcomeValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = text.split_once('=').and_then(|(name, value)| {
            let value = match value {
                "true" | "yes" => true.into(),
                "false" | "no" => false.into(),
                number => parse_number(number).ok()?.into(),
            };
            let name = name.to_owned();
            (!name.is_empty()).then_some(Self { name, value })
        });
        read.ok_or_else(|| {
            "expected NAME=VALUE, the value a number, true or false, such as `handle_time=12.5`"
                .to_owned()
        })
    }
}

impl FeedbackCommand {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Send(args) => send(args, context).await,
            Self::Import { file } => feedback_import::run(&file, context).await,
            Self::List(args) => args.run(context).await,
            Self::Summary(args) => args.run(context).await,
        }
    }
}

async fn send(mut args: SendArgs, context: &Context<'_>) -> Outcome {
    let warning = match call_id::find(context, &args.call_id).await {
        Ok(Some(call)) => {
            args.call_id = Record(&call).text("id").to_owned();
            None
        }
        Ok(None) => Some(format!(
            "no call `{}` is known yet; the feedback counts once one of exactly that id is recorded",
            args.call_id
        )),
        // A key that may send feedback need not be one that may read calls.
        Err(error) if failure::is_forbidden(&error) => call_id::may_be_a_part(&args.call_id).then(|| {
            format!(
                "this key may not look calls up, so `{}` was taken for a whole id; if it is a part of one, send again with \
                 the whole id",
                args.call_id
            )
        }),
        Err(error) => return Err(error),
    };
    let answer = context
        .client
        .post(&Target::api("feedback"), &body(&args).into())
        .await?;
    context.printer.show(&answer, |answer| {
        let stored = answer.items("items").next();
        let id = stored.map(|item| item.text("id")).unwrap_or_default();
        context
            .printer
            .line(Style::Plain, &format!("stored as {id}"))?;
        if let Some(warning) = &warning {
            context.printer.warning(warning);
        }
        context.printer.tip(
            "feedback-summary",
            "`flywheel feedback summary` shows what all of it comes to",
        );
        Ok(())
    })
}

fn body(args: &SendArgs) -> Map<String, Value> {
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
        set("value", outcome.value.clone());
    }
    if let Some(author) = &args.author {
        set("author", author.clone().into());
    }
    body
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
        for wrong in ["", "5", "5..1", "1..1", "a..b", "0..inf"] {
            assert!(wrong.parse::<Scale>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn outcomes_are_numbers_or_answers() {
        for (text, expected) in [
            ("a=true", json!(true)),
            ("a=no", json!(false)),
            ("a=12.5", json!(12.5)),
            ("a=-3", json!(-3.0)),
        ] {
            let name = "a".to_owned();
            let value = expected;
            assert_eq!(text.parse(), Ok(OutcomeValue { name, value }));
        }
        for wrong in ["", "a", "=1", "a=", "a=often", "a=NaN", "a=-inf"] {
            assert!(wrong.parse::<OutcomeValue>().is_err(), "{wrong}");
        }
    }
}
