//! The harness: a gateway between a fake provider and a fake store, with one app that has one prompt.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use flywheel_core::deployment::{App as CoreApp, AppSettings, DeploymentKind};
use flywheel_core::experiment::Experiment;
use flywheel_core::model::{ModelSettings, ModelVersion, Price};
use flywheel_core::redaction::Redactor;
use flywheel_core::{Manifest, ManifestId, PromptContent};
use flywheel_gateway::chat::Answered;
use flywheel_gateway::clock::Clock;
use flywheel_gateway::endpoint::{Endpoint, EndpointOptions};
use flywheel_gateway::provider::openai::{OpenAiFormat, OpenAiOptions};
use flywheel_gateway::recorder::{Recorder, RecorderOptions};
use flywheel_gateway::request::ChatBody;
use flywheel_gateway::routing::{self, Endpoints, RoutingTable};
use flywheel_gateway::testsuite::{FakeProvider, Reply};
use flywheel_gateway::{Gateway, GatewayError, GatewayOptions};
use flywheel_storage::deployments::NewDeployment;
use flywheel_storage::prompts::NewPromptVersion;
use flywheel_storage::{StateStore, StateTransaction};
use flywheel_storage_sql::{SqliteOptions, SqliteStore};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::clock::{HeldTime, Jitter, StandingClock, sources};
use crate::store::FakeStore;

/// Makes the endpoint of a provider.
pub(crate) type Connect = Box<dyn Fn(&FakeProvider, EndpointOptions) -> Endpoint>;

/// What a test sets before the gateway starts.
pub(crate) struct Setup {
    pub(crate) content: Value,
    pub(crate) endpoint: EndpointOptions,
    pub(crate) gateway: GatewayOptions,
    pub(crate) recorder: RecorderOptions,
    pub(crate) redactor: Redactor,
    pub(crate) clock: Arc<dyn Clock>,
    /// Makes the endpoint of the provider; OpenAI's format unless set.
    pub(crate) connect: Connect,
    /// Whether a second manifest, on a provider of its own, answers when the first provider fails.
    pub(crate) with_fallback: bool,
    /// Experiments, made from the manifests of the prompt and of its other version.
    pub(crate) experiments: fn(ManifestId, ManifestId) -> Vec<Experiment>,
}

impl Default for Setup {
    fn default() -> Self {
        let patience = Duration::from_secs(2);
        Self {
            content: content(json!({})),
            endpoint: EndpointOptions::default(),
            gateway: GatewayOptions::default(),
            recorder: RecorderOptions {
                patience,
                ..RecorderOptions::default()
            },
            redactor: Redactor::new(&[], &[]).unwrap(),
            clock: Arc::new(StandingClock),
            connect: Box::new(|provider, options| provider.endpoint("fake", open_ai(), options)),
            with_fallback: false,
            experiments: |_, _| Vec::new(),
        }
    }
}

pub(crate) fn open_ai() -> OpenAiFormat {
    OpenAiFormat::new(OpenAiOptions::default()).unwrap()
}

/// The prompt's content, with further members.
pub(crate) fn content(further: Value) -> Value {
    let mut content = json!({
        "template_format": "fstring",
        "messages": [
            {"role": "system", "content": "You greet."},
            {"role": "user", "content": "Greet {name}"},
        ],
        "model_id": "m",
        "model_version": "1",
    });
    for (name, value) in further.as_object().unwrap() {
        content[name] = value.clone();
    }
    content
}

/// A gateway with what surrounds it.
pub(crate) struct TestApp {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) provider: FakeProvider,
    pub(crate) backup: FakeProvider,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) jitter: Arc<Jitter>,
    pub(crate) manifest: ManifestId,
    pub(crate) other_manifest: ManifestId,
    pub(crate) endpoint: Arc<Endpoint>,
    _time: HeldTime,
}

impl TestApp {
    /// The plain setup, with a provider that gives these replies.
    pub(crate) async fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::with(Setup::default(), script).await
    }

    pub(crate) async fn with(setup: Setup, script: impl IntoIterator<Item = Reply>) -> Self {
        let time = HeldTime::hold();
        let provider = FakeProvider::start(script).await;
        let backup = FakeProvider::start([]).await;
        let endpoint = Arc::new((setup.connect)(&provider, setup.endpoint));
        let fallback = Arc::new(backup.endpoint("backup", open_ai(), setup.endpoint));
        let endpoints: Endpoints = [Arc::clone(&endpoint), fallback]
            .into_iter()
            .map(|endpoint| (endpoint.name.clone(), endpoint))
            .collect();
        let (table, manifest, other_manifest) = table(&setup, &endpoints).await;
        let (store, jitter) = (Arc::new(FakeStore::default()), Arc::new(Jitter::default()));
        let tasks = TaskTracker::new();
        let recorder = Recorder::start(
            Arc::clone(&store) as _,
            setup.redactor,
            setup.recorder,
            &tasks,
        );
        let gateway = Gateway::new(
            Arc::new(ArcSwap::from_pointee(table)),
            recorder,
            Arc::clone(&store) as _,
            sources(setup.clock, &jitter),
            setup.gateway,
            tasks,
        );
        let gateway = Arc::new(gateway);
        Self {
            gateway,
            provider,
            backup,
            store,
            jitter,
            manifest,
            other_manifest,
            endpoint,
            _time: time,
        }
    }

    /// Asks the app, with further members of the request.
    pub(crate) async fn ask(&self, further: Value) -> Result<Answered, GatewayError> {
        self.gateway.chat(request(further)).await
    }

    /// As [`TestApp::ask`], in a task of its own.
    pub(crate) fn begin(
        &self,
        further: Value,
    ) -> tokio::task::JoinHandle<Result<Answered, GatewayError>> {
        let gateway = Arc::clone(&self.gateway);
        TaskTracker::new().spawn(async move { gateway.chat(request(further)).await })
    }
}

/// A request to the app with the variable its prompt needs, and further members.
pub(crate) fn request(further: Value) -> ChatBody {
    let mut body = json!({"model": "flywheel/support",
        "flywheel": {"variables": {"name": "Ada"}}});
    for (name, value) in further.as_object().unwrap() {
        match (&mut body["flywheel"], value) {
            (Value::Object(ours), Value::Object(given)) if name == "flywheel" => {
                ours.extend(given.clone());
            }
            _ => body[name] = value.clone(),
        }
    }
    ChatBody::parse(body.to_string().as_bytes()).unwrap()
}

async fn table(setup: &Setup, endpoints: &Endpoints) -> (RoutingTable, ManifestId, ManifestId) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flywheel.db");
    let state = SqliteStore::open(&path, SqliteOptions::default())
        .await
        .unwrap();
    let mut transaction = state.begin().await.unwrap();
    for (model, provider) in [("m", "fake"), ("backup", "backup")] {
        let settings = ModelSettings {
            provider: provider.parse().unwrap(),
            provider_model: format!("{model}-at-provider"),
            price: Some(Price {
                input: 1.0,
                output: 2.0,
                cached_input: Some(0.5),
            }),
        };
        let model = ModelVersion {
            model_id: model.parse().unwrap(),
            model_version: "1".parse().unwrap(),
            settings,
            created_at: Timestamp::UNIX_EPOCH,
        };
        transaction.models().put(&model).await.unwrap();
    }
    let other = content(json!({"messages": [{"role": "user", "content": "Welcome {name}"}]}));
    let fallback = content(json!({"model_id": "backup"}));
    let manifest = manifest_of(&mut *transaction, &setup.content).await;
    let other = manifest_of(&mut *transaction, &other).await;
    let fallback = manifest_of(&mut *transaction, &fallback).await;
    let fallback_manifest = setup.with_fallback.then_some(fallback);
    let app = CoreApp {
        name: "support".parse().unwrap(),
        settings: AppSettings {
            fallback_manifest,
            ..AppSettings::default()
        },
        created_at: Timestamp::UNIX_EPOCH,
    };
    transaction.deployments().put_app(&app).await.unwrap();
    let deployment = NewDeployment {
        app: app.name,
        environment: "production".parse().unwrap(),
        manifest,
        previous_manifest: None,
        kind: DeploymentKind::Deploy,
        actor: "test".to_owned(),
        reason: "test".to_owned(),
        created_at: Timestamp::UNIX_EPOCH,
        forced_over: Vec::new(),
    };
    transaction.deployments().append(deployment).await.unwrap();
    for experiment in (setup.experiments)(manifest, other) {
        transaction.experiments().put(&experiment).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let table = routing::load(&state, endpoints, &RoutingTable::default())
        .await
        .unwrap();
    state.close().await.unwrap();
    (table, manifest, other)
}

async fn manifest_of(transaction: &mut dyn StateTransaction, content: &Value) -> ManifestId {
    let content = PromptContent::from_json(content.clone()).unwrap();
    let manifest = Manifest {
        model_id: content.model_id.clone(),
        model_version: content.model_version.clone(),
        prompt_id: "greeting".parse().unwrap(),
        prompt_version: content.id(),
        retriever_index_version: None,
        guards_version: None,
    };
    let version = NewPromptVersion {
        prompt: manifest.prompt_id.clone(),
        content,
        author: "test".to_owned(),
        description: String::new(),
        created_at: Timestamp::UNIX_EPOCH,
    };
    transaction.prompts().register(version).await.unwrap();
    transaction
        .deployments()
        .put_manifest(&manifest, Timestamp::UNIX_EPOCH)
        .await
        .unwrap();
    manifest.id()
}
