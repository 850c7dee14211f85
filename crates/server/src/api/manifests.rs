//! Manifests.

use axum::Json;
use axum::extract::State;
use flywheel_core::diff::{MemberChange, PromptDiff, diff_manifests, diff_prompts};
use flywheel_core::{Manifest, ManifestId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::extract::{PathParams, QueryParams};
use crate::operations::deploy::find_manifest;
use crate::operations::served;
use crate::problem::ApiResult;

/// A manifest with its id.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedManifest {
    /// Its id.
    id: ManifestId,
    #[serde(flatten)]
    manifest: Manifest,
    /// The number of the prompt's version.
    prompt_ordinal: Option<u64>,
}

impl DescribedManifest {
    pub(super) fn new(manifest: Manifest, prompt_ordinal: Option<u64>) -> Self {
        Self {
            id: manifest.id(),
            manifest,
            prompt_ordinal,
        }
    }
}

/// `GET /api/v1/manifests/{prefix}`
pub async fn get_manifest(
    State(context): State<Context>,
    PathParams(prefix): PathParams<String>,
) -> ApiResult<Json<DescribedManifest>> {
    let mut session = context.state.read().await?;
    let manifest = find_manifest(&mut *session, &prefix).await?;
    let served = served::describe(&mut *session, &manifest).await?;
    Ok(Json(DescribedManifest::new(
        manifest,
        served.prompt_ordinal,
    )))
}

/// Two manifests to be compared.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DiffQuery {
    /// The older one, by at least 12 digits of its id.
    from: String,
    /// The newer one.
    to: String,
}

/// What differs between two manifests.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ManifestDiff {
    /// The older one.
    from: DescribedManifest,
    /// The newer one.
    to: DescribedManifest,
    /// The members that differ.
    changes: Vec<MemberChange>,
    /// What differs between their prompt versions.
    prompt: Option<PromptDiff>,
}

/// `GET /api/v1/manifest-diff`
pub async fn diff_two_manifests(
    State(context): State<Context>,
    QueryParams(query): QueryParams<DiffQuery>,
) -> ApiResult<Json<ManifestDiff>> {
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
    let ordinals = [&before, &after].map(|version| version.as_ref().map(|found| found.ordinal));
    let prompt = before
        .zip(after)
        .map(|(before, after)| diff_prompts(&before.content, &after.content));
    Ok(Json(ManifestDiff {
        changes: diff_manifests(&from, &to),
        from: DescribedManifest::new(from, ordinals[0]),
        to: DescribedManifest::new(to, ordinals[1]),
        prompt,
    }))
}
