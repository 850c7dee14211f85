//! Experiments, as far as serving needs them.

use async_trait::async_trait;
use flywheel_core::experiment::Experiment;
use flywheel_core::name::ExperimentName;

use crate::StorageResult;

/// Writes and reads experiments.
#[async_trait]
pub trait ExperimentRepository: Send {
    /// Keeps an experiment, replacing the one of the same name.
    async fn put(&mut self, experiment: &Experiment) -> StorageResult<()>;

    /// One experiment.
    async fn get(&mut self, name: &ExperimentName) -> StorageResult<Option<Experiment>>;

    /// Those that run, newest first: what every change of state loads anew.
    async fn running(&mut self) -> StorageResult<Vec<Experiment>>;

    /// All experiments, newest first.
    async fn list(&mut self) -> StorageResult<Vec<Experiment>>;
}
