//! Differences between two texts: by line, and inside of changed lines by word.

use serde::{Deserialize, Serialize};
use similar::{Algorithm, ChangeTag, DiffOp, DiffTag, TextDiff, capture_diff_slices};

/// Unchanged lines that are kept before and after a change.
const CONTEXT: usize = 3;

/// Beyond this many bytes or lines, what lies between the first and the last difference is shown as replaced: an exact
/// comparison takes time that grows with the square.
const MOST_BYTES: usize = 200_000;
const MOST_LINES: usize = 5_000;

/// The most bytes of changed lines that are compared by word.
const MOST_BYTES_BY_WORD: usize = 80_000;

/// How many lines a changed line is compared with, to find the one that it became.
const CANDIDATES: usize = 4;

/// How much two lines must have in common for their words to be told apart.
const LEAST_LIKENESS: f64 = 0.3;

/// One line of a difference, or a run of unchanged lines that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DiffLine {
    /// What became of the line.
    pub kind: DiffLineKind,
    /// The line's text without its line end, in pieces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    /// How many lines are left out here, where the kind is `skipped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DiffLineKind {
    /// It is in both texts.
    Equal,
    /// It is in the older text only.
    Removed,
    /// It is in the newer text only.
    Added,
    /// Lines that are in both texts, and far from any change, are left out.
    Skipped,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Span {
    /// The piece's text.
    pub text: String,
    /// Whether the line it is compared with has something else here. In a line that is compared with none, nothing is
    /// marked.
    pub changed: bool,
}

impl DiffLine {
    fn whole(kind: DiffLineKind, text: &str) -> Self {
        Self {
            kind,
            spans: vec![Span {
                text: text.to_owned(),
                changed: false,
            }],
            count: None,
        }
    }
}

/// The difference between two texts.
///
/// A text has one line more than it has newlines, so that a newline at its end counts; the empty text has none.
#[must_use]
pub fn diff_texts(before: &str, after: &str) -> Vec<DiffLine> {
    let (older, newer) = (lines(before), lines(after));
    let mut difference = Vec::new();
    let mut bytes_left = MOST_BYTES_BY_WORD;
    let operations = compare_lines(&older, &newer);
    let last = operations.len().saturating_sub(1);
    for (index, operation) in operations.into_iter().enumerate() {
        let (older, newer) = (&older[operation.old_range()], &newer[operation.new_range()]);
        if operation.tag() == DiffTag::Equal {
            push_unchanged(older, index == 0, index == last, &mut difference);
        } else {
            push_replaced(older, newer, &mut bytes_left, &mut difference);
        }
    }
    difference
}

fn lines(text: &str) -> Vec<&str> {
    if text.is_empty() {
        Vec::new()
    } else {
        text.split('\n').collect()
    }
}

fn compare_lines(older: &[&str], newer: &[&str]) -> Vec<DiffOp> {
    let prefix = older
        .iter()
        .zip(newer)
        .take_while(|(older, newer)| older == newer)
        .count();
    let (older_rest, newer_rest) = (&older[prefix..], &newer[prefix..]);
    let same_end = |(older, newer): &(&&str, &&str)| older == newer;
    let suffix = older_rest
        .iter()
        .rev()
        .zip(newer_rest.iter().rev())
        .take_while(same_end)
        .count();
    let old_len = older_rest.len() - suffix;
    let new_len = newer_rest.len() - suffix;
    let bytes = |lines: &[&str]| lines.iter().map(|line| line.len()).sum::<usize>();
    let size = bytes(&older_rest[..old_len]).max(bytes(&newer_rest[..new_len]));
    if size <= MOST_BYTES && old_len.max(new_len) <= MOST_LINES {
        return capture_diff_slices(Algorithm::Myers, older, newer);
    }
    [
        DiffOp::Equal {
            old_index: 0,
            new_index: 0,
            len: prefix,
        },
        DiffOp::Replace {
            old_index: prefix,
            old_len,
            new_index: prefix,
            new_len,
        },
        DiffOp::Equal {
            old_index: prefix + old_len,
            new_index: prefix + new_len,
            len: suffix,
        },
    ]
    .into_iter()
    .filter(|operation| !operation.old_range().is_empty() || !operation.new_range().is_empty())
    .collect()
}

/// Adds unchanged lines, leaving out those far from a change.
fn push_unchanged(lines: &[&str], is_first: bool, is_last: bool, difference: &mut Vec<DiffLine>) {
    let head = if is_first { 0 } else { CONTEXT };
    let tail = if is_last { 0 } else { CONTEXT };
    let whole = |line: &&str| DiffLine::whole(DiffLineKind::Equal, line);
    // A single line is shown rather than counted.
    if lines.len() <= head + tail + 1 {
        difference.extend(lines.iter().map(whole));
        return;
    }
    difference.extend(lines[..head].iter().map(whole));
    difference.push(DiffLine {
        kind: DiffLineKind::Skipped,
        spans: Vec::new(),
        count: Some(lines.len() - head - tail),
    });
    difference.extend(lines[lines.len() - tail..].iter().map(whole));
}

/// Adds lines that were replaced by others, compared by word where they are alike and not too many.
fn push_replaced(
    older: &[&str],
    newer: &[&str],
    bytes_left: &mut usize,
    difference: &mut Vec<DiffLine>,
) {
    let mut removed: Vec<_> = older
        .iter()
        .map(|line| DiffLine::whole(DiffLineKind::Removed, line))
        .collect();
    let mut added: Vec<_> = newer
        .iter()
        .map(|line| DiffLine::whole(DiffLineKind::Added, line))
        .collect();
    let mut first = 0;
    for (index, line) in older.iter().enumerate() {
        let mut nearest: Option<(usize, LinePair)> = None;
        for (candidate, other) in newer.iter().enumerate().skip(first).take(CANDIDATES) {
            let Some(left) = bytes_left.checked_sub(line.len() + other.len()) else {
                break;
            };
            *bytes_left = left;
            let pair = compare_words(line, other);
            let least = nearest
                .as_ref()
                .map_or(LEAST_LIKENESS, |(_, best)| best.likeness);
            if pair.likeness > least {
                nearest = Some((candidate, pair));
            }
        }
        if let Some((candidate, pair)) = nearest {
            removed[index].spans = pair.older;
            added[candidate].spans = pair.newer;
            first = candidate + 1;
        }
    }
    difference.append(&mut removed);
    difference.append(&mut added);
}

/// Two lines in pieces.
struct LinePair {
    older: Vec<Span>,
    newer: Vec<Span>,
    /// How much they have in common, white space aside, from 0 to 1.
    likeness: f64,
}

fn compare_words(older: &str, newer: &str) -> LinePair {
    let words = TextDiff::configure().diff_unicode_words(older, newer);
    let mut pair = LinePair {
        older: Vec::new(),
        newer: Vec::new(),
        likeness: 0.0,
    };
    let (mut common, mut all) = (0_usize, 0_usize);
    for change in words.iter_all_changes() {
        let (word, is_equal) = (change.value(), change.tag() == ChangeTag::Equal);
        let weight = word.trim().len();
        all += if is_equal { 2 * weight } else { weight };
        common += if is_equal { 2 * weight } else { 0 };
        if change.tag() != ChangeTag::Insert {
            push_piece(&mut pair.older, word, !is_equal);
        }
        if change.tag() != ChangeTag::Delete {
            push_piece(&mut pair.newer, word, !is_equal);
        }
    }
    pair.likeness = common as f64 / all.max(1) as f64;
    pair
}

/// Adds a word to the pieces of a line. White space between two changed words counts as changed with them.
fn push_piece(spans: &mut Vec<Span>, text: &str, changed: bool) {
    if changed
        && let [.., before, space] = spans.as_mut_slice()
        && before.changed
        && space.text.chars().all(char::is_whitespace)
    {
        before.text.push_str(&space.text);
        spans.pop();
    }
    match spans.last_mut() {
        Some(last) if last.changed == changed => last.text.push_str(text),
        _ => spans.push(Span {
            text: text.to_owned(),
            changed,
        }),
    }
}
