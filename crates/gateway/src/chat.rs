//! A chat call from its request to its acknowledged record.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flywheel_core::AppName;
use flywheel_core::call::{Call, CallContent, CallFacts, CallStatus};
use flywheel_storage::{EventStore, NewEvent};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

use crate::answer::{self, Transcript};
use crate::clock::Sources;
use crate::endpoint::{Endpoint, counts_against_endpoint};
use crate::error::{Failure, GatewayError, ProviderError, ProviderErrorKind};
use crate::limiter::Limiter;
use crate::plan::{self, Destination};
use crate::provider::format::ChatRequest;
use crate::recorder::Recorder;
use crate::request::{ChatBody, Target};
use crate::routing::{ModelRoute, ServedManifest, SharedTable};
use crate::stream::{self, OpenStream};

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
    /// What happens when a call cannot be recorded.
    pub on_store_failure: OnStoreFailure,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            concurrent_calls: 2048,
            queued_calls: 1024,
            longest_queue_wait: Duration::from_secs(10),
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
    options: GatewayOptions,
    tasks: TaskTracker,
    in_flight: Mutex<HashSet<(AppName, String)>>,
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

/// A call under way: what is known of it, and what it has taken so far.
pub(crate) struct Run {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) body: ChatBody,
    pub(crate) call: Call,
    pub(crate) arrived: Instant,
    /// Time spent waiting for providers, which is not our overhead.
    pub(crate) waited: Duration,
    _permit: OwnedSemaphorePermit,
    _in_flight: Option<InFlight>,
}

/// Marks an idempotency key as being answered until it is dropped.
struct InFlight {
    gateway: Arc<Gateway>,
    key: (AppName, String),
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut keys = self
            .gateway
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}

/// What a provider gave.
enum Given {
    Whole(Map<String, Value>),
    Stream(OpenStream),
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
        let in_flight = Mutex::default();
        Self {
            table,
            recorder,
            events,
            sources,
            limiter,
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
        let arrived = Instant::now();
        let permit = self.admit().await?;
        let in_flight = match self.claim_idempotency_key(&body).await? {
            Claim::None => None,
            Claim::Held(in_flight) => Some(in_flight),
            Claim::Answered(call) => return Ok(replay(&call, &body)),
        };
        let started_at = self.sources.clock.now();
        let id = self.sources.id_at(started_at);
        let destination =
            plan::destination(&self.table.load(), &body, &id).map_err(Failure::unrecorded)?;
        let call = Call {
            id,
            started_at,
            facts: facts_of(&destination, &body),
            content: CallContent {
                variables: body.flywheel.variables.clone(),
                ..CallContent::default()
            },
        };
        let run = Run {
            gateway: Arc::clone(self),
            body,
            call,
            arrived,
            waited: Duration::ZERO,
            _permit: permit,
            _in_flight: in_flight,
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

    async fn claim_idempotency_key(
        self: &Arc<Self>,
        body: &ChatBody,
    ) -> Result<Claim, GatewayError> {
        let (Target::App { app, .. }, Some(key)) = (&body.target, &body.flywheel.idempotency_key)
        else {
            return Ok(Claim::None);
        };
        let pair = (app.clone(), key.clone());
        let claimed = {
            let mut keys = self
                .in_flight
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            keys.insert(pair.clone())
        };
        if !claimed {
            return Err(Failure::InFlight(key.clone()).unrecorded());
        }
        let in_flight = InFlight {
            gateway: Arc::clone(self),
            key: pair,
        };
        let earlier = self.events.find_idempotent(app, key).await.map_err(|error| {
            tracing::error!(error.message = %error, "an idempotency key could not be looked up");
            Failure::Store.unrecorded()
        })?;
        Ok(match earlier {
            Some(call) if call.facts.status == CallStatus::Ok => Claim::Answered(Box::new(call)),
            _ => Claim::Held(in_flight),
        })
    }
}

enum Claim {
    None,
    Held(InFlight),
    Answered(Box<Call>),
}

fn replay(call: &Call, body: &ChatBody) -> Answered {
    let mut about = AboutCall::of(call);
    about.member.insert("replayed".into(), true.into());
    let mut completion = answer::of_call(call);
    about.member.insert("recorded".into(), true.into());
    completion.insert("flywheel".into(), about.member.clone().into());
    if !body.stream {
        return Answered::Complete {
            about,
            recorded: true,
            completion,
        };
    }
    Answered::Stream {
        about,
        lines: stream::of_whole(completion, body.include_usage),
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
        status: CallStatus::Ok,
        error_kind: None,
        finish_reason: None,
        streamed: body.stream,
        fallback: false,
        attempts: 0,
        latency_us: 0,
        first_byte_us: None,
        overhead_us: None,
        usage: None,
        cost_nano_usd: None,
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

impl Run {
    async fn execute(
        mut self,
        destination: Destination,
        answer: oneshot::Sender<Result<Answered, GatewayError>>,
    ) {
        let Destination {
            model,
            served,
            fallback,
            ..
        } = destination;
        let first = self.serve(&model, served.as_ref()).await;
        let (given, served, model) = match (first, fallback) {
            (Ok(given), _) => (Ok(given), served, model),
            (Err(Failure::Provider { error, .. }), Some(fallback)) if error.kind.is_retryable() => {
                tracing::warn!(call.id = %self.call.id, error.message = %error, "the fallback manifest answers");
                self.call.facts.fallback = true;
                let model = Arc::clone(&fallback.model);
                let given = self.serve(&model, Some(&fallback)).await;
                (given, Some(fallback), model)
            }
            (Err(failure), _) => (Err(failure), served, model),
        };
        match given {
            Ok(Given::Stream(open)) => stream::pump(self, open, model, answer).await,
            Ok(Given::Whole(completion)) => {
                self.answer_whole(completion, &model, served.as_deref(), answer)
                    .await;
            }
            Err(failure) => {
                let call_id = self.fail(&failure).await;
                let _ = answer.send(Err(GatewayError { failure, call_id }));
            }
        }
    }

    /// Renders, calls and retries on one model.
    async fn serve(
        &mut self,
        model: &ModelRoute,
        served: Option<&Arc<ServedManifest>>,
    ) -> Result<Given, Failure> {
        let facts = &mut self.call.facts;
        facts.model_id = Some(model.model_id.clone());
        facts.model_version = Some(model.model_version.clone());
        facts.manifest = served.map(|served| served.id);
        facts.prompt = served.map(|served| served.manifest.prompt_id.clone());
        facts.prompt_version = served.map(|served| served.manifest.prompt_version);
        let messages = match served {
            Some(served) => plan::render(served, &self.body)?,
            None => self.body.messages.clone(),
        };
        // Post-processing needs the whole text, so such an answer is streamed from here, not from the provider.
        let stream = self.body.stream && served.is_none_or(|served| served.postprocess.is_empty());
        let request = plan::chat_request(
            model,
            served.map(AsRef::as_ref),
            &messages,
            &self.body,
            stream,
        );
        self.call.content.messages = messages;
        let endpoint = &model.endpoint;
        let begun = Instant::now();
        let given = self
            .attempt(endpoint, &request, begun + endpoint.timeouts.total)
            .await;
        self.waited += begun.elapsed();
        given.map_err(|error| Failure::Provider {
            provider: endpoint.name.clone(),
            error,
        })
    }

    async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        request: &ChatRequest,
        deadline: Instant,
    ) -> Result<Given, ProviderError> {
        let wire = endpoint.format.chat_request(request)?;
        endpoint.retries.deposit();
        let mut attempt = 0;
        loop {
            endpoint.breaker.check().map_err(|wait| ProviderError {
                retry_after: Some(wait),
                ..ProviderError::new(
                    ProviderErrorKind::CircuitOpen,
                    format!(
                        "provider `{}` failed repeatedly and is left alone for a while",
                        endpoint.name
                    ),
                )
            })?;
            attempt += 1;
            self.call.facts.attempts += 1;
            let result = if request.stream {
                stream::open(endpoint, wire.clone(), deadline)
                    .await
                    .map(Given::Stream)
            } else {
                let body = endpoint.send_and_read(wire.clone(), deadline).await;
                body.and_then(|body| endpoint.format.chat_response(&body))
                    .map(Given::Whole)
            };
            let Err(error) = result else {
                endpoint.breaker.report(true);
                return result;
            };
            report_failure(endpoint, &error);
            let jitter = self.gateway.sources.unit_interval();
            match endpoint.retries.next_delay(attempt, &error, jitter) {
                Some(delay) if Instant::now() + delay < deadline => tokio::time::sleep(delay).await,
                _ => return Err(error),
            }
        }
    }

    async fn answer_whole(
        mut self,
        mut completion: Map<String, Value>,
        model: &ModelRoute,
        served: Option<&ServedManifest>,
        answer: oneshot::Sender<Result<Answered, GatewayError>>,
    ) {
        let raw = Transcript::of_completion(&completion);
        let processed = match served {
            Some(served) => answer::post_process(&mut completion, &served.postprocess),
            None => Ok(()),
        };
        self.take_transcript(&raw, model);
        self.call.facts.first_byte_us = Some(micros(self.waited));
        if let Err(error) = processed {
            self.call.content.raw_output = self.call.content.output.take();
            let failure = Failure::InvalidOutput(error);
            let call_id = self.fail(&failure).await;
            let _ = answer.send(Err(GatewayError { failure, call_id }));
            return;
        }
        if served.is_some_and(|served| !served.postprocess.is_empty()) {
            let output = Transcript::of_completion(&completion).output();
            if output != self.call.content.output {
                self.call.content.raw_output =
                    std::mem::replace(&mut self.call.content.output, output);
            }
        }
        let mut about = AboutCall::of(&self.call);
        let id = about.call_id.clone();
        let recorded = match self.record().await {
            Ok(()) => true,
            Err(failure) if self.must_record() => {
                let _ = answer.send(Err(GatewayError {
                    failure,
                    call_id: None,
                }));
                return;
            }
            Err(_) => false,
        };
        about.member.insert("recorded".into(), recorded.into());
        completion.insert("id".into(), id.into());
        self.stamp(&mut completion);
        completion.insert("flywheel".into(), about.member.clone().into());
        let answered = if self.body.stream {
            Answered::Stream {
                about,
                lines: stream::of_whole(completion, self.body.include_usage),
            }
        } else {
            Answered::Complete {
                about,
                recorded,
                completion,
            }
        };
        // A caller that went away does not undo the record.
        let _ = answer.send(Ok(answered));
    }

    /// Formats without a clock leave `created` at 0.
    pub(crate) fn stamp(&self, object: &mut Map<String, Value>) {
        if object.get("created").and_then(Value::as_i64).unwrap_or(0) == 0 {
            object.insert("created".into(), self.call.started_at.as_second().into());
        }
    }

    pub(crate) fn must_record(&self) -> bool {
        self.gateway.options.on_store_failure == OnStoreFailure::Refuse
    }

    pub(crate) fn take_transcript(&mut self, transcript: &Transcript, model: &ModelRoute) {
        let Call { facts, content, .. } = &mut self.call;
        content.output = transcript.output();
        content.tool_calls = transcript.tool_calls();
        facts.finish_reason = transcript.finish_reason();
        facts.usage = transcript.usage;
        facts.cost_nano_usd = model
            .price
            .zip(transcript.usage)
            .map(|(price, usage)| price.cost(&usage));
    }

    /// Records a call that failed. Returns its id if that worked.
    pub(crate) async fn fail(&mut self, failure: &Failure) -> Option<String> {
        let facts = &mut self.call.facts;
        facts.status = match failure {
            Failure::InvalidOutput(_) => CallStatus::InvalidOutput,
            Failure::Provider { .. } => CallStatus::ProviderError,
            _ => CallStatus::BadRequest,
        };
        facts.error_kind = Some(match failure {
            Failure::Provider { error, .. } => error.kind.as_str().to_owned(),
            other => other.code().to_owned(),
        });
        self.call.content.error = Some(failure.to_string());
        self.record().await.ok().map(|()| self.call.id.clone())
    }

    /// Records the call as it now stands, and counts it.
    pub(crate) async fn record(&mut self) -> Result<(), Failure> {
        let latency = self.arrived.elapsed();
        let overhead = latency.saturating_sub(self.waited);
        self.call.facts.latency_us = micros(latency);
        self.call.facts.overhead_us = Some(micros(overhead));
        elide_images(&mut self.call.content.messages);
        let event = NewEvent::Call(Box::new(self.call.clone()));
        let recorded = self.gateway.recorder.record(vec![event]).await;
        let status = self.call.facts.status.as_str();
        metrics::counter!("flywheel_calls_total", "status" => status).increment(1);
        metrics::histogram!("flywheel_call_duration_seconds").record(latency.as_secs_f64());
        let own = self.arrived.elapsed().saturating_sub(self.waited);
        metrics::histogram!("flywheel_overhead_seconds").record(own.as_secs_f64());
        recorded.map(|_| ()).map_err(|error| {
            metrics::counter!("flywheel_calls_not_recorded_total").increment(1);
            // The recorder has logged why, once for the whole group.
            tracing::debug!(call.id = %self.call.id, error.message = %error, "a call was not recorded");
            Failure::NotRecorded(error.to_string())
        })
    }
}

/// Tells breaker and metrics of a failed attempt.
pub(crate) fn report_failure(endpoint: &Endpoint, error: &ProviderError) {
    metrics::counter!(
        "flywheel_provider_errors_total",
        "provider" => endpoint.name.clone(),
        "kind" => error.kind.as_str()
    )
    .increment(1);
    if counts_against_endpoint(error) {
        if endpoint.breaker.report(false) {
            tracing::error!(provider.name = %endpoint.name, error.message = %error, "the circuit breaker opened");
        }
    } else if error.kind != ProviderErrorKind::RateLimited {
        // It answered; that it refused this request says nothing against it.
        endpoint.breaker.report(true);
    }
}

/// Whole numbers of microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How long a `data:` URL may be and still be recorded as it is.
const LONGEST_DATA_URL: usize = 1024;

/// Replaces images inside messages by their size and hash: the record says which image it was without holding it.
fn elide_images(messages: &mut [Value]) {
    for message in messages {
        let Some(Value::Array(parts)) = message.get_mut("content") else {
            continue;
        };
        for part in parts {
            let Some(Value::String(url)) = part.pointer_mut("/image_url/url") else {
                continue;
            };
            if url.starts_with("data:") && url.len() > LONGEST_DATA_URL {
                let kind = url.split([';', ',']).next().unwrap_or("data:").to_owned();
                let hash = flywheel_core::ContentHash::of_bytes(url.as_bytes());
                *url = format!(
                    "{kind};elided,{} bytes, sha256 of the URL {hash}",
                    url.len()
                );
            }
        }
    }
}

/// A description of a failure for a client that is already being streamed to.
pub(crate) fn error_object(failure: &Failure, call_id: &str) -> Value {
    json!({"error": {
        "message": failure.to_string(),
        "type": failure.culprit(),
        "code": failure.code(),
        "param": failure.param(),
        "call_id": call_id,
    }})
}
