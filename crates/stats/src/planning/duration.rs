//! What looking costs, and how many days an experiment takes.

use super::ErrorRates;
use crate::undefined::{Defined, Undefined, finite, positive};

/// The normal quantiles of the rates that factors on sample sizes are told for: a two-sided level of .05 and a power of .8.
const USUAL_LEVEL: f64 = 1.959_963_984_540_054;
const USUAL_POWER: f64 = 0.841_621_233_572_914;
/// Full weeks that a decision to ship takes at least, in days.
pub const SHORTEST: u32 = 7;
/// What is recommended where people react to what is new.
pub const SHORTEST_WITH_NOVELTY: u32 = 14;
/// Beyond this the planner proposes something else: a larger effect, a covariate, fewer arms.
pub const LONGEST_SENSIBLE: u32 = 56;

/// How results will be read, as far as it changes the sample size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// Once, at the end.
    Fixed,
    /// At ten planned times, spending αt².
    Planned,
    /// A sequence at a fifth of the level while running, and a last test at the rest.
    Hybrid,
    /// At any time.
    Anytime,
}

/// Factors on the fixed sample size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostOfLooking {
    /// On the largest number of units: where the power is reached.
    pub largest: f64,
    /// On the number expected under the planned effect.
    pub expected: f64,
}

impl Looks {
    /// What this way of looking costs a plan of this level and power.
    ///
    /// Simulated with Brownian motion, 30,000 runs for each of levels .01 to .2 and powers .7 to .99. With d = z_α + z_β, of a
    /// plan at α = .05 and power .8 2.80, and r the square of d over what it is at power .8: who may look at any time needs
    /// 1 + .62 (2.80/d)^.9 (1.96/z_α)^.28 as many, within 3%, and is expected to need .96 r^(−3/4) (1.96/z_α)^.13, within 6% from a power of .8 on. At
    /// planned looks the largest number is 1.08 whatever the rates, .76 r^(−.45) are expected. A hybrid at the fixed sample size
    /// has a power of .77 in place of .8; it takes 1.07 to have what was asked for, and .93 r^(−.32) are expected.
    pub fn cost(self, rates: ErrorRates) -> Defined<CostOfLooking> {
        let (level, power) = rates.quantiles()?;
        let distance = positive(level + power)?;
        let ratio = (distance / (level + USUAL_POWER)).powi(2);
        let (largest, expected) = match self {
            Self::Fixed => (1.0, 1.0),
            Self::Planned => (1.08, 0.76 * ratio.powf(-0.45)),
            Self::Hybrid => (1.07, 0.93 * ratio.powf(-0.32)),
            Self::Anytime => {
                let relative = (USUAL_LEVEL + USUAL_POWER) / distance;
                let strictness = USUAL_LEVEL / positive(level)?;
                (
                    1.0 + 0.62 * relative.powf(0.9) * strictness.powf(0.28),
                    0.96 * ratio.powf(-0.75) * strictness.powf(0.13),
                )
            }
        };
        Ok(CostOfLooking {
            largest,
            expected: expected.min(largest),
        })
    }
}

/// Days until every arm has its units, rounded up to whole weeks.
///
/// `distinct_users[d]` is the number of distinct users seen within d + 1 days, from recent history: a concave curve, so
/// never users per day times days. `needs` are pairs of an arm's share of the traffic and its units.
pub fn days(distinct_users: &[f64], needs: &[(f64, f64)]) -> Defined<u32> {
    if distinct_users.is_empty() || needs.is_empty() {
        return Err(Undefined::NoData);
    }
    for (share, units) in needs {
        positive(*share)?;
        finite(*units)?;
    }
    let enough = |users: f64| needs.iter().all(|(share, units)| users * share >= *units);
    let day = distinct_users
        .iter()
        .position(|users| enough(*users))
        .ok_or(Undefined::HistoryTooShort)?;
    let weeks = (day as u32 / 7) + 1;
    Ok((weeks * 7).max(SHORTEST))
}

/// A guess where history is missing: units over users per day and share, rounded up to whole weeks.
pub fn guessed_days(users_per_day: f64, needs: &[(f64, f64)]) -> Defined<f64> {
    positive(users_per_day)?;
    let mut days: f64 = 0.0;
    for (share, units) in needs {
        days = days.max(finite(*units)? / (users_per_day * positive(*share)?));
    }
    Ok((days / 7.0).ceil().max(1.0) * 7.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_end_on_full_weeks() {
        let users: Vec<f64> = (1..=28).map(|day| 100.0 * f64::from(day).sqrt()).collect();
        assert_eq!(days(&users, &[(0.5, 60.0), (0.5, 60.0)]), Ok(7));
        assert_eq!(days(&users, &[(0.5, 140.0), (0.5, 140.0)]), Ok(14));
        assert_eq!(days(&users, &[(0.5, 1e4)]), Err(Undefined::HistoryTooShort));
        assert_eq!(guessed_days(100.0, &[(0.5, 400.0)]), Ok(14.0));
        assert_eq!(days(&[], &[(0.5, 1.0)]), Err(Undefined::NoData));
    }

    fn rates(alpha: f64, power: f64) -> ErrorRates {
        ErrorRates {
            alpha,
            power,
            two_sided: true,
        }
    }

    #[test]
    fn the_cost_of_looking_is_what_simulations_say() {
        // 30,000 runs of the t-mixture tuned for the fixed sample size: level, power, the largest share, the expected one.
        for (alpha, power, largest, expected) in [
            (0.05, 0.8, 1.61, 0.95),
            (0.05, 0.9, 1.53, 0.77),
            (0.05, 0.99, 1.40, 0.49),
            (0.01, 0.8, 1.46, 0.92),
            (0.01, 0.95, 1.40, 0.67),
            (0.1, 0.8, 1.73, 0.98),
            (0.1, 0.9, 1.62, 0.78),
            (0.2, 0.8, 1.86, 1.00),
            (0.2, 0.95, 1.65, 0.64),
        ] {
            let found = Looks::Anytime.cost(rates(alpha, power)).unwrap();
            assert!(
                (found.largest / largest - 1.0).abs() < 0.03,
                "{alpha} {power}: {found:?}"
            );
            assert!(
                (found.expected / expected - 1.0).abs() < 0.06,
                "{alpha} {power}: {found:?}"
            );
        }
        // One-sided at .05, as guardrails are read.
        for (power, largest) in [(0.8, 1.73), (0.9, 1.64), (0.99, 1.47)] {
            let guardrail = ErrorRates {
                two_sided: false,
                ..rates(0.05, power)
            };
            let found = Looks::Anytime.cost(guardrail).unwrap().largest;
            assert!((found / largest - 1.0).abs() < 0.03, "{power}: {found}");
        }
        // 200,000 runs of ten planned looks, 40,000 of the hybrid.
        for (looks, power, expected) in [
            (Looks::Planned, 0.8, 0.76),
            (Looks::Planned, 0.9, 0.67),
            (Looks::Planned, 0.95, 0.61),
            (Looks::Hybrid, 0.8, 0.93),
            (Looks::Hybrid, 0.9, 0.86),
            (Looks::Hybrid, 0.95, 0.79),
        ] {
            let found = looks.cost(rates(0.05, power)).unwrap().expected;
            assert!(
                (found / expected - 1.0).abs() < 0.03,
                "{looks:?} {power}: {found}"
            );
        }
        assert!(Looks::Anytime.cost(rates(0.05, 1.0)).is_err());
    }
}
