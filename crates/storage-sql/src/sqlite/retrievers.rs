//! Registered retriever indexes.

use async_trait::async_trait;
use flywheel_core::name::VersionName;
use flywheel_core::retriever::RetrieverIndex;
use flywheel_storage::StorageResult;
use flywheel_storage::retrievers::RetrieverRepository;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::error::failed;
use super::fields::{Fields, document};

/// The retriever indexes, over one connection.
pub(super) struct Retrievers<'c>(pub(super) &'c mut SqliteConnection);

fn index_from(row: &SqliteRow) -> StorageResult<RetrieverIndex> {
    let fields = Fields::new(row, "retriever_indexes", &["version"]);
    Ok(RetrieverIndex {
        version: fields.parsed("version")?,
        index: fields.parsed("retriever")?,
        state: fields.json("state")?,
        created_at: fields.time("created_at")?,
    })
}

#[async_trait]
impl RetrieverRepository for Retrievers<'_> {
    #[tracing::instrument(name = "db.retriever_indexes.put", skip_all)]
    async fn put(&mut self, index: &RetrieverIndex) -> StorageResult<()> {
        query(
            "INSERT INTO retriever_indexes (version, retriever, state, created_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (version) DO UPDATE SET
                 retriever = excluded.retriever,
                 state = excluded.state",
        )
        .bind(index.version.as_str())
        .bind(index.index.as_str())
        .bind(document(&index.state)?)
        .bind(index.created_at.as_microsecond())
        .execute(&mut *self.0)
        .await
        .map_err(failed("registering a retriever index"))?;
        Ok(())
    }

    #[tracing::instrument(name = "db.retriever_indexes.get", skip_all)]
    async fn get(&mut self, version: &VersionName) -> StorageResult<Option<RetrieverIndex>> {
        let row = query("SELECT * FROM retriever_indexes WHERE version = $1")
            .bind(version.as_str())
            .fetch_optional(&mut *self.0)
            .await
            .map_err(failed("reading a retriever index"))?;
        row.as_ref().map(index_from).transpose()
    }

    #[tracing::instrument(name = "db.retriever_indexes.list", skip_all)]
    async fn list(&mut self) -> StorageResult<Vec<RetrieverIndex>> {
        let rows = query("SELECT * FROM retriever_indexes ORDER BY created_at DESC, number DESC")
            .fetch_all(&mut *self.0)
            .await
            .map_err(failed("listing retriever indexes"))?;
        rows.iter().map(index_from).collect()
    }
}
