//! Gauss-Legendre quadrature in panels of sixteen points.

/// The positive nodes of the sixteen-point rule on (−1, 1) and their weights.
const RULE: [(f64, f64); 8] = [
    (0.095_012_509_837_637_44, 0.189_450_610_455_068_5),
    (0.281_603_550_779_258_9, 0.182_603_415_044_923_6),
    (0.458_016_777_657_227_4, 0.169_156_519_395_002_54),
    (0.617_876_244_402_643_7, 0.149_595_988_816_576_73),
    (0.755_404_408_355_003, 0.124_628_971_255_533_88),
    (0.865_631_202_387_831_7, 0.095_158_511_682_492_78),
    (0.944_575_023_073_232_6, 0.062_253_523_938_647_894),
    (0.989_400_934_991_649_9, 0.027_152_459_411_754_096),
];

/// What a panel may span of an integrand that falls by e, or by a standard deviation of a bell, per unit: sixteen points then
/// err by less than 10⁻¹⁵.
pub(crate) const SCALES: f64 = 4.0;

/// Panels after which a decaying integral ends whatever it has come to.
const MOST_PANELS: usize = 600;

/// What a panel may still add, relative to the sum, when the integration ends.
const NEGLIGIBLE: f64 = 1e-18;

/// The integral of `f` over one panel.
pub(crate) fn panel(f: &impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
    let (centre, half) = (0.5 * (low + high), 0.5 * (high - low));
    let sum: f64 = RULE
        .iter()
        .map(|(node, weight)| weight * (f(centre - half * node) + f(centre + half * node)))
        .sum();
    half * sum
}

/// The integral of `f`, which in the end decays, from 0 in steps of `width` to `limit` or to where nothing is added.
pub(crate) fn decaying(f: &impl Fn(f64) -> f64, width: f64, limit: f64) -> f64 {
    let mut sum = 0.0;
    let mut low = 0.0;
    for _ in 0..MOST_PANELS {
        let high = (low + width).min(limit);
        let part = panel(f, low, high);
        sum += part;
        if high >= limit || part <= NEGLIGIBLE * sum {
            break;
        }
        low = high;
    }
    sum
}

/// Nodes, in rising order, and weights of a composite rule with `panels` panels from `low` to `high`.
pub(crate) fn composite(low: f64, high: f64, panels: usize) -> Vec<(f64, f64)> {
    let width = (high - low) / panels as f64;
    let half = 0.5 * width;
    (0..panels)
        .flat_map(|index| {
            let centre = low + (index as f64 + 0.5) * width;
            let below = RULE.iter().rev();
            let below = below.map(move |(node, weight)| (centre - half * node, half * weight));
            let above = RULE.iter();
            below.chain(above.map(move |(node, weight)| (centre + half * node, half * weight)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_and_exponentials_are_exact() {
        let found = panel(&|x: f64| x.powi(7), 0.0, 2.0);
        assert!((found - 32.0).abs() < 1e-12, "{found}");
        let found = decaying(&|x: f64| (-x).exp(), 2.0, f64::INFINITY);
        assert!((found - 1.0).abs() < 1e-14, "{found}");
        let bell = decaying(&|x: f64| (-0.5 * x * x).exp(), SCALES, f64::INFINITY);
        let half = (std::f64::consts::FRAC_PI_2).sqrt();
        assert!((bell - half).abs() < 2e-15, "{bell}, not {half}");
        let falling = decaying(&|x: f64| (-x).exp(), SCALES, f64::INFINITY);
        assert!((falling - 1.0).abs() < 2e-15, "{falling}");
        let sum: f64 = composite(0.0, 1.0, 3).iter().map(|(x, w)| x * x * w).sum();
        assert!((sum - 1.0 / 3.0).abs() < 1e-14, "{sum}");
    }
}
