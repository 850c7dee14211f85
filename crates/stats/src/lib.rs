//! Statistics of experiments: pure functions and mergeable accumulators, without I/O and without panics.
//!
//! Two layers are kept apart, so that every estimator gets every kind of inference. *Estimators* ([`means`], [`ratio`],
//! [`quantile`], …) end in an [`estimate::Estimate`]: a difference, its standard error, degrees of freedom
//! and the number of independent units. *Inference* ([`inference::infer`]) takes it in the mode that the plan fixed: at any
//! time, at planned looks, or once. Exact methods on counts ([`paired`], [`srm`], [`sequential::net_win`],
//! [`sequential::randomisation`], [`detector`]) need no normal approximation.
//!
//! A is the control and B the treatment; every difference is B − A. Levels `alpha` are two-sided unless a function says
//! otherwise. What has no value is an [`Undefined`] with its reason, never NaN, 0 or 1.

pub mod accumulate;
pub mod agreement;
pub mod canary;
pub mod clustered;
pub mod corrected_rate;
pub mod cuped;
pub mod decision;
pub mod detector;
pub mod estimate;
pub mod health;
pub mod inference;
pub mod means;
pub mod multiplicity;
pub mod novelty;
pub mod paired;
pub mod planning;
pub mod ppi;
pub mod proportion;
pub mod quantile;
pub mod rank;
pub mod ratio;
pub mod sequential;
pub mod special;
pub mod srm;
pub mod two_proportions;
pub mod undefined;
pub mod winsor;

pub use undefined::Undefined;

/// Two ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}
