//! What evaluations say of a prompt version, beside the one that it is compared with.

use std::collections::BTreeMap;

use flywheel_core::prompt::EvaluationScore;
use jiff::Timestamp;

use super::experiment::amounts;
use super::show::{self, Markup};

/// One metric on one dataset: the newest score of each version.
pub(super) struct EvaluationRow {
    pub(super) metric: String,
    pub(super) dataset: String,
    pub(super) before: String,
    pub(super) value: String,
    pub(super) n: String,
    pub(super) when: Markup,
}

/// What the version shown was scored with; scores that only the other one has are left out.
pub(super) fn rows(
    shown: &[EvaluationScore],
    compared: &[EvaluationScore],
    now: Timestamp,
) -> Vec<EvaluationRow> {
    let before = newest(compared);
    newest(shown)
        .into_iter()
        .map(|((metric, dataset), score)| EvaluationRow {
            before: before
                .get(&(metric, dataset))
                .map_or_else(String::new, |other| amounts::number(other.value)),
            metric: metric.to_owned(),
            dataset: dataset.unwrap_or_default().to_owned(),
            value: amounts::number(score.value),
            n: show::count(score.n),
            when: show::when(score.recorded_at, now),
        })
        .collect()
}

/// By metric and dataset. Scores come newest first.
fn newest(scores: &[EvaluationScore]) -> BTreeMap<(&str, Option<&str>), &EvaluationScore> {
    let mut found = BTreeMap::new();
    for score in scores {
        let key = (score.metric.as_str(), score.dataset.as_deref());
        found.entry(key).or_insert(score);
    }
    found
}
