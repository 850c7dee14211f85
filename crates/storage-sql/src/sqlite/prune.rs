//! Removing the oldest events, a bounded number at a time.

use flywheel_storage::StorageResult;
use flywheel_storage::events::PruneBound;
use sqlx::{SqliteConnection, query, query_scalar};

use super::error::failed;
use super::fields::unsigned;
use super::writer::WriteTransaction;

/// How many rows of one kind a step removes.
const STEP: i64 = 1000;

/// How many rows of one kind a step removes where the store's size is looked at after each.
const SMALL_STEP: i64 = 100;

/// The number of removed events after which a size-bound pruning lets others write.
const ENOUGH: u64 = 2000;

/// How many freed pages one pruning gives back to the file system.
const PAGES_GIVEN_BACK: &str = "PRAGMA incremental_vacuum(2000)";

/// Removes events and returns how many.
pub(super) async fn prune(
    mut transaction: WriteTransaction,
    bound: PruneBound,
) -> StorageResult<u64> {
    let connection = transaction.connection();
    let removed = match bound {
        PruneBound::Before(time) => {
            let oldest = end_of_oldest(connection, STEP).await?;
            step(connection, oldest.min(time.as_microsecond()), STEP).await?
        }
        PruneBound::Bytes(bytes) => until_small(connection, bytes).await?,
    };
    let mut transaction = transaction.commit().await?;
    query(PAGES_GIVEN_BACK)
        .execute(transaction.connection())
        .await
        .map_err(failed("giving back freed space"))?;
    Ok(removed)
}

async fn until_small(connection: &mut SqliteConnection, bytes: u64) -> StorageResult<u64> {
    let mut removed = 0;
    while removed < ENOUGH && live_bytes(connection).await? > bytes {
        let time = end_of_oldest(connection, SMALL_STEP).await?;
        match step(connection, time, SMALL_STEP).await? {
            0 => break,
            events => removed += events,
        }
    }
    Ok(removed)
}

/// The time before which so many of the oldest calls began; the end of time when there are fewer. Feedback from before
/// it mostly belongs to those calls, so that looking for feedback without a call passes over little else.
async fn end_of_oldest(connection: &mut SqliteConnection, calls: i64) -> StorageResult<i64> {
    let last: Option<i64> =
        query_scalar("SELECT started_at FROM calls ORDER BY started_at LIMIT 1 OFFSET $1")
            .bind(calls - 1)
            .fetch_optional(connection)
            .await
            .map_err(failed("finding the oldest calls"))?;
    Ok(last.map_or(i64::MAX, |time| time.saturating_add(1)))
}

/// Removes up to `limit` calls that began before a time, with their texts and feedback, and up to as many pieces of
/// feedback from before that time whose call is not known.
async fn step(connection: &mut SqliteConnection, time: i64, limit: i64) -> StorageResult<u64> {
    // A call may have any number of pieces of feedback, so these go first, and the call only when none is left.
    let feedback = delete(
        connection,
        "DELETE FROM feedback
         WHERE number IN (
             SELECT feedback.number
             FROM (SELECT id FROM calls WHERE started_at < $1 ORDER BY started_at, number LIMIT $2)
                  AS oldest
             JOIN feedback ON feedback.call_id = oldest.id
             LIMIT $2)",
        time,
        limit,
    )
    .await?;
    if feedback >= unsigned(limit) {
        return Ok(feedback);
    }
    delete(
        connection,
        "DELETE FROM call_contents
         WHERE number IN (
             SELECT number FROM calls WHERE started_at < $1 ORDER BY started_at, number LIMIT $2)",
        time,
        limit,
    )
    .await?;
    let calls = delete(
        connection,
        "DELETE FROM calls
         WHERE number IN (
             SELECT number FROM calls WHERE started_at < $1 ORDER BY started_at, number LIMIT $2)",
        time,
        limit,
    )
    .await?;
    let orphans = delete(
        connection,
        "DELETE FROM feedback
         WHERE number IN (
             SELECT number FROM feedback
             WHERE created_at < $1
               AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.id = feedback.call_id)
             ORDER BY created_at, number
             LIMIT $2)",
        time,
        limit,
    )
    .await?;
    Ok(feedback + calls + orphans)
}

async fn delete(
    connection: &mut SqliteConnection,
    sql: &'static str,
    time: i64,
    limit: i64,
) -> StorageResult<u64> {
    let done = query(sql)
        .bind(time)
        .bind(limit)
        .execute(connection)
        .await
        .map_err(failed("removing old events"))?;
    Ok(done.rows_affected())
}

/// The bytes of the pages in use, found out in a transaction that writes, so that a store which cannot be written says
/// so here.
pub(super) async fn probe(connection: &mut SqliteConnection) -> StorageResult<u64> {
    query("UPDATE write_probe SET writes = writes + 1")
        .execute(&mut *connection)
        .await
        .map_err(failed("trying to write"))?;
    live_bytes(connection).await
}

async fn live_bytes(connection: &mut SqliteConnection) -> StorageResult<u64> {
    let bytes: i64 = query_scalar(
        "SELECT (pages.page_count - free.freelist_count) * size.page_size
         FROM pragma_page_count AS pages, pragma_freelist_count AS free, pragma_page_size AS size",
    )
    .fetch_one(connection)
    .await
    .map_err(failed("measuring the store"))?;
    Ok(unsigned(bytes))
}
