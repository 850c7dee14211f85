//! A trial call to a manifest that is not necessarily deployed. It is not recorded: no user asked for it.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::answer::{self, Transcript};
use crate::chat::Gateway;
use crate::endpoint::Deadline;
use crate::plan;
use crate::request::{ChatBody, FlywheelMember, Target};
use crate::routing::ServedManifest;

impl Gateway {
    /// Renders a manifest's prompt and asks its model once. Returns the answer's text, if it has one.
    ///
    /// # Errors
    /// What failed, in words.
    pub async fn probe(
        &self,
        served: &Arc<ServedManifest>,
        variables: &Map<String, Value>,
    ) -> Result<Option<String>, String> {
        let _permit = self.admit().await.map_err(|error| error.to_string())?;
        let body = ChatBody {
            target: Target::Model(served.model.model_id.to_string()),
            messages: Vec::new(),
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
        // A rehearsal must not open the circuit for live calls, so the breaker hears nothing of it.
        let mut completion = answer.map_err(|error| error.to_string())?;
        answer::post_process(&mut completion, &served.postprocess)
            .map_err(|error| error.to_string())?;
        Ok(Transcript::of_completion(&completion).output())
    }
}
