//! Assignment of units to arms: a pure function of salt, unit and weights.

use sha2::{Digest, Sha256};

/// Ten thousand basis points are all of the traffic.
pub const ALL_BASIS_POINTS: u32 = 10_000;

/// The bucket of a unit: the first eight bytes of SHA-256 over `salt:unit`, big-endian.
#[must_use]
pub fn bucket(salt: &str, unit: &str) -> u64 {
    bucket_of_parts(&[salt, ":", unit])
}

/// The bucket of a unit in a layer, which no experiment's salt enters.
#[must_use]
pub fn bucket_in_layer(layer: &str, unit: &str) -> u64 {
    bucket_of_parts(&["layer/", layer, ":", unit])
}

fn bucket_of_parts(parts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

/// Whether a bucket lies below `floor(basis_points · 2^64 / 10000)`.
#[must_use]
pub fn is_below(bucket: u64, basis_points: u32) -> bool {
    // `bucket < floor(x)` is `bucket + 1 <= x`, which spares the division.
    (u128::from(bucket) + 1) * u128::from(ALL_BASIS_POINTS) <= u128::from(basis_points) << 64
}

/// Which arm a unit belongs to: the index of the first whose cumulative weight lies above its bucket.
///
/// `None` only when the weights add up to less than ten thousand, which experiments do not allow.
#[must_use]
pub fn arm(salt: &str, unit: &str, weights: impl IntoIterator<Item = u32>) -> Option<usize> {
    let bucket = bucket(salt, unit);
    let mut cumulative = 0;
    weights.into_iter().position(|weight| {
        cumulative += weight;
        is_below(bucket, cumulative)
    })
}

/// Whether a unit takes part at all: a second draw, independent of the arm's.
#[must_use]
pub fn is_exposed(salt: &str, unit: &str, exposure_basis_points: u32) -> bool {
    is_below(
        bucket_of_parts(&[salt, "/exposure", ":", unit]),
        exposure_basis_points,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_table_holds() {
        for (salt, unit, weights, expected_bucket, expected_arm) in [
            (
                "exp-summarizer",
                "user_101",
                vec![5000, 5000],
                "6812bc2b44416200",
                0,
            ),
            (
                "exp-summarizer",
                "user_202",
                vec![5000, 5000],
                "dd4ba2ad46889ef6",
                1,
            ),
            (
                "exp-summarizer",
                "user_303",
                vec![5000, 5000],
                "6a99fdf5636f2bd7",
                0,
            ),
            (
                "exp-summarizer",
                "用户一",
                vec![9000, 1000],
                "681a45aeacd286f0",
                0,
            ),
            ("s", "user_7", vec![3333, 3333, 3334], "4ebb2d1df05d7211", 0),
            ("s", "user_8", vec![0, 10000], "cd608fd25e9bdfe2", 1),
        ] {
            assert_eq!(
                format!("{:016x}", bucket(salt, unit)),
                expected_bucket,
                "{unit}"
            );
            assert_eq!(arm(salt, unit, weights), Some(expected_arm), "{unit}");
        }
    }

    #[test]
    fn the_ends_of_the_range_belong_to_an_arm() {
        assert!(!is_below(0, 0));
        assert!(is_below(0, 1));
        assert!(is_below(u64::MAX, ALL_BASIS_POINTS));
        assert!(!is_below(u64::MAX, ALL_BASIS_POINTS - 1));
    }

    #[test]
    fn raising_the_exposure_only_adds_units_and_moves_none() {
        let mut newly_exposed = 0;
        for number in 0..10_000 {
            let unit = format!("u{number}");
            let before = is_exposed("salt", &unit, 1000);
            let after = is_exposed("salt", &unit, 5000);
            assert!(after || !before, "{unit} was dropped");
            newly_exposed += u32::from(after && !before);
        }
        assert!((3700..4300).contains(&newly_exposed), "{newly_exposed}");
    }

    #[test]
    fn exposure_and_arm_are_independent() {
        let exposed: Vec<_> = (0..20_000)
            .map(|n| format!("u{n}"))
            .filter(|unit| is_exposed("s", unit, 2000))
            .collect();
        let first = exposed
            .iter()
            .filter(|unit| arm("s", unit, [5000, 5000]) == Some(0))
            .count();
        let share = first as f64 / exposed.len() as f64;
        assert!((0.47..0.53).contains(&share), "{share}");
    }
}
