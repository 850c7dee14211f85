//! Agreement of a judge with people: Cohen's κ, Gwet's AC1, sensitivity and specificity.

use crate::Interval;
use crate::inference::normal_interval;
use crate::proportion::wilson_interval;
use crate::undefined::{Defined, Undefined, computed, level};

/// Items that agreement needs before it is shown.
pub const FEWEST_ITEMS: u64 = 50;
/// Items that each class needs.
pub const FEWEST_OF_CLASS: u64 = 10;

/// What a disagreement between two categories counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// All alike.
    Unweighted,
    /// By the distance between the categories.
    Linear,
    /// By its square.
    Quadratic,
}

/// Agreement beyond chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kappa {
    /// κ = (p_o − p_e)/(1 − p_e).
    pub kappa: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The interval by z.
    pub interval: Interval,
    /// The share of agreement p_o, weighted.
    pub observed: f64,
    /// The share by chance p_e, weighted.
    pub expected: f64,
}

/// Cohen's κ of a square table of counts, rows by one rater and columns by the other (Cohen 1960, 1968), with the variance
/// of Fleiss, Cohen & Everitt (1969). Undefined when all ratings fall in one category.
pub fn cohen_kappa(table: &[Vec<u64>], weights: Weights, alpha: f64) -> Defined<Kappa> {
    level(alpha)?;
    let shares = Shares::of(table)?;
    let size = shares.cells.len();
    let agreement = |row: usize, column: usize| {
        let distance = row.abs_diff(column) as f64 / (size - 1).max(1) as f64;
        match weights {
            Weights::Unweighted => f64::from(u8::from(row == column)),
            Weights::Linear => 1.0 - distance,
            Weights::Quadratic => 1.0 - distance * distance,
        }
    };
    // The mean agreement of a category of one rater with all of the other's.
    let mean_agreement = |of_row: &dyn Fn(usize) -> f64, others: &[f64]| -> f64 {
        let others = others.iter().enumerate();
        others.map(|(other, share)| of_row(other) * share).sum()
    };
    let row_agreement: Vec<f64> = (0..size)
        .map(|row| mean_agreement(&|column| agreement(row, column), &shares.columns))
        .collect();
    let column_agreement: Vec<f64> = (0..size)
        .map(|column| mean_agreement(&|row| agreement(row, column), &shares.rows))
        .collect();
    let expected: f64 = row_agreement
        .iter()
        .zip(&shares.rows)
        .map(|(agreement, share)| agreement * share)
        .sum();
    let observed: f64 = shares
        .each_cell()
        .map(|(row, column, share)| agreement(row, column) * share)
        .sum();
    let room = 1.0 - expected;
    if room <= 1e-14 {
        return Err(Undefined::ChanceAgreementComplete);
    }
    let kappa = (observed - expected) / room;
    let spread: f64 = shares
        .each_cell()
        .map(|(row, column, share)| {
            let chance = row_agreement[row] + column_agreement[column];
            let residual = agreement(row, column) - chance * (1.0 - kappa);
            share * residual * residual
        })
        .sum();
    let centre = kappa - expected * (1.0 - kappa);
    let variance = (spread - centre * centre) / (room * room * shares.total);
    let standard_error = variance.max(0.0).sqrt();
    Ok(Kappa {
        kappa: computed(kappa)?,
        standard_error,
        interval: normal_interval(kappa, standard_error, alpha)?,
        observed,
        expected,
    })
}

/// Gwet's AC1 (2008), which does not collapse when one category is rare: chance agreement Σ π(1−π)/(q−1).
pub fn gwet_ac1(table: &[Vec<u64>]) -> Defined<f64> {
    let shares = Shares::of(table)?;
    let size = shares.cells.len();
    if size < 2 {
        return Err(Undefined::ChanceAgreementComplete);
    }
    let mut observed = 0.0;
    let mut expected = 0.0;
    for category in 0..size {
        let mean = 0.5 * (shares.rows[category] + shares.columns[category]);
        observed += shares.cells[category][category];
        expected += mean * (1.0 - mean) / (size - 1) as f64;
    }
    computed((observed - expected) / (1.0 - expected))
}

/// A rate with Wilson's interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The rate.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// `successes` of `n` with Wilson's interval: sensitivity, specificity, flips between orders, wins of the first position.
pub fn rate(successes: u64, n: u64, alpha: f64) -> Defined<Rate> {
    let interval = wilson_interval(successes, n, alpha)?;
    Ok(Rate {
        value: successes as f64 / n as f64,
        interval,
    })
}

struct Shares {
    total: f64,
    cells: Vec<Vec<f64>>,
    rows: Vec<f64>,
    columns: Vec<f64>,
}

impl Shares {
    fn of(table: &[Vec<u64>]) -> Defined<Self> {
        let size = table.len();
        if size == 0 || table.iter().any(|row| row.len() != size) {
            return Err(Undefined::Domain("agreement needs a square table"));
        }
        let total: f64 = table.iter().flatten().map(|count| *count as f64).sum();
        if total == 0.0 {
            return Err(Undefined::NoData);
        }
        let cells: Vec<Vec<f64>> = table
            .iter()
            .map(|row| row.iter().map(|count| *count as f64 / total).collect())
            .collect();
        let rows = cells.iter().map(|row| row.iter().sum()).collect();
        let columns = (0..size)
            .map(|column| cells.iter().map(|row| row[column]).sum())
            .collect();
        Ok(Self {
            total,
            cells,
            rows,
            columns,
        })
    }

    fn each_cell(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        self.cells.iter().enumerate().flat_map(|(row, cells)| {
            let cells = cells.iter().enumerate();
            cells.map(move |(column, share)| (row, column, *share))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degenerate_tables_are_named() {
        let complete = vec![vec![30, 0], vec![0, 0]];
        assert_eq!(
            cohen_kappa(&complete, Weights::Unweighted, 0.05),
            Err(Undefined::ChanceAgreementComplete)
        );
        assert_eq!(gwet_ac1(&complete), Ok(1.0));
        assert_eq!(gwet_ac1(&[vec![0, 0], vec![0, 0]]), Err(Undefined::NoData));
        assert!(cohen_kappa(&[vec![1, 2]], Weights::Linear, 0.05).is_err());
        let perfect = cohen_kappa(&[vec![5, 0], vec![0, 7]], Weights::Linear, 0.05).unwrap();
        assert_eq!((perfect.kappa, perfect.standard_error), (1.0, 0.0));
    }

    #[test]
    fn rare_categories_collapse_kappa_but_not_ac1() {
        let table = vec![vec![118, 5], vec![2, 0]];
        let kappa = cohen_kappa(&table, Weights::Unweighted, 0.05)
            .unwrap()
            .kappa;
        assert!(kappa < 0.0);
        // Gwet (2008): AC1 = (p_a − p_e)/(1 − p_e) with p_a = 118/125, p_e = 2π(1−π), π = 243/250.
        let (agreed, share) = (118.0 / 125.0, 243.0 / 250.0);
        let chance = 2.0 * share * (1.0 - share);
        let found = gwet_ac1(&table).unwrap();
        assert!((found - (agreed - chance) / (1.0 - chance)).abs() < 1e-14);
        assert_eq!(rate(3, 4, 0.05).unwrap().value, 0.75);
    }
}
