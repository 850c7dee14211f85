//! Intervals of one rate or mean over values of users who may have several each.

use crate::Interval;
use crate::accumulate::CrossMoments;
use crate::ratio;
use crate::special::student_t;
use crate::undefined::{Defined, Undefined, computed, level, probability};

/// An interval for a rate, from each user's successes (column 0) and trials (column 1): Wilson's score interval for as many
/// independent trials as the users' are worth, with Student's quantile.
///
/// Trials are worth n/deff (Korn & Graubard 1998, who do the same to the exact interval). deff is the delta-method variance of
/// the rate over p(1−p)/n, one standard error above its estimate because a few users tell little about how alike trials are,
/// and between 1 and the largest, [`largest_design_effect`], at which a user's trials are one; so it is where nothing varies,
/// as before the first success. Users of unlike size are worth (Σy)²/Σy² of one size (Kish 1965), whence the degrees of
/// freedom. Assumes independent users.
pub fn rate_interval(users: &CrossMoments<2>, alpha: f64) -> Defined<Interval> {
    level(alpha)?;
    must_be_several(users)?;
    let arm = ratio::arm(users)?;
    let rate = probability(arm.value)?;
    let trials = users.mean(1)? * users.n() as f64;
    let largest = largest_design_effect(users)?;
    let freedom = (trials / largest - 1.0).max(1.0);
    let (variance, binomial) = (arm.squared_error(), rate * (1.0 - rate));
    let effect = if variance > 0.0 && binomial > 0.0 {
        let estimate = (variance * trials / binomial).max(1.0) * (1.0 + 1.0 / freedom);
        (estimate * (1.0 + (2.0 / freedom).sqrt())).min(largest)
    } else {
        largest
    };
    let worth = trials / effect;
    let t = student_t::upper_quantile(alpha / 2.0, freedom)?;
    let square = t * t;
    let scale = 1.0 + square / worth;
    let centre = (rate + square / (2.0 * worth)) / scale;
    let half = t / scale * (binomial / worth + square / (4.0 * worth * worth)).sqrt();
    Ok(Interval {
        low: if rate == 0.0 {
            0.0
        } else {
            computed(centre - half)?.max(0.0)
        },
        high: if rate == 1.0 {
            1.0
        } else {
            computed(centre + half)?.min(1.0)
        },
    })
}

/// An interval for a mean over all values, from each user's sum (column 0) and number of values (column 1), by the delta
/// method with Student's quantile, users of unlike size worth (Σy)²/Σy² of one size (Kish 1965).
///
/// Assumes independent users; below 30 of them it is optimistic.
pub fn mean_interval(users: &CrossMoments<2>, alpha: f64) -> Defined<Interval> {
    level(alpha)?;
    must_be_several(users)?;
    let arm = ratio::arm(users)?;
    if arm.unit_variance == 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let trials = users.mean(1)? * users.n() as f64;
    let freedom = (trials / largest_design_effect(users)? - 1.0).max(1.0);
    let t = student_t::upper_quantile(alpha / 2.0, freedom)?;
    let half = t * arm.squared_error().sqrt();
    Ok(Interval {
        low: computed(arm.value - half)?,
        high: computed(arm.value + half)?,
    })
}

/// The design effect if all values of a user were the same: Σy²/Σy, with y how many values each user has (column 1).
pub fn largest_design_effect(users: &CrossMoments<2>) -> Defined<f64> {
    let (n, mean) = (users.n() as f64, users.mean(1)?);
    if mean <= 0.0 {
        return Err(Undefined::NoData);
    }
    let spread = match users.n() {
        0 | 1 => 0.0,
        _ => users.covariance(1, 1)? * (n - 1.0) / n,
    };
    computed((spread + mean * mean) / mean).map(|effect| effect.max(1.0))
}

fn must_be_several(users: &CrossMoments<2>) -> Defined<()> {
    if users.n() < 2 {
        return Err(Undefined::TooFewValues {
            needed: 2,
            found: users.n(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::means;
    use crate::proportion::wilson_interval;

    fn width(interval: Interval) -> f64 {
        interval.high - interval.low
    }

    #[test]
    fn one_value_each_is_nearly_the_plain_interval() {
        let users: Vec<[f64; 2]> = (0..1000)
            .map(|user| [f64::from(user % 10 / 7), 1.0])
            .collect();
        let users = CrossMoments::of(&users);
        let (found, plain) = (
            rate_interval(&users, 0.05).unwrap(),
            wilson_interval(300, 1000, 0.05).unwrap(),
        );
        assert!((found.low - plain.low).abs() < 1e-4, "{found:?} {plain:?}");
        assert!(width(found) >= width(plain), "{found:?} {plain:?}");
        let mean = mean_interval(&users, 0.05).unwrap();
        let student = means::student_interval(1000, 300.0, 210.0, 0.05).unwrap();
        assert!((mean.low - student.low).abs() < 1e-12);
    }

    #[test]
    fn alike_values_are_worth_less() {
        // Forty users, each with the same outcome ten times, are worth forty outcomes.
        let users: Vec<[f64; 2]> = (0..40)
            .map(|user| [f64::from(user % 2) * 10.0, 10.0])
            .collect();
        let users = CrossMoments::of(&users);
        let found = rate_interval(&users, 0.05).unwrap();
        let as_if_independent = wilson_interval(200, 400, 0.05).unwrap();
        assert!(width(found) > 3.0 * width(as_if_independent), "{found:?}");
        let of_forty = wilson_interval(20, 40, 0.05).unwrap();
        assert!(width(found) >= width(of_forty), "{found:?} {of_forty:?}");
        assert_eq!(largest_design_effect(&users).unwrap(), 10.0);
    }

    #[test]
    fn nothing_seen_yet_is_not_certainty() {
        let none = CrossMoments::of(&[[0.0, 50.0], [0.0, 50.0], [0.0, 50.0], [0.0, 50.0]]);
        let found = rate_interval(&none, 0.05).unwrap();
        assert_eq!(found.low, 0.0);
        assert!(found.high > 0.4, "four users say little: {found:?}");
        let all = CrossMoments::of(&[[5.0, 5.0], [7.0, 7.0]]);
        assert_eq!(rate_interval(&all, 0.05).unwrap().high, 1.0);
    }

    #[test]
    fn what_has_no_interval_says_why() {
        let one = CrossMoments::of(&[[1.0, 3.0]]);
        assert!(rate_interval(&one, 0.05).is_err());
        assert!(mean_interval(&one, 0.05).is_err());
        let same = CrossMoments::of(&[[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]]);
        assert_eq!(mean_interval(&same, 0.05), Err(Undefined::ZeroVariance));
        let no_rate = CrossMoments::of(&[[3.0, 1.0], [4.0, 1.0]]);
        assert!(rate_interval(&no_rate, 0.05).is_err());
        assert!(largest_design_effect(&CrossMoments::of(&[[0.0, 0.0]])).is_err());
    }
}
