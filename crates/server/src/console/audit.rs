//! The audit log, and whether its chain holds.

use askama::Template;
use axum::extract::State;
use flywheel_storage::page::PageRequest;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::form::{PageQuery, given};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::audit::{self, Verification};

const PAGE: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    #[serde(deserialize_with = "given")]
    before: Option<u64>,
    #[serde(deserialize_with = "given")]
    verify: Option<bool>,
}

struct Row {
    number: u64,
    when: Markup,
    actor: String,
    action: String,
    subject: String,
    detail: Markup,
    hash: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    verification: Option<Verification>,
    rows: Vec<Row>,
    next: Option<u64>,
}

/// `GET /audit`
pub(super) async fn list_entries(
    State(context): State<Context>,
    visitor: Visitor,
    PageQuery(query): PageQuery<AuditQuery>,
) -> PageResult {
    visitor.caller.must_cover_all()?;
    let now = context.sources.clock.now();
    let mut session = context.state.browse().await?;
    let verification = match query.verify {
        Some(true) => Some(audit::verify(&mut *session).await?),
        _ => None,
    };
    let request = PageRequest {
        before: query.before,
        ..PageRequest::first(PAGE)
    };
    let found = session.audit().list(request).await?;
    let rows = found
        .items
        .into_iter()
        .map(|entry| Row {
            number: entry.number,
            when: show::when(entry.at, now),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            detail: show::text_up_to(
                &serde_json::to_string_pretty(&entry.detail).unwrap_or_default(),
                4000,
            ),
            hash: entry.hash.short().to_string(),
        })
        .collect();
    page(&AuditPage {
        frame: Frame::new(&context, &visitor, "Audit", "/audit"),
        verification,
        rows,
        next: found.next,
    })
}
