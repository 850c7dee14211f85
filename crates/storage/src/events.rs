//! The event store: calls and feedback, appended in groups.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use flywheel_core::call::{Call, CallFacts, CallStatus};
use flywheel_core::feedback::{Feedback, RatingScale};
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, ManifestId, PromptVersionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StorageResult;
use crate::page::{Page, PageRequest};

/// An event to be appended.
#[derive(Debug, Clone, PartialEq)]
pub enum NewEvent {
    /// A call.
    Call(Box<Call>),
    /// A piece of feedback.
    Feedback(Box<Feedback>),
}

/// What appending an event led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new.
    Stored,
    /// A call with its id, or feedback with its id on the same call, was there; nothing changed.
    Duplicate,
}

/// Which calls are asked for. Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CallFilter {
    /// Whose id begins or ends with this: people copy parts of ids.
    pub id: Option<String>,
    /// Calls of these apps only; none means all.
    pub apps: Vec<AppName>,
    /// In this environment.
    pub environment: Option<EnvironmentName>,
    /// Served by this manifest.
    pub manifest: Option<ManifestId>,
    /// With this prompt version.
    pub prompt_version: Option<PromptVersionId>,
    /// In this experiment.
    pub experiment: Option<ExperimentName>,
    /// In this arm.
    pub arm: Option<ArmName>,
    /// Of this unit.
    pub unit: Option<String>,
    /// In this session.
    pub session: Option<String>,
    /// With this status.
    pub status: Option<CallStatus>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// With this text in the messages or the output, letter case of ASCII ignored.
    pub text: Option<String>,
    /// With feedback of this kind (`thumbs`, `rating`, …), or `any`.
    pub feedback: Option<String>,
}

/// A call's place in a list: newest first, ids decide between calls of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallKey {
    /// When the call began.
    pub started_at: Timestamp,
    /// Its id.
    pub id: String,
}

/// A call in a list, without its texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CallSummary {
    /// The call's id.
    pub id: String,
    /// When it began.
    #[cfg_attr(feature = "schema", schemars(with = "flywheel_core::schema::DateTime"))]
    pub started_at: Timestamp,
    /// What is known of it.
    #[serde(flatten)]
    pub facts: CallFacts,
    /// The beginning of the output, at most 200 characters.
    pub output_preview: Option<String>,
}

/// What a summary of feedback is broken down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SummaryKey {
    /// Experiment and arm.
    Arm,
    /// The prompt version.
    PromptVersion,
    /// The manifest.
    Manifest,
    /// The model version.
    Model,
    /// The week the call began, by its Monday in UTC, and the prompt version, as `2026-01-26/<version>`.
    Week,
    /// The UTC day the call began.
    Day,
    /// The UTC hour the call began, as `2026-01-31T09`.
    Hour,
}

/// Which calls a summary covers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SummaryFilter {
    /// Calls of these apps only; none means all.
    pub apps: Vec<AppName>,
    /// In this environment.
    pub environment: Option<EnvironmentName>,
    /// In this experiment.
    pub experiment: Option<ExperimentName>,
    /// Calls that began not before this time.
    pub since: Option<Timestamp>,
    /// Calls that began before this time.
    pub until: Option<Timestamp>,
}

/// One row of a summary, as sums from which means and intervals follow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SummaryRow {
    /// The value of the key; for arms `experiment/arm`, for models `id:version`.
    pub key: String,
    /// How many calls; of an arm, only those that its own manifest answered, which goes for everything below too.
    pub calls: u64,
    /// How many calls another manifest answered than the one that should have.
    pub fallbacks: u64,
    /// How many of them failed at the provider.
    pub provider_errors: u64,
    /// How many calls have a latency.
    pub calls_with_latency: u64,
    /// The sum of their latencies, in microseconds.
    pub latency_us_sum: u64,
    /// How many calls have a cost.
    pub calls_with_cost: u64,
    /// The sum of their costs.
    pub cost_nano_usd_sum: i64,
    /// Feedback on them, by series; for each call and series only the latest counts.
    pub series: Vec<SeriesSums>,
}

impl SummaryRow {
    /// Adds the row of other calls with the same key.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.fallbacks += other.fallbacks;
        self.provider_errors += other.provider_errors;
        self.calls_with_latency += other.calls_with_latency;
        self.latency_us_sum = self.latency_us_sum.saturating_add(other.latency_us_sum);
        self.calls_with_cost += other.calls_with_cost;
        self.cost_nano_usd_sum = self
            .cost_nano_usd_sum
            .saturating_add(other.cost_nano_usd_sum);
        for series in &other.series {
            self.add_series(series);
        }
    }

    /// Adds a series of feedback on other calls. The series stay in the order of their names.
    pub fn add_series(&mut self, sums: &SeriesSums) {
        let place = self
            .series
            .binary_search_by(|there| there.series.cmp(&sums.series));
        match place {
            Ok(place) => self.series[place].add(sums),
            Err(place) => self.series.insert(place, sums.clone()),
        }
    }
}

/// Sums over one series of feedback. The value of a rating is its share of the scale it was given on, from 0 for the
/// worst grade to 1 for the best, so that ratings on several scales can be summed up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeriesSums {
    /// The series: `thumbs`, `rating`, `comment`, `correction`, `outcome:<name>`.
    pub series: String,
    /// How many calls have feedback of it.
    pub n: u64,
    /// How many values are exactly 1.
    pub ones: u64,
    /// How many values are exactly 0.
    pub zeros: u64,
    /// The sum of the values.
    pub sum: f64,
    /// The sum of squared differences from the mean.
    pub squared_deviations: f64,
    /// The scales that ratings were given on, and how many on each; empty for other series.
    pub scales: Vec<(RatingScale, u64)>,
}

impl SeriesSums {
    /// Adds the sums of other calls, as Chan, Golub and LeVeque do (1983).
    pub fn add(&mut self, other: &Self) {
        let (ours, theirs) = (self.n as f64, other.n as f64);
        if other.n > 0 && self.n > 0 {
            let apart = other.sum / theirs - self.sum / ours;
            self.squared_deviations +=
                other.squared_deviations + apart * apart * ours * theirs / (ours + theirs);
        } else {
            self.squared_deviations += other.squared_deviations;
        }
        self.n += other.n;
        self.ones += other.ones;
        self.zeros += other.zeros;
        self.sum += other.sum;
        for &(scale, n) in &other.scales {
            match self.scales.iter_mut().find(|(known, _)| *known == scale) {
                Some((_, known)) => *known += n,
                None => self.scales.push((scale, n)),
            }
        }
        self.scales.sort_by(|(left, _), (right, _)| {
            let ends = |scale: &RatingScale| (scale.min, scale.max);
            ends(left)
                .partial_cmp(&ends(right))
                .unwrap_or(Ordering::Equal)
        });
    }
}

/// What apps did in one slot of time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ActivityRow {
    /// The app; none for calls of a model by its own name.
    pub app: Option<AppName>,
    /// The slot, counted from the beginning of the window.
    pub slot: u32,
    /// How many calls began in it.
    pub calls: u64,
    /// How many of them failed at the provider, or because what is deployed could not be served.
    pub hard_failures: u64,
    /// How many answers did not pass the prompt's post-processing.
    pub invalid_outputs: u64,
    /// The sum of the costs of those that have one.
    pub cost_nano_usd: i64,
    /// Latencies in microseconds, to two digits, with how many calls took so long; ascending.
    pub latencies: Vec<(u64, u64)>,
}

impl ActivityRow {
    /// Adds another slot's, or another app's.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.hard_failures += other.hard_failures;
        self.invalid_outputs += other.invalid_outputs;
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
        for &(latency, calls) in &other.latencies {
            match self
                .latencies
                .binary_search_by_key(&latency, |(known, _)| *known)
            {
                Ok(place) => self.latencies[place].1 += calls,
                Err(place) => self.latencies.insert(place, (latency, calls)),
            }
        }
    }

    /// The latency in microseconds that this share of the timed calls did not exceed, within 5%.
    #[must_use]
    pub fn latency_quantile(&self, share: f64) -> Option<u64> {
        let timed: u64 = self.latencies.iter().map(|(_, calls)| calls).sum();
        let rank = (timed as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.latencies.iter().find_map(|(latency, calls)| {
            seen += calls;
            (seen >= rank).then_some(*latency)
        })
    }
}

/// A window of time in slots of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Where the first slot begins.
    pub since: Timestamp,
    /// How long a slot is, in seconds.
    pub slot_seconds: u32,
    /// How many slots there are.
    pub slots: u32,
}

impl Window {
    /// When the last slot ends.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.start_of(self.slots)
    }

    /// When a slot begins.
    #[must_use]
    pub fn start_of(&self, slot: u32) -> Timestamp {
        let seconds = i64::from(slot) * i64::from(self.slot_seconds);
        self.since
            .checked_add(jiff::SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MAX)
    }
}

/// Which feedback is asked for. Every condition that is given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedbackFilter {
    /// On calls of these apps only; none means all, also on calls that are not known.
    pub apps: Vec<AppName>,
    /// Of this kind: `thumbs`, `rating`, …
    pub kind: Option<String>,
    /// On calls that this prompt version answered.
    pub prompt_version: Option<PromptVersionId>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// With this text in the comment or correction, letter case of ASCII ignored.
    pub text: Option<String>,
}

/// A piece of feedback's place in a list: newest first, ids decide between those of one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackKey {
    /// When it was said.
    pub created_at: Timestamp,
    /// The call it is about.
    pub call_id: String,
    /// Its id.
    pub id: String,
}

/// A piece of feedback in a list, with what is known of its call.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedFeedback {
    /// The feedback.
    pub feedback: Feedback,
    /// The call's app, if the call is known and has one.
    pub app: Option<AppName>,
    /// The prompt that answered.
    pub prompt: Option<flywheel_core::PromptName>,
    /// The version of it.
    pub prompt_version: Option<PromptVersionId>,
}

/// What is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneBound {
    /// Events older than this.
    Before(Timestamp),
    /// The oldest events, until the store's live data is at most this many bytes.
    Bytes(u64),
}

/// Appends events and reads them.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Appends events in one group: all of them are durable when this returns, or none is. The answer has one entry for
    /// each event, in order.
    async fn append(&self, events: Vec<NewEvent>) -> StorageResult<Vec<Appended>>;

    /// One call.
    async fn get_call(&self, id: &str) -> StorageResult<Option<Call>>;

    /// Those of these calls that are known, and the app of each; a call of a registered model has none. No text is read.
    async fn apps_of_calls(&self, ids: &[&str]) -> StorageResult<HashMap<String, Option<AppName>>>;

    /// The call that was recorded with this idempotency key for this app in this environment: the first that succeeded,
    /// or else the first.
    async fn find_idempotent(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        key: &str,
    ) -> StorageResult<Option<Call>>;

    /// Calls, newest first.
    async fn list_calls(
        &self,
        filter: &CallFilter,
        page: PageRequest<CallKey>,
    ) -> StorageResult<Page<CallSummary, CallKey>>;

    /// All feedback on a call, oldest first.
    async fn feedback_on(&self, call_id: &str) -> StorageResult<Vec<Feedback>>;

    /// One piece of feedback. Its id means something on its call only.
    async fn get_feedback(&self, call_id: &str, id: &str) -> StorageResult<Option<Feedback>>;

    /// Calls and feedback summed up by a key.
    async fn summarize(
        &self,
        filter: &SummaryFilter,
        by: SummaryKey,
    ) -> StorageResult<Vec<SummaryRow>>;

    /// How many pieces of feedback there are of each series, on calls that match.
    async fn count_feedback(&self, filter: &SummaryFilter) -> StorageResult<BTreeMap<String, u64>>;

    /// What each app did, in one environment or all, in each slot of a window in which it did something; by app and slot.
    async fn activity(
        &self,
        apps: &[AppName],
        environment: Option<&EnvironmentName>,
        window: Window,
    ) -> StorageResult<Vec<ActivityRow>>;

    /// Feedback, newest first.
    async fn list_feedback(
        &self,
        filter: &FeedbackFilter,
        page: PageRequest<FeedbackKey>,
    ) -> StorageResult<Page<ListedFeedback, FeedbackKey>>;

    /// Removes some of the oldest events beyond the bound: few enough that writers are not held up for long. Returns how
    /// many were removed; call again until it is none.
    async fn prune(&self, bound: PruneBound) -> StorageResult<u64>;

    /// What a store has to do from time to time so that appending stays fast. A server calls it twice a second.
    async fn maintain(&self) -> StorageResult<()> {
        Ok(())
    }

    /// The bytes that would be left if every event were removed.
    async fn lasting_bytes(&self) -> StorageResult<u64>;

    /// The bytes that live data takes, and whether the store can be written.
    async fn live_bytes(&self) -> StorageResult<u64>;
}
