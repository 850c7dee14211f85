//! Idempotency keys: a request that is repeated under one gets the answer it got before, without a second call.

use std::sync::{Arc, PoisonError};

use flywheel_core::AppName;
use flywheel_core::call::{Call, CallStatus};

use crate::answer;
use crate::chat::{AboutCall, Answered, Gateway, OnStoreFailure};
use crate::error::{Failure, GatewayError};
use crate::request::{ChatBody, Target};
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

/// Marks an idempotency key as being answered until it is dropped.
pub(crate) struct InFlight {
    gateway: Arc<Gateway>,
    key: (AppName, String),
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
        let (Target::App { app, .. }, Some(key)) = (&body.target, &body.flywheel.idempotency_key)
        else {
            return Ok(Claim::None);
        };
        let pair = (app.clone(), key.clone());
        let claimed = {
            let mut keys = self
                .in_flight
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            keys.insert(pair.clone())
        };
        if !claimed {
            return Err(Failure::InFlight(key.clone()).unrecorded());
        }
        let in_flight = InFlight {
            gateway: Arc::clone(self),
            key: pair,
        };
        let earlier = match self.events.find_idempotent(app, key).await {
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
        Ok(match earlier {
            Some(call) if call.facts.status == CallStatus::Ok => Claim::Answered(Box::new(call)),
            _ => Claim::Held(in_flight),
        })
    }
}

/// The answer of an earlier call, for the request that repeats it.
pub(crate) fn replay(call: &Call, body: &ChatBody) -> Answered {
    let mut about = AboutCall::of(call);
    about.member.insert("replayed".into(), true.into());
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
