//! Retriever indexes.

use axum::Json;
use axum::extract::State;
use flywheel_core::name::{RetrieverName, VersionName};
use flywheel_core::retriever::{IndexState, RetrieverIndex};
use schemars::JsonSchema;
use serde::Deserialize;

use super::to_json;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::problem::{ApiResult, Problem};
use crate::respond::{List, list};

/// `GET /api/v1/indexes`
pub async fn list_indexes(State(context): State<Context>) -> ApiResult<Json<List<RetrieverIndex>>> {
    let indexes = context.state.read().await?.retrievers().list().await?;
    Ok(list(indexes, None))
}

/// An index as it is put.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct IndexBody {
    /// The index it is a version of.
    index: RetrieverName,
    #[serde(flatten)]
    state: IndexState,
}

/// `PUT /api/v1/indexes/{version}`
pub async fn put_index(
    State(context): State<Context>,
    caller: Caller,
    PathParams(version): PathParams<VersionName>,
    JsonBody(body): JsonBody<IndexBody>,
) -> ApiResult<Json<RetrieverIndex>> {
    caller.must_cover_all()?;
    let IndexBody { index, state } = body;
    let mut transaction = context.state.begin().await?;
    if let IndexState::MigratedForward { to } = &state
        && transaction.retrievers().get(to).await?.is_none()
    {
        let detail = format!("`{version}` cannot have migrated to `{to}`, which is not registered");
        return Err(Problem::invalid(detail));
    }
    let there = transaction.retrievers().get(&version).await?;
    let created_at = there.map_or_else(|| context.sources.clock.now(), |there| there.created_at);
    let index = RetrieverIndex {
        version,
        index,
        state,
        created_at,
    };
    transaction.retrievers().put(&index).await?;
    let subject = index.version.to_string();
    context
        .commit(transaction, &caller, "index.put", &subject, to_json(&index))
        .await?;
    Ok(Json(index))
}
