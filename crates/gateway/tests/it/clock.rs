//! Time and randomness that tests decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use flywheel_gateway::clock::{Clock, Entropy, Sources};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

/// The second at which every test's wall clock stands: 2026-01-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_767_225_600;

/// A wall clock that stands still.
pub(crate) struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }
}

/// A wall clock that is set back by an hour whenever somebody looks at it.
pub(crate) struct BackwardsClock(AtomicI64);

impl BackwardsClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(NOW)))
    }
}

impl Clock for BackwardsClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.fetch_sub(3600, Ordering::Relaxed)).unwrap()
    }
}

/// Numbers that are the same in every run, and a count of how often jitter was drawn, which is how a test learns that
/// a failed attempt is about to be repeated.
#[derive(Default)]
pub(crate) struct Jitter {
    next: AtomicU64,
    drawn: watch::Sender<usize>,
}

impl Jitter {
    /// Waits until so many attempts failed. The wait before the next attempt, if there is to be one, has begun then.
    pub(crate) async fn drawn(&self, times: usize) {
        self.drawn
            .subscribe()
            .wait_for(|drawn| *drawn >= times)
            .await
            .unwrap();
    }
}

impl Entropy for Jitter {
    fn fill(&self, buffer: &mut [u8]) {
        if buffer.len() == 8 {
            // The largest jitter: the longest wait is the one to test.
            buffer.fill(0xff);
            self.drawn.send_modify(|drawn| *drawn += 1);
            return;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        buffer.fill(0);
        let start = buffer.len() - number.len();
        buffer[start..].copy_from_slice(&number);
    }
}

/// Sources around a wall clock and a jitter.
pub(crate) fn sources(clock: Arc<dyn Clock>, jitter: &Arc<Jitter>) -> Sources {
    Sources {
        clock,
        entropy: Arc::clone(jitter) as _,
    }
}

/// Keeps the paused clock from running ahead while sockets are read: tokio would otherwise jump to the next timer
/// whenever no task is ready, though bytes are on their way. With it, only [`tokio::time::advance`] moves time.
pub(crate) struct HeldTime(Option<oneshot::Sender<()>>);

impl HeldTime {
    pub(crate) fn hold() -> Self {
        let (release, released) = oneshot::channel();
        // The clock does not run ahead while a blocking task does.
        drop(tokio::task::spawn_blocking(move || {
            released.blocking_recv()
        }));
        Self(Some(release))
    }
}

impl Drop for HeldTime {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            // The task has ended only if the runtime has.
            let _ = release.send(());
        }
    }
}
