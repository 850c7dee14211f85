//! Making the statistics of an experiment again: forgetting them, so that its events are taken in once more.

use flywheel_storage::statistics::Rebuild;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

/// Why statistics cannot be made again, if they cannot.
pub(super) fn refusal(
    connection: &Connection,
    experiment: &str,
) -> rusqlite::Result<Option<Rebuild>> {
    // Retention removes the oldest events, hour by hour.
    let found: Option<(bool, bool)> = connection
        .prepare_cached(
            "SELECT status = 'archived',
                 coalesce(started_at, created_at)
                     - iif(coalesce(plan, '') LIKE '%\"covariate\":true%', 28 * 86400000000.0, 0)
                     < (SELECT first_hour FROM sums_progress) * 3600000000.0
                 OR (EXISTS (SELECT 1 FROM experiment_units WHERE experiment = name)
                     AND NOT EXISTS (SELECT 1 FROM calls WHERE experiment = name))
             FROM experiments WHERE name = ?",
        )?
        .query_row([experiment], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match found {
        Some((true, _)) => Some(Rebuild::Archived),
        Some((false, true)) => Some(Rebuild::EventsRemoved),
        Some((false, false)) | None => None,
    })
}

/// Forgets the statistics of an experiment. What becomes different counts from `today` on.
pub(super) fn forget(
    connection: &Connection,
    experiment: &str,
    today: i64,
) -> rusqlite::Result<Rebuild> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if let Some(refusal) = refusal(&transaction, experiment)? {
        return Ok(refusal);
    }
    for table in [
        "experiment_units",
        "experiment_sums_again",
        "experiment_histograms",
        // Changes until now are known when events are taken in.
        "experiment_recounts",
    ] {
        transaction.execute(
            &format!("DELETE FROM {table} WHERE experiment = ?"),
            [experiment],
        )?;
    }
    open_from(&transaction, experiment, today)?;
    transaction.execute(
        "INSERT OR REPLACE INTO experiment_progress (experiment, calls, feedback) VALUES (?, 0, 0)",
        params![experiment],
    )?;
    transaction.commit()?;
    Ok(Rebuild::Begun)
}

/// Says that days before one are over: what is taken in from now on counts on that day or a later one.
pub(super) fn open_from(
    connection: &Connection,
    experiment: &str,
    day: i64,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO experiment_open_days (experiment, day) VALUES (?1, ?2)
             ON CONFLICT (experiment) DO UPDATE SET day = max(day, excluded.day)",
        )?
        .execute(params![experiment, day])?;
    Ok(())
}

/// Whether the days before one are known to be over. While statistics are made again none is closed: their days come anew.
pub(super) fn is_open_from(
    connection: &Connection,
    experiment: &str,
    day: i64,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM experiment_open_days WHERE experiment = ?1 AND day >= ?2)
                 OR EXISTS (SELECT 1 FROM experiment_progress WHERE experiment = ?1)",
        )?
        .query_row(params![experiment, day], |row| row.get(0))
}
