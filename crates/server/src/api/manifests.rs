//! Manifests.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::Manifest;
use flywheel_core::diff::{diff_manifests, diff_prompts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::to_json;
use crate::context::Context;
use crate::extract::{PathParams, QueryParams};
use crate::operations::deploy::find_manifest;
use crate::problem::ApiResult;

/// `GET /api/v1/manifests/{prefix}`
pub async fn get_manifest(
    State(context): State<Context>,
    PathParams(prefix): PathParams<String>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let manifest = find_manifest(&mut *session, &prefix).await?;
    Ok(Json(describe_manifest(&manifest)).into_response())
}

/// Two manifests to be compared.
#[derive(Debug, Deserialize)]
pub struct DiffQuery {
    from: String,
    to: String,
}

/// `GET /api/v1/manifest-diff`
pub async fn diff_two_manifests(
    State(context): State<Context>,
    QueryParams(query): QueryParams<DiffQuery>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let from = find_manifest(&mut *session, &query.from).await?;
    let to = find_manifest(&mut *session, &query.to).await?;
    let before = session
        .prompts()
        .get(&from.prompt_id, &from.prompt_version)
        .await?;
    let after = session
        .prompts()
        .get(&to.prompt_id, &to.prompt_version)
        .await?;
    let prompt = before
        .zip(after)
        .map(|(before, after)| diff_prompts(&before.content, &after.content));
    let body = json!({
        "from": describe_manifest(&from),
        "to": describe_manifest(&to),
        "changes": diff_manifests(&from, &to),
        "prompt": prompt,
    });
    Ok(Json(body).into_response())
}

/// A manifest with its id.
pub(super) fn describe_manifest(manifest: &Manifest) -> Value {
    let mut body = json!({"id": manifest.id()});
    if let (Some(body), Value::Object(members)) = (body.as_object_mut(), to_json(manifest)) {
        body.extend(members);
    }
    body
}
