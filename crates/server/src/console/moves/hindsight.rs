//! What is known of what a move leads to: whether it was rolled back before, and what people thought of it.

use std::collections::BTreeMap;

use flywheel_core::AppName;
use flywheel_core::deployment::DeploymentKind;
use flywheel_core::name::EnvironmentName;
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use jiff::Timestamp;

use crate::console::scores::{self, Score};
use crate::console::show;
use crate::context::Context;
use crate::operations::deploy::Moved;

/// What was rolled back here before.
pub(super) fn notes(
    moved: &Moved,
    is_rollback: bool,
    version_is_open: bool,
    now: Timestamp,
) -> Vec<String> {
    let mut notes = Vec::new();
    let before = moved.replaced.as_ref();
    if let Some(before) = before.filter(|before| before.kind == DeploymentKind::Rollback)
        && is_rollback
    {
        notes.push(format!(
            "{} rolled it back already (#{}, {}): {}. This goes further back.",
            before.actor,
            before.number,
            show::ago(before.created_at, now),
            before.reason
        ));
    }
    if let Some(rollback) = &moved.taken_back {
        let what = match version_is_open {
            true => "the latest version",
            false => "this",
        };
        notes.push(format!(
            "{} rolled {what} back here (#{}): {}",
            rollback.actor, rollback.number, rollback.reason
        ));
    }
    notes
}

/// What people thought of each manifest.
pub(super) struct Scores(BTreeMap<String, String>);

impl Scores {
    /// The way back does not wait for a store that cannot tell.
    pub(super) async fn read(
        context: &Context,
        app: &AppName,
        environment: &EnvironmentName,
    ) -> Self {
        let filter = SummaryFilter {
            apps: vec![app.clone()],
            environment: Some(environment.clone()),
            ..SummaryFilter::default()
        };
        let summaries = match scores::by(context, &filter, SummaryKey::Manifest).await {
            Ok(summaries) => summaries,
            Err(error) => {
                tracing::warn!(error.message = %error.chain(), "what people thought of manifests could not be read");
                return Self(BTreeMap::new());
            }
        };
        let scores = summaries.iter().filter_map(|summary| {
            let score = Score::new(scores::headline(summary)?);
            Some((
                summary.key.clone(),
                format!("{} {}", score.name, score.value),
            ))
        });
        Self(scores.collect())
    }

    pub(super) fn of(&self, manifest: &str) -> Option<&str> {
        self.0.get(manifest).map(String::as_str)
    }
}
