//! The audit log.

use async_trait::async_trait;
use flywheel_core::audit::{AuditDraft, AuditEntry, beginning};
use flywheel_storage::StorageResult;
use flywheel_storage::audit::{AuditFilter, AuditRepository};
use flywheel_storage::page::{LARGEST_PAGE, Page, PageRequest};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document, kept, signed};

/// The audit log, over one connection.
pub(super) struct Audit<'c>(pub(super) &'c mut SqliteConnection);

fn entry_from(row: &SqliteRow) -> StorageResult<AuditEntry> {
    let fields = Fields::new(row, "audit_log", &["number"]);
    Ok(AuditEntry {
        number: fields.count("number")?,
        at: fields.time("at")?,
        actor: fields.text("actor")?,
        action: fields.text("action")?,
        subject: fields.text("subject")?,
        detail: fields.json("detail")?,
        previous_hash: fields.parsed("previous_hash")?,
        hash: fields.parsed("hash")?,
    })
}

impl Audit<'_> {
    async fn insert(&mut self, entry: &AuditEntry) -> StorageResult<()> {
        query(
            "INSERT INTO audit_log
                 (number, at, actor, action, subject, detail, previous_hash, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(signed(entry.number))
        .bind(entry.at.as_microsecond())
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.subject)
        .bind(document(&entry.detail)?)
        .bind(entry.previous_hash.to_string())
        .bind(entry.hash.to_string())
        .execute(&mut *self.0)
        .await
        .map_err(failed("appending to the audit log"))?;
        Ok(())
    }
}

fn listing(filter: &AuditFilter, before: Option<u64>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut sql = QueryBuilder::new("SELECT * FROM audit_log WHERE number < ");
    sql.push_bind(before.map_or(i64::MAX, signed));
    for (column, text) in [
        ("actor", &filter.actor),
        ("action", &filter.action),
        ("subject", &filter.subject),
    ] {
        if let Some(text) = text {
            sql.push(format!(" AND instr(lower({column}), "))
                .push_bind(text.to_ascii_lowercase())
                .push(") > 0");
        }
    }
    for (comparison, time) in [(" AND at >= ", filter.since), (" AND at < ", filter.until)] {
        if let Some(time) = time {
            sql.push(comparison).push_bind(time.as_microsecond());
        }
    }
    sql.push(" ORDER BY number DESC LIMIT ")
        .push_bind(i64::from(limit));
    sql
}

#[async_trait]
impl AuditRepository for Audit<'_> {
    #[tracing::instrument(name = "db.audit_log.append", skip_all)]
    async fn append(&mut self, draft: AuditDraft) -> StorageResult<AuditEntry> {
        let last = query("SELECT number, hash FROM audit_log ORDER BY number DESC LIMIT 1")
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading the end of the audit log"))?;
        let (number, previous_hash) = match &last {
            None => (1, beginning()),
            Some(row) => {
                let fields = Fields::new(row, "audit_log", &["number"]);
                (fields.count("number")? + 1, fields.parsed("hash")?)
            }
        };
        // The hash is over the time as it will be read back.
        let draft = AuditDraft {
            at: kept(draft.at),
            ..draft
        };
        let entry = AuditEntry::chain(draft, number, previous_hash);
        self.insert(&entry).await?;
        Ok(entry)
    }

    #[tracing::instrument(name = "db.audit_log.list", skip_all)]
    async fn list(
        &mut self,
        filter: &AuditFilter,
        page: PageRequest<u64>,
    ) -> StorageResult<Page<AuditEntry, u64>> {
        let limit = page.limit.clamp(1, LARGEST_PAGE);
        let rows = listing(filter, page.before, limit + 1)
            .build()
            // There are too many different statements to keep each prepared.
            .persistent(false)
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("reading the audit log"))?;
        let entries = rows
            .iter()
            .map(entry_from)
            .collect::<StorageResult<Vec<_>>>()?;
        Ok(Page::from_rows(entries, limit, |entry| entry.number))
    }

    #[tracing::instrument(name = "db.audit_log.after", skip_all)]
    async fn after(&mut self, number: u64, limit: u32) -> StorageResult<Vec<AuditEntry>> {
        let rows = query(
            "SELECT * FROM audit_log
             WHERE number > $1
             ORDER BY number
             LIMIT $2",
        )
        .bind(signed(number))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.0)
        .await
        .map_err(failed("reading the audit log"))?;
        rows.iter().map(entry_from).collect()
    }
}
