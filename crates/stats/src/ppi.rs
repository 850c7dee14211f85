//! Prediction-powered inference: few human verdicts and many of a judge, as one estimate of the human one.
//!
//! Human labels must be a random sample of the same traffic.

use crate::Interval;
use crate::accumulate::{CrossMoments, Moments};
use crate::estimate::{ArmEstimate, Estimate};
use crate::special::{normal, student_t};
use crate::undefined::{Defined, Undefined, computed, finite, level};

/// Human labels from which on z replaces Student's t.
const NORMAL_FROM: u64 = 100;

/// The smallest chance to be labelled.
const SMALLEST_PROBABILITY: f64 = 0.05;

/// How the judge's verdicts are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// By what they are worth, λ̂ between 0 and 1 (PPI++).
    Tuned,
    /// By a given λ: 1 is plain PPI, 0 the labels alone.
    Given(f64),
}

/// Which quantile and divisor are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallSamples {
    /// Student's t with n − 1 degrees of freedom and divisor n − 1, below 100 labels.
    Corrected,
    /// z and divisor n, as published implementations do; too narrow for few labels.
    Uncorrected,
}

/// The estimated human mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoweredMean {
    /// The estimate θ̂.
    pub estimate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// The interval.
    pub interval: Interval,
    /// The weight λ of the judge.
    pub lambda: f64,
    /// How many labels alone would have the same standard error.
    pub effective_labels: f64,
    labels: u64,
}

impl PoweredMean {
    /// As an arm of a comparison of unpaired metrics, whose variances add.
    #[must_use]
    pub fn arm(&self) -> ArmEstimate {
        ArmEstimate {
            value: self.estimate,
            unit_variance: self.standard_error * self.standard_error * self.labels as f64,
            n: self.labels,
        }
    }

    /// As an estimate of its own, such as a net win, that any inference takes; its units are the labels.
    pub fn as_estimate(&self) -> Defined<Estimate> {
        let labels = self.labels as f64;
        Estimate::new(self.estimate, self.standard_error, labels - 1.0, labels)
    }
}

/// The human mean from pairs of human (column 0) and judge verdict (column 1), and judge verdicts on their own
/// (Angelopoulos et al. 2023; PPI++ 2023).
///
/// θ̂ = λ mean_N(f) + mean_n(y − λf), SE² = λ² Var_N(f)/N + Var_n(y − λf)/n,
/// λ̂ = clip(Cov_n(y, f)/((1 + n/N) Var_{n∪N}(f)), 0, 1); a constant judge gives λ = 0.
pub fn mean(
    labelled: &CrossMoments<2>,
    unlabelled: &Moments,
    weight: Weight,
    small_samples: SmallSamples,
    alpha: f64,
) -> Defined<PoweredMean> {
    level(alpha)?;
    let n = labelled.n();
    if n == 0 {
        return Err(Undefined::NoData);
    }
    if n < 2 {
        return Err(Undefined::TooFewValues {
            needed: 2,
            found: n,
        });
    }
    let (labels, judged) = (n as f64, unlabelled.n() as f64);
    let lambda = match weight {
        Weight::Given(lambda) => finite(lambda)?,
        Weight::Tuned => tuned(labelled, unlabelled)?,
    };
    let corrected = small_samples == SmallSamples::Corrected;
    let divisor = |count: f64| {
        if corrected {
            1.0
        } else {
            (count - 1.0) / count
        }
    };
    let own = labelled.covariance(0, 0)?;
    let judge = lambda * lambda * labelled.covariance(1, 1)?;
    let residual = (own + judge - 2.0 * lambda * labelled.covariance(0, 1)?).max(0.0);
    let mut estimate = labelled.mean(0)? - lambda * labelled.mean(1)?;
    let mut variance = residual * divisor(labels) / labels;
    if lambda != 0.0 {
        estimate += lambda * unlabelled.mean()?;
        variance += lambda * lambda * unlabelled.variance()? * divisor(judged) / judged;
    }
    let standard_error = finite(variance)?.sqrt();
    if standard_error == 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let quantile = if corrected && n < NORMAL_FROM {
        student_t::upper_quantile(alpha / 2.0, labels - 1.0)?
    } else {
        normal::upper_quantile(alpha / 2.0)?
    };
    Ok(PoweredMean {
        estimate: computed(estimate)?,
        standard_error,
        interval: Interval {
            low: computed(estimate - quantile * standard_error)?,
            high: computed(estimate + quantile * standard_error)?,
        },
        lambda,
        effective_labels: own * divisor(labels) / variance,
        labels: n,
    })
}

fn tuned(labelled: &CrossMoments<2>, unlabelled: &Moments) -> Defined<f64> {
    if unlabelled.n() < 2 {
        return Ok(0.0);
    }
    let (labels, judged) = (labelled.n() as f64, unlabelled.n() as f64);
    let mut all = labelled.column(1)?;
    all.merge(unlabelled);
    let spread = (1.0 + labels / judged) * all.variance()?;
    if spread <= 0.0 {
        return Ok(0.0);
    }
    let covariance = labelled.covariance(0, 1)? * (labels - 1.0) / labels;
    Ok((covariance / spread).clamp(0.0, 1.0))
}

/// An item whose chance to be labelled was not the same for all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampledItem {
    /// The judge's verdict.
    pub judge: f64,
    /// The human verdict, if the item was labelled.
    pub human: Option<f64>,
    /// The chance that it would be, known beforehand.
    pub probability: f64,
}

/// The human mean when items were chosen for labelling with known probabilities, such as by disagreement (Zrnic & Candès
/// 2024): the mean of λf + (y − λf)/π over labelled and of λf over other items.
///
/// Probabilities below .05 are refused, because single labels would decide the estimate.
pub fn weighted_mean(items: &[SampledItem], lambda: f64) -> Defined<Estimate> {
    finite(lambda)?;
    let mut moments = Moments::default();
    for item in items {
        if !(SMALLEST_PROBABILITY..=1.0).contains(&item.probability) {
            return Err(Undefined::Domain(
                "the chance to be labelled must lie between 0.05 and 1",
            ));
        }
        let judged = lambda * finite(item.judge)?;
        let correction = match item.human {
            Some(human) => (finite(human)? - judged) / item.probability,
            None => 0.0,
        };
        moments.push(judged + correction);
    }
    let n = moments.n() as f64;
    let error = (moments.variance()? / n).sqrt();
    Estimate::new(moments.mean()?, error, n - 1.0, n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (CrossMoments<2>, Moments) {
        let pairs: Vec<[f64; 2]> = (0..40)
            .map(|index| {
                let human = f64::from(index % 2);
                [human, if index % 10 == 0 { 1.0 - human } else { human }]
            })
            .collect();
        let judged: Vec<f64> = (0..500).map(|index| f64::from(index % 2)).collect();
        (CrossMoments::of(&pairs), Moments::of(&judged))
    }

    #[test]
    fn a_good_judge_makes_labels_count_for_more() {
        let (labelled, judged) = sample();
        let find = |weight| mean(&labelled, &judged, weight, SmallSamples::Corrected, 0.05);
        let (tuned, alone) = (
            find(Weight::Tuned).unwrap(),
            find(Weight::Given(0.0)).unwrap(),
        );
        assert!(tuned.standard_error < alone.standard_error);
        assert!(tuned.effective_labels > 60.0, "{tuned:?}");
        assert!((alone.effective_labels - 40.0).abs() < 1e-9);
        assert_eq!(alone.estimate, 0.5);
        assert!(tuned.as_estimate().is_ok());
    }

    #[test]
    fn weights_undo_the_choice_of_items() {
        let items: Vec<SampledItem> = (0..400)
            .map(|index| {
                let human = f64::from(u8::from(index % 4 == 0));
                // Ones are labelled always, zeros every second time.
                let probability = if human == 1.0 { 1.0 } else { 0.5 };
                let labelled = human == 1.0 || index % 8 < 4;
                SampledItem {
                    judge: human,
                    human: labelled.then_some(human),
                    probability,
                }
            })
            .collect();
        let found = weighted_mean(&items, 0.0).unwrap();
        assert!((found.value - 0.25).abs() < 1e-12, "{found:?}");
        assert!(weighted_mean(&items, 1.0).unwrap().standard_error <= found.standard_error);
        let rare = SampledItem {
            probability: 0.01,
            ..items[0]
        };
        assert!(weighted_mean(&[rare, rare], 1.0).is_err());
        assert!(weighted_mean(&[], 1.0).is_err());
    }

    #[test]
    fn missing_parts_are_named() {
        let (labelled, _) = sample();
        let nothing = Moments::default();
        let find = |weight| mean(&labelled, &nothing, weight, SmallSamples::Corrected, 0.05);
        assert_eq!(find(Weight::Tuned).unwrap().lambda, 0.0);
        assert_eq!(find(Weight::Given(1.0)), Err(Undefined::NoData));
        let empty = CrossMoments::default();
        let found = mean(
            &empty,
            &nothing,
            Weight::Tuned,
            SmallSamples::Corrected,
            0.05,
        );
        assert_eq!(found, Err(Undefined::NoData));
    }
}
