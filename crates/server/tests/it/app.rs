//! The application harness: a server without a socket, with users of every role.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use flywheel_core::ContentHash;
use flywheel_core::key::{ApiKey, Role};
use flywheel_core::redaction::Redactor;
use flywheel_gateway::clock::Sources;
use flywheel_gateway::endpoint::{Endpoint, EndpointOptions};
use flywheel_gateway::provider::openai::{OpenAiFormat, OpenAiOptions};
use flywheel_gateway::provider::simulated::Simulated;
use flywheel_gateway::recorder::{Recorder, RecorderOptions};
use flywheel_gateway::routing::SharedTable;
use flywheel_gateway::{Gateway, GatewayOptions};
use flywheel_server::console::session::Sessions;
use flywheel_server::context::Shared;
use flywheel_server::rate_limit::RateLimiter;
use flywheel_server::{Context, ServerOptions, router};
use flywheel_storage::StateStore;
use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::requests::User;
use crate::sources::{TestClock, test_sources};

/// What tests may set otherwise.
pub(crate) struct Options {
    /// Whether keys of every role are made.
    pub(crate) with_keys: bool,
    pub(crate) largest_body: usize,
    pub(crate) requests_per_second: Option<NonZeroU32>,
    pub(crate) loopback_only: bool,
    /// Providers beside `simulated`.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The size beyond which the store is full.
    pub(crate) largest_file_bytes: Option<u64>,
    /// How long a search over calls may take.
    pub(crate) longest_search: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            with_keys: true,
            largest_body: 64 << 10,
            requests_per_second: None,
            loopback_only: true,
            endpoints: Vec::new(),
            largest_file_bytes: None,
            longest_search: Duration::from_secs(60),
        }
    }
}

/// A server with everything it needs.
pub(crate) struct TestApp {
    pub(crate) context: Context,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) router: Router,
    _folder: TempDir,
}

/// The name of a provider that is configured but cannot be used.
pub(crate) const BROKEN_PROVIDER: &str = "broken";

impl TestApp {
    /// A server with users of every role and nothing registered.
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flywheel.db");
        let sqlite = SqliteOptions {
            largest_file_bytes: options.largest_file_bytes,
            longest_search: options.longest_search,
            readers: 2,
            ..SqliteOptions::default()
        };
        let store = Arc::new(SqliteStore::open(&path, sqlite).await.unwrap());
        let (clock, sources) = test_sources();
        if options.with_keys {
            add_keys(&store, &sources).await;
        }
        let context = context(&options, &store, sources);
        let mut endpoints = vec![simulated()];
        endpoints.extend(options.endpoints);
        let endpoints = endpoints
            .into_iter()
            .map(|endpoint| (endpoint.name.clone(), Arc::new(endpoint)))
            .collect();
        let context = Context::load(Shared {
            endpoints,
            ..context
        })
        .await
        .unwrap();
        let router = router::router(&context);
        Self {
            context,
            clock,
            router,
            _folder: folder,
        }
    }

    /// Whoever holds the key of a role, not limited to any app.
    pub(crate) fn user(&self, role: Role) -> User<'_> {
        User::new(self, Some(secret_of(role, None)))
    }

    /// Whoever holds a key of a role that is limited to one app.
    pub(crate) fn limited(&self, role: Role, app: &str) -> User<'_> {
        User::new(self, Some(secret_of(role, Some(app))))
    }

    pub(crate) fn admin(&self) -> User<'_> {
        self.user(Role::Admin)
    }

    pub(crate) fn editor(&self) -> User<'_> {
        self.user(Role::Editor)
    }

    pub(crate) fn caller(&self) -> User<'_> {
        self.user(Role::App)
    }

    pub(crate) fn viewer(&self) -> User<'_> {
        self.user(Role::Viewer)
    }

    /// Whoever has no key.
    pub(crate) fn nobody(&self) -> User<'_> {
        User::new(self, None)
    }

    /// Whoever has this key.
    pub(crate) fn holder_of(&self, secret: &str) -> User<'_> {
        User::new(self, Some(secret.to_owned()))
    }

    /// A number that grows with every committed change of the state.
    pub(crate) async fn revision(&self) -> u64 {
        self.context.state.revision().await.unwrap()
    }
}

fn simulated() -> Endpoint {
    let format = OpenAiFormat::new(OpenAiOptions::default()).unwrap();
    Endpoint::simulated(
        "simulated",
        Box::new(format),
        Simulated::default(),
        EndpointOptions::default(),
    )
}

fn context(options: &Options, store: &Arc<SqliteStore>, sources: Sources) -> Shared {
    let tasks = TaskTracker::new();
    let redactor = Redactor::new(&[], &[]).unwrap();
    // A loaded machine may take its time; only a store that hangs should end a test.
    let patience = Duration::from_secs(60);
    let recorder_options = RecorderOptions {
        patience,
        ..RecorderOptions::default()
    };
    let recorder = Recorder::start(Arc::clone(store) as _, redactor, recorder_options, &tasks);
    let table = SharedTable::new(ArcSwap::default());
    let gateway = Gateway::new(
        Arc::clone(&table),
        recorder,
        Arc::clone(store) as _,
        sources.clone(),
        GatewayOptions::default(),
        tasks,
    );
    let problem = format!("provider `{BROKEN_PROVIDER}`: the variable `KEY` is not set");
    Shared {
        state: Arc::clone(store) as _,
        events: Arc::clone(store) as _,
        statistics: Arc::clone(store) as _,
        gateway: Arc::new(gateway),
        table,
        endpoints: std::collections::HashMap::new(),
        keys: ArcSwap::default(),
        rate_limiter: RateLimiter::new(options.requests_per_second),
        sources,
        metrics: None,
        options: ServerOptions {
            largest_body: options.largest_body,
            requests_per_second: options.requests_per_second,
            loopback_only: options.loopback_only,
            notice: None,
            settings: vec![("kept", "for 90 d".to_owned())],
            provider_problems: BTreeMap::from([(BROKEN_PROVIDER.to_owned(), problem)]),
        },
        reloading: tokio::sync::Mutex::default(),
        sessions: Sessions::default(),
        shutdown: CancellationToken::new(),
    }
}

/// The apps that a key of every role is limited to.
pub(crate) const LIMITS: [Option<&str>; 3] = [None, Some("support"), Some("other")];

/// Every role.
pub(crate) const ROLES: [Role; 4] = [Role::Admin, Role::Editor, Role::App, Role::Viewer];

pub(crate) fn secret_of(role: Role, app: Option<&str>) -> String {
    format!("fw_{}_{}", role.as_str(), app.unwrap_or("all"))
}

async fn add_keys(store: &SqliteStore, sources: &Sources) {
    let mut transaction = store.begin().await.unwrap();
    for role in ROLES {
        for app in LIMITS {
            let secret = secret_of(role, app);
            let key = ApiKey {
                id: sources.new_id(),
                name: secret.trim_start_matches("fw_").to_owned(),
                role,
                apps: app.iter().map(|app| app.parse().unwrap()).collect(),
                secret_hash: ContentHash::of_bytes(secret.as_bytes()),
                created_at: sources.clock.now(),
                revoked_at: None,
            };
            transaction.keys().add(&key).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
}
