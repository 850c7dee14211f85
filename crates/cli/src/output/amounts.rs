//! Times, durations, costs and numbers, as short as a person wants them.

use jiff::Timestamp;

const DAY: i64 = 24 * 60 * 60;

/// How long ago something was; the date if that is a month or more.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs();
    let (amount, unit) = match seconds.abs() {
        seconds @ 0..60 => (seconds, "s"),
        seconds @ 60..3600 => (seconds / 60, "min"),
        seconds @ 3600..DAY => (seconds / 3600, "h"),
        seconds if seconds < 2 * DAY => (1, "day"),
        seconds if seconds < 30 * DAY => (seconds / DAY, "days"),
        _ => return then.to_string().chars().take(10).collect(),
    };
    match seconds {
        ..-5 => format!("in {amount} {unit}"),
        -5..5 => "just now".to_owned(),
        5.. => format!("{amount} {unit} ago"),
    }
}

/// A duration in microseconds as milliseconds, seconds or minutes.
pub(crate) fn duration(microseconds: f64) -> String {
    let milliseconds = microseconds / 1000.0;
    if milliseconds < 9.95 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 999.5 {
        format!("{milliseconds:.0} ms")
    } else if milliseconds < 59_995.0 {
        format!("{:.2} s", milliseconds / 1000.0)
    } else {
        let seconds = (milliseconds / 1000.0).round();
        format!("{} min {} s", (seconds / 60.0).floor(), seconds % 60.0)
    }
}

/// An amount of US dollars, with two significant digits however small it is.
pub(crate) fn dollars(amount: f64) -> String {
    if amount == 0.0 {
        return "$0".to_owned();
    }
    let decimals = if amount.abs() >= 1.0 {
        2
    } else {
        let leading_zeros = (-amount.abs().log10()).floor().clamp(0.0, 7.0) as usize;
        (leading_zeros + 2).max(4)
    };
    format!("${amount:.decimals$}")
}

/// A number of billionths of a dollar, as calls record their cost.
pub(crate) fn nano_dollars(amount: f64) -> String {
    dollars(amount / 1e9)
}

/// A number with at most three decimals.
pub(crate) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// A share of one as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// Basis points as a percentage.
pub(crate) fn basis_points(points: f64) -> String {
    format!("{}%", number(points / 100.0))
}

/// A percentage that a person typed, as basis points.
pub(crate) fn parse_basis_points(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let points = number.parse::<f64>().unwrap_or(f64::NAN) * 100.0;
    if !(0.0..=10_000.0).contains(&points) {
        return Err("expected a percentage from 0 to 100".to_owned());
    }
    if (points - points.round()).abs() > 1e-6 {
        return Err("a percentage has at most two decimals".to_owned());
    }
    Ok(points.round() as u32)
}

/// A percentage above nothing, as basis points.
pub(crate) fn parse_share(text: &str) -> Result<u32, String> {
    match parse_basis_points(text)? {
        0 => Err("expected a percentage above 0, up to 100".to_owned()),
        points => Ok(points),
    }
}

/// The end of an id of a call, which tells it from others that were made at about the same time; ids that are not ours
/// as they are.
pub(crate) fn short_call_id(id: &str) -> &str {
    let groups: Vec<usize> = id.split('-').map(str::len).collect();
    if groups == [8, 4, 4, 4, 12] {
        &id[24..]
    } else {
        id
    }
}

/// Hashes by their first twelve digits; everything else as it is.
pub(crate) fn short_id(id: &str) -> &str {
    let is_hash = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { &id[..12] } else { id }
}

/// So many digits that matter, without zeros behind the point.
pub(crate) fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let behind = (digits - 1 - value.abs().log10().floor() as i32).clamp(0, 12) as usize;
    let text = format!("{value:.behind$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_for_a_month() {
        let now: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        for (then, expected) in [
            ("2026-07-01T12:00:00Z", "just now"),
            ("2026-07-01T11:59:48Z", "12 s ago"),
            ("2026-07-01T11:56:30Z", "3 min ago"),
            ("2026-07-01T02:00:00Z", "10 h ago"),
            ("2026-06-30T11:00:00Z", "1 day ago"),
            ("2026-06-10T11:00:00Z", "21 days ago"),
            ("2026-06-01T12:00:00Z", "2026-06-01"),
            ("2026-07-01T12:10:00Z", "in 10 min"),
        ] {
            assert_eq!(ago(then.parse().unwrap(), now), expected);
        }
    }

    #[test]
    fn amounts_are_short() {
        for (microseconds, expected) in [
            (400.0, "0.4 ms"),
            (9_960.0, "10 ms"),
            (312_000.0, "312 ms"),
            (999_700.0, "1.00 s"),
            (1_240_000.0, "1.24 s"),
            (125_000_000.0, "2 min 5 s"),
        ] {
            assert_eq!(duration(microseconds), expected);
        }
        for (amount, expected) in [
            (0.0, "$0"),
            (0.0012, "$0.0012"),
            (0.000_001_23, "$0.0000012"),
            (12.345_6, "$12.35"),
        ] {
            assert_eq!(dollars(amount), expected);
        }
        for (value, expected) in [
            (1.0, "1"),
            (0.25, "0.25"),
            (0.333_333, "0.333"),
            (-0.0001, "0"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn percentages_become_basis_points() {
        for (text, expected) in [
            ("10", Some(1000)),
            ("12.5%", Some(1250)),
            ("0.01", Some(1)),
            ("100", Some(10_000)),
        ] {
            assert_eq!(parse_basis_points(text).ok(), expected, "{text}");
        }
        assert!(parse_share("0").is_err());
        for text in ["101", "-1", "0.001", "ten", "", "NaN"] {
            assert!(parse_basis_points(text).is_err(), "{text}");
        }
    }

    #[test]
    fn hashes_are_shortened_and_call_ids_are_not() {
        assert_eq!(short_id(&"ab".repeat(32)), "abababababab");
        assert_eq!(short_id("0197f2a0-0000-7000-8000-000000000000").len(), 36);
        assert_eq!(short_id("latest"), "latest");
        let id = "0197f2a0-0000-7000-8000-1a2b3c4d5e6f";
        assert_eq!(short_call_id(id), "1a2b3c4d5e6f");
        assert_eq!(short_call_id("their-own"), "their-own");
    }
}
