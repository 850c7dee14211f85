//! Payment card numbers.

use std::ops::{Range, RangeInclusive};
use std::sync::LazyLock;

use regex::Regex;

use super::{DASH, Expression, SPACE, digit_groups, is_within_uuid};

const LENGTHS: RangeInclusive<usize> = 13..=19;

/// The most groups in which a number is written.
const MOST_GROUPS: usize = 6;

static DIGITS: Expression =
    LazyLock::new(|| Regex::new(&format!("[0-9](?:[{SPACE}{DASH}]?[0-9]){{12,}}")).ok());

pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for digits in DIGITS.iter().flat_map(|digits| digits.find_iter(text)) {
        let groups = digit_groups(text, &digits.range());
        let mut first = 0;
        while first < groups.len() {
            let last = (first..groups.len().min(first + MOST_GROUPS))
                .rev()
                .find(|last| is_card(text, &groups[first..=*last]));
            if let Some(last) = last {
                found.push(groups[first].start..groups[last].end);
            }
            first = last.unwrap_or(first) + 1;
        }
    }
    found
}

fn is_card(text: &str, groups: &[Range<usize>]) -> bool {
    let [others @ .., last] = groups else {
        return false;
    };
    let start = groups[0].start;
    let length: usize = groups.iter().map(ExactSizeIterator::len).sum();
    if !LENGTHS.contains(&length) || others.iter().any(|group| group.len() < 3) {
        return false;
    }
    let mut before = text[..start].chars().rev();
    let mut after = text[last.end..].chars();
    let is_digit = |character: Option<char>| character.is_some_and(|c| c.is_ascii_digit());
    let stands_alone = |next: Option<char>, further: Option<char>| match next {
        Some('+' | '_') => false,
        Some('.' | ',') => !is_digit(further),
        Some(character) => !character.is_ascii_alphanumeric(),
        None => true,
    };
    if !stands_alone(before.next(), before.next()) || !stands_alone(after.next(), after.next()) {
        return false;
    }
    let digits: Vec<u8> = groups
        .iter()
        .flat_map(|group| text[group.clone()].bytes())
        .map(|byte| byte - b'0')
        .collect();
    matches!(digits[..], [2, 2..=7, ..] | [3..=6, ..])
        && passes_luhn(&digits)
        && !is_within_uuid(text, &(start..last.end))
}

fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}
