//! The built-in patterns: a regular expression finds candidates, a check decides.

mod card;
mod email;
mod phone;

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A kind of personal data that is recognised without configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinPattern {
    /// Mail addresses, with letters of any script, with a domain of at least two labels.
    Email,
    /// Card numbers: 13 to 19 digits, together or in groups of three or more with spaces or dashes between, that begin
    /// as payment cards do (2 followed by 2 to 7, or 3 to 6) and whose Luhn check digit is right.
    Card,
    /// Phone numbers of 7 to 15 digits:
    /// - international, `+` and a country code, with or without separators (`+49 (0)30 1234567`);
    /// - North American, in groups of 3-3-4, or 3-4 with a dash (`(555) 123-4567`, `1-800-555-0199`, `555-0199`);
    /// - with a trunk zero, as in Europe, in groups (`030/123 45 67`, `01.23.45.67.89`);
    /// - with an area code in parentheses (`(11) 91234-5678`), or a Chinese mobile number in groups.
    ///
    /// Digits without a separator and without a plus sign are no phone number: they are more often an order or an id.
    /// Dates, times, IP addresses, decimal numbers and UUIDs are left alone.
    Phone,
}

impl BuiltinPattern {
    /// Every built-in pattern, in the order in which they are applied.
    pub const ALL: [Self; 3] = [Self::Email, Self::Card, Self::Phone];

    /// The pattern's name, in configuration and in replacements.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Card => "card",
            Self::Phone => "phone",
        }
    }

    /// Reads the name of a pattern.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|pattern| pattern.as_str() == name)
    }

    /// Where the pattern is found, in order and without overlap.
    pub(super) fn find(self, text: &str) -> Vec<Range<usize>> {
        match self {
            Self::Email => email::find(text),
            Self::Card => card::find(text),
            Self::Phone => phone::find(text),
        }
    }
}

/// An expression is a constant, which the tests exercise; one that did not compile would find nothing.
type Expression = LazyLock<Option<Regex>>;

/// Characters of a regular expression's class: the spaces that people set between groups of digits.
const SPACE: &str = r" \x{a0}\x{2009}\x{202f}";

/// The same for dashes.
const DASH: &str = r"\-\x{2010}-\x{2013}";

/// Whether a range of a text lies within a UUID.
fn is_within_uuid(text: &str, range: &Range<usize>) -> bool {
    const LENGTH: usize = 36;
    let bytes = text.as_bytes();
    let belongs = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let left = bytes[..range.start]
        .iter()
        .rev()
        .take(LENGTH)
        .take_while(|byte| belongs(byte));
    let right = bytes[range.end..]
        .iter()
        .take(LENGTH)
        .take_while(|byte| belongs(byte));
    let token = &bytes[range.start - left.count()..range.end + right.count()];
    token.len() == LENGTH
        && (token.iter().enumerate())
            .all(|(index, byte)| matches!(index, 8 | 13 | 18 | 23) == (*byte == b'-'))
}

/// The groups of digits in a range of a text.
fn digit_groups(text: &str, range: &Range<usize>) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, byte) in text.as_bytes()[range.clone()].iter().enumerate() {
        let index = range.start + index;
        if !byte.is_ascii_digit() {
            continue;
        }
        match groups.last_mut() {
            Some(group) if group.end == index => group.end += 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}
