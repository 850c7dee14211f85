//! Decisions over several metrics, arms and checks, by the role of each.
//!
//! Success metrics share the level (Holm), guardrails are all-must-pass and do not (Schultzberg, Ankargren & Frånberg
//! 2024). Harm may stop an experiment at any look, benefit only at day ends.

use crate::Interval;
use crate::estimate::Estimate;
use crate::multiplicity::holm;
use crate::sequential::asymptotic;
use crate::undefined::{Defined, Undefined, finite};

/// The one-sided level at which harm aborts.
pub const ABORT_ALPHA: f64 = 0.05;
/// The one-sided level of non-inferiority.
pub const GUARDRAIL_ALPHA: f64 = 0.05;
/// The one-sided level at which benefit promotes.
pub const PROMOTE_ALPHA: f64 = 0.025;

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// More is better, such as a resolution rate.
    Higher,
    /// Less is better, such as a latency.
    Lower,
}

impl Direction {
    /// The estimate with a sign that makes higher better.
    #[must_use]
    pub fn orient(self, estimate: Estimate) -> Estimate {
        match self {
            Self::Higher => estimate,
            Self::Lower => Estimate {
                value: -estimate.value,
                ..estimate
            },
        }
    }
}

/// How a metric compares with its margin. Estimates are oriented: higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guardrail {
    /// The lower bound lies above −margin.
    NonInferior,
    /// The metric is worse, and its estimate by more than the margin.
    Violated,
    /// Neither is known yet.
    Open,
}

/// Judges a guardrail with a non-inferiority margin, at any time.
///
/// Non-inferior when the one-sided lower bound at .05 exceeds −`margin`; violated when the one-sided upper bound at .05 is
/// below 0 and the estimate below −`margin`, or, if `strict`, when the whole one-sided sequence lies below −`margin`.
pub fn guardrail(
    oriented: &Estimate,
    margin: f64,
    rho_squared: f64,
    strict: bool,
) -> Defined<Guardrail> {
    if finite(margin)? < 0.0 {
        return Err(Undefined::Domain("a margin cannot be negative"));
    }
    if asymptotic::lower_bound(oriented, rho_squared, GUARDRAIL_ALPHA)? > -margin {
        return Ok(Guardrail::NonInferior);
    }
    let upper = asymptotic::upper_bound(oriented, rho_squared, ABORT_ALPHA)?;
    let violated = if strict {
        upper < -margin
    } else {
        upper < 0.0 && oriented.value < -margin
    };
    Ok(if violated {
        Guardrail::Violated
    } else {
        Guardrail::Open
    })
}

/// Whether a metric of any role has become significantly worse, at any time.
pub fn has_deteriorated(oriented: &Estimate, rho_squared: f64, alpha: f64) -> Defined<bool> {
    asymptotic::upper_bound(oriented, rho_squared, alpha).map(|upper| upper < 0.0)
}

/// What the metrics and checks of an experiment say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// p-values of superiority, one per success metric and arm, in one direction each.
    pub success_p_values: Vec<f64>,
    /// The state of each guardrail.
    pub guardrails: Vec<Guardrail>,
    /// Whether any metric is significantly worse.
    pub deteriorated: bool,
    /// Whether all quality checks pass: split, delays, merged ids, judge.
    pub quality_passes: bool,
    /// Whether the minimum duration has been served and a day ends.
    pub may_ship: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A check failed: no number may be used.
    Invalid,
    /// A guardrail is violated: stop.
    Abort,
    /// At least one success metric is better and nothing speaks against it; the indices of those that are.
    Ship(Vec<usize>),
    /// Go on.
    Continue,
}

/// Ship if and only if at least one success metric is better after Holm's correction, every guardrail is non-inferior,
/// nothing has deteriorated and all quality checks pass.
pub fn decide(evidence: &Evidence, alpha: f64) -> Defined<Decision> {
    crate::undefined::level(alpha)?;
    let adjusted = holm(&evidence.success_p_values)?;
    if !evidence.quality_passes {
        return Ok(Decision::Invalid);
    }
    if evidence.guardrails.contains(&Guardrail::Violated) {
        return Ok(Decision::Abort);
    }
    let better: Vec<usize> = (0..adjusted.len())
        .filter(|index| adjusted[*index] <= alpha)
        .collect();
    let safe = evidence
        .guardrails
        .iter()
        .all(|guardrail| *guardrail == Guardrail::NonInferior);
    if !better.is_empty() && safe && !evidence.deteriorated && evidence.may_ship {
        return Ok(Decision::Ship(better));
    }
    Ok(Decision::Continue)
}

/// What one metric's interval says against the smallest difference that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The interval lies above zero.
    Better,
    /// The interval lies below zero.
    Worse,
    /// The interval lies inside (−MDE, +MDE).
    NoMeaningfulDifference,
    /// None of these.
    NoVerdict,
}

/// Reads an interval of an oriented difference; not having found a difference is not equality.
pub fn read(interval: Interval, detectable_effect: f64) -> Defined<Reading> {
    crate::undefined::positive(detectable_effect)?;
    Ok(if interval.low > 0.0 {
        Reading::Better
    } else if interval.high < 0.0 {
        Reading::Worse
    } else if interval.low > -detectable_effect && interval.high < detectable_effect {
        Reading::NoMeaningfulDifference
    } else {
        Reading::NoVerdict
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RHO: f64 = 2e-3;

    fn estimate(value: f64) -> Estimate {
        Estimate::new(value, 0.01, 3998.0, 4000.0).unwrap()
    }

    #[test]
    fn guardrails() {
        for (value, expected) in [
            (0.0, Guardrail::Open),
            (0.02, Guardrail::NonInferior),
            (-0.05, Guardrail::Violated),
        ] {
            let found = guardrail(&estimate(value), 0.01, RHO, false).unwrap();
            assert_eq!(found, expected, "{value}");
        }
        let strict = guardrail(&estimate(-0.035), 0.01, RHO, true).unwrap();
        assert_eq!(strict, Guardrail::Open);
        assert!(guardrail(&estimate(0.0), -0.1, RHO, false).is_err());
        let slower = Direction::Lower.orient(estimate(0.05));
        assert_eq!(has_deteriorated(&slower, RHO, 0.05), Ok(true));
    }

    #[test]
    fn every_condition_can_hold_a_decision_back() {
        let good = Evidence {
            success_p_values: vec![0.2, 0.001],
            guardrails: vec![Guardrail::NonInferior],
            deteriorated: false,
            quality_passes: true,
            may_ship: true,
        };
        let decide = |evidence: &Evidence| super::decide(evidence, 0.025).unwrap();
        assert_eq!(decide(&good), Decision::Ship(vec![1]));
        let with = |change: fn(&mut Evidence)| {
            let mut evidence = good.clone();
            change(&mut evidence);
            decide(&evidence)
        };
        assert_eq!(with(|e| e.quality_passes = false), Decision::Invalid);
        assert_eq!(
            with(|e| e.guardrails[0] = Guardrail::Violated),
            Decision::Abort
        );
        assert_eq!(
            with(|e| e.guardrails[0] = Guardrail::Open),
            Decision::Continue
        );
        assert_eq!(with(|e| e.deteriorated = true), Decision::Continue);
        assert_eq!(with(|e| e.may_ship = false), Decision::Continue);
        assert_eq!(with(|e| e.success_p_values[1] = 0.02), Decision::Continue);
    }

    #[test]
    fn equality_must_be_shown() {
        let interval = |low, high| Interval { low, high };
        assert_eq!(
            read(interval(-0.01, 0.016), 0.02),
            Ok(Reading::NoMeaningfulDifference)
        );
        assert_eq!(read(interval(-0.03, 0.01), 0.02), Ok(Reading::NoVerdict));
        assert_eq!(read(interval(0.001, 0.01), 0.02), Ok(Reading::Better));
        assert!(read(interval(0.0, 0.1), 0.0).is_err());
    }
}
