//! Embeddings, passed through to the model's provider. They are counted, not recorded: no prompt decides them.

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::chat::Gateway;
use crate::error::{Failure, GatewayError};
use crate::request::InvalidRequest;
use crate::run::report_failure;

impl Gateway {
    /// Passes an embeddings request through.
    ///
    /// # Errors
    /// When the model is unknown, or its provider has no embeddings or fails.
    pub async fn embeddings(&self, mut body: Map<String, Value>) -> Result<Bytes, GatewayError> {
        let _permit = self.admit().await?;
        let Some(Value::String(name)) = body.shift_remove("model") else {
            let problem = "`model` is missing: name a registered model";
            return Err(Failure::from(InvalidRequest::member("model", problem)).unrecorded());
        };
        let model = self.table.load().model(&name).cloned().ok_or_else(|| {
            Failure::NotFound(format!("model `{name}` is not registered")).unrecorded()
        })?;
        let endpoint = &model.endpoint;
        let answer = match endpoint
            .format
            .embeddings_request(&model.provider_model, &body)
        {
            Ok(wire) => {
                endpoint
                    .send_and_read(wire, Instant::now() + endpoint.timeouts.total)
                    .await
            }
            Err(error) => Err(error),
        };
        metrics::counter!("flywheel_embeddings_total").increment(1);
        answer.map_err(|error| {
            report_failure(endpoint, &error);
            Failure::Provider {
                provider: endpoint.name.clone(),
                error,
            }
            .unrecorded()
        })
    }
}
