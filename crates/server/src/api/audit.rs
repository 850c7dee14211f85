//! The audit log.

use axum::Json;
use axum::extract::State;
use flywheel_core::audit::AuditEntry;

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{PageQuery, QueryParams};
use crate::operations::audit::{self, Verification};
use crate::problem::ApiResult;
use crate::respond::{List, list};

/// `GET /api/v1/audit`
pub async fn list_audit_entries(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<AuditEntry>>> {
    caller.must_cover_all()?;
    let request = page.request(|cursor| cursor.parse::<u64>().ok())?;
    let page = context.state.read().await?.audit().list(request).await?;
    Ok(list(page.items, page.next.map(|number| number.to_string())))
}

/// `GET /api/v1/audit/verify`
pub async fn verify_audit_log(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Json<Verification>> {
    caller.must_cover_all()?;
    let mut session = context.state.browse().await?;
    Ok(Json(audit::verify(&mut *session).await?))
}
