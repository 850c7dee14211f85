//! Sessions on the state: the repositories over one connection, in a transaction that reads or writes.

use async_trait::async_trait;
use flywheel_storage::audit::AuditRepository;
use flywheel_storage::deployments::DeploymentRepository;
use flywheel_storage::experiments::ExperimentRepository;
use flywheel_storage::keys::KeyRepository;
use flywheel_storage::models::ModelRepository;
use flywheel_storage::prompts::PromptRepository;
use flywheel_storage::retrievers::RetrieverRepository;
use flywheel_storage::{StateSession, StateTransaction, StorageResult};
use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection, SqlitePool, query};

use super::audit::Audit;
use super::deployments::Deployments;
use super::error::failed;
use super::experiments::Experiments;
use super::keys::Keys;
use super::models::Models;
use super::prompts::Prompts;
use super::retrievers::Retrievers;
use super::writer::WriteTransaction;

/// A read-only connection that sees one moment until it is dropped.
#[derive(Debug)]
pub(super) struct Snapshot(PoolConnection<Sqlite>);

impl Snapshot {
    pub(super) async fn take(readers: &SqlitePool) -> StorageResult<Self> {
        let mut connection = readers
            .acquire()
            .await
            .map_err(failed("beginning to read"))?;
        query("BEGIN")
            .execute(&mut *connection)
            .await
            .map_err(failed("beginning to read"))?;
        // The moment is that of the first statement that reads.
        query("SELECT revision FROM state_revision")
            .execute(&mut *connection)
            .await
            .map_err(failed("beginning to read"))?;
        Ok(Self(connection))
    }

    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }
}

/// The repositories over what holds a connection.
#[derive(Debug)]
pub(super) struct Session<C>(pub(super) C);

/// What holds a connection.
pub(super) trait HoldsConnection: Send {
    fn held(&mut self) -> &mut SqliteConnection;
}

impl HoldsConnection for Snapshot {
    fn held(&mut self) -> &mut SqliteConnection {
        self.connection()
    }
}

impl HoldsConnection for WriteTransaction {
    fn held(&mut self) -> &mut SqliteConnection {
        self.connection()
    }
}

impl<C: HoldsConnection> StateSession for Session<C> {
    fn prompts(&mut self) -> Box<dyn PromptRepository + '_> {
        Box::new(Prompts(self.0.held()))
    }

    fn models(&mut self) -> Box<dyn ModelRepository + '_> {
        Box::new(Models(self.0.held()))
    }

    fn retrievers(&mut self) -> Box<dyn RetrieverRepository + '_> {
        Box::new(Retrievers(self.0.held()))
    }

    fn deployments(&mut self) -> Box<dyn DeploymentRepository + '_> {
        Box::new(Deployments(self.0.held()))
    }

    fn experiments(&mut self) -> Box<dyn ExperimentRepository + '_> {
        Box::new(Experiments(self.0.held()))
    }

    fn keys(&mut self) -> Box<dyn KeyRepository + '_> {
        Box::new(Keys(self.0.held()))
    }

    fn audit(&mut self) -> Box<dyn AuditRepository + '_> {
        Box::new(Audit(self.0.held()))
    }
}

#[async_trait]
impl StateTransaction for Session<WriteTransaction> {
    #[tracing::instrument(name = "db.state.commit", skip_all)]
    async fn commit(mut self: Box<Self>) -> StorageResult<()> {
        query("UPDATE state_revision SET revision = revision + 1")
            .execute(self.0.held())
            .await
            .map_err(failed("raising the revision"))?;
        self.0.commit().await?;
        Ok(())
    }
}
