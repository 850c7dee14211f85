//! The state store: sessions that read, transactions that write.

use async_trait::async_trait;

use crate::StorageResult;
use crate::audit::AuditRepository;
use crate::deployments::DeploymentRepository;
use crate::experiments::ExperimentRepository;
use crate::keys::KeyRepository;
use crate::models::ModelRepository;
use crate::prompts::PromptRepository;
use crate::retrievers::RetrieverRepository;

/// Opens sessions on the state.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// A session that only reads, from one consistent moment.
    async fn read(&self) -> StorageResult<Box<dyn StateSession>>;

    /// The same for what may take long: nothing that serves requests waits for it.
    async fn browse(&self) -> StorageResult<Box<dyn StateSession>>;

    /// A transaction. Nobody else writes state until it is committed or dropped, so what it reads stays true.
    async fn begin(&self) -> StorageResult<Box<dyn StateTransaction>>;

    /// A number that grows with every committed change, by which a routing table knows that it is out of date.
    async fn revision(&self) -> StorageResult<u64>;
}

/// The repositories, one for each resource.
pub trait StateSession: Send {
    /// Prompts and their versions.
    fn prompts(&mut self) -> Box<dyn PromptRepository + '_>;
    /// Models, versions, aliases.
    fn models(&mut self) -> Box<dyn ModelRepository + '_>;
    /// Retriever indexes.
    fn retrievers(&mut self) -> Box<dyn RetrieverRepository + '_>;
    /// Apps, manifests and deployments.
    fn deployments(&mut self) -> Box<dyn DeploymentRepository + '_>;
    /// Experiments.
    fn experiments(&mut self) -> Box<dyn ExperimentRepository + '_>;
    /// API keys.
    fn keys(&mut self) -> Box<dyn KeyRepository + '_>;
    /// The audit log.
    fn audit(&mut self) -> Box<dyn AuditRepository + '_>;
}

/// A session whose writes take effect together. Dropping it undoes them.
#[async_trait]
pub trait StateTransaction: StateSession {
    /// Makes the writes durable and visible, and raises the revision.
    async fn commit(self: Box<Self>) -> StorageResult<()>;
}
