//! Removing the oldest events, for a bounded time at once.

use std::time::Duration;

use flywheel_storage::StorageResult;
use flywheel_storage::events::PruneBound;
use sqlx::{SqliteConnection, SqlitePool, query, query_scalar};
use tokio::time::Instant;

use super::error::failed;
use super::fields::unsigned;
use super::writer::WriteTransaction;

/// How many rows of one kind the first step removes. Their texts may be long, so it finds out how long rows take.
const FIRST_STEP: i64 = 8;

/// How many rows of one kind a step removes at most.
const LARGEST_STEP: i64 = 1000;

/// The same where the store's size is looked at after each step.
const LARGEST_STEP_TO_SIZE: i64 = 100;

/// How many freed pages are given back to the file system between looks at the time.
const PAGES_GIVEN_BACK: &str = "PRAGMA incremental_vacuum(200)";

/// After how many of those it is enough.
const MOST_GIVEN_BACK: usize = 10;

/// Removes events for about so long, and returns how many. The first step is taken however little time there is.
pub(super) async fn prune(
    mut transaction: WriteTransaction,
    bound: PruneBound,
    longest: Duration,
) -> StorageResult<u64> {
    let begun = Instant::now();
    // What makes statistics again needs every event that is in them.
    if is_rebuilding(transaction.connection()).await? {
        transaction.commit().await?;
        return Ok(0);
    }
    let (removed, reached) = remove(transaction.connection(), bound, begun + longest).await?;
    if removed > 0 {
        forget_sums(transaction.connection(), reached).await?;
    }
    let mut transaction = transaction.commit().await?;
    for _ in 0..MOST_GIVEN_BACK {
        query(PAGES_GIVEN_BACK)
            .execute(transaction.connection())
            .await
            .map_err(failed("giving back freed space"))?;
        if begun.elapsed() >= longest {
            break;
        }
    }
    Ok(removed)
}

async fn is_rebuilding(connection: &mut SqliteConnection) -> StorageResult<bool> {
    query_scalar("SELECT EXISTS (SELECT 1 FROM experiment_progress WHERE experiment <> '')")
        .fetch_one(connection)
        .await
        .map_err(failed("looking for statistics that are made again"))
}

/// From the first whole hour after the oldest call on, and after those before `reached`, which may have lost their feedback
/// alone, sums are of all that happened; those before it go. A number that was the last may be given again, so what was summed
/// up to it ends at the last that is left.
async fn forget_sums(connection: &mut SqliteConnection, reached: i64) -> StorageResult<()> {
    query(
        "UPDATE sums_progress SET first_hour = max(first_hour, coalesce(
             (SELECT max(started_at) FROM calls WHERE started_at < $1) / 3600000000 + 1, first_hour))",
    )
    .bind(reached)
    .execute(&mut *connection)
    .await
    .map_err(failed("removing old sums"))?;
    for sql in [
        "UPDATE sums_progress
         SET calls = min(calls, (SELECT coalesce(max(number), 0) FROM calls)),
             feedback = min(feedback, (SELECT coalesce(max(number), 0) FROM feedback)),
             first_hour = max(first_hour, coalesce(
                 (SELECT min(started_at) FROM calls) / 3600000000 + 1, first_hour))",
        // The numbers of removed rows are given again once no row is left.
        "UPDATE experiment_progress
         SET calls = min(calls, (SELECT coalesce(max(number), 0) FROM calls)),
             feedback = min(feedback, (SELECT coalesce(max(number), 0) FROM feedback))",
        // Whose calls are gone is forgotten in steps, when weeks are next looked at: 1 January 1970 was a Thursday.
        "UPDATE week_progress
         SET calls = min(calls, (SELECT coalesce(max(number), 0) FROM calls)),
             feedback = min(feedback, (SELECT coalesce(max(number), 0) FROM feedback)),
             first_week = max(first_week, coalesce(
                 ((SELECT min(started_at) FROM calls) / 86400000000 + 3) / 7, first_week))",
        "DELETE FROM week_units WHERE NOT EXISTS (SELECT 1 FROM calls)",
        "DELETE FROM call_sums WHERE hour < (SELECT first_hour FROM sums_progress)",
        "DELETE FROM call_sums WHERE NOT EXISTS (SELECT 1 FROM calls)",
    ] {
        query(sql)
            .execute(&mut *connection)
            .await
            .map_err(failed("removing old sums"))?;
    }
    Ok(())
}

/// Removes events until the bound is kept or the time is up. Returns how many, and the time before which calls were looked at.
async fn remove(
    connection: &mut SqliteConnection,
    bound: PruneBound,
    until: Instant,
) -> StorageResult<(u64, i64)> {
    let (mut removed, mut reached) = (0, i64::MIN);
    let mut size = FIRST_STEP;
    loop {
        let begun = Instant::now();
        let (newest, largest) = match bound {
            PruneBound::Before(time) => (time.as_microsecond(), LARGEST_STEP),
            PruneBound::Bytes(bytes) if live_bytes(connection).await? > bytes => {
                (i64::MAX, LARGEST_STEP_TO_SIZE)
            }
            PruneBound::Bytes(_) => return Ok((removed, reached)),
        };
        let oldest = end_of_oldest(connection, size).await?;
        reached = oldest.min(newest);
        let events = step(connection, reached, size).await?;
        removed += events;
        let now = Instant::now();
        // A larger step is taken when there is time for several of this size.
        if events == 0 || now >= until {
            return Ok((removed, reached));
        }
        if (now - begun) * 4 < until - now {
            size = (size * 2).min(largest);
        }
    }
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

/// The bytes of what is no event, and of the pages that each table takes when it is empty.
pub(super) async fn lasting_bytes(readers: &SqlitePool) -> StorageResult<u64> {
    let bytes: i64 = query_scalar(
        "SELECT coalesce(sum(
             CASE
                 WHEN objects.tbl_name IN ('calls', 'call_contents', 'feedback', 'call_sums', 'feedback_sums') THEN size.page_size
                 ELSE (SELECT sum(pgsize) FROM dbstat WHERE name = objects.name AND aggregate = TRUE)
             END), 0)
         FROM (SELECT name, tbl_name FROM sqlite_schema WHERE rootpage > 0
               UNION ALL SELECT 'sqlite_schema', 'sqlite_schema') AS objects,
              pragma_page_size AS size",
    )
    .fetch_one(readers)
    .await
    .map_err(failed("measuring the state"))?;
    Ok(unsigned(bytes))
}
