//! Time and randomness that tests decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use flywheel_gateway::clock::{Clock, Entropy, Sources};
use jiff::Timestamp;

/// The second at which every test begins: 2026-01-01T00:00:00Z.
pub(crate) const BEGINNING: i64 = 1_767_225_600;

/// A clock that stands still until it is moved.
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    /// Moves the clock on, or back.
    pub(crate) fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// Bytes that look random and are the same in every run.
struct SeededEntropy(AtomicU64);

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            // SplitMix64: one odd constant to step by, two rounds of mixing.
            let mut word = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A clock that stands at [`BEGINNING`], and the sources with it in them.
pub(crate) fn test_sources() -> (Arc<TestClock>, Sources) {
    let clock = Arc::new(TestClock(AtomicI64::new(BEGINNING * 1_000_000)));
    let entropy = Arc::new(SeededEntropy(AtomicU64::new(1)));
    let sources = Sources {
        clock: Arc::clone(&clock) as _,
        entropy,
    };
    (clock, sources)
}
