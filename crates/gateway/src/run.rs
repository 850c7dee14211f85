//! A call under way: rendered, sent, retried, answered.

use std::sync::Arc;

use flywheel_core::call::Call;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Duration, Instant};

use crate::answer::{self, Transcript};
use crate::attempts::{count_failure, tell_breaker};
use crate::chat::{AboutCall, Answered, Gateway};
use crate::endpoint::{Deadline, Endpoint};
use crate::error::{Failure, GatewayError, ProviderError};
use crate::idempotency::InFlight;
use crate::limiter::Share;
use crate::plan::{self, Chosen, Destination};
use crate::record::micros;
use crate::request::ChatBody;
use crate::routing::{ModelRoute, ServedManifest};
use crate::stream::{self, OpenStream};

/// A call under way: what is known of it, and what it has taken so far.
pub(crate) struct Run {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) body: ChatBody,
    pub(crate) call: Call,
    /// The tools that the model was offered.
    pub(crate) tools: Option<Value>,
    pub(crate) arrived: Instant,
    /// Time spent waiting for providers, which is not our overhead.
    pub(crate) waited: Duration,
    pub(crate) _permit: OwnedSemaphorePermit,
    pub(crate) _share: Share,
    /// The idempotency key, which stays held until it is known whether the call was recorded.
    pub(crate) in_flight: Option<InFlight>,
}

/// Where there is a fallback manifest, this part of the first endpoint's total time is kept for it, so that it can take
/// over from a provider that hangs and the caller still has an answer in the time that was configured.
const FALLBACK_SHARE: u32 = 4;

/// How long one manifest may take.
#[derive(Clone, Copy)]
pub(crate) struct Time {
    /// For a whole answer, or the first event of a stream: until then another manifest could answer instead.
    pub(crate) first: Deadline,
    /// For the end of a stream.
    pub(crate) whole: Deadline,
}

/// What a provider gave.
pub(crate) enum Given {
    Whole(Map<String, Value>),
    Stream(OpenStream),
}

impl Run {
    /// Runs the call to its end and sends the answer.
    pub(crate) async fn execute(
        mut self,
        destination: Destination,
        answer: oneshot::Sender<Result<Answered, GatewayError>>,
    ) {
        let Destination {
            chosen,
            fallback,
            stands_in_for,
            ..
        } = destination;
        let Chosen { served, model } = match chosen {
            Ok(chosen) => chosen,
            Err(unservable) => {
                self.call.facts.manifest = Some(unservable.manifest);
                return self.refuse(Failure::Unservable(unservable), answer).await;
            }
        };
        if let Some(unservable) = stands_in_for {
            tracing::warn!(call.id = %self.call.id, reason = %unservable, "another manifest stands in");
            self.count_fallback("unservable");
        }
        let total = model.endpoint.timeouts.total;
        let begun = Instant::now();
        let time = Time {
            first: match &fallback {
                Some(_) => Deadline::after(begun, total - total / FALLBACK_SHARE),
                None => Deadline::after(begun, total),
            },
            whole: Deadline::after(begun, total),
        };
        let first = self.serve(&model, served.as_ref(), time).await;
        let (given, served, model) = match (first, fallback) {
            (Ok(given), _) => (Ok(given), served, model),
            (Err(Failure::Provider { provider, error }), Some(fallback))
                if error.kind.is_retryable() =>
            {
                let failure = Failure::Provider { provider, error };
                let given = self.fall_back(&fallback, failure, time.whole).await;
                let model = Arc::clone(&fallback.model);
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
            Err(failure) => self.refuse(failure, answer).await,
        }
    }

    /// Records that the call failed, and answers so.
    async fn refuse(
        mut self,
        failure: Failure,
        answer: oneshot::Sender<Result<Answered, GatewayError>>,
    ) {
        let call_id = self.fail(&failure).await;
        let _ = answer.send(Err(GatewayError { failure, call_id }));
    }

    fn count_fallback(&self, reason: &'static str) {
        let name = |name: Option<String>| name.unwrap_or_default();
        let facts = &self.call.facts;
        metrics::counter!(
            "flywheel_fallbacks_total",
            "app" => name(facts.app.as_ref().map(ToString::to_string)),
            "environment" => name(facts.environment.as_ref().map(ToString::to_string)),
            "reason" => reason
        )
        .increment(1);
    }

    /// Renders, calls and retries on one model.
    async fn serve(
        &mut self,
        model: &ModelRoute,
        served: Option<&Arc<ServedManifest>>,
        time: Time,
    ) -> Result<Given, Failure> {
        self.name(model, served);
        let messages = match served {
            Some(served) => plan::render(served, &self.body)?,
            None => self.body.messages.clone(),
        };
        self.ask(model, served, messages, time).await
    }

    /// Has the fallback manifest answer after a failure of the provider, which stays the one that is told if the
    /// fallback cannot even be asked.
    async fn fall_back(
        &mut self,
        fallback: &Arc<ServedManifest>,
        failure: Failure,
        whole: Deadline,
    ) -> Result<Given, Failure> {
        let messages = match plan::render(fallback, &self.body) {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(
                    call.id = %self.call.id,
                    error.message = %failure,
                    fallback.error.message = %error,
                    "the provider failed, and the fallback manifest cannot be rendered"
                );
                return Err(failure);
            }
        };
        tracing::warn!(call.id = %self.call.id, error.message = %failure, "the fallback manifest answers");
        self.call.facts.fallback = true;
        self.count_fallback("provider_error");
        self.name(&fallback.model, Some(fallback));
        let own = Deadline::within(fallback.model.endpoint.timeouts.total);
        let whole = own.earlier(Deadline {
            given: whole.at.saturating_duration_since(Instant::now()),
            ..whole
        });
        let time = Time {
            first: whole,
            whole,
        };
        self.ask(&fallback.model, Some(fallback), messages, time)
            .await
    }

    /// Puts down what is asked now.
    fn name(&mut self, model: &ModelRoute, served: Option<&Arc<ServedManifest>>) {
        let facts = &mut self.call.facts;
        facts.model_id = Some(model.model_id.clone());
        facts.model_version = Some(model.model_version.clone());
        facts.manifest = served.map(|served| served.id);
        facts.prompt = served.map(|served| served.manifest.prompt_id.clone());
        facts.prompt_version = served.map(|served| served.manifest.prompt_version);
    }

    async fn ask(
        &mut self,
        model: &ModelRoute,
        served: Option<&Arc<ServedManifest>>,
        messages: Vec<Value>,
        time: Time,
    ) -> Result<Given, Failure> {
        // Post-processing needs the whole text, so such an answer is streamed from here, not from the provider.
        let stream = self.body.stream && served.is_none_or(|served| served.postprocess.is_empty());
        let mut request = plan::chat_request(
            model,
            served.map(AsRef::as_ref),
            messages,
            &self.body,
            stream,
        );
        let endpoint = &model.endpoint;
        let begun = Instant::now();
        let given = self.attempt(endpoint, &request, time).await;
        self.waited += begun.elapsed();
        self.call.content.messages = request.take_messages();
        self.tools = request.body.remove("tools");
        given.map_err(|error| Failure::Provider {
            provider: endpoint.name.clone(),
            error,
        })
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
            return self.refuse(Failure::InvalidOutput(error), answer).await;
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
}

/// Tells metrics and breaker of a request that failed.
pub(crate) fn report_failure(endpoint: &Endpoint, error: &ProviderError) {
    count_failure(endpoint, error);
    tell_breaker(endpoint, error);
}
