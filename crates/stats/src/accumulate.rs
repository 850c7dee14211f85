//! Sufficient statistics that can be updated value by value and merged in any order.
//!
//! Moments are kept centred (Welford 1962; Chan, Golub & LeVeque 1979): raw sums of squares cancel when the mean is large
//! against the spread, as it is for tokens and costs.

use std::collections::BTreeMap;

use crate::undefined::{Defined, Undefined, finite};

/// Below this many units in the last place a centred sum from raw sums is rounding, so the values do not vary.
const ROUNDING: f64 = 8.0;

/// Number, mean and sum of squared deviations of values.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    n: u64,
    mean: f64,
    squared_deviations: f64,
}

impl Moments {
    /// Of all the values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        for value in values {
            moments.push(*value);
        }
        moments
    }

    /// From the number, the mean and the sum of squared deviations from it.
    pub fn new(n: u64, mean: f64, squared_deviations: f64) -> Defined<Self> {
        finite(mean)?;
        finite(squared_deviations)?;
        if n == 0 {
            return Err(Undefined::NoData);
        }
        if squared_deviations < 0.0 {
            return Err(Undefined::InconsistentSums);
        }
        Ok(Self {
            n,
            mean,
            squared_deviations,
        })
    }

    /// From the number, the mean and the sample variance (divisor n − 1).
    pub fn from_variance(n: u64, mean: f64, variance: f64) -> Defined<Self> {
        Self::new(n, mean, variance * (n.saturating_sub(1)) as f64)
    }

    /// From the number, the sum and the sum of squares, in compensated arithmetic.
    pub fn from_sums(n: u64, sum: f64, sum_of_squares: f64) -> Defined<Self> {
        let squared_deviations = centred_square(n, sum, sum_of_squares)?;
        Self::new(n, sum / n as f64, squared_deviations)
    }

    /// Of `successes` ones and otherwise zeros.
    pub fn of_proportion(successes: u64, n: u64) -> Defined<Self> {
        if successes > n {
            return Err(Undefined::Domain("there are more successes than trials"));
        }
        let share = successes as f64 / n as f64;
        Self::new(n, share, successes as f64 * (1.0 - share))
    }

    /// Adds one value (Welford).
    pub fn push(&mut self, value: f64) {
        self.n += 1;
        let difference = value - self.mean;
        self.mean += difference / self.n as f64;
        self.squared_deviations += difference * (value - self.mean);
    }

    /// Adds all the values of `other` (Chan).
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let (own, others) = (self.n as f64, other.n as f64);
        let total = own + others;
        let difference = other.mean - self.mean;
        self.mean += difference * others / total;
        self.squared_deviations +=
            other.squared_deviations + difference * difference * own * others / total;
        self.n = self.n.saturating_add(other.n);
    }

    /// How many values.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Their mean.
    pub fn mean(&self) -> Defined<f64> {
        if self.n == 0 {
            return Err(Undefined::NoData);
        }
        finite(self.mean)
    }

    /// Their sample variance, with divisor n − 1.
    pub fn variance(&self) -> Defined<f64> {
        if self.n < 2 {
            return Err(Undefined::TooFewValues {
                needed: 2,
                found: self.n,
            });
        }
        finite(self.squared_deviations / (self.n - 1) as f64)
    }
}

/// Number, means and centred cross-products of values that come in tuples of `K`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrossMoments<const K: usize> {
    n: u64,
    means: [f64; K],
    products: [[f64; K]; K],
}

impl<const K: usize> Default for CrossMoments<K> {
    fn default() -> Self {
        Self {
            n: 0,
            means: [0.0; K],
            products: [[0.0; K]; K],
        }
    }
}

impl<const K: usize> CrossMoments<K> {
    /// Of all the tuples.
    #[must_use]
    pub fn of(values: &[[f64; K]]) -> Self {
        let mut moments = Self::default();
        for value in values {
            moments.push(value);
        }
        moments
    }

    /// From the number, the means, and the sums of products of deviations from them.
    pub fn new(n: u64, means: [f64; K], products: [[f64; K]; K]) -> Defined<Self> {
        if n == 0 {
            return Err(Undefined::NoData);
        }
        for value in means.iter().chain(products.iter().flatten()) {
            finite(*value)?;
        }
        if (0..K).any(|column| products[column][column] < 0.0) {
            return Err(Undefined::InconsistentSums);
        }
        Ok(Self { n, means, products })
    }

    /// Adds one tuple.
    pub fn push(&mut self, values: &[f64; K]) {
        self.n += 1;
        let n = self.n as f64;
        let mut differences = [0.0; K];
        for (index, value) in values.iter().enumerate() {
            differences[index] = value - self.means[index];
            self.means[index] += differences[index] / n;
        }
        for (row, first) in differences.iter().enumerate() {
            for (column, second) in differences.iter().enumerate() {
                self.products[row][column] += first * second * (n - 1.0) / n;
            }
        }
    }

    /// Adds all the tuples of `other`.
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        let (own, others) = (self.n as f64, other.n as f64);
        let total = own + others;
        let mut differences = [0.0; K];
        for (index, difference) in differences.iter_mut().enumerate() {
            *difference = other.means[index] - self.means[index];
            self.means[index] += *difference * others / total;
        }
        for (row, first) in differences.iter().enumerate() {
            for (column, second) in differences.iter().enumerate() {
                self.products[row][column] +=
                    other.products[row][column] + first * second * own * others / total;
            }
        }
        self.n = self.n.saturating_add(other.n);
    }

    /// How many tuples.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The mean of one column.
    pub fn mean(&self, column: usize) -> Defined<f64> {
        if self.n == 0 {
            return Err(Undefined::NoData);
        }
        self.means
            .get(column)
            .copied()
            .ok_or(Undefined::Domain("there is no such column"))
            .and_then(finite)
    }

    /// The sample covariance of two columns, with divisor n − 1.
    pub fn covariance(&self, row: usize, column: usize) -> Defined<f64> {
        if self.n < 2 {
            return Err(Undefined::TooFewValues {
                needed: 2,
                found: self.n,
            });
        }
        self.products
            .get(row)
            .and_then(|products| products.get(column))
            .copied()
            .ok_or(Undefined::Domain("there is no such column"))
            .and_then(|product| finite(product / (self.n - 1) as f64))
    }

    /// One column by itself.
    pub fn column(&self, column: usize) -> Defined<Moments> {
        let products = self.products.get(column).and_then(|row| row.get(column));
        let squared_deviations = products
            .copied()
            .ok_or(Undefined::Domain("there is no such column"))?;
        Moments::new(self.n, self.mean(column)?, squared_deviations)
    }
}

impl CrossMoments<2> {
    /// From the number and the raw sums of both columns, in compensated arithmetic.
    pub fn from_sums(
        n: u64,
        sums: [f64; 2],
        sums_of_squares: [f64; 2],
        sum_of_products: f64,
    ) -> Defined<Self> {
        let first = centred_square(n, sums[0], sums_of_squares[0])?;
        let second = centred_square(n, sums[1], sums_of_squares[1])?;
        let cross = centred_product(n, sums[0], sums[1], sum_of_products)?;
        // Cauchy-Schwarz, with room for rounding.
        if cross * cross > first * second * (1.0 + 1e-9) {
            return Err(Undefined::InconsistentSums);
        }
        let count = n as f64;
        Ok(Self {
            n,
            means: [sums[0] / count, sums[1] / count],
            products: [[first, cross], [cross, second]],
        })
    }
}

fn centred_square(n: u64, sum: f64, sum_of_squares: f64) -> Defined<f64> {
    let centred = centred_product(n, sum, sum, sum_of_squares)?;
    if centred < 0.0 {
        return Err(Undefined::InconsistentSums);
    }
    Ok(centred)
}

/// Σxy − Σx Σy / n without losing what the products round away; exactly 0 when nothing but rounding is left.
fn centred_product(n: u64, sum_x: f64, sum_y: f64, sum_xy: f64) -> Defined<f64> {
    if n == 0 {
        return Err(Undefined::NoData);
    }
    finite(sum_x)?;
    finite(sum_y)?;
    finite(sum_xy)?;
    let count = n as f64;
    let product = sum_x * sum_y;
    let lost = (-sum_x).mul_add(sum_y, product);
    let centred = count.mul_add(sum_xy, -product) + lost;
    if centred.abs() <= ROUNDING * f64::EPSILON * product.abs() {
        return Ok(0.0);
    }
    Ok(centred / count)
}

/// Classes that a histogram has at most.
pub const MOST_CLASSES: usize = 1000;

/// Counts of values in classes, such as ratings from 1 to K.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// From the count of each class.
    #[must_use]
    pub fn new(counts: Vec<u64>) -> Self {
        Self { counts }
    }

    /// Adds one value in the class with this index, of at most [`MOST_CLASSES`].
    pub fn push(&mut self, class: usize) -> Defined<()> {
        if class >= MOST_CLASSES {
            return Err(Undefined::Domain("a histogram has at most 1000 classes"));
        }
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] = self.counts[class].saturating_add(1);
        Ok(())
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, others) in self.counts.iter_mut().zip(&other.counts) {
            *own = own.saturating_add(*others);
        }
    }

    /// The count of each class.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
}

/// Counts of positive values in buckets whose edges grow by one per cent, as latencies need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogHistogram {
    n: u64,
    /// Zero and what is below the smallest positive double.
    zeros: u64,
    buckets: BTreeMap<i32, u64>,
}

/// The relative width of a bucket.
const BUCKET_WIDTH: f64 = 0.01;

impl LogHistogram {
    /// From how many values are zero and how many are in each bucket: ⌊ln x / ln 1.01⌋ of a value x.
    #[must_use]
    pub fn of_counts(zeros: u64, counts: impl IntoIterator<Item = (i32, u64)>) -> Self {
        let buckets: BTreeMap<i32, u64> = counts.into_iter().filter(|(_, n)| *n > 0).collect();
        let n = buckets
            .values()
            .fold(zeros, |sum, n| sum.saturating_add(*n));
        Self { n, zeros, buckets }
    }

    /// Adds one value; negative and non-finite ones are refused.
    pub fn push(&mut self, value: f64) -> Defined<()> {
        finite(value)?;
        if value < 0.0 {
            return Err(Undefined::Domain("a latency cannot be negative"));
        }
        self.n += 1;
        if value < f64::MIN_POSITIVE {
            self.zeros += 1;
        } else {
            let index = (value.ln() / BUCKET_WIDTH.ln_1p()).floor() as i32;
            *self.buckets.entry(index).or_default() += 1;
        }
        Ok(())
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.saturating_add(other.n);
        self.zeros = self.zeros.saturating_add(other.zeros);
        for (index, count) in &other.buckets {
            let own = self.buckets.entry(*index).or_default();
            *own = own.saturating_add(*count);
        }
    }

    /// How many values.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.n
    }

    /// The edges of the bucket that holds the value of this rank, counted from 1.
    #[must_use]
    pub fn bucket_of_rank(&self, rank: u64) -> Option<(f64, f64)> {
        if rank == 0 || rank > self.n {
            return None;
        }
        let mut seen = self.zeros;
        if rank <= seen {
            return Some((0.0, 0.0));
        }
        for (index, count) in &self.buckets {
            seen += count;
            if rank <= seen {
                let step = BUCKET_WIDTH.ln_1p();
                let edge = |index: i32| (f64::from(index) * step).exp();
                return Some((edge(*index), edge(index + 1)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_means_keep_their_spread() {
        let values: Vec<f64> = (0..1000).map(|index| 1e9 + f64::from(index % 2)).collect();
        let moments = Moments::of(&values);
        let expected = 0.25 * 1000.0 / 999.0;
        assert!((moments.variance().unwrap() - expected).abs() < 1e-9);
    }

    #[test]
    fn raw_sums_of_a_constant_do_not_vary() {
        let constant = Moments::from_sums(3, 0.3, 0.03).unwrap();
        assert_eq!(constant.variance(), Ok(0.0));
        assert_eq!(
            Moments::from_sums(3, 3.0, 2.0),
            Err(Undefined::InconsistentSums)
        );
        assert_eq!(Moments::from_sums(0, 0.0, 0.0), Err(Undefined::NoData));
    }

    #[test]
    fn latencies_keep_their_rank_within_one_per_cent() {
        let mut histogram = LogHistogram::default();
        for value in [0.0, 120.0, 80.0, 3000.0] {
            histogram.push(value).unwrap();
        }
        let (low, high) = histogram.bucket_of_rank(3).unwrap();
        assert!(
            low <= 120.0 && 120.0 <= high && high < low * 1.0101,
            "{low} {high}"
        );
        assert_eq!(histogram.bucket_of_rank(1), Some((0.0, 0.0)));
        assert_eq!(histogram.bucket_of_rank(5), None);
        assert!(histogram.push(-1.0).is_err());
    }
}
