//! The experiments beside a move: which end with it, and which go on.

use flywheel_core::deployment::Deployment;
use flywheel_core::experiment::{Decision, Experiment, ExperimentStatus};
use flywheel_storage::{StateSession, StateTransaction};

use super::Plan;
use crate::problem::ApiResult;

impl Plan<'_> {
    /// The experiments that end with this move, with their decision if they have one, and those that go on.
    pub(super) fn ended_and_going_on(
        &self,
        running: Vec<Experiment>,
        takes_back: bool,
    ) -> (Vec<Experiment>, Vec<Experiment>) {
        if takes_back {
            return (running, Vec::new());
        }
        let Some(promoted) = &self.promoted else {
            return (Vec::new(), running);
        };
        let others = running
            .into_iter()
            .filter(|other| other.name != promoted.name);
        (vec![promoted.clone()], others.collect())
    }

    pub(super) async fn running_experiments(
        &self,
        session: &mut dyn StateSession,
    ) -> ApiResult<Vec<Experiment>> {
        let mut experiments = session.experiments().running().await?;
        experiments.retain(|experiment| {
            experiment.app == self.app.name && experiment.environment == self.environment
        });
        Ok(experiments)
    }
}

/// Stops experiments with a move; those without a decision of their own for the move's reason.
pub(super) async fn stop(
    transaction: &mut dyn StateTransaction,
    experiments: Vec<Experiment>,
    made: &Deployment,
) -> ApiResult<()> {
    for mut experiment in experiments {
        experiment.status = ExperimentStatus::Stopped;
        experiment.stopped_at = Some(made.created_at);
        experiment.decision.get_or_insert_with(|| Decision {
            by: made.actor.clone(),
            reason: format!("{} (#{}): {}", made.kind.past(), made.number, made.reason),
            promoted: None,
            readout: None,
        });
        transaction.experiments().put(&experiment).await?;
    }
    Ok(())
}
