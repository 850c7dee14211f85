//! Embeddings, passed through to the model's provider. They are counted, not recorded: no prompt decides them.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::chat::Gateway;
use crate::endpoint::Deadline;
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
        metrics::counter!("flywheel_embeddings_total").increment(1);
        let failed = |error| {
            let provider = endpoint.name.clone();
            Failure::Provider { provider, error }.unrecorded()
        };
        let request = endpoint
            .format
            .embeddings_request(&model.provider_model, &body);
        let wire = request.map_err(failed)?;
        endpoint.check_breaker().map_err(failed)?;
        let deadline = Deadline::within(endpoint.timeouts.total);
        match endpoint.send_and_read(wire, deadline).await {
            Ok(answer) => {
                endpoint.breaker.report(true);
                Ok(answer)
            }
            Err(error) => {
                report_failure(endpoint, &error);
                Err(failed(error))
            }
        }
    }
}
