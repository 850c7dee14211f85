//! A circuit breaker for each endpoint: after enough failures in a row it refuses at once, then lets one call probe.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Failures in a row that open it; 0 never does.
    pub failures: u32,
    /// How long it stays open before a call may probe.
    pub open_for: Duration,
}

/// The breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
    },
    /// One call is probing; it is given as long as the breaker was open, in case it never reports.
    Probing {
        until: Instant,
    },
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(options: BreakerOptions) -> Self {
        Self {
            options,
            state: Mutex::new(State::Closed { failures: 0 }),
        }
    }

    /// Whether a call may go out now; if not, how long the breaker will stay open.
    ///
    /// # Errors
    /// The time to wait.
    pub fn check(&self) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until } | State::Probing { until } if now < until => Err(until - now),
            State::Open { .. } | State::Probing { .. } => {
                *state = State::Probing {
                    until: now + self.options.open_for,
                };
                Ok(())
            }
        }
    }

    /// Takes note of how a call ended. Returns whether that opened the breaker.
    pub fn report(&self, succeeded: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if succeeded {
            *state = State::Closed { failures: 0 };
            return false;
        }
        let open = State::Open {
            until: Instant::now() + self.options.open_for,
        };
        match *state {
            State::Closed { failures } => {
                let failures = failures + 1;
                let opens = self.options.failures > 0 && failures >= self.options.failures;
                *state = if opens {
                    open
                } else {
                    State::Closed { failures }
                };
                opens
            }
            State::Probing { .. } => {
                *state = open;
                true
            }
            State::Open { .. } => false,
        }
    }

    /// Whether calls are refused now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(
            *self.state.lock().unwrap_or_else(PoisonError::into_inner),
            State::Closed { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_probes_and_closes() {
        let open_for = Duration::from_secs(10);
        let breaker = Breaker::new(BreakerOptions {
            failures: 2,
            open_for,
        });
        assert!(!breaker.report(false));
        assert!(
            !breaker.report(true),
            "a success in between starts the count anew"
        );
        assert!(!breaker.report(false));
        assert!(breaker.report(false));
        assert_eq!(breaker.check(), Err(open_for));

        tokio::time::advance(open_for).await;
        assert_eq!(breaker.check(), Ok(()), "one call probes");
        assert!(breaker.check().is_err(), "only one");
        assert!(breaker.report(false), "the probe failed");
        assert!(breaker.check().is_err());

        tokio::time::advance(open_for).await;
        assert_eq!(breaker.check(), Ok(()));
        breaker.report(true);
        assert!(!breaker.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_reports_does_not_block_for_ever() {
        let breaker = Breaker::new(BreakerOptions {
            failures: 1,
            open_for: Duration::from_secs(1),
        });
        breaker.report(false);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(breaker.check(), Ok(()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(breaker.check(), Ok(()));
    }
}
