//! When a failed attempt is made again: a small policy with a budget, so that retries cannot multiply an outage.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::error::ProviderError;

/// How often, and how fast, an attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryOptions {
    /// Attempts in all; 1 never retries.
    pub attempts: u32,
    /// The longest wait before the first retry; it doubles with every further one.
    pub base_delay: Duration,
    /// The longest wait, also for a provider's Retry-After; if it asks for more, the caller is told instead.
    pub longest_delay: Duration,
    /// Retries for each hundred requests, on average.
    pub budget_percent: u32,
}

/// How many retries a budget may save up in quiet times.
const SAVED_RETRIES: i64 = 10;
/// One retry, in the budget's unit of a hundredth.
const RETRY: i64 = 100;

/// The retries an endpoint has left.
#[derive(Debug)]
pub struct RetryBudget {
    options: RetryOptions,
    hundredths: AtomicI64,
}

impl RetryBudget {
    /// A full budget.
    #[must_use]
    pub fn new(options: RetryOptions) -> Self {
        Self {
            options,
            hundredths: AtomicI64::new(SAVED_RETRIES * RETRY),
        }
    }

    /// Takes note of a request, which earns a part of a retry.
    pub fn deposit(&self) {
        let earned = i64::from(self.options.budget_percent);
        let most = SAVED_RETRIES * RETRY;
        // A race between two requests loses a hundredth or two, which nobody can notice.
        let saved = self.hundredths.load(Ordering::Relaxed);
        if saved < most {
            self.hundredths
                .store((saved + earned).min(most), Ordering::Relaxed);
        }
    }

    /// How long to wait before the next attempt, or `None` if there is to be none.
    ///
    /// `attempt` counts those made so far, from 1; `jitter` is a random number in [0, 1).
    #[must_use]
    pub fn next_delay(&self, attempt: u32, error: &ProviderError, jitter: f64) -> Option<Duration> {
        if attempt >= self.options.attempts || !error.kind.is_retryable() {
            return None;
        }
        let delay = match error.retry_after {
            Some(asked) if asked > self.options.longest_delay => return None,
            Some(asked) => asked,
            None => {
                let doubled = self.options.base_delay * 2_u32.saturating_pow(attempt - 1);
                doubled.min(self.options.longest_delay).mul_f64(jitter)
            }
        };
        let spend = |saved: i64| (saved >= RETRY).then(|| saved - RETRY);
        self.hundredths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .ok()?;
        Some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProviderErrorKind;

    fn budget() -> RetryBudget {
        RetryBudget::new(RetryOptions {
            attempts: 3,
            base_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(2),
            budget_percent: 20,
        })
    }

    fn error(kind: ProviderErrorKind, retry_after: Option<u64>) -> ProviderError {
        ProviderError {
            retry_after: retry_after.map(Duration::from_secs),
            ..ProviderError::new(kind, "")
        }
    }

    #[test]
    fn delays() {
        use ProviderErrorKind::{RateLimited, Refused, Server};
        for (attempt, kind, retry_after, jitter, expected) in [
            (1, Server, None, 0.5, Some(50)),
            (2, Server, None, 0.5, Some(100)),
            (3, Server, None, 0.5, None),
            (1, RateLimited, Some(1), 0.5, Some(1000)),
            (1, RateLimited, Some(3), 0.5, None),
            (1, Refused, None, 0.5, None),
        ] {
            let delay = budget().next_delay(attempt, &error(kind, retry_after), jitter);
            assert_eq!(
                delay,
                expected.map(Duration::from_millis),
                "{attempt} {kind:?}"
            );
        }
    }

    #[test]
    fn the_budget_runs_out_and_is_earned_back() {
        let budget = budget();
        let failed = error(ProviderErrorKind::Server, None);
        for _ in 0..SAVED_RETRIES {
            assert!(budget.next_delay(1, &failed, 0.0).is_some());
        }
        assert!(budget.next_delay(1, &failed, 0.0).is_none());
        for _ in 0..5 {
            budget.deposit();
        }
        assert!(budget.next_delay(1, &failed, 0.0).is_some());
        assert!(budget.next_delay(1, &failed, 0.0).is_none());
    }
}
