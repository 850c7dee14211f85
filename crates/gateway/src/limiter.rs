//! A cap on concurrent calls with a bounded queue before it, and one on the bytes they hold: beyond these, the caller is
//! told to come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Admits calls.
#[derive(Debug)]
pub struct Limiter {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    longest_queue: usize,
    longest_wait: Duration,
}

/// The call was not admitted: as many are running and waiting as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overloaded;

/// Counts a waiting call until it is admitted, gives up, or its client goes away.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limiter {
    /// Admits `concurrent` calls at a time and lets `queue` more wait for at most `longest_wait`.
    #[must_use]
    pub fn new(concurrent: usize, queue: usize, longest_wait: Duration) -> Self {
        Self {
            running: Arc::new(Semaphore::new(concurrent.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            longest_queue: queue,
            longest_wait,
        }
    }

    /// Waits for a place, which is held until the permit is dropped.
    ///
    /// # Errors
    /// When the queue is full, or no place came free in time.
    pub async fn admit(&self) -> Result<OwnedSemaphorePermit, Overloaded> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.longest_queue {
            return Err(Overloaded);
        }
        let permit = Arc::clone(&self.running).acquire_owned();
        match tokio::time::timeout(self.longest_wait, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Overloaded),
        }
    }
}

/// Room for the bytes of requests: few calls with large bodies fill the memory that many small ones do not.
#[derive(Debug)]
pub struct Room(Arc<Semaphore>);

/// What one request takes of the room, until it is dropped.
#[derive(Debug, Default)]
pub struct Share(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Adds bytes that have arrived to a request's share. Nobody waits for room: what others hold may take long, and a
    /// request that waits holds what it has.
    ///
    /// # Errors
    /// When there is no room for them.
    pub fn add(&self, share: &mut Share, bytes: usize) -> Result<(), Overloaded> {
        let bytes = u32::try_from(bytes).map_err(|_| Overloaded)?;
        let further = Arc::clone(&self.0)
            .try_acquire_many_owned(bytes)
            .map_err(|_| Overloaded)?;
        match &mut share.0 {
            Some(permit) => permit.merge(further),
            none => *none = Some(further),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_in_length_and_time() {
        let limiter = Arc::new(Limiter::new(1, 1, Duration::from_secs(5)));
        let running = limiter.admit().await.unwrap();
        let queued = limiter.admit();
        tokio::pin!(queued);
        assert!(futures_util::poll!(&mut queued).is_pending());
        assert_eq!(
            limiter.admit().await.err(),
            Some(Overloaded),
            "the queue is full"
        );
        drop(running);
        let second = queued.await.unwrap();
        assert_eq!(
            limiter.admit().await.err(),
            Some(Overloaded),
            "nobody made room in time"
        );
        drop(second);
        assert!(limiter.admit().await.is_ok());
    }

    #[test]
    fn room_is_taken_as_bytes_arrive_and_given_back_at_once() {
        let room = Room::new(10);
        let (mut one, mut two) = (Share::default(), Share::default());
        assert_eq!(room.add(&mut one, 4), Ok(()));
        assert_eq!(room.add(&mut one, 4), Ok(()));
        assert_eq!(room.add(&mut two, 3), Err(Overloaded));
        assert_eq!(room.add(&mut two, 2), Ok(()));
        drop(one);
        assert_eq!(room.add(&mut two, 8), Ok(()));
        assert_eq!(room.add(&mut two, usize::MAX), Err(Overloaded));
    }

    #[tokio::test]
    async fn a_waiting_client_that_goes_away_frees_its_place() {
        let limiter = Limiter::new(1, 1, Duration::from_secs(5));
        let _running = limiter.admit().await.unwrap();
        for _ in 0..3 {
            let mut waiting = Box::pin(limiter.admit());
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        assert_eq!(limiter.waiting.load(Ordering::Relaxed), 0);
    }
}
