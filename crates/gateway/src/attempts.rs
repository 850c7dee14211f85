//! One provider asked until it answers, as often and as long as its endpoint allows.

use tokio::time::Instant;

use crate::endpoint::{Endpoint, counts_against_endpoint};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::provider::format::ChatRequest;
use crate::run::{Given, Run, Time};
use crate::stream;

impl Run {
    pub(crate) async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        request: &ChatRequest,
        time: Time,
    ) -> Result<Given, ProviderError> {
        let wire = endpoint.format.chat_request(request)?;
        endpoint.retries.deposit();
        let mut attempt = 0;
        let mut last = None;
        loop {
            if let Err(refused) = endpoint.check_breaker() {
                // What is not tried again failed for its own reason, not because the circuit is open by now.
                return Err(last
                    .inspect(|error| tell_breaker(endpoint, error))
                    .unwrap_or(refused));
            }
            attempt += 1;
            self.call.facts.attempts += 1;
            let result = if request.stream {
                stream::open(endpoint, wire.clone(), time.first, time.whole)
                    .await
                    .map(Given::Stream)
            } else {
                let body = endpoint.send_and_read(wire.clone(), time.first).await;
                body.and_then(|body| endpoint.format.chat_response(&body))
                    .map(Given::Whole)
            };
            let Err(error) = result else {
                // A stream has succeeded when it has come to its end.
                if !request.stream {
                    endpoint.breaker.report(true);
                }
                return result;
            };
            count_failure(endpoint, &error);
            let jitter = self.gateway.sources.unit_interval();
            match endpoint.retries.next_delay(attempt, &error, jitter) {
                Some(delay) if Instant::now() + delay < time.first.at => {
                    last = Some(error);
                    tokio::time::sleep(delay).await;
                }
                _ => {
                    tell_breaker(endpoint, &error);
                    return Err(error);
                }
            }
        }
    }
}

pub(crate) fn count_failure(endpoint: &Endpoint, error: &ProviderError) {
    metrics::counter!(
        "flywheel_provider_errors_total",
        "provider" => endpoint.name.clone(),
        "kind" => error.kind.as_str()
    )
    .increment(1);
}

/// The breaker counts calls, not the attempts they are made of.
pub(crate) fn tell_breaker(endpoint: &Endpoint, error: &ProviderError) {
    if counts_against_endpoint(error) {
        if endpoint.breaker.report(false) {
            tracing::error!(provider.name = %endpoint.name, error.message = %error, "the circuit breaker opened");
        }
    } else if error.kind != ProviderErrorKind::RateLimited || endpoint.breaker.is_open() {
        // It answered; that it refused this request says nothing against it.
        endpoint.breaker.report(true);
    }
}
