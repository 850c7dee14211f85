//! The event store: each method takes a connection and leaves the rest to the file of its concern.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use flywheel_core::AppName;
use flywheel_core::call::Call;
use flywheel_core::feedback::Feedback;
use flywheel_core::name::{EnvironmentName, ExperimentName};
use flywheel_storage::StorageResult;
use flywheel_storage::events::{
    ActivityRow, Appended, CallFilter, CallKey, CallSummary, EventStore, FeedbackFilter,
    FeedbackKey, ListedFeedback, NewEvent, PruneBound, SummaryFilter, SummaryKey, SummaryRow,
    Window,
};
use flywheel_storage::page::{Page, PageRequest};
use flywheel_storage::statistics::{
    ExperimentStatistics, HistoryQuery, Rebuild, StatisticsStore, UnitHistory, UnitRow,
};
use flywheel_storage::weeks::{Weeks, WeeksQuery};
use jiff::Timestamp;
use rusqlite::Connection;

use super::session::Snapshot;
use super::{
    SqliteStore, activity, append, calls, feedback, prune, summary, sums, units, weeks, writer,
};

/// How long each maintenance makes statistics again: most of the time until the next.
const REBUILDING: Duration = Duration::from_millis(400);

/// How long each maintenance takes events into weeks, if there are so many: nobody waits for them.
const WEEKS: Duration = Duration::from_millis(20);

/// How long a reader of weeks waits for them to be complete.
const LONGEST_WAIT_FOR_WEEKS: Duration = Duration::from_millis(20);

/// Rows by app and slot from two parts of a window.
fn joined(earlier: Vec<ActivityRow>, later: Vec<ActivityRow>) -> Vec<ActivityRow> {
    let mut rows: BTreeMap<(Option<AppName>, u32), ActivityRow> = BTreeMap::new();
    for row in earlier.into_iter().chain(later) {
        match rows.entry((row.app.clone(), row.slot)) {
            Entry::Vacant(vacant) => {
                vacant.insert(row);
            }
            Entry::Occupied(mut there) => there.get_mut().add(&row),
        }
    }
    rows.into_values().collect()
}

#[async_trait]
impl EventStore for SqliteStore {
    #[tracing::instrument(name = "db.events.append", skip_all, fields(events = events.len()))]
    async fn append(&self, events: Vec<NewEvent>) -> StorageResult<Vec<Appended>> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let turn = writer::turn(&self.writer).await?;
        let append = move |connection: &Connection| {
            // Nobody else writes until the group is stored, even if nobody waits for that any more.
            let _turn = turn;
            append::append(connection, &events)
        };
        let appended = self.appender.run(append).await?;
        self.log
            .has_grown(appended.len(), &self.housekeeper, &self.appender);
        Ok(appended)
    }

    #[tracing::instrument(name = "db.calls.get", skip_all)]
    async fn get_call(&self, id: &str) -> StorageResult<Option<Call>> {
        calls::get(&self.state_readers, id).await
    }

    #[tracing::instrument(name = "db.calls.apps", skip_all, fields(calls = ids.len()))]
    async fn apps_of_calls(&self, ids: &[&str]) -> StorageResult<HashMap<String, Option<AppName>>> {
        calls::apps(&self.state_readers, ids).await
    }

    #[tracing::instrument(name = "db.calls.find_idempotent", skip_all)]
    async fn find_idempotent(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        key: &str,
    ) -> StorageResult<Option<Call>> {
        calls::find_idempotent(&self.state_readers, app, environment, key).await
    }

    #[tracing::instrument(name = "db.calls.list", skip_all)]
    async fn list_calls(
        &self,
        filter: &CallFilter,
        page: PageRequest<CallKey>,
    ) -> StorageResult<Page<CallSummary, CallKey>> {
        calls::list(&self.readers, self.options.longest_search, filter, page).await
    }

    #[tracing::instrument(name = "db.feedback.on_call", skip_all)]
    async fn feedback_on(&self, call_id: &str) -> StorageResult<Vec<Feedback>> {
        feedback::on_call(&self.state_readers, call_id).await
    }

    #[tracing::instrument(name = "db.feedback.get", skip_all)]
    async fn get_feedback(&self, call_id: &str, id: &str) -> StorageResult<Option<Feedback>> {
        feedback::get(&self.state_readers, call_id, id).await
    }

    #[tracing::instrument(name = "db.calls.summarize", skip_all)]
    async fn summarize(
        &self,
        filter: &SummaryFilter,
        by: SummaryKey,
    ) -> StorageResult<Vec<SummaryRow>> {
        let are_complete = self.are_sums_complete().await;
        let mut snapshot = Snapshot::take(&self.readers).await?;
        match are_complete {
            true => sums::summarize(snapshot.connection(), filter, by).await,
            false => summary::summarize(snapshot.connection(), filter, by).await,
        }
    }

    #[tracing::instrument(name = "db.feedback.count", skip_all)]
    async fn count_feedback(&self, filter: &SummaryFilter) -> StorageResult<BTreeMap<String, u64>> {
        let are_complete = self.are_sums_complete().await;
        let mut snapshot = Snapshot::take(&self.readers).await?;
        match are_complete {
            true => sums::count_feedback(snapshot.connection(), filter).await,
            false => summary::count_feedback(snapshot.connection(), filter).await,
        }
    }

    #[tracing::instrument(name = "db.calls.activity", skip_all)]
    async fn activity(
        &self,
        apps: &[AppName],
        environment: Option<&EnvironmentName>,
        window: Window,
    ) -> StorageResult<Vec<ActivityRow>> {
        let counted = async |until: Timestamp| {
            let longest = self.options.longest_search;
            let until = until.min(window.until());
            activity::activity(&self.readers, longest, apps, environment, window, until).await
        };
        if !self.are_sums_complete().await {
            return counted(window.until()).await;
        }
        let mut snapshot = Snapshot::take(&self.readers).await?;
        let summed = sums::activity(snapshot.connection(), apps, environment, window).await?;
        drop(snapshot);
        match summed {
            None => counted(window.until()).await,
            Some((rows, None)) => Ok(rows),
            Some((rows, Some(until))) => Ok(joined(counted(until).await?, rows)),
        }
    }

    #[tracing::instrument(name = "db.feedback.list", skip_all)]
    async fn list_feedback(
        &self,
        filter: &FeedbackFilter,
        page: PageRequest<FeedbackKey>,
    ) -> StorageResult<Page<ListedFeedback, FeedbackKey>> {
        feedback::list(&self.readers, self.options.longest_search, filter, page).await
    }

    #[tracing::instrument(name = "db.events.prune", skip_all)]
    async fn prune(&self, bound: PruneBound) -> StorageResult<u64> {
        // A row that goes while it is being summed would be counted, and the next with its number would not.
        let _alone = self.summing.lock().await;
        prune::prune(self.write().await?, bound, self.options.longest_prune).await
    }

    #[tracing::instrument(name = "db.events.maintain", skip_all)]
    async fn maintain(&self) -> StorageResult<()> {
        self.checkpoint().await?;
        self.advance_sums().await?;
        self.advance_units().await?;
        self.advance_weeks(WEEKS).await?;
        self.rebuild_units(REBUILDING).await
    }

    #[tracing::instrument(name = "db.events.lasting_bytes", skip_all)]
    async fn lasting_bytes(&self) -> StorageResult<u64> {
        prune::lasting_bytes(&self.readers).await
    }

    #[tracing::instrument(name = "db.events.live_bytes", skip_all)]
    async fn live_bytes(&self) -> StorageResult<u64> {
        let mut transaction = self.write().await?;
        let bytes = prune::probe(transaction.connection()).await?;
        transaction.commit().await?;
        Ok(bytes)
    }
}

#[async_trait]
impl StatisticsStore for SqliteStore {
    #[tracing::instrument(name = "db.experiments.statistics", skip_all)]
    async fn experiment_statistics(
        &self,
        experiment: &ExperimentName,
    ) -> StorageResult<ExperimentStatistics> {
        self.advance_units().await?;
        let mut snapshot = Snapshot::take(&self.readers).await?;
        units::statistics(snapshot.connection(), experiment).await
    }

    #[tracing::instrument(name = "db.experiments.units", skip_all)]
    async fn experiment_units(
        &self,
        experiment: &ExperimentName,
        after: Option<&str>,
        limit: u32,
    ) -> StorageResult<Option<Vec<UnitRow>>> {
        self.advance_units().await?;
        let mut snapshot = Snapshot::take(&self.readers).await?;
        units::units(snapshot.connection(), experiment, after, limit).await
    }

    #[tracing::instrument(name = "db.experiments.rebuild", skip_all)]
    async fn rebuild_statistics(
        &self,
        experiment: &ExperimentName,
        now: Timestamp,
    ) -> StorageResult<Rebuild> {
        self.forget_units(experiment, now).await
    }

    #[tracing::instrument(name = "db.experiments.close_days", skip_all)]
    async fn close_days(&self, experiment: &ExperimentName, now: Timestamp) -> StorageResult<()> {
        self.open_units_from(experiment, now).await
    }

    #[tracing::instrument(name = "db.experiments.history", skip_all)]
    async fn unit_history(&self, query: &HistoryQuery) -> StorageResult<UnitHistory> {
        let query = query.clone();
        self.summer
            .run(move |connection| units::history(connection, &query))
            .await
    }

    #[tracing::instrument(name = "db.weeks.get", skip_all)]
    async fn weeks(&self, query: &WeeksQuery) -> StorageResult<Weeks> {
        // A store that cannot be written can be read, and the answer says how far it is.
        if let Err(error) = self.advance_weeks(LONGEST_WAIT_FOR_WEEKS).await {
            tracing::warn!(%error, "weeks are read as they are");
        }
        let mut snapshot = Snapshot::take(&self.readers).await?;
        weeks::weeks(snapshot.connection(), query).await
    }
}
