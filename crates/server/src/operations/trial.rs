//! Trying a prompt version on its model: one call that is not recorded and changes nothing.

use std::sync::Arc;

use flywheel_core::{Manifest, PromptContent};
use flywheel_gateway::routing::ServedManifest;
use flywheel_gateway::trial::Trial;
use serde_json::{Map, Value};

use crate::context::Context;

/// Renders a content with variables, adds further messages, and asks the manifest's model.
///
/// # Errors
/// What failed, in words.
pub async fn try_out(
    context: &Context,
    manifest: &Manifest,
    content: &PromptContent,
    variables: &Map<String, Value>,
    further_messages: Vec<Value>,
) -> Result<Trial, String> {
    let (id, version) = (&manifest.model_id, &manifest.model_version);
    let model = context.table.load().model_version(id, version).cloned();
    let model = model.ok_or_else(|| {
        format!("model `{id}:{version}` is not registered, or its provider is not configured")
    })?;
    let served = ServedManifest::new(manifest.id(), manifest.clone(), content, model)?;
    context
        .gateway
        .try_out(&Arc::new(served), variables, further_messages)
        .await
}
