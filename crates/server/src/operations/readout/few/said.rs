//! Small counts in words.

use flywheel_core::metric::Metric;

use super::{CountedUnits, METHOD, is_failure};
use crate::operations::readout::{Comparison, words};

/// Puts small counts into words, once their p-value is final.
pub(in super::super) fn say(metric: &Metric, found: &mut Comparison) {
    let p = found.p;
    let Some(counts) = &mut found.small_counts else {
        return;
    };
    let what = match counts.counted {
        CountedUnits::WithEvent => "with an event",
        CountedUnits::WithNone => "with a value that is no event",
    };
    let [own, beside] = [
        (counts.arm, counts.arm_units),
        (counts.control, counts.control_units),
    ]
    .map(|(n, of)| format!("{} of {}", words::count(n as f64), words::count(of as f64)));
    let mut said = format!("{own} units {what} against {beside}");
    if let Some(p) = p {
        // A plan with a last look has no other.
        let when = match found.decided_on {
            Some(_) => "until the last look",
            None => "at any time",
        };
        said.push_str(&format!(", p {} {when}, {METHOD}", words::p_value(p)));
    }
    let share = match counts.counted {
        CountedUnits::WithEvent => "share",
        CountedUnits::WithNone => "share without",
    };
    let whose = match is_failure(metric, counts.counted) {
        true => "its",
        false => "the control's",
    };
    match counts.highest {
        Some(highest) => {
            let highest = words::trimmed(highest * 100.0);
            counts.brief.push_str(&format!("; at most {highest}%"));
            said.push_str(&format!(
                "; {whose} {share} is at most {highest}% at any time (one-sided .05)"
            ));
        }
        None if found.guardrail.is_some() => said.push_str(&format!(
            "; {whose} {share} has no upper bound, because those counted outnumber the units"
        )),
        None => {}
    }
    counts.said = said;
}
