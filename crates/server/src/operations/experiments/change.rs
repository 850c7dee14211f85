//! Changing an experiment: what is allocated, or what was planned.

use flywheel_core::experiment::{Arm, Epoch, Experiment, ExperimentStatus, StoppedArm};
use flywheel_core::name::{ArmName, ExperimentName};
use flywheel_core::plan::{Effect, Guardrail, PlanChange};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{epoch, find, save};
use crate::auth::Caller;
use crate::context::Context;
use crate::operations::planning;
use crate::problem::{ApiResult, Problem};

/// What of an experiment is to be changed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExperimentChange {
    /// How much of the layer's share takes part, in basis points. No unit moves between arms.
    pub exposure: Option<u32>,
    /// The arms' weights in their order, in basis points. Units whose arm changes count in neither.
    pub weights: Option<Vec<u32>>,
    /// The smallest effect on the primary metric that matters.
    pub mde: Option<Effect>,
    /// The guardrails.
    pub guardrails: Option<Vec<Guardrail>>,
    /// Full days before a verdict can ship.
    pub minimum_days: Option<u32>,
}

/// Changes an experiment. What is allocated otherwise opens a new epoch; a change of the plan after the start is allowed, and
/// every result says so.
///
/// # Errors
/// When the experiment has ended, nothing is to be changed, or the change makes no experiment.
pub async fn change(
    context: &Context,
    caller: &Caller,
    name: &ExperimentName,
    change: &ExperimentChange,
) -> ApiResult<Experiment> {
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, name).await?;
    if experiment.status.has_ended() {
        return Err(Problem::conflict(
            "experiment_stopped",
            format!("experiment `{name}` has ended"),
        ));
    }
    let before = experiment.clone();
    apply(&mut experiment, change)?;
    let now = context.sources.clock.now();
    let is_running = experiment.status == ExperimentStatus::Running;
    let is_allocated_otherwise =
        (&experiment.arms, experiment.exposure) != (&before.arms, before.exposure);
    if is_running && is_allocated_otherwise {
        experiment.epochs.push(epoch(&experiment, now));
    }
    let changed = planning::differences(&before.plan, &experiment.plan);
    if is_running && !changed.is_empty() {
        experiment.plan_changes.push(PlanChange {
            at: now,
            by: caller.name.clone(),
            changed: changed.clone(),
            before: before.plan.hash(),
        });
    }
    if !is_allocated_otherwise && changed.is_empty() {
        return Err(Problem::invalid("nothing is to be changed").hint(
            "give `exposure`, `weights`, `mde`, `guardrails` or `minimum_days` another value",
        ));
    }
    let told = |experiment: &Experiment| json!({"exposure": experiment.exposure, "weights": weights(experiment)});
    let detail = json!({"before": told(&before), "after": told(&experiment), "plan": changed});
    // The store leaves out units that have another arm now, whether they come again or not.
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.change",
        detail,
    )
    .await
}

/// Serves an arm of a running experiment to nobody any more, while the others go on; nothing if the experiment is not any
/// more what was judged.
///
/// # Errors
/// When the store fails.
pub(super) async fn stop_arm(
    context: &Context,
    caller: &Caller,
    judged: &Experiment,
    arm: &ArmName,
    reason: String,
) -> ApiResult<Option<Experiment>> {
    let mut transaction = context.state.begin().await?;
    let mut experiment = find(&mut *transaction, caller, &judged.name).await?;
    let place = experiment.arms.iter().position(|found| found.name == *arm);
    let Some(place) = place.filter(|_| experiment == *judged) else {
        return Ok(None);
    };
    let before = weights(&experiment);
    if !experiment.close_arm(place) {
        return Ok(None);
    }
    let after = weights(&experiment);
    let detail = json!({"arm": arm, "reason": reason, "before": before, "after": after});
    let stopped_arm = Some(StoppedArm {
        arm: arm.clone(),
        reason,
    });
    experiment.epochs.push(Epoch {
        stopped_arm,
        ..epoch(&experiment, context.sources.clock.now())
    });
    save(
        context,
        transaction,
        caller,
        experiment,
        "experiment.stop_arm",
        detail,
    )
    .await
    .map(Some)
}

fn weights(experiment: &Experiment) -> Vec<u32> {
    experiment.arms.iter().map(|arm| arm.weight).collect()
}

fn apply(experiment: &mut Experiment, change: &ExperimentChange) -> ApiResult<()> {
    if let Some(exposure) = change.exposure {
        experiment.exposure = exposure;
    }
    if let Some(weights) = &change.weights {
        if weights.len() != experiment.arms.len() {
            return Err(Problem::invalid(format!(
                "`weights` has {} numbers, and the experiment has {} arms",
                weights.len(),
                experiment.arms.len()
            )));
        }
        let is_stopped =
            |(arm, weight): &(&Arm, &u32)| **weight > 0 && experiment.is_stopped(&arm.name);
        if let Some((arm, _)) = experiment.arms.iter().zip(weights).find(is_stopped) {
            let detail = format!(
                "a guardrail stopped arm `{}`, and it stays stopped",
                arm.name
            );
            return Err(Problem::conflict("arm_stopped", detail)
                .hint("give it no weight here; another experiment may try it again"));
        }
        for (arm, weight) in experiment.arms.iter_mut().zip(weights) {
            arm.weight = *weight;
        }
    }
    let plan = &mut experiment.plan;
    if let Some(mde) = change.mde {
        plan.mde = Some(mde);
    }
    if let Some(guardrails) = &change.guardrails {
        plan.guardrails.clone_from(guardrails);
    }
    if let Some(days) = change.minimum_days {
        plan.minimum_days = days;
    }
    experiment.check()?;
    experiment.plan.check(&experiment.arm_names())?;
    Ok(())
}
