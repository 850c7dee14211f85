//! Planned looks: boundaries that spend the level over time (Lan & DeMets 1983).

use crate::special::{normal, quadrature, root};
use crate::undefined::{Defined, Undefined, finite, level, positive, probability};

/// Where the tails are cut: a look that has no level left gets this boundary.
pub const OUTERMOST: f64 = 8.0;
/// The exponent of spending by default; 3 spends less early.
pub const SPENDING_EXPONENT: f64 = 2.0;
/// Looks that the integration takes at most.
const MOST_LOOKS: usize = 200;
/// Panels of the quadrature grid, and standard deviations of a step that one spans.
const FEWEST_PANELS: f64 = 12.0;
const MOST_PANELS: f64 = 400.0;
const PANEL_WIDTH: f64 = 2.5;
/// Standard deviations of a step beyond which nothing arrives.
const REACH: f64 = 9.0;

/// |z| at each look for shares of the planned information, spending α t^φ in all.
///
/// Each side of `sides` (1 or 2) spends its part; boundaries by recursive numerical integration of the Brownian path that
/// has not crossed yet (Armitage, McPherson & Rowe 1969), accurate to about 10⁻⁸. Information above 1, an over-run, spends
/// nothing more.
pub fn boundaries(information: &[f64], alpha: f64, phi: f64, sides: u32) -> Defined<Vec<f64>> {
    let spent = spending(information, alpha, phi)?;
    boundaries_of_spending(information, &spent, sides)
}

/// The same after an under-run: the last look, which is the end whatever its information, spends all that is left.
pub fn boundaries_at_early_end(
    information: &[f64],
    alpha: f64,
    phi: f64,
    sides: u32,
) -> Defined<Vec<f64>> {
    let mut spent = spending(information, alpha, phi)?;
    if let Some(last) = spent.last_mut() {
        *last = alpha;
    }
    boundaries_of_spending(information, &spent, sides)
}

/// What α t^φ has spent at each look, t being at most 1.
fn spending(information: &[f64], alpha: f64, phi: f64) -> Defined<Vec<f64>> {
    level(alpha)?;
    positive(phi)?;
    let spent = information
        .iter()
        .map(|share| alpha * share.min(1.0).powf(phi));
    Ok(spent.collect())
}

/// |z| at each look for any spending: the level of all sides together that is spent by then.
pub fn boundaries_of_spending(information: &[f64], spent: &[f64], sides: u32) -> Defined<Vec<f64>> {
    if sides != 1 && sides != 2 {
        return Err(Undefined::Domain("a test has one side or two"));
    }
    if information.is_empty() {
        return Err(Undefined::NoData);
    }
    if information.len() > MOST_LOOKS || information.len() != spent.len() {
        return Err(Undefined::Domain(
            "there are at most 200 looks, and each has spent some of the level",
        ));
    }
    let mut last = 0.0;
    for share in information {
        if finite(*share)? <= last {
            return Err(Undefined::Domain(
                "shares of information must be positive and rise",
            ));
        }
        last = *share;
    }
    let mut path = Path::start(sides == 2);
    let mut spent_before = 0.0;
    let mut found = Vec::with_capacity(information.len());
    for (share, spent) in information.iter().zip(spent) {
        let due = probability(*spent)? / f64::from(sides);
        let boundary = path.boundary(*share, (due - spent_before).max(0.0));
        spent_before = due.max(spent_before);
        path = path.advance(*share, boundary)?;
        found.push(boundary);
    }
    Ok(found)
}

/// The density of a Brownian path that has not crossed, on a grid of its value at the last look.
struct Path {
    time: f64,
    two_sided: bool,
    /// The value, and its density times its weight in the quadrature.
    points: Vec<(f64, f64)>,
}

impl Path {
    fn start(two_sided: bool) -> Self {
        Self {
            time: 0.0,
            two_sided,
            points: vec![(0.0, 1.0)],
        }
    }

    /// The probability of being above `value` at `time`.
    fn above(&self, value: f64, time: f64) -> f64 {
        let step = (time - self.time).sqrt();
        self.points
            .iter()
            .map(|(at, mass)| mass * normal::sf((value - at) / step))
            .sum()
    }

    /// The z above which the path is with probability `spend` at `time`.
    fn boundary(&self, time: f64, spend: f64) -> f64 {
        let scale = time.sqrt();
        if spend <= 0.0 || self.above(OUTERMOST * scale, time) >= spend {
            return OUTERMOST;
        }
        let excess = |z: f64| spend - self.above(z * scale, time);
        let slope = |z: f64| {
            let step = (time - self.time).sqrt();
            let density: f64 = self
                .within(z * scale, REACH * step)
                .iter()
                .map(|(at, mass)| mass * normal::density((z * scale - at) / step))
                .sum();
            density * scale / step
        };
        root::newton(|z| (excess(z), slope(z)), -OUTERMOST, OUTERMOST, 2.0)
    }

    /// The points, which rise, at most `reach` away from a value.
    fn within(&self, value: f64, reach: f64) -> &[(f64, f64)] {
        let from = self.points.partition_point(|(at, _)| *at < value - reach);
        let to = self.points.partition_point(|(at, _)| *at <= value + reach);
        &self.points[from..to.max(from)]
    }

    fn advance(&self, time: f64, boundary: f64) -> Defined<Self> {
        let scale = time.sqrt();
        let step = (time - self.time).sqrt();
        let high = boundary * scale;
        let low = if self.two_sided {
            -high
        } else {
            -OUTERMOST * scale
        };
        if high <= low {
            return Ok(Self {
                time,
                two_sided: self.two_sided,
                points: Vec::new(),
            });
        }
        let panels = ((high - low) / (PANEL_WIDTH * step))
            .ceil()
            .max(FEWEST_PANELS);
        if panels > MOST_PANELS {
            return Err(Undefined::Domain("two looks are too close together"));
        }
        let points = quadrature::composite(low, high, panels as usize)
            .into_iter()
            .map(|(at, weight)| {
                let density: f64 = self
                    .within(at, REACH * step)
                    .iter()
                    .map(|(before, mass)| mass * normal::density((at - before) / step))
                    .sum();
                (at, weight * density / step)
            })
            .collect();
        Ok(Self {
            time,
            two_sided: self.two_sided,
            points,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_the_plain_test() {
        let two = boundaries(&[1.0], 0.05, 2.0, 2).unwrap();
        assert!((two[0] - 1.959_963_984_540_054).abs() < 1e-9);
        let one = boundaries(&[1.0], 0.05, 2.0, 1).unwrap();
        assert!((one[0] - 1.644_853_626_951_472_2).abs() < 1e-9);
    }

    #[test]
    fn an_early_end_spends_the_rest() {
        let planned = boundaries(&[0.3, 0.8], 0.05, 2.0, 2).unwrap();
        let early = boundaries_at_early_end(&[0.3, 0.8], 0.05, 2.0, 2).unwrap();
        assert_eq!(planned[0], early[0]);
        assert!(early[1] < planned[1]);
        let alone = boundaries_at_early_end(&[0.8], 0.05, 2.0, 2).unwrap();
        assert!((alone[0] - 1.959_963_984_540_054).abs() < 1e-9);
    }

    #[test]
    fn over_runs_and_nonsense() {
        let over = boundaries(&[0.5, 1.0, 1.2], 0.05, 2.0, 2).unwrap();
        assert_eq!(over[2], OUTERMOST);
        assert!(boundaries(&[0.5, 0.5], 0.05, 2.0, 2).is_err());
        assert!(boundaries(&[0.0, 0.5], 0.05, 2.0, 2).is_err());
        assert!(boundaries(&[], 0.05, 2.0, 2).is_err());
        assert!(boundaries(&[f64::NAN], 0.05, 2.0, 2).is_err());
        assert!(boundaries(&[1.0], 0.05, 2.0, 3).is_err());
    }

    /// The pair of looks against the bivariate normal distribution.
    #[test]
    fn two_looks_spend_what_they_should() {
        // Reference: scipy.stats.multivariate_normal.cdf with correlation √½, upper bounds as found.
        let found = boundaries(&[0.5, 1.0], 0.05, 1.0, 1).unwrap();
        assert!((found[0] - 1.959_963_984_540_054).abs() < 1e-9);
        assert!((found[1] - ONE_SIDED_SECOND).abs() < 1e-8, "{}", found[1]);
    }

    const ONE_SIDED_SECOND: f64 = 1.807_072_198_482_519;
}
