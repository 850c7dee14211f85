//! Which message of the newer version each message of the older one became, and what changed in it.

use std::collections::HashSet;

use serde_json::json;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::text::diff_texts;
use super::{Change, json_values};
use crate::prompt::PromptMessage;

/// The most pairs of messages that are compared with each other; beyond, messages are paired in order.
const MOST_PAIRS: usize = 2_500;

/// The words of a message that its likeness to others is judged by.
const WORDS_COMPARED: usize = 400;

/// A message of each version, or one that the other version does not have.
enum Pair {
    Both(usize, usize),
    Removed(usize),
    Added(usize),
}

/// Adds what differs between two lists of messages.
pub(super) fn compare(
    before: &[PromptMessage],
    after: &[PromptMessage],
    changes: &mut Vec<Change>,
) {
    for pair in align(before, after) {
        match pair {
            Pair::Both(older, newer) => {
                compare_message(&before[older], &after[newer], newer, changes);
            }
            Pair::Removed(index) => {
                let message = &before[index];
                changes.push(Change {
                    field: format!("messages[{index}]"),
                    before: Some(json!(message)),
                    after: None,
                    text: Some(diff_texts(&message.content, "")),
                });
            }
            Pair::Added(index) => {
                let message = &after[index];
                changes.push(Change {
                    field: format!("messages[{index}]"),
                    before: None,
                    after: Some(json!(message)),
                    text: Some(diff_texts("", &message.content)),
                });
            }
        }
    }
}

fn compare_message(
    before: &PromptMessage,
    after: &PromptMessage,
    index: usize,
    changes: &mut Vec<Change>,
) {
    let (older, newer) = (json!(before), json!(after));
    for member in ["role", "name", "literal"] {
        let field = format!("messages[{index}].{member}");
        json_values::compare(&field, older.get(member), newer.get(member), changes);
    }
    if before.content != after.content {
        changes.push(Change {
            field: format!("messages[{index}].content"),
            before: Some(before.content.as_str().into()),
            after: Some(after.content.as_str().into()),
            text: Some(diff_texts(&before.content, &after.content)),
        });
    }
}

fn align(before: &[PromptMessage], after: &[PromptMessage]) -> Vec<Pair> {
    let key = |message: &PromptMessage| json!(message).to_string();
    let older: Vec<_> = before.iter().map(key).collect();
    let newer: Vec<_> = after.iter().map(key).collect();
    let mut pairs = Vec::new();
    for operation in capture_diff_slices(Algorithm::Myers, &older, &newer) {
        match operation {
            DiffOp::Equal { .. } => {}
            DiffOp::Delete {
                old_index, old_len, ..
            } => {
                pairs.extend((old_index..old_index + old_len).map(Pair::Removed));
            }
            DiffOp::Insert {
                new_index, new_len, ..
            } => {
                pairs.extend((new_index..new_index + new_len).map(Pair::Added));
            }
            DiffOp::Replace {
                old_index,
                old_len,
                new_index,
                new_len,
            } => {
                let gap = align_gap(
                    &before[old_index..old_index + old_len],
                    &after[new_index..new_index + new_len],
                );
                pairs.extend(gap.into_iter().map(|pair| match pair {
                    Pair::Both(older, newer) => Pair::Both(old_index + older, new_index + newer),
                    Pair::Removed(older) => Pair::Removed(old_index + older),
                    Pair::Added(newer) => Pair::Added(new_index + newer),
                }));
            }
        }
    }
    pairs
}

/// Aligns messages none of which stayed as it was, so that the likeness of the pairs adds up to the most.
fn align_gap(before: &[PromptMessage], after: &[PromptMessage]) -> Vec<Pair> {
    let (rows, columns) = (before.len(), after.len());
    if rows * columns > MOST_PAIRS {
        let both = (0..rows.min(columns)).map(|index| Pair::Both(index, index));
        let removed = (columns..rows).map(Pair::Removed);
        return both
            .chain(removed)
            .chain((rows..columns).map(Pair::Added))
            .collect();
    }
    let older_words: Vec<HashSet<&str>> = before.iter().map(words_of).collect();
    let newer_words: Vec<HashSet<&str>> = after.iter().map(words_of).collect();
    let mut likeness = vec![vec![0.0; columns]; rows];
    for (row, older) in before.iter().enumerate() {
        for (column, newer) in after.iter().enumerate() {
            let overlap = overlap(&older_words[row], &newer_words[column]);
            likeness[row][column] = match (older.role == newer.role, overlap) {
                (true, overlap) => 1.0 + overlap,
                (false, overlap) if overlap > 0.5 => overlap,
                (false, _) => 0.0,
            };
        }
    }
    // The best sum for what remains from `row` and `column` on.
    let mut best = vec![vec![0.0_f64; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            let paired = likeness[row][column] + best[row + 1][column + 1];
            best[row][column] = paired.max(best[row + 1][column]).max(best[row][column + 1]);
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut pairs = Vec::new();
    while row < rows || column < columns {
        if row == rows {
            pairs.push(Pair::Added(column));
            column += 1;
        } else if column == columns || best[row][column] <= best[row + 1][column] {
            pairs.push(Pair::Removed(row));
            row += 1;
        } else if best[row][column] <= best[row][column + 1] {
            pairs.push(Pair::Added(column));
            column += 1;
        } else {
            pairs.push(Pair::Both(row, column));
            (row, column) = (row + 1, column + 1);
        }
    }
    pairs
}

fn words_of(message: &PromptMessage) -> HashSet<&str> {
    message
        .content
        .split_whitespace()
        .take(WORDS_COMPARED)
        .collect()
}

/// How much two sets of words have in common, from 0 to 1.
fn overlap(older: &HashSet<&str>, newer: &HashSet<&str>) -> f64 {
    let all = older.union(newer).count();
    if all == 0 {
        1.0
    } else {
        older.intersection(newer).count() as f64 / all as f64
    }
}
