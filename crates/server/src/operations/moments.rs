//! From the store's sums to what the statistics take.

use std::collections::BTreeMap;

use flywheel_stats::accumulate::{CrossMoments, LogHistogram};
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_storage::statistics::{COLUMNS, UnitSums};

fn cross<const K: usize>(sums: &UnitSums) -> Defined<CrossMoments<K>> {
    let n = u64::try_from(sums.n).map_err(|_| Undefined::InconsistentSums)?;
    let mut means = [0.0; K];
    let mut products = [[0.0; K]; K];
    for (column, row) in products.iter_mut().enumerate() {
        means[column] = sums.sum(column) / n as f64;
        for (other, product) in row.iter_mut().enumerate() {
            *product = sums.centred(column, other);
        }
    }
    CrossMoments::new(n, means, products)
}

/// Numerators and denominators.
pub(super) fn pair(sums: &UnitSums) -> Defined<CrossMoments<2>> {
    cross(sums)
}

/// The same with those before the first exposure.
pub(super) fn quadruple(sums: &UnitSums) -> Defined<CrossMoments<COLUMNS>> {
    cross(sums)
}

/// The histogram of a quantile's values.
pub(super) fn histogram(buckets: &BTreeMap<i32, i64>) -> LogHistogram {
    let count = |n: &i64| u64::try_from(*n).unwrap_or(0);
    let zeros = buckets.get(&i32::MIN).map_or(0, count);
    let others = buckets.iter().filter(|(bucket, _)| **bucket != i32::MIN);
    LogHistogram::of_counts(zeros, others.map(|(bucket, n)| (*bucket, count(n))))
}
