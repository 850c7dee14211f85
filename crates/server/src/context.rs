//! What handlers and jobs work with: the stores, the gateway, the keys. Built once, shared by reference.

use std::sync::Arc;

use arc_swap::ArcSwap;
use flywheel_core::audit::AuditDraft;
use flywheel_gateway::Gateway;
use flywheel_gateway::clock::Sources;
use flywheel_gateway::routing::{self, Endpoints, SharedTable};
use flywheel_storage::{EventStore, StateStore, StateTransaction, StatisticsStore, StorageResult};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::auth::{Caller, KeyTable};
use crate::console::session::Sessions;
use crate::rate_limit::RateLimiter;

/// How long to wait before the state is read again after that failed.
const RELOAD_AGAIN: std::time::Duration = std::time::Duration::from_millis(200);

/// The server's own settings.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The largest body that is accepted, in bytes.
    pub largest_body: usize,
    /// Requests a key may make in a second; none means no limit.
    pub requests_per_second: Option<std::num::NonZeroU32>,
    /// Whether the listener is on the loopback address, where no key is needed until one is made.
    pub loopback_only: bool,
    /// What every page of the console says at its top, if anything.
    pub notice: Option<String>,
    /// What else the configuration says, in words: what it is about, and what was chosen.
    pub settings: Vec<(&'static str, String)>,
    /// Why a configured provider cannot be used, by its name; providers that are absent are not configured.
    pub provider_problems: std::collections::BTreeMap<String, String>,
}

/// Everything that handlers need. Clones share it.
#[derive(Clone)]
pub struct Context(Arc<Shared>);

/// The parts of a [`Context`].
pub struct Shared {
    /// Prompts, deployments and the like.
    pub state: Arc<dyn StateStore>,
    /// Calls and feedback.
    pub events: Arc<dyn EventStore>,
    /// What experiments say of units.
    pub statistics: Arc<dyn StatisticsStore>,
    /// What answers calls.
    pub gateway: Arc<Gateway>,
    /// The routing table.
    pub table: SharedTable,
    /// The providers.
    pub endpoints: Endpoints,
    /// The keys.
    pub keys: ArcSwap<KeyTable>,
    /// The rate limit.
    pub rate_limiter: RateLimiter,
    /// Time and randomness.
    pub sources: Sources,
    /// The metrics, for the page that shows them.
    pub metrics: Option<PrometheusHandle>,
    /// Who is signed in to the console.
    pub sessions: Sessions,
    /// The settings.
    pub options: ServerOptions,
    /// Cancelled when the server is told to stop: what would go on for ever ends then.
    pub shutdown: CancellationToken,
    /// Held while the table is loaded, so that an older one never replaces a newer one.
    pub reloading: Mutex<()>,
}

impl std::ops::Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Context {
    /// A context whose table and keys are loaded.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn load(shared: Shared) -> StorageResult<Self> {
        let context = Self(Arc::new(shared));
        context.reload().await?;
        Ok(context)
    }

    /// Loads routing table and keys anew. What was committed before the call is in force when it returns.
    ///
    /// # Errors
    /// When the state cannot be read; what was in force stays so.
    pub async fn reload(&self) -> StorageResult<()> {
        let _reloading = self.reloading.lock().await;
        let previous = self.table.load_full();
        let table = routing::load(&*self.state, &self.endpoints, &previous).await?;
        let keys = self.state.read().await?.keys().list().await?;
        self.keys.store(Arc::new(KeyTable::new(keys)));
        self.table.store(Arc::new(table));
        Ok(())
    }

    /// Loads what was committed until that works. The change is durable, so it must not be reported as failed; nor must
    /// it be acknowledged before requests are served by it.
    async fn put_in_force(&self) {
        while let Err(error) = self.reload().await {
            tracing::error!(error.message = %error.chain(), "a committed change is not yet in force");
            tokio::time::sleep(RELOAD_AGAIN).await;
        }
    }

    /// Appends to the audit log, commits, and puts the change in force.
    ///
    /// # Errors
    /// When the store fails; then nothing was changed.
    pub async fn commit(
        &self,
        mut transaction: Box<dyn StateTransaction>,
        caller: &Caller,
        action: &str,
        subject: &str,
        detail: Value,
    ) -> StorageResult<()> {
        let draft = AuditDraft {
            at: self.sources.clock.now(),
            actor: caller.name.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        transaction.audit().append(draft).await?;
        transaction.commit().await?;
        self.put_in_force().await;
        Ok(())
    }
}
