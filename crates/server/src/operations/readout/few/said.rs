//! Small counts in words.

use flywheel_core::metric::{Direction, Metric};

use super::{CountedUnits, METHOD};
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
    let shown = |n: u64| words::count(n as f64);
    let found_by_arm = (
        format!("{} of {}", shown(counts.arm), shown(counts.arm_units)),
        format!(
            "{} of {}",
            shown(counts.control),
            shown(counts.control_units)
        ),
    );
    let mut said = format!("{} units {what} against {}", found_by_arm.0, found_by_arm.1);
    counts.brief = format!("{} against {}", found_by_arm.0, found_by_arm.1);
    if let Some(p) = p {
        said.push_str(&format!(", p {} at any time, {METHOD}", words::p_value(p)));
    }
    let failures = match metric.direction {
        Direction::Lower => "share",
        Direction::Higher => "share without",
    };
    match counts.highest {
        Some(highest) => {
            let highest = words::trimmed(highest * 100.0);
            counts.brief.push_str(&format!("; at most {highest}%"));
            said.push_str(&format!(
                "; its {failures} is at most {highest}% at any time (one-sided .05)"
            ));
        }
        None if found.guardrail.is_some() => said.push_str(&format!(
            "; its {failures} has no upper bound, because failures outnumber the units"
        )),
        None => {}
    }
    counts.said = said;
}
