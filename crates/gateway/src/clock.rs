//! Time and randomness, injected so that tests decide both.

use std::sync::Arc;

use jiff::Timestamp;

/// The wall clock. Durations are measured on tokio's clock instead, which never goes backwards.
pub trait Clock: Send + Sync {
    /// Now, to the microsecond, which is what stores keep.
    fn now(&self) -> Timestamp;
}

/// Random bytes.
pub trait Entropy: Send + Sync {
    /// Fills a buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The two sources that the rest of the program draws from.
#[derive(Clone)]
pub struct Sources {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
}

impl Sources {
    /// A new time-ordered id: UUID version 7.
    #[must_use]
    pub fn new_id(&self) -> String {
        self.id_at(self.clock.now())
    }

    /// A new id that sorts by the given time.
    #[must_use]
    pub fn id_at(&self, at: Timestamp) -> String {
        let mut random = [0_u8; 10];
        self.entropy.fill(&mut random);
        let millisecond = u64::try_from(at.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millisecond, &random)
            .into_uuid()
            .to_string()
    }

    /// A random number from 0 up to, not including, 1.
    #[must_use]
    pub fn unit_interval(&self) -> f64 {
        let mut random = [0_u8; 8];
        self.entropy.fill(&mut random);
        // The upper 53 bits are all that a double can hold exactly.
        (u64::from_le_bytes(random) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
