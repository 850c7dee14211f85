//! Redaction of personal data, before anything is stored or leaves.
//!
//! What is found is replaced by its kind in brackets: `[email]`, `[phone]`, `[card]`, or the name of a custom pattern.
//! The built-in patterns are described at [`BuiltinPattern`]. The time that redaction takes grows with the length of
//! the text and with nothing else.

mod builtin;
mod records;

use std::borrow::Cow;
use std::ops::Range;

use regex::Regex;
use serde_json::Value;

pub use builtin::BuiltinPattern;

/// How deep JSON inside of strings inside of JSON is looked into.
const DEEPEST_NESTED_JSON: usize = 8;

/// Replaces personal data in texts and in JSON.
#[derive(Debug, Clone)]
pub struct Redactor {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    replacement: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Custom(Regex),
    Builtin(BuiltinPattern),
}

/// A custom pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// The name would make an odd replacement.
    #[error("`{0}` cannot name a pattern: use 1 to 64 letters, digits, `_` or `-`")]
    Name(String),
    /// The expression does not compile.
    #[error("pattern `{name}` is not a valid regular expression: {problem}")]
    Expression {
        /// The pattern's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The expression is found in an empty text, hence everywhere.
    #[error("pattern `{0}` matches the empty text, which is everywhere")]
    MatchesEmpty(String),
}

impl Redactor {
    /// Prepares built-in patterns and custom ones, given as names and regular expressions.
    ///
    /// Custom patterns come first, in their order: they are more specific.
    ///
    /// # Errors
    /// The first custom pattern that cannot be used.
    pub fn new(
        builtins: &[BuiltinPattern],
        custom: &[(String, String)],
    ) -> Result<Self, InvalidPattern> {
        let mut rules = Vec::new();
        for (name, pattern) in custom {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
                return Err(InvalidPattern::Name(name.chars().take(80).collect()));
            }
            let regex = Regex::new(pattern).map_err(|error| InvalidPattern::Expression {
                name: name.clone(),
                problem: error.to_string(),
            })?;
            if regex.is_match("") {
                return Err(InvalidPattern::MatchesEmpty(name.clone()));
            }
            rules.push(Rule {
                replacement: format!("[{name}]"),
                matcher: Matcher::Custom(regex),
            });
        }
        // Not in the order given: a card number in groups would do as a phone number.
        for builtin in BuiltinPattern::ALL {
            if builtins.contains(&builtin) {
                let replacement = format!("[{}]", builtin.as_str());
                rules.push(Rule {
                    replacement,
                    matcher: Matcher::Builtin(builtin),
                });
            }
        }
        Ok(Self { rules })
    }

    /// Whether there is nothing to redact.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The text with what the patterns find replaced.
    ///
    /// A `data:` URL in Base64 stays as it is. A text that is a JSON object or list is redacted value by value, so
    /// that it is valid afterwards; it is written anew only if something was found.
    #[must_use]
    pub fn redact_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.redact_nested(text, DEEPEST_NESTED_JSON)
    }

    /// Replaces what the patterns find in every string and every whole number of a JSON value, and returns whether that
    /// changed anything. The names of members stay.
    pub fn redact_json(&self, value: &mut Value) -> bool {
        self.redact_value(value, DEEPEST_NESTED_JSON)
    }

    fn redact_value(&self, value: &mut Value, depth: usize) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => {
                // A card number is one with or without quotes.
                if !(number.is_i64() || number.is_u64()) {
                    return false;
                }
                let text = number.to_string();
                match self.redact_plain(&text) {
                    Cow::Borrowed(_) => false,
                    Cow::Owned(redacted) => {
                        *value = redacted.into();
                        true
                    }
                }
            }
            Value::String(text) => match self.redact_nested(text, depth) {
                Cow::Borrowed(_) => false,
                Cow::Owned(redacted) => {
                    *text = redacted;
                    true
                }
            },
            Value::Array(items) => self.redact_each(items.iter_mut(), depth),
            Value::Object(members) => self.redact_each(members.values_mut(), depth),
        }
    }

    fn redact_each<'a>(&self, values: impl Iterator<Item = &'a mut Value>, depth: usize) -> bool {
        let mut changed = false;
        for value in values {
            changed |= self.redact_value(value, depth);
        }
        changed
    }

    fn redact_nested<'a>(&self, text: &'a str, depth: usize) -> Cow<'a, str> {
        if self.is_empty() || is_data_url(text) {
            return Cow::Borrowed(text);
        }
        if depth > 0
            && text.trim_start().starts_with(['{', '['])
            && let Ok(mut value) = serde_json::from_str::<Value>(text)
        {
            return if self.redact_value(&mut value, depth - 1) {
                Cow::Owned(value.to_string())
            } else {
                Cow::Borrowed(text)
            };
        }
        self.redact_plain(text)
    }

    fn redact_plain<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for rule in &self.rules {
            let found = match &rule.matcher {
                Matcher::Custom(regex) => regex
                    .find_iter(&text)
                    .map(|found| found.range())
                    .filter(|range| !range.is_empty())
                    .collect(),
                Matcher::Builtin(builtin) => builtin.find(&text),
            };
            if !found.is_empty() {
                text = Cow::Owned(replace(&text, &found, &rule.replacement));
            }
        }
        text
    }
}

/// Whether a text is a `data:` URL in Base64, whole and with nothing after it.
fn is_data_url(text: &str) -> bool {
    let Some((header, data)) = text
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(','))
    else {
        return false;
    };
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    header.len() <= 200
        && header.ends_with(";base64")
        && !header.contains(char::is_whitespace)
        && data.bytes().all(is_base64)
}

fn replace(text: &str, ranges: &[Range<usize>], replacement: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut end = 0;
    for range in ranges {
        replaced.push_str(&text[end..range.start]);
        replaced.push_str(replacement);
        end = range.end;
    }
    replaced.push_str(&text[end..]);
    replaced
}

#[cfg(test)]
mod tests;
