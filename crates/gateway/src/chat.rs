//! A chat call from its request to its acknowledged record.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_storage::EventStore;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

use crate::clock::Sources;
use crate::error::{Failure, GatewayError};
use crate::idempotency::{self, Claim, KeysInFlight};
use crate::limiter::{Limiter, Room, Share};
use crate::plan::{self, Destination};
use crate::recorder::Recorder;
use crate::request::ChatBody;
use crate::routing::SharedTable;
use crate::run::Run;

/// What the gateway does when a call cannot be recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// The call is served, and says that it was not recorded.
    #[default]
    Serve,
    /// The call fails.
    Refuse,
}

/// The gateway's own settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Calls at a time.
    pub concurrent_calls: usize,
    /// Calls that may wait for a place.
    pub queued_calls: usize,
    /// How long they may wait.
    pub longest_queue_wait: Duration,
    /// How long the client of a stream may take nothing of it before it counts as gone.
    pub client_wait: Duration,
    /// Bytes of requests that calls may hold at a time, from the arrival of a body to the end of its call.
    pub request_bytes: usize,
    /// What happens when a call cannot be recorded.
    pub on_store_failure: OnStoreFailure,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            concurrent_calls: 2048,
            queued_calls: 1024,
            longest_queue_wait: Duration::from_secs(10),
            client_wait: Duration::from_secs(60),
            request_bytes: 512 << 20,
            on_store_failure: OnStoreFailure::Serve,
        }
    }
}

/// Serves calls.
pub struct Gateway {
    /// What serves what.
    pub table: SharedTable,
    /// Where calls are recorded.
    pub recorder: Recorder,
    /// Where calls repeated under an idempotency key are looked up.
    pub events: Arc<dyn EventStore>,
    /// Time and randomness.
    pub sources: Sources,
    limiter: Limiter,
    /// Room for the bytes of requests.
    pub room: Room,
    pub(crate) options: GatewayOptions,
    pub(crate) tasks: TaskTracker,
    pub(crate) in_flight: Mutex<KeysInFlight>,
}

/// What a caller gets.
#[derive(Debug)]
pub enum Answered {
    /// A whole answer.
    Complete {
        /// What the headers tell.
        about: AboutCall,
        /// Whether the call was recorded.
        recorded: bool,
        /// The `chat.completion` object.
        completion: Map<String, Value>,
    },
    /// Lines of server-sent events as they come. Whether the call was recorded is in the last chunk.
    Stream {
        /// What the headers tell.
        about: AboutCall,
        /// The lines.
        lines: mpsc::Receiver<Bytes>,
    },
}

/// What an answer says of the call it answers.
#[derive(Debug, Clone)]
pub struct AboutCall {
    /// The call's id.
    pub call_id: String,
    /// The manifest that answered.
    pub manifest: Option<String>,
    /// Experiment and arm, as `experiment/arm`.
    pub arm: Option<String>,
    /// The member `flywheel` of the body, but for `recorded`.
    pub member: Map<String, Value>,
}

impl Gateway {
    /// A gateway that serves from `table` and records with `recorder`. Its tasks belong to `tasks`.
    #[must_use]
    pub fn new(
        table: SharedTable,
        recorder: Recorder,
        events: Arc<dyn EventStore>,
        sources: Sources,
        options: GatewayOptions,
        tasks: TaskTracker,
    ) -> Self {
        let limiter = Limiter::new(
            options.concurrent_calls,
            options.queued_calls,
            options.longest_queue_wait,
        );
        let room = Room::new(options.request_bytes);
        let in_flight = Mutex::default();
        Self {
            table,
            recorder,
            events,
            sources,
            limiter,
            room,
            options,
            tasks,
            in_flight,
        }
    }

    /// Answers a chat request. Once it is admitted it runs to its end, whether or not the caller still listens.
    ///
    /// # Errors
    /// When the request is wrong, the gateway is full, or no provider gave an answer.
    pub async fn chat(self: &Arc<Self>, body: ChatBody) -> Result<Answered, GatewayError> {
        self.chat_in(body, Share::default()).await
    }

    /// As [`Gateway::chat`], for a request that takes its share of the room until its call has come to its end.
    ///
    /// # Errors
    /// As [`Gateway::chat`].
    pub async fn chat_in(
        self: &Arc<Self>,
        body: ChatBody,
        share: Share,
    ) -> Result<Answered, GatewayError> {
        let arrived = Instant::now();
        let permit = self.admit().await?;
        let in_flight = match self.claim_idempotency_key(&body).await? {
            Claim::None => None,
            Claim::Held(in_flight) => Some(in_flight),
            Claim::Answered(call) => return Ok(idempotency::replay(&call, &body)),
        };
        let started_at = self.sources.clock.now();
        let id = self.sources.id_at(started_at);
        let destination =
            plan::destination(&self.table.load(), &body, &id).map_err(Failure::unrecorded)?;
        idempotency::check(&destination, &body).map_err(Failure::unrecorded)?;
        let mut facts = facts_of(&destination, &body);
        facts.request_hash = in_flight.as_ref().map(|held| held.request_hash);
        let call = Call {
            id,
            started_at,
            facts,
            content: CallContent::default(),
        };
        let run = Run {
            gateway: Arc::clone(self),
            body,
            call,
            tools: None,
            arrived,
            waited: Duration::ZERO,
            _permit: permit,
            _share: share,
            in_flight,
        };
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(run.execute(destination, answer));
        // The sender is only dropped without a word when the task panicked.
        answered
            .await
            .unwrap_or_else(|_| Err(Failure::Store.unrecorded()))
    }

    /// Waits for a place among the calls that run at a time.
    pub(crate) async fn admit(&self) -> Result<OwnedSemaphorePermit, GatewayError> {
        self.limiter
            .admit()
            .await
            .map_err(|_| Failure::Overloaded.unrecorded())
    }
}

impl AboutCall {
    pub(crate) fn of(call: &Call) -> Self {
        let facts = &call.facts;
        let manifest = facts.manifest.map(|manifest| manifest.to_string());
        let arm = match (&facts.experiment, &facts.arm) {
            (Some(experiment), Some(arm)) => Some(format!("{experiment}/{arm}")),
            _ => None,
        };
        let mut member = Map::new();
        let mut put = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                member.insert(name.to_owned(), value.into());
            }
        };
        put("app", facts.app.as_ref().map(ToString::to_string));
        put(
            "environment",
            facts.environment.as_ref().map(ToString::to_string),
        );
        put("manifest", manifest.clone());
        put("prompt", facts.prompt.as_ref().map(ToString::to_string));
        put(
            "prompt_version",
            facts.prompt_version.map(|version| version.to_string()),
        );
        put(
            "experiment",
            facts.experiment.as_ref().map(ToString::to_string),
        );
        put("arm", facts.arm.as_ref().map(ToString::to_string));
        if facts.fallback {
            member.insert("fallback".into(), true.into());
        }
        Self {
            call_id: call.id.clone(),
            manifest,
            arm,
            member,
        }
    }
}

fn facts_of(destination: &Destination, body: &ChatBody) -> CallFacts {
    let (app, environment) = destination.app.clone().unzip();
    let (experiment, arm) = destination.assignment.clone().unzip();
    CallFacts {
        app,
        environment,
        manifest: None,
        prompt: None,
        prompt_version: None,
        model_id: None,
        model_version: None,
        experiment,
        arm,
        unit: body.user.clone(),
        session: body.flywheel.session.clone(),
        tags: body.flywheel.tags.clone(),
        idempotency_key: body.flywheel.idempotency_key.clone(),
        request_hash: None,
        redacted: false,
        status: CallStatus::Ok,
        error_kind: None,
        finish_reason: None,
        streamed: body.stream,
        fallback: destination.stands_in_for.is_some(),
        attempts: 0,
        tool_success: None,
        latency_us: None,
        first_byte_us: None,
        overhead_us: None,
        usage: None,
        cost_nano_usd: None,
    }
}
