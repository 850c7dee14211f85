//! Winsorising: one upper cap for heavy tails, over both arms and for a whole epoch, never per arm.

use crate::accumulate::Moments;
use crate::undefined::{Defined, Undefined, finite, open_probability};

/// The quantile of the pooled values that caps them by default.
pub const QUANTILE: f64 = 0.999;

/// The cap: the order statistic of rank ⌈np⌉ of the values of both arms, or of the time before.
pub fn cap(pooled: &[f64], quantile: f64) -> Defined<f64> {
    open_probability(quantile)?;
    if pooled.is_empty() {
        return Err(Undefined::NoData);
    }
    for value in pooled {
        finite(*value)?;
    }
    let mut sorted = pooled.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .ok_or(Undefined::NoData)
}

/// The moments of values above the cap counted as the cap, and of how many that were.
pub fn capped_moments(values: &[f64], cap: f64) -> Defined<(Moments, u64)> {
    finite(cap)?;
    let mut moments = Moments::default();
    let mut capped = 0;
    for value in values {
        if finite(*value)? > cap {
            capped += 1;
        }
        moments.push(value.min(cap));
    }
    Ok((moments, capped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_in_a_thousand_is_capped() {
        let values: Vec<f64> = (1..=2000).map(f64::from).collect();
        let cap = cap(&values, QUANTILE).unwrap();
        assert_eq!(cap, 1998.0);
        let (moments, capped) = capped_moments(&values, cap).unwrap();
        assert_eq!((moments.n(), capped), (2000, 2));
        assert_eq!(super::cap(&[], QUANTILE), Err(Undefined::NoData));
        assert!(super::cap(&[f64::NAN], QUANTILE).is_err());
    }
}
