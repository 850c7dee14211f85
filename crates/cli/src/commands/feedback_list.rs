//! `flywheel feedback list`: what was said, newest first.

use clap::Args;

use super::calls::whole_version;
use super::{Context, Outcome, id_cell};
use crate::arguments::{PageArgs, VersionReference, When, parse_when};
use crate::client::Target;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::Table;

/// Which feedback.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// On calls of an app
    #[arg(long)]
    app: Option<String>,
    /// Of a kind
    #[arg(long, value_parser = ["thumbs", "rating", "comment", "correction", "outcome"])]
    kind: Option<String>,
    /// On calls rendered from a prompt version [without REF: the latest]
    #[arg(long, value_name = "NAME[@REF]|HASH")]
    prompt_version: Option<VersionReference>,
    /// Since a time (2026-07-01T12:00:00Z), a date, or for a while (15m, 6h, 7d)
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<When>,
    /// With a text in the comment or the correction
    #[arg(long)]
    text: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl ListArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let now = context.sources.clock.now();
        let since = self.since.map(|when| when.at(now));
        let version = whole_version(context, self.prompt_version.as_ref()).await?;
        let target = Target::api("feedback")
            .with_some("app", self.app.as_deref())
            .with_some("kind", self.kind.as_deref())
            .with_some("prompt_version", version.as_deref())
            .with_some("since", since.as_deref())
            .with_some("text", self.text.as_deref());
        let mut is_empty = false;
        let shown = context
            .list(target, &self.page, "no feedback fits", |answer| {
                let table = table(context, Record(answer));
                is_empty = table.is_empty();
                table
            })
            .await?;
        if is_empty {
            context.explain_nothing(self.app.as_deref()).await?;
        }
        Ok(shown)
    }
}

fn table(context: &Context<'_>, answer: Record<'_>) -> Table {
    let mut table = Table::new(&["when", "kind", "~what", "version", "by", "app", "call"])
        .giving_up(&["by", "app", "version"]);
    for feedback in answer.items("items") {
        let call = feedback.text("call_id");
        table.row([
            context.ago(feedback, "created_at"),
            feedback.text("kind").into(),
            said(feedback).into(),
            feedback.prompt_reference().into(),
            feedback.text("author").into(),
            feedback.text("app").into(),
            id_cell(call).or_short(amounts::short_call_id(call)),
        ]);
    }
    table
}

/// What a piece of feedback says, in words.
pub(super) fn said(feedback: Record<'_>) -> String {
    let value = feedback.shown("value");
    match feedback.text("kind") {
        "thumbs" if feedback.flag("value") => "up".to_owned(),
        "thumbs" => "down".to_owned(),
        "rating" => {
            let best = feedback
                .record("scale")
                .and_then(|scale| scale.number("max"));
            let number = feedback.number("value").map_or(value, amounts::number);
            match best {
                Some(best) => format!("{number} of {}", amounts::number(best)),
                None => number,
            }
        }
        "outcome" => {
            let number = feedback.number("value").map_or(value, amounts::number);
            format!("{} = {number}", feedback.text("name"))
        }
        _ => feedback.text("text").to_owned(),
    }
}
