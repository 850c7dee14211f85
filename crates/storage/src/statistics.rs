//! Statistics of experiments by unit: what a readout reads instead of events.
//!
//! Of each unit the numerator and the denominator of every reading are kept; of each arm the sums and products of these over
//! its units, by the day on which they changed. Adding up all days to one gives what was known at its end.

use std::collections::BTreeMap;

use async_trait::async_trait;
use flywheel_core::experiment::UnitKind;
use flywheel_core::metric::Metric;
use flywheel_core::name::ExperimentName;
use flywheel_core::{AppName, EnvironmentName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::StorageResult;
use crate::exact::Double;
use crate::weeks::{Weeks, WeeksQuery};

/// Columns of a reading: numerator and denominator, and both of the same metric before the unit's first exposure.
pub const COLUMNS: usize = 4;
const PRODUCTS: usize = COLUMNS * (COLUMNS + 1) / 2;

/// Sums over units from which means and covariances follow, and from which units can be taken away again.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct UnitSums {
    /// How many units.
    pub n: i64,
    /// How many of them are at a cap.
    pub capped: i64,
    /// How many have a numerator above zero: of shares, units with an event.
    pub any: i64,
    /// How many have a numerator below their denominator: of shares, units with a value that is no event.
    pub not_all: i64,
    sums: [Double; COLUMNS],
    products: [Double; PRODUCTS],
}

/// Where the product of two columns is: those of the first columns come first.
fn place(left: usize, right: usize) -> usize {
    let (low, high) = (left.min(right), left.max(right));
    high * (high + 1) / 2 + low
}

impl UnitSums {
    /// Adds a unit, or takes one away.
    pub fn put(&mut self, values: &[f64; COLUMNS], is_added: bool) {
        let signed = |part: Double| if is_added { part } else { -part };
        let one = if is_added { 1 } else { -1 };
        self.n += one;
        self.any += one * i64::from(values[0] > 0.0);
        self.not_all += one * i64::from(values[0] < values[1]);
        for (column, value) in values.iter().enumerate() {
            self.sums[column] += signed((*value).into());
            for (other, factor) in values.iter().enumerate().take(column + 1) {
                self.products[place(column, other)] += signed(Double::product(*value, *factor));
            }
        }
    }

    /// Adds the sums over other units.
    pub fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.capped += other.capped;
        self.any += other.any;
        self.not_all += other.not_all;
        for (own, others) in self.sums.iter_mut().zip(other.sums) {
            *own += others;
        }
        for (own, others) in self.products.iter_mut().zip(other.products) {
            *own += others;
        }
    }

    /// Takes away the sums over units that are among these.
    pub fn take_away(&mut self, other: &Self) {
        self.add(&Self {
            n: -other.n,
            capped: -other.capped,
            any: -other.any,
            not_all: -other.not_all,
            sums: other.sums.map(|sum| -sum),
            products: other.products.map(|product| -product),
        });
    }

    /// Whether these change nothing of others but the last bits.
    #[must_use]
    pub fn is_nothing_beside(&self, others: &Self) -> bool {
        let is_little =
            |(part, other): (&Double, &Double)| part.value().abs() <= 1e-14 * other.value().abs();
        (self.n, self.capped, self.any, self.not_all) == (0, 0, 0, 0)
            && self.sums.iter().zip(&others.sums).all(is_little)
            && self.products.iter().zip(&others.products).all(is_little)
    }

    /// The sum of a column.
    #[must_use]
    pub fn sum(&self, column: usize) -> f64 {
        self.sums.get(column).map_or(0.0, |sum| sum.value())
    }

    /// The sum of the products of two columns' differences from their means.
    #[must_use]
    pub fn centred(&self, left: usize, right: usize) -> f64 {
        if self.n < 1 || left >= COLUMNS || right >= COLUMNS {
            return 0.0;
        }
        let share = self.sums[left].times(self.sums[right]).over(self.n as f64);
        let centred = (self.products[place(left, right)] + -share).value();
        if left == right {
            centred.max(0.0)
        } else {
            centred
        }
    }

    /// As a row keeps them: counts first, then the two numbers of each sum, without the columns that are empty.
    #[must_use]
    pub fn to_numbers(&self) -> Vec<f64> {
        let counts = [self.n, self.capped, self.any, self.not_all];
        let mut numbers = counts.map(|count| count as f64).to_vec();
        let columns = (0..COLUMNS)
            .rev()
            .find(|column| {
                let is_some = |part: &Double| *part != Double::default();
                is_some(&self.sums[*column])
                    || self.products[place(0, *column)..=place(*column, *column)]
                        .iter()
                        .any(is_some)
            })
            .map_or(0, |column| column + 1);
        let products = columns * (columns + 1) / 2;
        for part in self.sums[..columns]
            .iter()
            .chain(&self.products[..products])
        {
            numbers.extend([part.high, part.low]);
        }
        numbers
    }

    /// Reads what [`UnitSums::to_numbers`] wrote, or an earlier release, whose rows have two counts. How long a row is tells
    /// which: c columns have c(c + 3) numbers.
    #[must_use]
    pub fn of_numbers(numbers: &[f64]) -> Option<Self> {
        let is_earlier = (0..=COLUMNS).any(|columns| numbers.len() == 2 + columns * (columns + 3));
        let (counts, parts) = numbers.split_at_checked(if is_earlier { 2 } else { 4 })?;
        let count = |place: usize| counts.get(place).map_or(0, |count| *count as i64);
        let parts: Vec<Double> = parts
            .chunks_exact(2)
            .map(|pair| Double {
                high: pair[0],
                low: pair[1],
            })
            .collect();
        let columns = (0..=COLUMNS).find(|columns| columns * (columns + 3) / 2 == parts.len())?;
        let mut sums = Self {
            n: count(0),
            capped: count(1),
            any: count(2),
            not_all: count(3),
            ..Self::default()
        };
        sums.sums[..columns].copy_from_slice(&parts[..columns]);
        sums.products[..parts.len() - columns].copy_from_slice(&parts[columns..]);
        Some(sums)
    }
}

/// The units of one arm that were first exposed in one epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArmStatistics {
    /// Units assigned by the end of each day on which that changed, counted from 1970; those that were dropped later too.
    pub assigned: BTreeMap<i64, i64>,
    /// Of them, those that were seen in two arms of one epoch.
    pub in_two_arms: i64,
    /// Of them, those that a change of the weights moved to another arm.
    pub moved: i64,
    /// For each reading of the plan, and each day, counted from 1970, on which it changed, by how much.
    pub readings: BTreeMap<usize, BTreeMap<i64, UnitSums>>,
    /// The readings of the primary metric by tag and value.
    pub segments: BTreeMap<(usize, String), UnitSums>,
    /// For ordinal metrics, counts, quantiles and delays, how often each class occurs.
    pub histograms: BTreeMap<usize, BTreeMap<i32, i64>>,
}

/// Everything that is known of an experiment's units.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExperimentStatistics {
    /// By epoch and place of the arm.
    pub arms: BTreeMap<(usize, usize), ArmStatistics>,
    /// Of events that are being taken in again, which share is.
    pub rebuilt: Option<f64>,
}

/// What is known of a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitRow {
    /// The unit.
    pub unit: String,
    /// The epoch of its first exposure, from 0.
    pub epoch: usize,
    /// The place of its arm.
    pub arm: usize,
    /// When it was first exposed.
    pub first_at: Timestamp,
    /// Whether it counts: not if it was seen in two arms, or moved to another.
    pub counts: bool,
    /// Tags and their values at the first exposure, as `tag=value`.
    pub segments: Vec<String>,
    /// For each reading of the plan that has a value: numerator and denominator, and both before the first exposure.
    pub readings: BTreeMap<usize, [f64; COLUMNS]>,
}

/// Which traffic says what a metric was before an experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryQuery {
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What is a unit.
    pub unit: UnitKind,
    /// The metrics that are asked for.
    pub metrics: Vec<Metric>,
    /// Calls that began not before this time.
    pub since: Timestamp,
    /// Calls that began before this time.
    pub until: Timestamp,
}

/// What a metric was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricHistory {
    /// Over units.
    pub sums: UnitSums,
    /// For quantiles, how often each bucket of values occurs.
    pub buckets: BTreeMap<i32, i64>,
}

/// What traffic there was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnitHistory {
    /// When the calls began that were looked at: long histories are looked at from their end.
    pub since: Option<Timestamp>,
    /// For each day from then on, distinct units until its end.
    pub distinct_units: Vec<u64>,
    /// For each metric that was asked for.
    pub metrics: Vec<MetricHistory>,
}

/// Which experiment's statistics are made again, and why that may be impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rebuild {
    /// They are being made again.
    Begun,
    /// Retention has removed events that they contain.
    EventsRemoved,
    /// They are archived, and stay as they are.
    Archived,
}

/// Keeps statistics of experiments.
#[async_trait]
pub trait StatisticsStore: Send + Sync {
    /// What is known of an experiment's units, every event included that was acknowledged before this was called.
    async fn experiment_statistics(
        &self,
        experiment: &ExperimentName,
    ) -> StorageResult<ExperimentStatistics>;

    /// The units of an experiment in the order of their names, after one of them, every event included that was acknowledged
    /// before this was called; nothing while they are made again.
    async fn experiment_units(
        &self,
        experiment: &ExperimentName,
        after: Option<&str>,
        limit: u32,
    ) -> StorageResult<Option<Vec<UnitRow>>>;

    /// Forgets the statistics of an experiment and takes in all of its events again, which goes on after this returns.
    /// What becomes different counts from the day of `now` on: what could be read on days before stays as it was.
    async fn rebuild_statistics(
        &self,
        experiment: &ExperimentName,
        now: Timestamp,
    ) -> StorageResult<Rebuild>;

    /// Says that the days of an experiment before that of `now` are over: what they come to stays, and what comes of them from
    /// now on counts on a later one.
    async fn close_days(&self, experiment: &ExperimentName, now: Timestamp) -> StorageResult<()>;

    /// What metrics were before an experiment, from the newest calls of the time asked for.
    async fn unit_history(&self, query: &HistoryQuery) -> StorageResult<UnitHistory>;

    /// What weeks said of the prompt versions of an app. Waits a little for events that are not taken in yet, and then says
    /// how far it is.
    async fn weeks(&self, query: &WeeksQuery) -> StorageResult<Weeks>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_leaves_nothing_behind() {
        let mut sums = UnitSums::default();
        for value in [0.1, 300.7, 1e9] {
            sums.put(&[value, 1.0, 0.0, 0.0], true);
        }
        sums.put(&[1e9, 1.0, 0.0, 0.0], false);
        assert_eq!((sums.n, sums.sum(0), sums.sum(1)), (2, 300.8, 2.0));
        assert_eq!((sums.any, sums.not_all), (2, 1));
        let expected = 300.6_f64 * 300.6 / 2.0;
        assert!((sums.centred(0, 0) - expected).abs() < 1e-12 * expected);
        assert_eq!(sums.centred(0, 1), 0.0);
    }

    #[test]
    fn rows_say_what_the_sums_are() {
        for columns in 0..=COLUMNS {
            let mut sums = UnitSums {
                capped: 1,
                ..UnitSums::default()
            };
            let mut values = [0.0; COLUMNS];
            for (place, value) in values[..columns].iter_mut().enumerate() {
                *value = 0.1 + place as f64;
            }
            sums.put(&values, true);
            sums.put(&values, true);
            let numbers = sums.to_numbers();
            assert_eq!(UnitSums::of_numbers(&numbers), Some(sums), "{columns}");
            let earlier = [&numbers[..2], &numbers[4..]].concat();
            let without_counts = UnitSums {
                any: 0,
                not_all: 0,
                ..sums
            };
            assert_eq!(UnitSums::of_numbers(&earlier), Some(without_counts));
        }
        assert_eq!(UnitSums::of_numbers(&[1.0]), None);
        assert_eq!(UnitSums::of_numbers(&[1.0, 0.0, 2.0]), None);
    }
}
