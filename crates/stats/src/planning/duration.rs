//! What looking costs, and how many days an experiment takes.

use super::ErrorRates;
use crate::special::normal;
use crate::undefined::{Defined, Undefined, finite, positive};

/// The power that the factors on sample sizes are of.
const USUAL_POWER: f64 = 0.8;
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
    /// A sequence at .01 while running and a last test at .04.
    Hybrid,
    /// At any time.
    Anytime,
}

/// Factors on the fixed sample size at α = .05 and power .8, from Brownian motion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostOfLooking {
    /// On the largest number of units.
    pub largest: f64,
    /// On the number expected under the planned effect.
    pub expected: f64,
}

impl Looks {
    /// What this way of looking costs.
    #[must_use]
    pub fn cost(self) -> CostOfLooking {
        let (largest, expected) = match self {
            Self::Fixed => (1.0, 1.0),
            Self::Planned => (1.08, 0.76),
            Self::Hybrid => (1.0, 0.88),
            Self::Anytime => (1.62, 0.96),
        };
        CostOfLooking { largest, expected }
    }

    /// The same at another level and power.
    ///
    /// Who may look at any time stops sooner, in shares of a plan with more power, because the effect is the same and the plan
    /// larger: with r = ((z_α + z_β)/(z_α + z_.2))² about 0.96 r^(−3/4), by simulation within 4% for powers of .8 to .99.
    pub fn cost_at(self, rates: ErrorRates) -> Defined<CostOfLooking> {
        let cost = self.cost();
        if self != Self::Anytime {
            return Ok(cost);
        }
        let (level, power) = rates.quantiles()?;
        let usual = normal::quantile(USUAL_POWER)?;
        let ratio = ((level + power) / (level + usual)).powi(2);
        Ok(CostOfLooking {
            expected: (cost.expected * ratio.powf(-0.75)).min(cost.largest),
            ..cost
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
        assert!(Looks::Anytime.cost().expected < 1.0);
    }

    #[test]
    fn plans_with_more_power_stop_sooner_in_shares_of_themselves() {
        // Simulated: 20,000 runs of the t-mixture, tuned for the fixed sample size.
        for (power, expected) in [
            (0.8, 0.97),
            (0.9, 0.80),
            (0.933, 0.72),
            (0.96, 0.64),
            (0.99, 0.50),
        ] {
            let rates = ErrorRates {
                alpha: 0.05,
                power,
                two_sided: true,
            };
            let found = Looks::Anytime.cost_at(rates).unwrap().expected;
            assert!((found / expected - 1.0).abs() < 0.04, "{power}: {found}");
        }
    }
}
