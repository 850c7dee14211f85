//! The load: workers that each do one kind of thing again and again until the server is gone.

mod calls;
mod changes;
mod feedback;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::{Answer, Client, Gone};
use super::ledger::{Ledger, Violation};
use crate::random::Random;

/// Apps that only one worker moves, one deploying and one also rolling back.
pub(super) const DEPLOYED: &str = "deployed";
pub(super) const ROLLED_BACK: &str = "rolled-back";
/// An app that two workers move at the same time.
pub(super) const CONTESTED: &str = "contested";
/// An app with experiments, whose pointer stays.
pub(super) const TESTED: &str = "tested";

pub(super) const APPS: [&str; 4] = [DEPLOYED, ROLLED_BACK, CONTESTED, TESTED];

/// The prompt behind every app, and the label that is moved between its versions.
pub(super) const PROMPT: &str = "echo";
pub(super) const LABEL: &str = "favourite";

/// What the workers of a round share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) client: Arc<Client>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// No further requests are to be made.
    pub(super) stopped: Arc<AtomicBool>,
    /// The two manifests that apps are moved between.
    pub(super) manifests: Arc<[String; 2]>,
    pub(super) round: u32,
}

/// One of the workers.
struct Worker {
    shared: Shared,
    name: &'static str,
    random: Random,
    /// How many tokens it made.
    made: u32,
}

/// What a worker does, again and again.
#[derive(Clone, Copy)]
enum Task {
    Whole,
    Keyed,
    Stream,
    Log,
    Feedback,
    FeedbackBatch,
    Deploy,
    RollBack,
    Contest,
    Label,
    Experiment,
}

/// Who works. Names are parts of tokens, so each is there once.
const STAFF: [(&str, Task); 15] = [
    ("whole0n", Task::Whole),
    ("whole1n", Task::Whole),
    ("keyed0n", Task::Keyed),
    ("stream0n", Task::Stream),
    ("stream1n", Task::Stream),
    ("stream2n", Task::Stream),
    ("stream3n", Task::Stream),
    ("log0n", Task::Log),
    ("feedback0n", Task::Feedback),
    ("feedback1n", Task::FeedbackBatch),
    ("deploy0n", Task::Deploy),
    ("rollback0n", Task::RollBack),
    ("contest0n", Task::Contest),
    ("contest1n", Task::Contest),
    ("label0n", Task::Label),
];

/// Sets everyone to work.
pub(super) fn start(shared: &Shared, random: &mut Random) -> JoinSet<()> {
    let mut workers = JoinSet::new();
    let staff = STAFF
        .into_iter()
        .chain([("experiment0n", Task::Experiment)]);
    for (name, task) in staff {
        let worker = Worker {
            shared: shared.clone(),
            name,
            random: random.branch(),
            made: 0,
        };
        workers.spawn(worker.work(task));
    }
    workers
}

impl Worker {
    async fn work(mut self, task: Task) {
        while !self.shared.stopped.load(Ordering::Relaxed) {
            let (outcome, pause) = match task {
                Task::Whole => (self.call_whole().await, 1..10),
                Task::Keyed => (self.call_keyed().await, 1..20),
                Task::Stream => (self.call_streamed().await, 1..10),
                Task::Log => (self.log_calls().await, 5..40),
                Task::Feedback => (self.send_feedback().await, 2..20),
                Task::FeedbackBatch => (self.send_feedback_batch().await, 5..40),
                Task::Deploy => (self.deploy().await, 20..60),
                Task::RollBack => (self.deploy_or_roll_back().await, 20..60),
                Task::Contest => (self.contest().await, 5..50),
                Task::Label => (self.move_label().await, 20..80),
                Task::Experiment => (self.change_experiment().await, 10..60),
            };
            if outcome.is_err() {
                return;
            }
            sleep(self.random.milliseconds(pause)).await;
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.shared.ledger)
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.shared.client)
    }

    /// A text that nobody else sends.
    fn token(&mut self) -> String {
        self.made += 1;
        format!("r{}-{}{}", self.shared.round, self.name, self.made)
    }

    /// Notes an answer that nothing explains. That the store does not answer in time is an explanation.
    fn unexpected(&self, what: &str, answer: &Answer) {
        let mut ledger = self.ledger();
        if answer.status == 503 {
            ledger.tally.unrecorded += 1;
        } else {
            let text = format!("{what} was answered {}: {}", answer.status, answer.body);
            ledger.violate(Violation::wrong(text));
        }
    }

    /// Checks what became of events of which some were known to be there already.
    fn check_stored(&self, answer: &Answer, sent: &[(String, bool)], what: &str) -> bool {
        if !answer.is_success() {
            self.unexpected(what, answer);
            return false;
        }
        let items = answer.body["items"].as_array();
        let items: Vec<_> = items
            .into_iter()
            .flatten()
            .map(|item| (item["id"].as_str(), item["stored"].as_str()))
            .collect();
        let mut seen: HashMap<&str, bool> = HashMap::new();
        let mut expected = Vec::with_capacity(sent.len());
        for (id, is_there) in sent {
            let known = seen.insert(id, true).unwrap_or(*is_there);
            let stored = if known { "duplicate" } else { "stored" };
            expected.push((Some(id.as_str()), Some(stored)));
        }
        if items != expected {
            let text = format!("{what} was answered {items:?} where {expected:?} is due");
            self.ledger().violate(Violation::wrong(text));
        }
        true
    }
}

pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request that must succeed, while nobody kills the server.
pub(super) async fn must(
    request: impl Future<Output = Result<Answer, Gone>>,
    what: &str,
) -> anyhow::Result<Value> {
    let patience = Duration::from_secs(30);
    let answer = tokio::time::timeout(patience, request)
        .await
        .map_err(|_| anyhow::anyhow!("{what} was not answered within {patience:?}"))?
        .map_err(|Gone| {
            anyhow::anyhow!("{what} was not answered although nobody killed the server")
        })?;
    anyhow::ensure!(
        answer.is_success(),
        "{what} was answered {}: {}",
        answer.status,
        answer.body
    );
    Ok(answer.body)
}
