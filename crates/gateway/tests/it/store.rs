//! An event store in memory that tests can make fail or wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use flywheel_core::AppName;
use flywheel_core::call::Call;
use flywheel_core::feedback::Feedback;
use flywheel_core::name::EnvironmentName;
use flywheel_gateway::testsuite::Gate;
use flywheel_storage::events::{
    ActivityRow, Appended, CallFilter, CallKey, CallSummary, FeedbackFilter, FeedbackKey,
    ListedFeedback, PruneBound, SummaryFilter, SummaryKey, SummaryRow, Window,
};
use flywheel_storage::page::{Page, PageRequest};
use flywheel_storage::{EventStore, NewEvent, StorageError, StorageResult};
use tokio::sync::watch;

/// Calls in memory.
#[derive(Default)]
pub(crate) struct FakeStore {
    behaviour: Mutex<Behaviour>,
    calls: watch::Sender<Vec<Call>>,
    /// Groups that were begun, whether or not they were stored.
    groups: watch::Sender<Vec<usize>>,
}

#[derive(Clone, Default)]
enum Behaviour {
    #[default]
    Store,
    Fail,
    Wait(Gate),
}

fn unavailable() -> StorageError {
    StorageError::Unavailable {
        context: "appending".to_owned(),
        source: Some("disk full".into()),
    }
}

impl FakeStore {
    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing can be stored or asked.
    pub(crate) fn fail(&self) {
        *self.behaviour() = Behaviour::Fail;
    }

    /// From now on everything works.
    pub(crate) fn recover(&self) {
        *self.behaviour() = Behaviour::Store;
    }

    /// From now on each group waits for the gate.
    pub(crate) fn wait_for(&self, gate: &Gate) {
        *self.behaviour() = Behaviour::Wait(gate.clone());
    }

    /// The calls stored so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// Stores a call that came from elsewhere.
    pub(crate) async fn append_call(&self, call: Call) {
        let event = NewEvent::Call(Box::new(call));
        self.append(vec![event]).await.unwrap();
    }

    /// Waits for the call with this number, from 1.
    pub(crate) async fn call(&self, number: usize) -> Call {
        let mut calls = self.calls.subscribe();
        let calls = calls.wait_for(|calls| calls.len() >= number).await.unwrap();
        calls[number - 1].clone()
    }

    /// Waits until so many groups were begun, and returns how many events each had.
    pub(crate) async fn groups(&self, number: usize) -> Vec<usize> {
        let mut groups = self.groups.subscribe();
        groups
            .wait_for(|groups| groups.len() >= number)
            .await
            .unwrap()
            .clone()
    }
}

#[async_trait]
impl EventStore for FakeStore {
    async fn append(&self, events: Vec<NewEvent>) -> StorageResult<Vec<Appended>> {
        self.groups.send_modify(|groups| groups.push(events.len()));
        let behaviour = self.behaviour().clone();
        match behaviour {
            Behaviour::Store => {}
            Behaviour::Fail => return Err(unavailable()),
            Behaviour::Wait(gate) => gate.pass().await,
        }
        let mut appended = Vec::new();
        self.calls.send_modify(|calls| {
            for event in &events {
                let NewEvent::Call(call) = event else {
                    continue;
                };
                let is_there = calls.iter().any(|other| other.id == call.id);
                appended.push(if is_there {
                    Appended::Duplicate
                } else {
                    Appended::Stored
                });
                if !is_there {
                    calls.push((**call).clone());
                }
            }
        });
        Ok(appended)
    }

    async fn get_call(&self, id: &str) -> StorageResult<Option<Call>> {
        Ok(self.calls().into_iter().find(|call| call.id == id))
    }

    async fn apps_of_calls(&self, _: &[&str]) -> StorageResult<HashMap<String, Option<AppName>>> {
        Err(unavailable())
    }

    async fn find_idempotent(
        &self,
        app: &AppName,
        environment: &EnvironmentName,
        key: &str,
    ) -> StorageResult<Option<Call>> {
        if matches!(*self.behaviour(), Behaviour::Fail) {
            return Err(unavailable());
        }
        let is_it = |call: &Call| {
            call.facts.app.as_ref() == Some(app)
                && call.facts.environment.as_ref() == Some(environment)
                && call.facts.idempotency_key.as_deref() == Some(key)
        };
        Ok(self.calls().into_iter().rev().find(is_it))
    }

    async fn list_calls(
        &self,
        _: &CallFilter,
        _: PageRequest<CallKey>,
    ) -> StorageResult<Page<CallSummary, CallKey>> {
        Err(unavailable())
    }

    async fn feedback_on(&self, _: &str) -> StorageResult<Vec<Feedback>> {
        Err(unavailable())
    }

    async fn get_feedback(&self, _: &str, _: &str) -> StorageResult<Option<Feedback>> {
        Err(unavailable())
    }

    async fn summarize(&self, _: &SummaryFilter, _: SummaryKey) -> StorageResult<Vec<SummaryRow>> {
        Err(unavailable())
    }

    async fn count_feedback(&self, _: &SummaryFilter) -> StorageResult<BTreeMap<String, u64>> {
        Err(unavailable())
    }

    async fn activity(
        &self,
        _: &[AppName],
        _: Option<&EnvironmentName>,
        _: Window,
    ) -> StorageResult<Vec<ActivityRow>> {
        Err(unavailable())
    }

    async fn list_feedback(
        &self,
        _: &FeedbackFilter,
        _: PageRequest<FeedbackKey>,
    ) -> StorageResult<Page<ListedFeedback, FeedbackKey>> {
        Err(unavailable())
    }

    async fn prune(&self, _: PruneBound) -> StorageResult<u64> {
        Err(unavailable())
    }

    async fn lasting_bytes(&self) -> StorageResult<u64> {
        Err(unavailable())
    }

    async fn live_bytes(&self) -> StorageResult<u64> {
        Err(unavailable())
    }
}
