//! Ids of calls as people type them: whole, or the part of one that a list shows.

use anyhow::Result;
use serde_json::Value;

use super::Context;
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;

/// A part that is shorter is not searched for.
const SHORTEST_PART: usize = 8;
/// More calls that a part fits are not listed.
const MOST_CANDIDATES: usize = 5;

/// The call with an id, or with an id that begins or ends so. `None` if there is none.
pub(super) async fn find(context: &Context<'_>, typed: &str) -> Result<Option<Value>> {
    let call = |id: &str| Target::api("calls").at(id);
    if let Some(found) = context.find(&call(typed)).await? {
        return Ok(Some(found));
    }
    if typed.chars().count() < SHORTEST_PART {
        return Ok(None);
    }
    let limit = (MOST_CANDIDATES + 1).to_string();
    let target = Target::api("calls").with("id", typed).with("limit", &limit);
    let answer = context.client.get(&target).await?;
    let candidates: Vec<Record<'_>> = Record(&answer).items("items").collect();
    match candidates.as_slice() {
        [] => Ok(None),
        [one] => Ok(context.find(&call(one.text("id"))).await?),
        several => Err(ambiguous(context, typed, several).into()),
    }
}

/// How long the ids are that the gateway gives.
const WHOLE_ID: usize = 36;

/// Whether an id may be a part of one that the gateway gave: digits of a hash, and fewer than all.
pub(super) fn may_be_a_part(typed: &str) -> bool {
    let is_of_one = |character: char| character.is_ascii_hexdigit() || character == '-';
    (SHORTEST_PART..WHOLE_ID).contains(&typed.len()) && typed.chars().all(is_of_one)
}

/// The refusal for an id that no call has.
pub(super) fn unknown(typed: &str) -> Refusal {
    let hint = if typed.chars().count() < SHORTEST_PART {
        format!(
            "type the whole id, or at least {SHORTEST_PART} characters of its beginning or its end"
        )
    } else {
        "`flywheel calls list` shows the newest calls".to_owned()
    };
    Refusal::with_hint(format!("there is no call `{typed}`"), hint)
}

fn ambiguous(context: &Context<'_>, typed: &str, candidates: &[Record<'_>]) -> Refusal {
    let shown = candidates.iter().take(MOST_CANDIDATES);
    let mut lines: Vec<String> = shown
        .map(|call| {
            let ago = context.printer.ago(call.time("started_at"));
            let facts = [call.text("id"), &ago, call.text("app"), call.text("status")];
            let facts: Vec<&str> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
            facts.join("  ")
        })
        .collect();
    if candidates.len() > MOST_CANDIDATES {
        lines.push("… and more".to_owned());
    }
    Refusal::with_hint(
        format!("`{typed}` fits several calls"),
        "type more of the id",
    )
    .listing(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_whole_ids_and_from_those_that_apps_choose() {
        for (typed, expected) in [
            ("296d1fdc1288", true),
            ("01a21247-e874-7fb2", true),
            ("01a21247-e874-7fb2-8fe2-296d1fdc1288", false),
            ("ticket-42", false),
            ("c", false),
        ] {
            assert_eq!(may_be_a_part(typed), expected, "{typed}");
        }
    }
}
