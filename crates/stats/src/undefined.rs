//! Why there is no number: the named states that every function returns instead of NaN, 0 or 1.

use thiserror::Error;

/// The reason for which a statistic has no value.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum Undefined {
    /// There are no values at all.
    #[error("there are no values yet")]
    NoData,
    /// An arm or a sample has fewer values than the method needs.
    #[error("the method needs {needed} values in each sample, and one has {found}")]
    TooFewValues {
        /// How many each sample must have.
        needed: u64,
        /// How many the smallest has.
        found: u64,
    },
    /// A row or a column of a table is empty, so that there is nothing to compare.
    #[error("there are no events yet: a row or a column of the table is empty")]
    NoEvents,
    /// Nothing varies, so that no standard error exists.
    #[error("the values do not vary, so there is no standard error")]
    ZeroVariance,
    /// An input lies outside the method's domain.
    #[error("{0}")]
    Domain(&'static str),
    /// An input is NaN or infinite.
    #[error("an input is not a finite number")]
    NotFinite,
    /// Sums that no data can have, such as a sum of squares below the square of the sum over n.
    #[error("the sums contradict each other: no values have them")]
    InconsistentSums,
    /// A plan for no difference has no sample size.
    #[error("the planned difference is zero, which no sample size can detect")]
    NoDifference,
    /// A power at or below the level is reached without data.
    #[error("the power must exceed the level of the test")]
    PowerNotAboveLevel,
    /// The control's mean is too close to zero for a ratio to it.
    #[error(
        "the control's value is within four standard errors of zero, so a relative difference means nothing"
    )]
    ControlNearZero,
    /// Chance agreement is complete, so that agreement beyond chance does not exist.
    #[error("all ratings fall in one category, so agreement beyond chance does not exist")]
    ChanceAgreementComplete,
    /// The judge may be no better than chance, so that its rate cannot be corrected.
    #[error(
        "sensitivity plus specificity may not exceed 1, so the judge tells nothing about the rate"
    )]
    UninformativeJudge,
    /// The confidence sequence has no bounds yet.
    #[error("the confidence sequence is unbounded: too few units for a statement at this level")]
    Unbounded,
    /// An exact distribution would take too long to compute.
    #[error("the samples are too large for the exact distribution")]
    TooLargeForExact,
    /// The observed curve ends before the needed number of users.
    #[error("the observed history is too short to say when the sample is complete")]
    HistoryTooShort,
    /// The value is beyond the range of numbers or the iteration reached its cap.
    #[error("the value cannot be computed in double precision")]
    OutOfRange,
}

/// The result of every statistic.
pub type Defined<T> = Result<T, Undefined>;

/// `value` when it is a finite number.
pub(crate) fn finite(value: f64) -> Defined<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Undefined::NotFinite)
    }
}

/// `value` when it came out as a finite number.
pub(crate) fn computed(value: f64) -> Defined<f64> {
    if value.is_finite() {
        Ok(value)
    } else {
        Err(Undefined::OutOfRange)
    }
}

/// A level of significance: strictly between 0 and 1.
pub(crate) fn level(alpha: f64) -> Defined<f64> {
    if alpha > 0.0 && alpha < 1.0 {
        Ok(alpha)
    } else {
        Err(Undefined::Domain(
            "a level must lie strictly between 0 and 1",
        ))
    }
}

/// A probability: from 0 to 1.
pub(crate) fn probability(p: f64) -> Defined<f64> {
    if (0.0..=1.0).contains(&p) {
        Ok(p)
    } else {
        Err(Undefined::Domain("a probability must lie between 0 and 1"))
    }
}

/// A probability that is neither 0 nor 1.
pub(crate) fn open_probability(p: f64) -> Defined<f64> {
    if p > 0.0 && p < 1.0 {
        Ok(p)
    } else {
        Err(Undefined::Domain(
            "the probability must lie strictly between 0 and 1",
        ))
    }
}

/// A number above zero and finite.
pub(crate) fn positive(value: f64) -> Defined<f64> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(Undefined::Domain("the value must be positive and finite"))
    }
}
