//! How many requests a key may make in a second.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

/// Limits requests for each key; bursts of up to a second's worth are fine.
pub struct RateLimiter(Option<DefaultKeyedRateLimiter<String>>);

impl RateLimiter {
    /// A limiter, or none.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        Self(per_second.map(|limit| DefaultKeyedRateLimiter::keyed(Quota::per_second(limit))))
    }

    /// Takes note of a request.
    ///
    /// # Errors
    /// How long to wait, when the key has used up its requests.
    pub fn check(&self, key: &str) -> Result<(), Duration> {
        let Some(limiter) = &self.0 else {
            return Ok(());
        };
        limiter
            .check_key(&key.to_owned())
            .map_err(|early| early.wait_time_from(DefaultClock::default().now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_limited_separately() {
        let limiter = RateLimiter::new(NonZeroU32::new(2));
        assert!(limiter.check("a").is_ok());
        assert!(limiter.check("a").is_ok());
        assert!(limiter.check("a").is_err());
        assert!(limiter.check("b").is_ok());
        assert!(RateLimiter::new(None).check("a").is_ok());
    }
}
