//! How an experiment ends: it is stopped, an arm of it is promoted, a guardrail is violated; then it is put away.

use flywheel_core::experiment::{Decision, Experiment, ExperimentStatus};
use flywheel_core::name::{ArmName, ExperimentName};
use flywheel_storage::StateTransaction;
use serde_json::json;

use super::change::stop_arm;
use super::{find, must_be, read, read_out, rebuilding, save};
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::{self, Move, Moved};
use crate::operations::readout::{Readout, VerdictState};
use crate::problem::{ApiResult, Problem};

/// Stops an experiment. What it said at that moment is kept with the reason.
///
/// # Errors
/// When it is not running.
pub async fn stop(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    reason: &str,
) -> ApiResult<Experiment> {
    let (running, readout) = read(context, caller, name).await?;
    must_be(&running, ExperimentStatus::Running, "stopped")?;
    let mut transaction = context.state.begin().await?;
    let experiment = find(&mut *transaction, caller, name).await?;
    end(context, transaction, caller, experiment, (reason, &readout)).await
}

/// Stops an experiment in a transaction in which it was read, for what it said.
async fn end(
    context: &Context,
    transaction: Box<dyn StateTransaction>,
    caller: &Caller,
    mut experiment: Experiment,
    (reason, readout): (&str, &Readout),
) -> ApiResult<Experiment> {
    must_be(&experiment, ExperimentStatus::Running, "stopped")?;
    experiment.status = ExperimentStatus::Stopped;
    experiment.stopped_at = Some(context.sources.clock.now());
    experiment.decision = Some(Decision {
        by: caller.name.clone(),
        reason: reason.to_owned(),
        promoted: None,
        readout: serde_json::to_value(readout).ok(),
    });
    let detail = json!({"reason": reason, "verdict": readout.verdict});
    let action = "experiment.stop";
    save(context, transaction, caller, experiment, action, detail).await
}

/// Puts an experiment that was stopped, or never started, away. Its statistics stay as they are from then on, so that every number of its
/// readout can be computed again at any time, however long the calls behind them are kept.
///
/// # Errors
/// When it is running, or its statistics are being made again.
pub async fn archive(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
) -> ApiResult<Experiment> {
    // What was said before now counts.
    let (stopped, readout) = read(context, caller, name).await?;
    may_be_archived(&stopped)?;
    if readout.verdict.state == VerdictState::Rebuilding {
        return Err(rebuilding(name));
    }
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    may_be_archived(&experiment)?;
    experiment.status = ExperimentStatus::Archived;
    let detail = json!({"verdict": readout.verdict, "plan_hash": experiment.plan_hash});
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.archive",
        detail,
    )
    .await
}

fn may_be_archived(experiment: &Experiment) -> ApiResult<()> {
    match experiment.status {
        // A plan that came to nothing is out of the way, too.
        ExperimentStatus::Draft => Ok(()),
        _ => must_be(experiment, ExperimentStatus::Stopped, "archived"),
    }
}

/// Deploys an arm's manifest and stops the experiment, in one transaction, with what it said as the evidence.
///
/// # Errors
/// When the readout does not allow it and it is not forced, or as a deployment.
pub async fn promote(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    arm: &ArmName,
    request: &Move,
) -> ApiResult<Moved> {
    let (mut experiment, readout) = read(context, caller, name).await?;
    must_be(&experiment, ExperimentStatus::Running, "promoted")?;
    let found = experiment
        .arm(arm)
        .ok_or_else(|| Problem::not_found(no_arm(&experiment, arm)))?;
    let Some(manifest) = found.manifest else {
        let detail = format!(
            "arm `{arm}` follows `{}`: what it serves is deployed there already",
            experiment.environment
        );
        let hint = format!("stop `{name}` to give its holdout the same");
        return Err(Problem::conflict("follows_environment", detail).hint(hint));
    };
    let forced_over = match objection(&readout, arm) {
        Some(problem) if !request.force && !request.dry_run => return Err(problem),
        objection => objection.map(|problem| problem.detail().to_owned()),
    };
    experiment.decision = Some(Decision {
        by: caller.name.clone(),
        reason: request.reason.trim().to_owned(),
        promoted: Some(arm.clone()),
        readout: serde_json::to_value(&readout).ok(),
    });
    deploy::promote(context, caller, experiment, &manifest, forced_over, request).await
}

/// What is said of an arm that an experiment does not have.
#[must_use]
pub(in crate::operations) fn no_arm(experiment: &Experiment, arm: &ArmName) -> String {
    let names = experiment.arms.iter();
    let names: Vec<_> = names.map(|known| format!("`{}`", known.name)).collect();
    format!(
        "experiment `{}` has no arm `{arm}`; it has {}",
        experiment.name,
        names.join(", ")
    )
}

/// Why the readout does not allow an arm to be promoted, if it does not.
#[must_use]
pub fn objection(readout: &Readout, arm: &ArmName) -> Option<Problem> {
    let verdict = &readout.verdict;
    if verdict.may_promote && verdict.arm.as_ref() == Some(arm) {
        return None;
    }
    let detail = format!(
        "arm `{arm}` may not be promoted: {} {}",
        verdict.headline, verdict.reason
    );
    let hint = format!(
        "{} `--force` promotes it regardless, which is recorded",
        verdict.next
    );
    Some(Problem::conflict("not_proven", detail).hint(hint))
}

/// What was stopped because of a guardrail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aborted {
    /// The experiment.
    pub experiment: ExperimentName,
    /// The arm that did harm, if others go on; nothing if the experiment was stopped.
    pub arm: Option<ArmName>,
}

/// Stops every arm of a running experiment that violates a guardrail, and the experiment with its last one. What fails for one
/// experiment is said, and does not keep the others from being looked at.
///
/// # Errors
/// When the store fails.
pub async fn abort_violated(context: &Context) -> ApiResult<Vec<Aborted>> {
    let mut session = context.state.read().await?;
    let running = session.experiments().running().await?;
    drop(session);
    let mut aborted = Vec::new();
    for experiment in running {
        let name = experiment.name.clone();
        if let Err(problem) = abort(context, experiment, &mut aborted).await {
            tracing::warn!(experiment.name = %name, error.message = %problem.detail(), "the guardrails of an experiment could not be looked at");
        }
    }
    Ok(aborted)
}

async fn abort(
    context: &Context,
    mut experiment: Experiment,
    aborted: &mut Vec<Aborted>,
) -> ApiResult<()> {
    let caller = Caller::server();
    // What is looked at so often asks for no more than it needs.
    let readout = read_out(context, &experiment, None).await?;
    if readout.verdict.state != VerdictState::Abort {
        return Ok(());
    }
    for (arm, reason) in readout.violations(&experiment) {
        // Nobody is spared by ending a holdout: what is worse is what everybody else gets.
        if experiment
            .arm(&arm)
            .is_none_or(|arm| arm.manifest.is_none())
        {
            continue;
        }
        let name = experiment.name.clone();
        let goes_on = experiment
            .treatments()
            .any(|other| other.weight > 0 && other.name != arm);
        if !goes_on {
            let (_, evidence) = read(context, &caller, &name).await?;
            let mut transaction = context.state.begin().await?;
            let now = find(&mut *transaction, &caller, &name).await?;
            // What was judged may have been changed meanwhile: it is judged again.
            if now != experiment {
                return Ok(());
            }
            end(context, transaction, &caller, now, (&reason, &evidence)).await?;
            aborted.push(Aborted {
                experiment: name,
                arm: None,
            });
            return Ok(());
        }
        let Some(changed) = stop_arm(context, &caller, &experiment, &arm, reason).await? else {
            return Ok(());
        };
        experiment = changed;
        aborted.push(Aborted {
            experiment: name,
            arm: Some(arm),
        });
    }
    Ok(())
}
