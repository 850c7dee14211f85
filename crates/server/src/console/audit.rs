//! The audit log, and whether its chain holds.

use askama::Template;
use axum::extract::State;
use flywheel_storage::audit::AuditFilter;
use flywheel_storage::page::PageRequest;
use serde::Deserialize;

use super::answer::{Frame, PageResult, page};
use super::form::{Moment, PageQuery, address, given};
use super::session::Visitor;
use super::show::{self, Markup};
use crate::context::Context;
use crate::operations::audit::{self, Verification};

const PAGE: u32 = 100;

/// The filters, as they stand in the URL.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AuditQuery {
    #[serde(deserialize_with = "given")]
    actor: Option<String>,
    #[serde(deserialize_with = "given")]
    action: Option<String>,
    #[serde(deserialize_with = "given")]
    subject: Option<String>,
    #[serde(deserialize_with = "given")]
    since: Option<Moment>,
    #[serde(deserialize_with = "given")]
    until: Option<Moment>,
    #[serde(deserialize_with = "given")]
    before: Option<u64>,
    #[serde(deserialize_with = "given")]
    verify: Option<bool>,
}

impl AuditQuery {
    fn filter(&self) -> AuditFilter {
        AuditFilter {
            actor: self.actor.clone(),
            action: self.action.clone(),
            subject: self.subject.clone(),
            since: self.since.map(|moment| moment.0),
            until: self.until.map(|moment| moment.0),
        }
    }

    /// The fields of the form: what they are called, their name in the address, what stands in them.
    fn fields(&self) -> [(&'static str, &'static str, String); 5] {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            ("Who", "actor", text(&self.actor)),
            ("Did", "action", text(&self.action)),
            ("To", "subject", text(&self.subject)),
            ("Since", "since", Moment::typed(self.since)),
            ("Until", "until", Moment::typed(self.until)),
        ]
    }

    /// The same filters, from an entry on.
    fn address(&self, before: u64) -> String {
        let filters = self.fields().map(|(_, name, value)| (name, Some(value)));
        let mut filters = Vec::from(filters);
        filters.retain(|(_, value)| value.as_ref().is_some_and(|value| !value.is_empty()));
        filters.push(("before", Some(before.to_string())));
        address("/audit", &filters)
    }
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
    fields: [(&'static str, &'static str, String); 5],
    is_filtered: bool,
    verification: Option<Verification>,
    rows: Vec<Row>,
    next: Option<String>,
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
    let filter = query.filter();
    let found = session.audit().list(&filter, request).await?;
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
        fields: query.fields(),
        is_filtered: filter != AuditFilter::default(),
        verification,
        rows,
        next: found.next.map(|before| query.address(before)),
    })
}
