//! The audit log.

use axum::Json;
use axum::extract::State;
use flywheel_core::audit::AuditEntry;
use flywheel_core::schema::DateTime;
use flywheel_storage::audit::AuditFilter;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{PageQuery, QueryParams};
use crate::operations::audit::{self, Verification};
use crate::problem::ApiResult;
use crate::respond::{List, list};

/// Which entries. Texts are found anywhere in the member, whatever their letters' case.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuditQuery {
    /// Found in who did it.
    actor: Option<String>,
    /// Found in what was done, such as `app.rollback`.
    action: Option<String>,
    /// Found in what it was done to.
    subject: Option<String>,
    /// Not before this time.
    #[schemars(with = "Option<DateTime>")]
    since: Option<Timestamp>,
    /// Before this time.
    #[schemars(with = "Option<DateTime>")]
    until: Option<Timestamp>,
}

/// `GET /api/v1/audit`
pub async fn list_audit_entries(
    State(context): State<Context>,
    caller: Caller,
    QueryParams(query): QueryParams<AuditQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<AuditEntry>>> {
    caller.must_cover_all()?;
    let request = page.request(|cursor| cursor.parse::<u64>().ok())?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        subject: query.subject,
        since: query.since,
        until: query.until,
    };
    // A filter looks through the whole log, which those who deploy must not wait for.
    let mut session = context.state.browse().await?;
    let page = session.audit().list(&filter, request).await?;
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
