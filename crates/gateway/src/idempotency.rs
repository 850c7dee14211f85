//! Idempotency keys: a request that is repeated under one gets the answer it got before, without a second call.

use std::collections::hash_map::Entry;
use std::sync::{Arc, PoisonError};

use flywheel_core::call::{Call, CallStatus};
use flywheel_core::name::EnvironmentName;
use flywheel_core::{AppName, ContentHash};
use serde_json::{Value, json};

use crate::answer;
use crate::chat::{AboutCall, Answered, Gateway, OnStoreFailure};
use crate::error::{Failure, GatewayError};
use crate::plan::Destination;
use crate::request::{ChatBody, InvalidRequest, Target};
use crate::stream;

/// What a request's idempotency key says.
pub(crate) enum Claim {
    /// It has none.
    None,
    /// It is the first with its key; nobody else gets the key until this is dropped.
    Held(InFlight),
    /// It was answered before.
    Answered(Box<Call>),
}

/// A key is its app's, in one environment: what is tried in staging must not answer for production.
type Key = (AppName, EnvironmentName, String);

/// The keys of requests that are being answered, and what each asks for.
pub(crate) type KeysInFlight = std::collections::HashMap<Key, ContentHash>;

/// Marks an idempotency key as being answered until it is dropped.
pub(crate) struct InFlight {
    gateway: Arc<Gateway>,
    key: Key,
    /// What the request asks for.
    pub(crate) request_hash: ContentHash,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut keys = self
            .gateway
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
    }
}

impl Gateway {
    pub(crate) async fn claim_idempotency_key(
        self: &Arc<Self>,
        body: &ChatBody,
    ) -> Result<Claim, GatewayError> {
        let (Target::App { app, environment }, Some(key)) =
            (&body.target, &body.flywheel.idempotency_key)
        else {
            return Ok(Claim::None);
        };
        let environment = environment.clone().or_else(|| {
            let table = self.table.load();
            table.app(app)?.default_environment.clone()
        });
        // Without an app or an environment there will be no call; the plan says so.
        let Some(environment) = environment else {
            return Ok(Claim::None);
        };
        let request_hash = hash_of(body);
        let in_flight = self.hold((app.clone(), environment, key.clone()), request_hash)?;
        let (app, environment, key) = &in_flight.key;
        let earlier = match self.events.find_idempotent(app, environment, key).await {
            Ok(earlier) => earlier,
            Err(error) => {
                tracing::error!(error.message = %error.chain(), "an idempotency key could not be looked up");
                if self.options.on_store_failure == OnStoreFailure::Refuse {
                    return Err(Failure::Store.unrecorded());
                }
                // Calls are served while the store is down; one that was made before may be made again then.
                None
            }
        };
        let Some(call) = earlier else {
            return Ok(Claim::Held(in_flight));
        };
        if call.facts.request_hash != Some(request_hash) {
            return Err(Failure::KeyReused(key.clone()).unrecorded());
        }
        Ok(match call.facts.status {
            CallStatus::Ok => Claim::Answered(Box::new(call)),
            _ => Claim::Held(in_flight),
        })
    }

    fn hold(
        self: &Arc<Self>,
        key: Key,
        request_hash: ContentHash,
    ) -> Result<InFlight, GatewayError> {
        let mut keys = self
            .in_flight
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match keys.entry(key.clone()) {
            Entry::Occupied(held) if *held.get() == request_hash => {
                Err(Failure::InFlight(key.2).unrecorded())
            }
            Entry::Occupied(_) => Err(Failure::KeyReused(key.2).unrecorded()),
            Entry::Vacant(free) => {
                free.insert(request_hash);
                Ok(InFlight {
                    gateway: Arc::clone(self),
                    key,
                    request_hash,
                })
            }
        }
    }
}

/// What a request asks for. Its key is left out, and so is whether the answer is streamed, which changes nothing in it.
fn hash_of(body: &ChatBody) -> ContentHash {
    let ours = &body.flywheel;
    ContentHash::of_json(&json!({
        "messages": body.messages,
        "user": body.user,
        "variables": ours.variables,
        "session": ours.session,
        "tags": ours.tags,
        "further": body.further,
    }))
}

/// Refuses a request under a key whose answer could not be repeated.
pub(crate) fn check(destination: &Destination, body: &ChatBody) -> Result<(), Failure> {
    if body.flywheel.idempotency_key.is_none() {
        return Ok(());
    }
    let chosen = destination.chosen.as_ref().ok();
    let manifests = [
        chosen.and_then(|chosen| chosen.served.as_ref()),
        destination.fallback.as_ref(),
    ];
    let decided = manifests
        .into_iter()
        .flatten()
        .filter_map(|served| served.request_members.get("n"));
    let mut counts = decided.chain(body.further.get("n"));
    if counts.any(|count| count.as_f64().is_some_and(|count| count > 1.0)) {
        let problem = "`n` above 1 does not go with `flywheel.idempotency_key`: the record, from which a repeated \
                       request is answered, keeps one choice";
        return Err(InvalidRequest::member("n", problem).into());
    }
    Ok(())
}

/// The answer of an earlier call, for the request that repeats it.
pub(crate) fn replay(call: &Call, body: &ChatBody) -> Answered {
    let mut about = AboutCall::of(call);
    about.member.insert("replayed".into(), true.into());
    if call.facts.redacted {
        about.member.insert("redacted".into(), Value::Bool(true));
    }
    let mut completion = answer::of_call(call);
    about.member.insert("recorded".into(), true.into());
    completion.insert("flywheel".into(), about.member.clone().into());
    if !body.stream {
        return Answered::Complete {
            about,
            recorded: true,
            completion,
        };
    }
    Answered::Stream {
        about,
        lines: stream::of_whole(completion, body.include_usage),
    }
}
