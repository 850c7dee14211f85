//! The system's clock and random bytes: the one place where the program takes either.

use std::sync::Arc;

use flywheel_gateway::clock::{Clock, Entropy, Sources};
use jiff::{Timestamp, Unit};

struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter behind the clock passed everywhere else"
    )]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        let truncated = jiff::TimestampRound::new().smallest(Unit::Microsecond);
        now.round(truncated.mode(jiff::RoundMode::Floor))
            .unwrap_or(now)
    }
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the adapter behind the randomness passed everywhere else"
    )]
    fn fill(&self, buffer: &mut [u8]) {
        // Ids and salts that are not random would be worse than none.
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the system has no random bytes: {error}");
        }
    }
}

/// The system's clock and randomness.
pub(crate) fn sources() -> Sources {
    Sources {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_in_whole_microseconds() {
        assert_eq!(sources().clock.now().subsec_nanosecond() % 1000, 0);
        assert_ne!(sources().new_id(), sources().new_id());
    }
}
