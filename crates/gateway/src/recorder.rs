//! The recorder: events from many requests, committed in groups, acknowledged one by one.
//!
//! While one group is being committed the next one gathers, so the group size follows the load by itself and a lone
//! request waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use flywheel_core::redaction::Redactor;
use flywheel_storage::events::Appended;
use flywheel_storage::{EventStore, NewEvent, StorageError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// How large groups and the queue before them may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecorderOptions {
    /// Events from which on a group gathers no more.
    pub largest_group: usize,
    /// Bytes of events that may wait at most; beyond it, senders wait.
    pub queued_bytes: u32,
    /// How long a sender waits for its event to be stored before it goes on without.
    pub patience: Duration,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            largest_group: 512,
            queued_bytes: 64 << 20,
            patience: Duration::from_secs(2),
        }
    }
}

/// Why events were not stored, as far as the sender knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// The store failed.
    #[error("{0}")]
    Failed(String),
    /// The store did not answer in time; it may still succeed.
    #[error("the store did not answer within {0:?}")]
    Late(Duration),
    /// The server is shutting down.
    #[error("the recorder has stopped")]
    Stopped,
}

type Answer = Result<Vec<Appended>, Arc<StorageError>>;

/// What is to be kept until it is known whether events were stored, and dropped then.
pub(crate) type Held = Box<dyn Send>;

struct Entry {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Answer>,
    held: Option<Held>,
    /// Holds the events' share of the queue until they are stored.
    _room: OwnedSemaphorePermit,
}

/// Sends events to be stored. Clones share one queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
    room: Arc<Semaphore>,
    redactor: Arc<Redactor>,
    options: RecorderOptions,
}

impl Recorder {
    /// Starts the task that commits groups. It ends when every clone of the recorder is gone and the queue is empty.
    #[must_use]
    pub fn start(
        store: Arc<dyn EventStore>,
        redactor: Redactor,
        options: RecorderOptions,
        tasks: &TaskTracker,
    ) -> Self {
        let (queue, entries) = mpsc::channel(options.largest_group * 16);
        tasks.spawn(commit_groups(store, entries, options.largest_group));
        let room = Arc::new(Semaphore::new(options.queued_bytes as usize));
        Self {
            queue,
            room,
            redactor: Arc::new(redactor),
            options,
        }
    }

    /// Stores events and returns once they are durable. Personal data is redacted first.
    ///
    /// # Errors
    /// When they could not be stored, or that is not known in time.
    pub async fn record(&self, events: Vec<NewEvent>) -> Result<Vec<Appended>, NotRecorded> {
        self.record_with(events, None).await
    }

    /// As [`Recorder::record`], and keeps something until the events are stored or never will be, which may be later
    /// than this returns.
    pub(crate) async fn record_holding(
        &self,
        events: Vec<NewEvent>,
        held: Held,
    ) -> Result<Vec<Appended>, NotRecorded> {
        self.record_with(events, Some(held)).await
    }

    async fn record_with(
        &self,
        mut events: Vec<NewEvent>,
        held: Option<Held>,
    ) -> Result<Vec<Appended>, NotRecorded> {
        events.iter_mut().for_each(|event| self.redact(event));
        match tokio::time::timeout(self.options.patience, self.enqueue(events, held)).await {
            Ok(Ok(Ok(appended))) => Ok(appended),
            Ok(Ok(Err(error))) => Err(NotRecorded::Failed(error.chain())),
            Ok(Err(stopped)) => Err(stopped),
            Err(_) => Err(NotRecorded::Late(self.options.patience)),
        }
    }

    /// Takes personal data out of an event, as is done with every one before it is stored.
    pub fn redact(&self, event: &mut NewEvent) {
        if self.redactor.is_empty() {
            return;
        }
        match event {
            NewEvent::Call(call) => self.redactor.redact_call(call),
            NewEvent::Feedback(feedback) => self.redactor.redact_feedback(feedback),
        }
    }

    async fn enqueue(
        &self,
        events: Vec<NewEvent>,
        held: Option<Held>,
    ) -> Result<Answer, NotRecorded> {
        let bytes: usize = events.iter().map(size_of_event).sum();
        // An event larger than the whole queue takes all of it rather than waiting for ever.
        let share = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .clamp(1, self.options.queued_bytes);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(share)
            .await
            .map_err(|_| NotRecorded::Stopped)?;
        let (answer, answered) = oneshot::channel();
        let entry = Entry {
            events,
            answer,
            held,
            _room: room,
        };
        self.queue
            .send(entry)
            .await
            .map_err(|_| NotRecorded::Stopped)?;
        answered.await.map_err(|_| NotRecorded::Stopped)
    }
}

async fn commit_groups(
    store: Arc<dyn EventStore>,
    mut entries: mpsc::Receiver<Entry>,
    largest_group: usize,
) {
    let mut group = Vec::new();
    while let Some(entry) = entries.recv().await {
        let mut gathered = entry.events.len();
        group.push(entry);
        // Requests that are about to record go first, so that under load more of them share a commit.
        tokio::task::yield_now().await;
        while gathered < largest_group
            && let Ok(entry) = entries.try_recv()
        {
            gathered += entry.events.len();
            group.push(entry);
        }
        let mut events = Vec::with_capacity(group.len());
        let mut lengths = Vec::with_capacity(group.len());
        for entry in &mut group {
            lengths.push(entry.events.len());
            events.append(&mut entry.events);
        }
        let size = events.len();
        metrics::histogram!("flywheel_record_group_size").record(size as f64);
        match store.append(events).await {
            Ok(appended) => {
                let mut appended = appended.into_iter();
                for (entry, length) in group.drain(..).zip(lengths) {
                    // Before the sender goes on, which may repeat its request at once.
                    drop(entry.held);
                    // A sender that lost patience or whose client left does not listen any more.
                    let _ = entry
                        .answer
                        .send(Ok(appended.by_ref().take(length).collect()));
                }
            }
            Err(error) => {
                tracing::error!(error.message = %error.chain(), events = size, "a group of events was not stored");
                metrics::counter!("flywheel_events_not_recorded_total").increment(size as u64);
                let error = Arc::new(error);
                for entry in group.drain(..) {
                    drop(entry.held);
                    let _ = entry.answer.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

/// About how many bytes an event holds. Names and ids are short, and part of what every event takes.
fn size_of_event(event: &NewEvent) -> usize {
    const FIXED: usize = 1024;
    FIXED
        + match event {
            NewEvent::Call(call) => {
                let (facts, content) = (&call.facts, &call.content);
                let texts = [
                    &content.output,
                    &content.raw_output,
                    &content.error,
                    &facts.unit,
                    &facts.session,
                    &facts.idempotency_key,
                ];
                let documents = content.messages.iter().chain(&content.tool_calls);
                texts.into_iter().flatten().map(String::len).sum::<usize>()
                    + documents.map(size_of_json).sum::<usize>()
                    + size_of_members(&content.variables)
                    + size_of_members(&facts.tags)
            }
            NewEvent::Feedback(feedback) => {
                feedback.body.text().map_or(0, str::len)
                    + feedback.author.as_ref().map_or(0, String::len)
            }
        }
}

fn size_of_members(members: &serde_json::Map<String, serde_json::Value>) -> usize {
    members
        .iter()
        .map(|(name, member)| name.len() + size_of_json(member))
        .sum()
}

fn size_of_json(value: &serde_json::Value) -> usize {
    use serde_json::Value::{Array, Object, String};
    match value {
        String(text) => text.len(),
        Array(items) => items.iter().map(size_of_json).sum(),
        Object(members) => size_of_members(members),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use flywheel_core::call::Call;
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_can_be_large_is_counted() {
        let long = "x".repeat(10_000);
        let long = long.as_str();
        for further in [
            json!({"output": long}),
            json!({"raw_output": long}),
            json!({"error": long}),
            json!({"tool_calls": [{"function": {"arguments": long}}]}),
            json!({"messages": [{"content": [{"text": long}]}]}),
            json!({"variables": {"a": [long]}}),
            json!({"variables": {long: 1}}),
            json!({"tags": {"a": long}}),
            json!({"tags": {long: 1}}),
            json!({"unit": long}),
        ] {
            let mut call = json!({"id": "c", "started_at": "2026-01-01T00:00:00Z",
                "status": "ok", "latency_us": 1});
            for (name, value) in further.as_object().unwrap() {
                call[name] = value.clone();
            }
            let call: Call = serde_json::from_value(call).unwrap();
            let size = size_of_event(&NewEvent::Call(Box::new(call)));
            assert!((10_000..20_000).contains(&size), "{size} {further:.60}");
        }
    }
}
