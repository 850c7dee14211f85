//! How values are shown: numbers and times for people, and what models and users wrote as hostile text.

use std::fmt::{self, Display, Write as _};

use askama::filters::HtmlSafe;
use jiff::{Timestamp, Unit};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The longest text that a page shows, in characters; what is longer is cut and says so.
const LONGEST_TEXT: usize = 20_000;

/// Text that is HTML already.
#[derive(Debug, Clone, Default)]
pub(super) struct Markup(pub(super) String);

impl Display for Markup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// A text that somebody else wrote, at most so many characters of it. Nothing in it acts: markup is escaped, and what
/// would be invisible or turn the direction of writing is named.
pub(super) fn text_up_to(text: &str, most: usize) -> Markup {
    let mut html = String::with_capacity(text.len().min(4 * most) + 16);
    let mut characters = text.chars();
    for character in characters.by_ref().take(most) {
        push(&mut html, character);
    }
    let left = characters.count();
    if left > 0 {
        let _ = write!(
            html,
            "<span class=\"cut\">… {} more characters</span>",
            count(left as u64)
        );
    }
    Markup(html)
}

/// A text that somebody else wrote.
pub(super) fn text(text: &str) -> Markup {
    text_up_to(text, LONGEST_TEXT)
}

/// What the API says to programs, as a sentence for people: what stands between backticks is set as code.
pub(super) fn prose(text: &str) -> Markup {
    let mut characters = text.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    sentence(&(first.unwrap_or_default() + characters.as_str()))
}

/// A sentence, which may begin with a name; what stands between backticks is set as code.
pub(super) fn sentence(text: &str) -> Markup {
    let parts: Vec<_> = text.split('`').collect();
    let mut html = String::new();
    for (index, part) in parts.iter().enumerate() {
        let shown = self::text(part);
        let is_closed = index + 1 < parts.len();
        let _ = match index % 2 {
            1 if is_closed => write!(html, "<code>{shown}</code>"),
            1 => write!(html, "`{shown}"),
            _ => write!(html, "{shown}"),
        };
    }
    Markup(html)
}

/// The beginning of such a text, on one line.
pub(super) fn line(text: &str) -> Markup {
    let mut words = String::new();
    for word in text.split_whitespace() {
        if words.len() > 800 {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    let mut line = words;
    if let Some((end, _)) = line.char_indices().nth(160) {
        line.truncate(end);
        line.push('…');
    }
    self::text(&line)
}

fn push(html: &mut String, character: char) {
    match character {
        '&' => html.push_str("&amp;"),
        '<' => html.push_str("&lt;"),
        '>' => html.push_str("&gt;"),
        '"' => html.push_str("&quot;"),
        '\'' => html.push_str("&#39;"),
        '\n' | '\t' => html.push(character),
        hidden if is_hidden(hidden) => {
            let _ = write!(
                html,
                "<span class=\"hidden-character\">U+{:04X}</span>",
                hidden as u32
            );
        }
        plain => html.push(plain),
    }
}

/// Characters that have no look of their own, or change that of others.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A segment of a path, or a value in a query.
pub(super) fn encoded(value: impl AsRef<str>) -> String {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~');
    utf8_percent_encode(value.as_ref(), KEPT).to_string()
}

/// A time, relative for reading and exact on hover.
pub(super) fn when(time: Timestamp, now: Timestamp) -> Markup {
    Markup(format!(
        "<time datetime=\"{time}\" title=\"{}\">{}</time>",
        exact(time),
        ago(time, now)
    ))
}

/// A time to the second, in UTC.
pub(super) fn exact(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long ago something was, in one unit.
pub(super) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs();
    match seconds {
        ..0 => "in the future".to_owned(),
        0..5 => "now".to_owned(),
        5..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..2_592_000 => format!("{} d ago", seconds / 86_400),
        _ => time.strftime("%Y-%m-%d").to_string(),
    }
}

/// An hour or a day of a chart.
pub(super) fn clock(time: Timestamp, slot_seconds: u32) -> String {
    let format = if slot_seconds >= 86_400 {
        "%b %-d"
    } else {
        "%b %-d %H:%M"
    };
    let rounded = time.round(Unit::Minute).unwrap_or(time);
    rounded.strftime(format).to_string()
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A latency in microseconds.
pub(super) fn latency(microseconds: u64) -> String {
    let milliseconds = microseconds as f64 / 1e3;
    match milliseconds {
        0.0 => "0 ms".to_owned(),
        ..1.0 => format!("{microseconds} µs"),
        1.0..10.0 => format!("{milliseconds:.1} ms"),
        10.0..1000.0 => format!("{milliseconds:.0} ms"),
        1000.0..10_000.0 => format!("{:.2} s", milliseconds / 1e3),
        _ => format!("{:.1} s", milliseconds / 1e3),
    }
}

/// An amount of US dollars.
pub(super) fn dollars(nano_usd: i64) -> String {
    let dollars = nano_usd as f64 / 1e9;
    match dollars.abs() {
        0.0 => "$0".to_owned(),
        ..0.01 => format!("${}", two_digits(dollars)),
        0.01..1.0 => format!("${dollars:.4}"),
        _ => format!("${dollars:.2}"),
    }
}

/// A number below one to two significant digits.
fn two_digits(number: f64) -> String {
    let zeros = -number.abs().log10().floor();
    format!("{number:.*}", (zeros + 1.0).clamp(2.0, 12.0) as usize)
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 10.0 {
        format!("{percent:.1}%")
    } else {
        format!("{percent:.0}%")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_foreign_text_acts() {
        for (written, shown) in [
            (
                "<script>alert('1')</script>",
                "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;",
            ),
            (
                "a\u{202e}b",
                "a<span class=\"hidden-character\">U+202E</span>b",
            ),
            (
                "\u{1b}[31m",
                "<span class=\"hidden-character\">U+001B</span>[31m",
            ),
            ("two\nlines", "two\nlines"),
            ("日本 é", "日本 é"),
        ] {
            assert_eq!(text(written).0, shown);
        }
        let long = text(&"x".repeat(5_000_000)).0;
        assert!(long.len() < 30_000);
        assert!(long.ends_with("… 4,980,000 more characters</span>"));
    }

    #[test]
    fn what_programs_are_told_becomes_a_sentence() {
        for (told, shown) in [
            ("there is no call `x`", "There is no call <code>x</code>"),
            ("`<b>` is no time", "<code>&lt;b&gt;</code> is no time"),
            (
                "an open ` stays & is no code",
                "An open ` stays &amp; is no code",
            ),
            ("`a` and `b", "<code>a</code> and `b"),
            ("", ""),
        ] {
            assert_eq!(prose(told).0, shown);
        }
    }

    #[test]
    fn amounts_are_legible() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(latency(999), "999 µs");
        assert_eq!(latency(184_300), "184 ms");
        assert_eq!(latency(2_500_000), "2.50 s");
        assert_eq!(dollars(1_234_000), "$0.0012");
        assert_eq!(dollars(14_100), "$0.000014");
        assert_eq!(dollars(12_340_000_000), "$12.34");
        assert_eq!(percent(0.034), "3.4%");
        assert_eq!(percent(0.5), "50%");
        assert_eq!(encoded("support/summary v2"), "support%2Fsummary%20v2");
    }
}
