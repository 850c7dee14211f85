//! Random numbers from a seed, so that a run can be made again.

use std::ops::Range;
use std::time::Duration;

/// SplitMix64 (Steele, Lea & Flood 2014): small, quick, and good enough to choose moments and actions and to simulate with.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers that depend on a text only.
    pub(crate) fn of_text(text: &str) -> Self {
        let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    /// Numbers of one run of a simulation, independent of those of every other run, name and seed. Whichever thread makes
    /// the run, it makes the same.
    pub(crate) fn of_run(seed: u64, name: &str, run: u64) -> Self {
        let mut named = Self::of_text(name);
        let mut numbered = Self(named.next() ^ seed);
        Self(numbered.next() ^ run).branch()
    }

    /// Numbers that are independent of ours and of every other branch.
    pub(crate) fn branch(&mut self) -> Self {
        Self(self.next())
    }

    /// A number in a range that is not empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        let width = u128::from(range.end - range.start);
        let scaled = (u128::from(self.next()) * width) >> 64;
        range.start + u64::try_from(scaled).unwrap_or_default()
    }

    /// True once in `number` times.
    pub(crate) fn one_in(&mut self, number: u64) -> bool {
        self.within(0..number) == 0
    }

    /// A number from 0 on, below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        // The upper 53 bits, which is what a double holds.
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn milliseconds(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    pub(crate) fn one_of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u64::try_from(items.len()).ok().filter(|count| *count > 0)?;
        items.get(usize::try_from(self.within(0..count)).ok()?)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
