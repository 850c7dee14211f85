//! The audit log.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::audit::ChainWalk;
use serde_json::json;

use super::list;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{PageQuery, QueryParams};
use crate::problem::ApiResult;

/// Entries that are read at a time while the chain is walked.
const STEP: u32 = 1000;

/// `GET /api/v1/audit`
pub async fn list_audit_entries(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Response> {
    caller.must_cover_all()?;
    let request = page.request(|cursor| cursor.parse::<u64>().ok())?;
    let page = context.state.read().await?.audit().list(request).await?;
    Ok(list(page.items, page.next.map(|number| number.to_string())))
}

/// `GET /api/v1/audit/verify`
pub async fn verify_audit_log(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Response> {
    caller.must_cover_all()?;
    let mut session = context.state.read().await?;
    let mut walk = ChainWalk::default();
    loop {
        let entries = session.audit().after(walk.entries(), STEP).await?;
        if entries.is_empty() {
            break;
        }
        if let Err(broken) = entries.iter().try_for_each(|entry| walk.step(entry)) {
            let body = json!({
                "verified": false,
                "entries": walk.entries(),
                "head": walk.head(),
                "problem": broken.to_string(),
            });
            return Ok(Json(body).into_response());
        }
    }
    Ok(
        Json(json!({"verified": true, "entries": walk.entries(), "head": walk.head()}))
            .into_response(),
    )
}
