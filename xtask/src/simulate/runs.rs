//! Many runs of one simulation, on several threads, with the same result on any number of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use flywheel_stats::undefined::Defined;

use super::draw::Draw;

/// Runs that a thread takes at once.
const BATCH: u64 = 16;

/// How much is simulated, and from which seed.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) threads: usize,
    pub(super) short: bool,
}

/// In how many runs something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) hits: u64,
    pub(super) runs: u64,
}

impl Count {
    pub(super) fn of(happened: &[bool]) -> Self {
        Self {
            hits: happened.iter().map(|hit| u64::from(*hit)).sum(),
            runs: happened.len() as u64,
        }
    }

    pub(super) fn share(self) -> f64 {
        self.hits as f64 / self.runs as f64
    }
}

impl Plan {
    /// `full`, or as many as there is time for in CI.
    pub(super) fn runs(&self, full: u64, short: u64) -> u64 {
        if self.short { short } else { full }
    }

    /// What each run finds, in the order of the runs. `name` decides the random numbers, together with seed and run.
    pub(super) fn each<T: Send>(
        &self,
        name: &str,
        runs: u64,
        run: impl Fn(&mut Draw) -> Defined<T> + Sync,
    ) -> Result<Vec<T>> {
        let next = AtomicU64::new(0);
        let work = || -> Defined<Vec<(u64, T)>> {
            let mut found = Vec::new();
            loop {
                let begin = next.fetch_add(BATCH, Ordering::Relaxed);
                if begin >= runs {
                    return Ok(found);
                }
                for index in begin..runs.min(begin + BATCH) {
                    let mut draw = Draw::of_run(self.seed, name, index);
                    found.push((index, run(&mut draw)?));
                }
            }
        };
        let parts = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().map(|worker| {
                let found = worker.join().map_err(|_| anyhow!("`{name}` panicked"))?;
                found.with_context(|| format!("`{name}` has no value"))
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        let mut found: Vec<_> = parts.into_iter().flatten().collect();
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }

    /// In how many runs something happens.
    pub(super) fn count(
        &self,
        name: &str,
        runs: u64,
        run: impl Fn(&mut Draw) -> Defined<bool> + Sync,
    ) -> Result<Count> {
        Ok(Count::of(&self.each(name, runs, run)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_stats::Undefined;

    fn plan(threads: usize) -> Plan {
        Plan {
            seed: 7,
            threads,
            short: true,
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let draws = |threads| plan(threads).each("runs", 50, |draw| Ok(draw.normal()));
        let found = draws(1).unwrap();
        assert_eq!(found.len(), 50);
        assert_eq!(found, draws(3).unwrap());
        let count = plan(2).count("coin", 4000, |draw| Ok(draw.chance(0.5)));
        let count = count.unwrap();
        assert_eq!(count.runs, 4000);
        assert!((count.share() - 0.5).abs() < 0.04, "{count:?}");
    }

    #[test]
    fn what_has_no_value_ends_the_simulation() {
        let found = plan(2).each("nothing", 9, |_| Err::<(), _>(Undefined::NoData));
        assert_eq!(found.unwrap_err().to_string(), "`nothing` has no value");
    }
}
