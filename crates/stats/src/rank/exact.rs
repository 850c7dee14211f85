//! Exact permutation distributions of the rank sum.

use crate::undefined::{Defined, Undefined};

/// Additions after which an exact distribution is refused.
const MOST_STEPS: f64 = 3e8;
/// Values of U that are kept in memory at most.
const MOST_SUMS: f64 = 4e6;

/// The two-sided p-value of U without ties.
///
/// The number of ways to reach each U are the coefficients of the Gaussian binomial, built factor by factor. Integers
/// that wrap around are exact as long as the result fits, which the binomial coefficient tells beforehand.
pub(super) fn without_ties(u: f64, n_a: u64, n_b: u64) -> Defined<f64> {
    let (smaller, larger) = (n_a.min(n_b), n_a.max(n_b));
    let most = smaller as f64 * larger as f64;
    if most > MOST_SUMS || most * smaller as f64 > MOST_STEPS {
        return Err(Undefined::TooLargeForExact);
    }
    let total = choose(n_a + n_b, smaller).ok_or(Undefined::TooLargeForExact)?;
    let (smaller, larger, most) = (smaller as usize, larger as usize, most as usize);
    let mut ways = vec![0u128; most + 1];
    ways[0] = 1;
    for factor in 1..=smaller {
        // Times 1 − q^(larger + factor), divided by 1 − q^factor.
        for index in (larger + factor..=most).rev() {
            ways[index] = ways[index].wrapping_sub(ways[index - larger - factor]);
        }
        for index in factor..=most {
            ways[index] = ways[index].wrapping_add(ways[index - factor]);
        }
    }
    let distance = (u - 0.5 * most as f64).abs();
    // Symmetric, so twice the lower tail; U is an integer without ties.
    let reach = (0.5 * most as f64 - distance).round() as usize;
    let tail: f64 = ways[..=reach.min(most)]
        .iter()
        .map(|ways| *ways as f64)
        .sum();
    Ok((2.0 * tail / total as f64).min(1.0))
}

/// The binomial coefficient, if it is below 2^127.
fn choose(n: u64, k: u64) -> Option<u128> {
    let mut result: u128 = 1;
    for index in 1..=k {
        result = result.checked_mul(u128::from(n - k + index))? / u128::from(index);
    }
    (result < u128::MAX / 2).then_some(result)
}

/// The two-sided p-value with ties: the share of all ways to choose the smaller sample whose sum of midranks is at least
/// as far from the mean as the observed one. Sums are of doubled midranks, which are integers.
pub(super) fn with_ties(groups: &[(u64, u64)], n_a: u64, n_b: u64) -> Defined<f64> {
    let choose_a = n_a < n_b;
    let chosen = n_a.min(n_b);
    let total = n_a.saturating_add(n_b);
    let largest_sum = chosen as f64 * 2.0 * total as f64;
    if largest_sum * chosen as f64 * total as f64 > MOST_STEPS {
        return Err(Undefined::TooLargeForExact);
    }
    let chosen = chosen as usize;
    let width = largest_sum as usize + 1;
    // ways[k][s]: how many subsets of size k have the sum s. What overflows a double is refused at the end.
    let mut ways = vec![vec![0.0f64; width]; chosen + 1];
    ways[0][0] = 1.0;
    let mut below = 0;
    let mut observed = 0usize;
    for (a, b) in groups {
        let tied = a + b;
        let rank = (2 * below + tied + 1) as usize;
        below += tied;
        observed += rank * (if choose_a { *a } else { *b }) as usize;
        for _ in 0..tied {
            for size in (1..=chosen).rev() {
                let (smaller, larger) = ways.split_at_mut(size);
                let (from, to) = (&smaller[size - 1], &mut larger[0]);
                for sum in (rank..width).rev() {
                    to[sum] += from[sum - rank];
                }
            }
        }
    }
    let all: f64 = ways[chosen].iter().sum();
    let centre = chosen as f64 * (total as f64 + 1.0);
    let distance = (observed as f64 - centre).abs();
    let outside: f64 = ways[chosen]
        .iter()
        .enumerate()
        .filter(|(sum, _)| (*sum as f64 - centre).abs() >= distance - 0.25)
        .map(|(_, ways)| ways)
        .sum();
    let p = outside / all;
    if p.is_finite() {
        Ok(p.min(1.0))
    } else {
        Err(Undefined::TooLargeForExact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_without_ties() {
        let groups = [(1, 0), (0, 1), (1, 0), (1, 0), (0, 1), (0, 1), (0, 1)];
        // U counts the pairs in which B is greater: 1 + 3 + 3 + 3.
        let one = without_ties(10.0, 3, 4).unwrap();
        let other = with_ties(&groups, 3, 4).unwrap();
        assert!((one - other).abs() < 1e-14, "{one} {other}");
    }

    #[test]
    fn large_samples_are_refused() {
        assert_eq!(
            without_ties(0.0, 100_000, 100_000),
            Err(Undefined::TooLargeForExact)
        );
        assert!(without_ties(1000.0, 60, 60).is_ok());
    }
}
