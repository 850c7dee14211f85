//! What is to be known beside the numbers of a comparison, in a few words.

use flywheel_core::metric::{Metric, MetricKind};

use super::{Comparison, Finding, few, is_quantile, words};

/// Puts a comparison's circumstances into words, once its numbers are final.
pub(super) fn say(metric: &Metric, found: &mut Comparison) {
    few::say(metric, found);
    found.note = match (found.difference, &found.compared_until) {
        (Some(_), _) => Some(beside(metric, found)).filter(|note| !note.is_empty()),
        (None, Some(until)) if !is_quantile(metric) => Some(format!(
            "no values until {}, the last day that both were served",
            until.day
        )),
        (None, _) => found.undefined.clone(),
    };
}

/// What stands beside a difference.
fn beside(metric: &Metric, found: &Comparison) -> String {
    let mut notes = circumstances(metric, found);
    if found.is_unstable && found.decided_on.is_none() {
        notes.push("looks of different days contradict each other: the effect changes".to_owned());
    }
    notes.extend(
        found
            .small_counts
            .as_ref()
            .map(|counts| counts.said.clone()),
    );
    notes.extend(of_earlier_counts(found));
    if found.low.is_none() && found.small_counts.is_none() {
        notes.extend(found.undefined.clone());
    }
    notes.join("; ")
}

/// Of which day the numbers are, if not of the last.
pub(crate) fn circumstances(metric: &Metric, found: &Comparison) -> Vec<String> {
    let looked = found.as_of.as_ref().map(|day| {
        let which = match found.decided_on {
            Some(_) => "last look",
            None => "look",
        };
        format!("as of the {which}, of {day}; values are of now")
    });
    let compared = found.compared_until.as_ref().map(|until| {
        let day = &until.day;
        match until.is_served_again {
            _ if is_quantile(metric) => {
                format!("both were served until {day}; calls of the other since are in it")
            }
            true => format!("units from before it was served again are compared as of {day}"),
            false => {
                // Totals grow while others are served on the day of the change.
                let whole = if metric.kind == MetricKind::Count {
                    "whole "
                } else {
                    ""
                };
                format!("as of {day}, the last {whole}day on which both were served")
            }
        }
    });
    looked.into_iter().chain(compared).collect()
}

/// What was found by small counts, and is not by the interval.
pub(super) fn of_earlier_counts(found: &Comparison) -> Option<String> {
    let then = found.small_counts_then.as_ref()?;
    let (low, high) = found.low.zip(found.high)?;
    let has_turned = then.difference * found.difference? <= 0.0;
    let counts = format!(
        "p {} of the small counts of {}",
        words::p_value(then.p),
        then.day
    );
    match found.finding {
        Finding::Open if then.p <= found.alpha => Some(match has_turned {
            true => format!("{counts}, since when it has turned round"),
            false => format!("{counts}, which one look now does not bear out"),
        }),
        Finding::Better | Finding::Worse if low <= 0.0 && high >= 0.0 => Some(counts),
        _ => None,
    }
}
