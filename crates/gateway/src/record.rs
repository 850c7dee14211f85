//! What a call under way leaves behind: its record, complete or failed.

use flywheel_core::call::{Call, CallStatus};
use flywheel_core::tools;
use flywheel_storage::NewEvent;
use serde_json::{Map, Value};
use tokio::time::Duration;

use crate::answer::Transcript;
use crate::chat::OnStoreFailure;
use crate::error::{Culprit, Failure};
use crate::routing::ModelRoute;
use crate::run::Run;

impl Run {
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
        // Of an answer that was cut off nothing can be said.
        let is_cut = match facts.finish_reason.as_deref() {
            Some(reason) => matches!(reason, "length" | "content_filter"),
            None => true,
        };
        facts.tool_success = match &content.tool_calls {
            Some(calls) if !is_cut => tools::fit(self.tools.as_ref(), calls),
            _ => None,
        };
        facts.usage = transcript.usage;
        facts.cost_nano_usd = model.cost(transcript.usage);
    }

    /// Records a call that failed. Returns its id if that worked.
    pub(crate) async fn fail(&mut self, failure: &Failure) -> Option<String> {
        let facts = &mut self.call.facts;
        facts.status = match failure.culprit() {
            Culprit::Client => CallStatus::BadRequest,
            Culprit::Provider => CallStatus::ProviderError,
            Culprit::Model => CallStatus::InvalidOutput,
            Culprit::Gateway => CallStatus::GatewayError,
        };
        facts.error_kind = Some(match failure {
            Failure::Provider { error, .. } => error.kind.as_str().to_owned(),
            other => other.code().to_owned(),
        });
        self.call.content.error = Some(failure.to_string());
        self.record().await.ok().map(|()| self.call.id.clone())
    }

    /// Records the call as it now stands, and counts it. Its texts move into the record; its facts stay.
    pub(crate) async fn record(&mut self) -> Result<(), Failure> {
        let latency = self.arrived.elapsed();
        let overhead = latency.saturating_sub(self.waited);
        self.call.facts.latency_us = Some(micros(latency));
        self.call.facts.overhead_us = Some(micros(overhead));
        let mut content = std::mem::take(&mut self.call.content);
        content.variables = std::mem::take(&mut self.body.flywheel.variables);
        elide_images(&mut content.messages);
        let event = NewEvent::Call(Box::new(Call {
            id: self.call.id.clone(),
            started_at: self.call.started_at,
            facts: self.call.facts.clone(),
            content,
        }));
        let recorded = match self.in_flight.take() {
            None => self.gateway.recorder.record(vec![event]).await,
            Some(held) => {
                let recorder = &self.gateway.recorder;
                recorder.record_holding(vec![event], Box::new(held)).await
            }
        };
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
