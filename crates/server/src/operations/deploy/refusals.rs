//! Why a move is refused, and what to do then.

use flywheel_core::AppName;
use flywheel_core::deployment::{Deployment, rollback_candidates};
use flywheel_core::hash;
use flywheel_core::preflight::Preflight;
use http::StatusCode;
use serde_json::json;

use super::Plan;
use crate::problem::{ApiResult, Problem};

/// How many manifests are proposed where one cannot be found.
const MOST_CANDIDATES: usize = 5;

impl Plan<'_> {
    /// Refuses a move that was decided before somebody else moved.
    pub(super) fn check_expectation(&self, current: Option<&Deployment>) -> ApiResult<()> {
        let Some(expected) = &self.request.expected_manifest else {
            return Ok(());
        };
        if expected != "none" && !hash::is_hash_prefix(expected) {
            return Err(Problem::invalid(format!(
                "`expected_manifest` is `{expected}`, it must be `none` or at least 12 digits of an id"
            )));
        }
        let is_met = match current {
            None => expected == "none",
            Some(current) => current.manifest.to_string().starts_with(expected),
        };
        if is_met {
            return Ok(());
        }
        let (app, environment) = (&self.app.name, &self.environment);
        let found = match current {
            None => "nothing is deployed there".to_owned(),
            Some(current) => format!(
                "manifest `{}` is, by {} at {}: {}",
                current.manifest.short(),
                current.actor,
                current.created_at,
                current.reason
            ),
        };
        let expected: String = expected.chars().take(12).collect();
        let detail =
            format!("`{app}` in `{environment}` does not serve `{expected}` any more; {found}");
        Err(Problem::conflict("lost_race", detail)
            .hint("look at what changed with `flywheel history`, then decide again")
            .with("current", json!(current)))
    }
}

/// What can be gone back to where counting steps leads nowhere.
pub(super) fn advice(app: &AppName, history: &[Deployment]) -> String {
    let shown = format!("`flywheel history {app}` shows what was deployed");
    let candidates = rollback_candidates(history).into_iter();
    let names: Vec<String> = candidates
        .take(MOST_CANDIDATES)
        .map(|deployment| format!("`{}` (#{})", deployment.manifest.short(), deployment.number))
        .collect();
    if names.is_empty() {
        return format!("no other manifest was ever deployed there; {shown}");
    }
    format!(
        "`--to` (`to` in the API) goes to any that was deployed there: {}; {shown}",
        names.join(", ")
    )
}

/// The answer to a move that the preflight objects to.
pub(super) fn preflight_failed(preflight: &Preflight) -> Problem {
    let hint = preflight.checks.iter().find_map(|check| check.hint.clone());
    let problem = Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "preflight_failed",
        preflight.problems().join("; "),
    )
    .with(
        "preflight",
        json!({"passed": false, "checks": preflight.checks}),
    );
    match hint {
        Some(hint) => problem.hint(format!(
            "{hint}; or go on regardless with `--force`, which is recorded"
        )),
        None => problem,
    }
}

/// The latest version was rolled back, and nobody named it.
pub(super) fn taken_back(rollback: &Deployment) -> Problem {
    let detail = format!(
        "the latest version was rolled back here (#{}) by {}: {}",
        rollback.number, rollback.actor, rollback.reason
    );
    Problem::conflict("taken_back", detail)
        .hint("name the version that is meant, this one or another: `--prompt NAME@REF`, in the API `version`")
}
