//! What the statistics take for granted of the assignment: units are spread evenly under every salt, whatever their names
//! look like, and what one salt says of a unit tells nothing of what another says.

use flywheel_core::assignment::bucket;
use flywheel_stats::novelty::uniformity;
use flywheel_stats::special::chi_squared;

/// Names of units as apps have them: numbers in a row, UUIDs, addresses.
const NAMES: [fn(u32) -> String; 3] = [
    |n| n.to_string(),
    |n| {
        let mut random = fastrand::Rng::with_seed(u64::from(n));
        let (high, low) = (random.u64(..), random.u64(..));
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | (low >> 50),
            low & 0xffff_ffff_ffff
        )
    },
    |n| format!("user{n}@example.com"),
];

/// Which of so many equal parts a bucket lies in.
fn part(bucket: u64, parts: u64) -> usize {
    ((u128::from(bucket) * u128::from(parts)) >> 64) as usize
}

/// The p-value that counts came of equal chances, from the χ² distribution with this many degrees of freedom.
fn p_value(counts: &[f64], degrees_of_freedom: f64) -> f64 {
    let expected = counts.iter().sum::<f64>() / counts.len() as f64;
    let squares = counts.iter().map(|n| (n - expected).powi(2) / expected);
    chi_squared::sf(squares.sum(), degrees_of_freedom).unwrap()
}

#[test]
fn units_are_spread_evenly_under_a_thousand_salts() {
    for name in NAMES {
        let units: Vec<String> = (0..2000).map(name).collect();
        let p_values: Vec<f64> = (0..1000)
            .map(|salt| {
                let salt = format!("experiment-{salt}");
                let mut counts = [0.0; 100];
                for unit in &units {
                    counts[part(bucket(&salt, unit), 100)] += 1.0;
                }
                p_value(&counts, 99.0)
            })
            .collect();
        let p = uniformity(&p_values).unwrap();
        assert!(p > 0.001, "{} like `{}`: {p}", units.len(), units[0]);
    }
}

#[test]
fn what_one_salt_says_tells_nothing_of_another() {
    for name in NAMES {
        let units: Vec<String> = (0..5000).map(name).collect();
        let p_values: Vec<f64> = (0..200)
            .map(|pair| {
                let salts = [
                    format!("experiment-{pair}"),
                    format!("experiment-{}", pair + 1),
                ];
                let mut table = [[0.0; 10]; 10];
                for unit in &units {
                    let [row, column] = [0, 1].map(|which| part(bucket(&salts[which], unit), 10));
                    table[row][column] += 1.0;
                }
                independence(&table, units.len() as f64)
            })
            .collect();
        let p = uniformity(&p_values).unwrap();
        assert!(p > 0.001, "{} like `{}`: {p}", units.len(), units[0]);
    }
}

/// The p-value that rows and columns of a table are independent.
fn independence(table: &[[f64; 10]; 10], all: f64) -> f64 {
    let mut squares = 0.0;
    for (row, counts) in table.iter().enumerate() {
        for (column, count) in counts.iter().enumerate() {
            let in_row: f64 = table[row].iter().sum();
            let in_column: f64 = table.iter().map(|row| row[column]).sum();
            let expected = in_row * in_column / all;
            squares += (count - expected).powi(2) / expected;
        }
    }
    chi_squared::sf(squares, 81.0).unwrap()
}

#[test]
fn one_other_character_changes_half_of_the_bits() {
    let mut flipped = 0;
    let mut random = fastrand::Rng::with_seed(9);
    let tries = 20_000;
    for number in 0..tries {
        let unit = format!("user{number:06}");
        let place = random.usize(..unit.len());
        let mut other = unit.clone().into_bytes();
        other[place] = if other[place] == b'z' {
            b'y'
        } else {
            other[place] + 1
        };
        let other = String::from_utf8(other).unwrap();
        flipped += (bucket("salt", &unit) ^ bucket("salt", &other)).count_ones();
    }
    let share = f64::from(flipped) / (64.0 * f64::from(tries));
    assert!((0.49..=0.51).contains(&share), "{share}");
}
