//! Amounts and days as people read them in verdicts.

use flywheel_core::metric::{Metric, MetricKind};
use flywheel_core::plan::Plan;
use jiff::Timestamp;

/// A day counted from 1970, as `2026-01-31`.
pub(crate) fn day(day: i64) -> String {
    let at = Timestamp::from_second(day.saturating_mul(86_400)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d").to_string()
}

/// A difference in a metric's own unit, with its sign: points for shares.
pub(crate) fn difference(metric: &Metric, value: f64) -> String {
    format!("{}{}", signed(metric, value), unit(metric, value))
}

/// Two ends of an interval of differences.
pub(crate) fn interval(metric: &Metric, low: f64, high: f64) -> String {
    format!("{} to {}", signed(metric, low), signed(metric, high))
}

fn is_share(metric: &Metric) -> bool {
    metric.kind == MetricKind::Binary
}

fn signed(metric: &Metric, value: f64) -> String {
    let value = if is_share(metric) {
        value * 100.0
    } else {
        value
    };
    match trimmed(value) {
        text if text == "0" => text,
        text if value > 0.0 => format!("+{text}"),
        text => text.replacen('-', "−", 1),
    }
}

fn unit(metric: &Metric, value: f64) -> String {
    if is_share(metric) {
        let one = (value.abs() * 100.0 - 1.0).abs() < 1e-9;
        return if one { " point" } else { " points" }.to_owned();
    }
    match metric.unit.as_str() {
        "" => String::new(),
        unit => format!(" {unit}"),
    }
}

/// Three digits that matter, one decimal at least where they are few.
pub(crate) fn trimmed(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    match text {
        // What rounds to nothing has no sign.
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// A p-value.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 {
        return "< 0.0001".to_owned();
    }
    format!("{p:.4}")
}

/// Evidence against chance, given its logarithm: of 1,000 and more with its power of ten.
pub(crate) fn evidence(log_e: f64) -> String {
    let e = log_e.exp();
    if e < 1000.0 {
        return trimmed(e);
    }
    let tens = log_e / std::f64::consts::LN_10;
    let digits = 10_f64.powf(tens - tens.floor());
    format!("{digits:.1}·10^{:.0}", tens.floor())
}

/// A time in the unit that suits it.
pub(crate) fn duration(seconds: f64) -> String {
    let (size, unit) = match seconds {
        ..1.0 => (1e-3, "ms"),
        ..120.0 => (1.0, "s"),
        ..7200.0 => (60.0, "min"),
        ..172_800.0 => (3600.0, "h"),
        _ => (86_400.0, "days"),
    };
    format!("{} {unit}", trimmed(seconds / size))
}

/// A count with a comma between thousands.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{:.0}", value.ceil().max(0.0));
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The guardrails that take more units than the plan, with how many; nothing if none does.
pub(crate) fn slow_guardrails(plan: &Plan) -> Option<String> {
    let slow: Vec<String> = plan
        .slow_guardrails()
        .map(|(name, units)| format!("{name} up to {}", count(units)))
        .collect();
    (!slow.is_empty()).then(|| slow.join(", "))
}

/// So many things of a name that takes an `s`.
pub(crate) fn plural(n: u64, name: &str) -> String {
    match n {
        1 => format!("1 {name}"),
        n => format!("{} {name}s", count(n as f64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_core::metric::starter_set;

    #[test]
    fn amounts_have_their_unit_and_their_sign() {
        let metrics = starter_set();
        let metric = |name: &str| metrics.iter().find(|m| m.name.as_str() == name).unwrap();
        let completed = metric("task_completed");
        assert_eq!(difference(completed, 0.0613), "+6.13 points");
        assert_eq!(difference(completed, -0.01), "−1 point");
        assert_eq!(difference(completed, 0.0), "0 points");
        assert_eq!(difference(completed, -1e-13), "0 points");
        assert_eq!(interval(completed, -1e-13, 1e-13), "0 to 0");
        assert_eq!(evidence(4.78e7_f64.ln()), "4.8·10^7");
        assert_eq!(evidence(99.0_f64.ln()), "99");
        assert_eq!(interval(completed, -0.065, 0.057), "−6.5 to +5.7");
        assert_eq!(difference(metric("latency_p95"), 1234.5), "+1234 ms");
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(duration(0.25), "250 ms");
        assert_eq!(duration(90.0), "90 s");
        assert_eq!(duration(8100.0), "2.25 h");
        assert_eq!(duration(864_000.0), "10 days");
        assert_eq!(plural(1, "unit"), "1 unit");
        assert_eq!(plural(2310, "unit"), "2,310 units");
    }
}
