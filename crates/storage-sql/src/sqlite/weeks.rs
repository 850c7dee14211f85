//! What each week said of each prompt version, by unit, kept as events arrive, so that a weekly summary reads sums and no
//! events and still knows which calls came from the same user.
//!
//! They advance like the statistics of experiments: in steps, each in one short transaction with the number of the last event
//! that is in it. Nobody waits until they are complete; who reads them is told how far they are.

mod changes;
mod write;

use std::time::Duration;

use flywheel_core::metric::MetricSource;
use flywheel_storage::StorageResult;
use flywheel_storage::statistics::UnitSums;
use flywheel_storage::weeks::{SourceSums, VersionWeek, Week, Weeks, WeeksQuery};
use sqlx::{QueryBuilder, SqliteConnection, query_as};
use tokio::time::Instant;

use super::SqliteStore;
use super::error::failed;
use super::fields::Fields;
use write::{read_classes, read_sums};

impl SqliteStore {
    /// Takes in new events for about as long as given. Between two steps whoever waits for sums gets a turn.
    pub(super) async fn advance_weeks(&self, for_about: Duration) -> StorageResult<()> {
        let begun = Instant::now();
        while self.take_in_once(changes::read, write::apply).await? {
            if begun.elapsed() >= for_about {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The weeks of an app, in order.
pub(super) async fn weeks(
    connection: &mut SqliteConnection,
    asked: &WeeksQuery,
) -> StorageResult<Weeks> {
    let mut sql = QueryBuilder::new(
        "SELECT week, lower(hex(prompt_version)) AS prompt_version, source, sums, classes
         FROM week_sums WHERE app = ",
    );
    sql.push_bind(asked.app.as_str());
    if let Some(environment) = &asked.environment {
        sql.push(" AND environment = ")
            .push_bind(environment.as_str());
    }
    if let Some(Week(from)) = asked.from {
        sql.push(" AND week >= ").push_bind(from);
    }
    if let Some(Week(to)) = asked.to {
        sql.push(" AND week <= ").push_bind(to);
    }
    sql.push(" ORDER BY week, prompt_version");
    let found = sql
        .build()
        .persistent(false)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("reading weeks"))?;
    let mut rows: Vec<VersionWeek> = Vec::new();
    for row in &found {
        let fields = Fields::new(row, "week_sums", &["week", "prompt_version", "source"]);
        let (week, prompt_version) = (Week(fields.raw("week")?), fields.parsed("prompt_version")?);
        let source: MetricSource = fields.parsed("source")?;
        let sums: UnitSums = read_sums(fields.raw("sums")?);
        let classes = read_classes(fields.raw("classes")?);
        let is_next = rows
            .last()
            .is_none_or(|last| (last.week, last.prompt_version) != (week, prompt_version));
        if is_next {
            rows.push(VersionWeek {
                week,
                prompt_version,
                sources: std::collections::BTreeMap::new(),
            });
        }
        let Some(last) = rows.last_mut() else {
            continue;
        };
        // There is one row for each environment.
        let there: &mut SourceSums = last.sources.entry(source).or_default();
        there.sums.add(&sums);
        for (class, n) in classes {
            *there.classes.entry(class).or_default() += n;
        }
    }
    for row in &mut rows {
        row.sources.retain(|_, source| source.sums.n > 0);
    }
    rows.retain(|row| !row.sources.is_empty());
    Ok(Weeks {
        rows,
        taken_in: taken_in(connection).await?,
    })
}

/// Which share of the events is taken in, if not all are.
async fn taken_in(connection: &mut SqliteConnection) -> StorageResult<Option<f64>> {
    let (done, all): (i64, i64) = query_as(
        "SELECT calls + feedback,
                (SELECT coalesce(max(number), 0) FROM calls) + (SELECT coalesce(max(number), 0) FROM feedback)
         FROM week_progress",
    )
    .fetch_one(connection)
    .await
    .map_err(failed("reading how far weeks are"))?;
    Ok((done < all).then(|| done as f64 / all as f64))
}
