//! What is to be known beside the numbers of a comparison, in a few words.

use flywheel_core::metric::Metric;

use super::{Comparison, few, words};

/// Puts a comparison's circumstances into words, once its numbers are final.
pub(super) fn say(metric: &Metric, found: &mut Comparison) {
    few::say(metric, found);
    let day = found.decided_on.as_ref();
    let mut notes: Vec<String> = Vec::new();
    notes.extend(day.map(|day| format!("as of the last look, of {day}; values are of now")));
    notes.extend(found.compared_until.as_ref().map(|until| {
        match until.is_served_again {
            true => format!(
                "units from before it was served again are compared up to the end of {}",
                until.day
            ),
            false => format!(
                "compared up to the end of {}, because nobody is in it any more; values are of now",
                until.day
            ),
        }
    }));
    if found.is_unstable && day.is_none() {
        let contradict = "looks of different days contradict each other: the effect changes";
        notes.push(contradict.to_owned());
    }
    notes.extend(
        found
            .small_counts
            .as_ref()
            .map(|counts| counts.said.clone()),
    );
    notes.extend(of_small_counts_before(found));
    if found.low.is_none() && found.small_counts.is_none() {
        notes.extend(found.undefined.clone());
    }
    found.note = (!notes.is_empty()).then(|| notes.join("; "));
}

/// Where the smallest p is one of a day on which there were few events.
pub(super) fn of_small_counts_before(found: &Comparison) -> Option<String> {
    let day = found.small_counts_on.as_ref()?;
    let p = words::p_value(found.p?);
    Some(format!("p {p} of the small counts of {day}"))
}
