//! Values of arguments that are checked while the command line is read, so that a mistake names its argument.

use flywheel_core::call::CallStatus;
use flywheel_core::hash;
use jiff::{SignedDuration, Timestamp};

const DAY: i64 = 24 * 60 * 60;
/// Longer ago than any call was made.
const LONGEST_AGO: i64 = 1000 * 365 * DAY;
const FEEDBACK_KINDS: [&str; 6] = [
    "thumbs",
    "rating",
    "comment",
    "correction",
    "outcome",
    "any",
];

/// A point in time that a person typed: RFC 3339, a date, or how long ago (`90s`, `15m`, `6h`, `7d`, `2w`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    At(Timestamp),
    Ago(SignedDuration),
}

impl When {
    /// The time as the server reads it.
    pub(crate) fn at(self, now: Timestamp) -> String {
        let time = match self {
            Self::At(time) => time,
            Self::Ago(duration) => now.saturating_sub(duration).unwrap_or(Timestamp::MIN),
        };
        time.to_string()
    }
}

/// Reads a point in time.
pub(crate) fn parse_when(text: &str) -> Result<When, String> {
    let expected = "expected a time (2026-07-01T12:00:00Z), a date (2026-07-01), or how long ago (15m, 6h, 7d)";
    read_when(text).ok_or_else(|| expected.to_owned())
}

fn read_when(text: &str) -> Option<When> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(When::At(time));
    }
    if let Ok(start) = format!("{text}T00:00:00Z").parse::<Timestamp>() {
        return Some(When::At(start));
    }
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    let amount: i64 = text[..text.len() - 1].parse().ok()?;
    let seconds = amount.checked_mul(unit)?;
    (0..=LONGEST_AGO)
        .contains(&seconds)
        .then(|| When::Ago(SignedDuration::from_secs(seconds)))
}

/// Reads a number, which neither NaN nor an infinity is.
pub(crate) fn parse_number(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| "expected a number, such as `4` or `0.5`".to_owned())
}

/// Reads an amount of money.
pub(crate) fn parse_price(text: &str) -> Result<f64, String> {
    let price = parse_number(text).ok().filter(|price| *price >= 0.0);
    price.ok_or_else(|| "expected an amount of US dollars, such as `0.15`".to_owned())
}

/// Reads a manifest's id, or the beginning of one.
pub(crate) fn parse_manifest(text: &str) -> Result<String, String> {
    if hash::is_hash_prefix(text) {
        return Ok(text.to_owned());
    }
    Err(
        "expected 12 or more digits of a manifest's id, as `flywheel history` shows them"
            .to_owned(),
    )
}

/// Reads a manifest's id or `none`.
pub(crate) fn parse_manifest_or_none(text: &str) -> Result<String, String> {
    if text == "none" {
        return Ok(text.to_owned());
    }
    parse_manifest(text).map_err(|expected| format!("{expected}, or `none`"))
}

/// Reads how a call ended.
pub(crate) fn parse_status(text: &str) -> Result<String, String> {
    let names = CallStatus::ALL.map(|status| status.as_str());
    one_of(text, &names)
}

/// Reads a kind of feedback.
pub(crate) fn parse_feedback_kind(text: &str) -> Result<String, String> {
    one_of(text, &FEEDBACK_KINDS)
}

fn one_of(text: &str, names: &[&str]) -> Result<String, String> {
    if names.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("expected one of {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_can_be_typed() {
        let now: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("2026-06-30T10:00:00Z", Some("2026-06-30T10:00:00Z")),
            ("2026-06-30T10:00:00+02:00", Some("2026-06-30T08:00:00Z")),
            ("2026-06-30", Some("2026-06-30T00:00:00Z")),
            ("90s", Some("2026-07-01T11:58:30Z")),
            ("6h", Some("2026-07-01T06:00:00Z")),
            ("2w", Some("2026-06-17T12:00:00Z")),
            ("-1h", None),
            ("h", None),
            ("7 days", None),
            ("1ü", None),
            ("", None),
            ("999999999d", None),
            ("999999999999999999d", None),
        ] {
            let read = parse_when(text).ok().map(|when| when.at(now));
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(parse_number("-0.5"), Ok(-0.5));
        assert_eq!(parse_price("0"), Ok(0.0));
        for wrong in ["", "NaN", "inf", "-Infinity", "1e999", "four"] {
            assert!(parse_number(wrong).is_err(), "{wrong}");
        }
        assert!(parse_price("-1").is_err());
    }

    #[test]
    fn manifests_are_named_by_digits() {
        assert!(parse_manifest("1a2b3c4d5e6f").is_ok());
        assert!(parse_manifest_or_none("none").is_ok());
        for wrong in ["", "3", "none", "1a2b3c4d5e6", "summary@2"] {
            assert!(parse_manifest(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_those_there_are() {
        assert_eq!(parse_status("ok").as_deref(), Ok("ok"));
        assert_eq!(parse_feedback_kind("any").as_deref(), Ok("any"));
        assert!(parse_status("fine").unwrap_err().contains("provider_error"));
        assert!(parse_feedback_kind("applause").is_err());
    }
}
