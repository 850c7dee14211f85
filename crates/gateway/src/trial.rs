//! A trial call to a manifest that is not necessarily deployed. It is not recorded: no user asked for it.

use std::sync::Arc;
use std::time::Duration;

use flywheel_core::model::Usage;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::answer::{self, Transcript};
use crate::chat::Gateway;
use crate::endpoint::Deadline;
use crate::plan;
use crate::request::{ChatBody, FlywheelMember, Target};
use crate::routing::ServedManifest;

/// What a trial call brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The text, after post-processing.
    pub output: Option<String>,
    /// The tool calls.
    pub tool_calls: Option<Value>,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// The tokens.
    pub usage: Option<Usage>,
    /// What it cost, in billionths of a dollar, where the model has a price.
    pub cost_nano_usd: Option<i64>,
    /// How long it took.
    pub latency: Duration,
}

impl Gateway {
    /// Renders a manifest's prompt, adds further messages in OpenAI's shape, and asks its model once.
    ///
    /// # Errors
    /// What failed, in words.
    pub async fn try_out(
        &self,
        served: &Arc<ServedManifest>,
        variables: &Map<String, Value>,
        further_messages: Vec<Value>,
    ) -> Result<Trial, String> {
        let _permit = self.admit().await.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let body = ChatBody {
            target: Target::Model(served.model.model_id.to_string()),
            messages: further_messages,
            user: None,
            stream: false,
            include_usage: false,
            flywheel: FlywheelMember {
                variables: variables.clone(),
                ..FlywheelMember::default()
            },
            further: Map::new(),
        };
        let messages = plan::render(served, &body).map_err(|error| error.to_string())?;
        let request = plan::chat_request(&served.model, Some(served), messages, &body, false);
        let endpoint = &served.model.endpoint;
        let wire = endpoint
            .format
            .chat_request(&request)
            .map_err(|error| error.to_string())?;
        let deadline = Deadline::within(endpoint.timeouts.total);
        let answer = endpoint.send_and_read(wire, deadline).await;
        let answer = answer.and_then(|body| endpoint.format.chat_response(&body));
        // A trial must not open the circuit for live calls, so the breaker hears nothing of it.
        let mut completion = answer.map_err(|error| error.to_string())?;
        answer::post_process(&mut completion, &served.postprocess)
            .map_err(|error| error.to_string())?;
        let transcript = Transcript::of_completion(&completion);
        Ok(Trial {
            output: transcript.output(),
            tool_calls: transcript.tool_calls(),
            finish_reason: transcript.finish_reason(),
            usage: transcript.usage,
            cost_nano_usd: served.model.cost(transcript.usage),
            latency: begun.elapsed(),
        })
    }
}
