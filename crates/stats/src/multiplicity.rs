//! Several hypotheses: Holm for what triggers an action, Benjamini-Hochberg for what is explored, e-BH for e-values.

use crate::undefined::{Defined, Undefined, level, probability};

/// Users that a segment needs before it is shown, as a hypothesis and not as a result.
pub const SEGMENT_USERS: u64 = 100;

/// Holm's adjusted p-values, in the order given (Holm 1979): p̃_(i) = max_{j≤i} min(1, (m−j+1) p_(j)).
///
/// Controls the chance of any false rejection, whatever the dependence.
pub fn holm(p_values: &[f64]) -> Defined<Vec<f64>> {
    let order = rising(p_values)?;
    let count = p_values.len();
    let mut adjusted = vec![0.0; count];
    let mut largest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max((p_values[index] * (count - rank) as f64).min(1.0));
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// Benjamini & Hochberg's adjusted p-values, in the order given (1995): p̃_(i) = min_{j≥i} min(1, m p_(j)/j).
///
/// Controls the share of false rejections for independent or positively dependent p-values.
pub fn benjamini_hochberg(p_values: &[f64]) -> Defined<Vec<f64>> {
    let order = rising(p_values)?;
    let count = p_values.len() as f64;
    let mut adjusted = vec![0.0; p_values.len()];
    let mut smallest: f64 = 1.0;
    for (rank, index) in order.into_iter().enumerate().rev() {
        smallest = smallest.min(p_values[index] * count / (rank + 1) as f64);
        adjusted[index] = smallest;
    }
    Ok(adjusted)
}

/// The indices that e-BH rejects, in rising order (Wang & Ramdas 2022), from e-values.
///
/// The k̂ largest, k̂ = max{k: k e_(k)/K ≥ 1/α}. Valid under any dependence, so for p-values valid at any time as well.
pub fn e_bh(e_values: &[f64], alpha: f64) -> Defined<Vec<usize>> {
    if e_values.iter().any(|e| e.is_nan() || *e < 0.0) {
        return Err(Undefined::Domain("an e-value cannot be negative"));
    }
    let logs: Vec<f64> = e_values.iter().map(|e| e.ln()).collect();
    e_bh_of_logs(&logs, alpha)
}

/// The same from natural logarithms of e-values, which do not overflow.
pub fn e_bh_of_logs(log_e_values: &[f64], alpha: f64) -> Defined<Vec<usize>> {
    level(alpha)?;
    if log_e_values.iter().any(|log| log.is_nan()) {
        return Err(Undefined::NotFinite);
    }
    let mut order: Vec<usize> = (0..log_e_values.len()).collect();
    order.sort_by(|one, other| log_e_values[*other].total_cmp(&log_e_values[*one]));
    let count = log_e_values.len() as f64;
    // Room for rounding, so that an e-value exactly at the threshold is rejected.
    let threshold = -alpha.ln() - 1e-12;
    let rejected = order
        .iter()
        .enumerate()
        .filter(|(rank, index)| {
            ((rank + 1) as f64 / count).ln() + log_e_values[**index] >= threshold
        })
        .map(|(rank, _)| rank + 1)
        .next_back()
        .unwrap_or(0);
    let mut indices = order[..rejected].to_vec();
    indices.sort_unstable();
    Ok(indices)
}

/// The level of intervals that are shown because their hypotheses were rejected: αR/m (Benjamini & Yekutieli 2005).
pub fn level_after_selection(alpha: f64, rejected: usize, hypotheses: usize) -> Defined<f64> {
    level(alpha)?;
    if rejected == 0 || rejected > hypotheses {
        return Err(Undefined::Domain(
            "the rejected hypotheses must be some of all",
        ));
    }
    Ok(alpha * rejected as f64 / hypotheses as f64)
}

fn rising(p_values: &[f64]) -> Defined<Vec<usize>> {
    for p in p_values {
        probability(*p)?;
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|one, other| p_values[*one].total_cmp(&p_values[*other]));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_nothing_exceeds_one() {
        let shuffled = holm(&[0.5, 0.001, 0.9]).unwrap();
        assert_eq!(shuffled, [1.0, 0.003, 1.0]);
        let found = benjamini_hochberg(&[0.9, 0.8, 0.7]).unwrap();
        assert_eq!(found, [0.9, 0.9, 0.9]);
        assert_eq!(holm(&[]), Ok(vec![]));
        assert!(holm(&[f64::NAN]).is_err());
        assert!(benjamini_hochberg(&[1.5]).is_err());
    }

    #[test]
    fn e_bh_takes_the_threshold_and_infinities() {
        assert_eq!(e_bh(&[20.0], 0.05), Ok(vec![0]));
        assert_eq!(e_bh(&[19.9], 0.05), Ok(vec![]));
        assert_eq!(e_bh(&[0.0, f64::INFINITY], 0.05), Ok(vec![1]));
        assert_eq!(e_bh(&[], 0.05), Ok(vec![]));
        assert!(e_bh(&[-1.0], 0.05).is_err());
        assert_eq!(level_after_selection(0.05, 2, 10), Ok(0.01));
    }
}
