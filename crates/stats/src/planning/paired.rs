//! Sample sizes for paired verdicts.

use super::ErrorRates;
use crate::undefined::{Defined, Undefined, computed, probability};

/// Pairs for the sign test, from the probabilities of a win and of a loss among all pairs (Miettinen 1968; Connor 1987).
///
/// (z_α √(w+l) + z_β √((w+l) − (w−l)²))² / (w−l)². More ties make a given net win easier to see.
pub fn sample_size(win: f64, loss: f64, rates: ErrorRates) -> Defined<f64> {
    probability(win)?;
    probability(loss)?;
    let (decisive, net) = (win + loss, win - loss);
    if decisive > 1.0 + 1e-12 {
        return Err(Undefined::Domain("wins and losses cannot exceed all pairs"));
    }
    if net == 0.0 {
        return Err(Undefined::NoDifference);
    }
    let (z_level, z_power) = rates.quantiles()?;
    let spread = (decisive - net * net).max(0.0).sqrt();
    let root = (z_level * decisive.sqrt() + z_power * spread) / net;
    computed(root * root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_design() {
        let rates = ErrorRates {
            alpha: 0.05,
            power: 0.8,
            two_sided: true,
        };
        for (win, loss, expected) in [
            (0.30, 0.20, 391.0),
            (0.25, 0.15, 312.0),
            (0.35, 0.20, 190.0),
            (0.55, 0.45, 783.0),
        ] {
            let found = sample_size(win, loss, rates).unwrap().ceil();
            assert_eq!(found, expected, "{win}/{loss}");
        }
        assert_eq!(sample_size(0.2, 0.2, rates), Err(Undefined::NoDifference));
        assert!(sample_size(0.8, 0.3, rates).is_err());
    }
}
