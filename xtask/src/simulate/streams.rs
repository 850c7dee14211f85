//! Users who arrive in two arms one by one, and the estimate at each look.

use flywheel_stats::accumulate::{CrossMoments, Moments};
use flywheel_stats::estimate::Estimate;
use flywheel_stats::proportion::Proportion;
use flywheel_stats::sequential::t_mixture::FIRST_LOOK;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{cuped, means, ppi, ratio, two_proportions};

use super::draw::Draw;

/// Two arms, the control first.
pub(super) trait Arms: Clone + Sync {
    /// Adds a user to an arm.
    fn push(&mut self, arm: usize, draw: &mut Draw);

    /// The difference so far, once every arm has what a first look needs.
    fn look(&self) -> Defined<Option<Estimate>>;
}

fn has_begun(units: [u64; 2]) -> bool {
    units.iter().all(|n| *n >= FIRST_LOOK)
}

/// Users who succeed or not.
#[derive(Clone)]
pub(super) struct Rates {
    rates: [f64; 2],
    /// Failures and successes of each arm.
    counts: [[u64; 2]; 2],
}

impl Rates {
    pub(super) fn new(rates: [f64; 2]) -> Self {
        Self {
            rates,
            counts: [[0; 2]; 2],
        }
    }

    /// Successes and failures of an arm.
    pub(super) fn outcomes(&self, arm: usize) -> [f64; 2] {
        let [failures, successes] = self.counts[arm];
        [successes as f64, failures as f64]
    }
}

impl Arms for Rates {
    fn push(&mut self, arm: usize, draw: &mut Draw) {
        self.counts[arm][usize::from(draw.chance(self.rates[arm]))] += 1;
    }

    fn look(&self) -> Defined<Option<Estimate>> {
        let units = self
            .counts
            .map(|[failures, successes]| failures + successes);
        if !has_begun(units) {
            return Ok(None);
        }
        let arm = |arm: usize| Proportion::new(self.counts[arm][1], units[arm]);
        if !two_proportions::enough_for_normal(arm(0)?, arm(1)?) {
            return Ok(None);
        }
        let moments = |arm: usize| Moments::of_proportion(self.counts[arm][1], units[arm]);
        let [a, b] = [means::arm(&moments(0)?)?, means::arm(&moments(1)?)?];
        Estimate::cautious_difference(&a, &b).map(Some)
    }
}

/// Users with a value each, such as a rating or a cost, whose difference is one of means.
#[derive(Clone)]
pub(super) struct Values {
    value: fn(&mut Draw) -> f64,
    /// What is added in the treatment.
    shift: f64,
    arms: [Moments; 2],
}

impl Values {
    pub(super) fn new(value: fn(&mut Draw) -> f64, shift: f64) -> Self {
        Self {
            value,
            shift,
            arms: [Moments::default(); 2],
        }
    }
}

impl Arms for Values {
    fn push(&mut self, arm: usize, draw: &mut Draw) {
        let value = (self.value)(draw);
        self.arms[arm].push(if arm == 1 { value + self.shift } else { value });
    }

    fn look(&self) -> Defined<Option<Estimate>> {
        if !has_begun(self.arms.map(|arm| arm.n())) {
            return Ok(None);
        }
        let [a, b] = [means::arm(&self.arms[0])?, means::arm(&self.arms[1])?];
        match Estimate::cautious_difference(&a, &b) {
            // Nobody has a rare value yet.
            Err(Undefined::ZeroVariance) => Ok(None),
            found => found.map(Some),
        }
    }
}

/// Users whose requests succeed or not, and are alike: a ratio of sums over users.
#[derive(Clone)]
pub(super) struct Clusters {
    rate: f64,
    /// Requests per user, on average.
    requests: f64,
    correlation: f64,
    arms: [CrossMoments<2>; 2],
}

impl Clusters {
    pub(super) fn new(rate: f64, requests: f64, correlation: f64) -> Self {
        Self {
            rate,
            requests,
            correlation,
            arms: [CrossMoments::default(); 2],
        }
    }
}

impl Arms for Clusters {
    fn push(&mut self, arm: usize, draw: &mut Draw) {
        let requests = draw.requests(self.requests);
        let successes = draw.alike_successes(requests, self.rate, self.correlation);
        self.arms[arm].push(&[successes as f64, requests as f64]);
    }

    fn look(&self) -> Defined<Option<Estimate>> {
        if !has_begun(self.arms.map(|arm| arm.n())) {
            return Ok(None);
        }
        let [a, b] = [ratio::arm(&self.arms[0])?, ratio::arm(&self.arms[1])?];
        match Estimate::cautious_difference(&a, &b) {
            // Nobody has a rare value yet.
            Err(Undefined::ZeroVariance) => Ok(None),
            found => found.map(Some),
        }
    }
}

/// Users with a value and one from before the experiment, which explains half of its variance.
#[derive(Clone, Default)]
pub(super) struct Histories {
    arms: [CrossMoments<2>; 2],
}

impl Arms for Histories {
    fn push(&mut self, arm: usize, draw: &mut Draw) {
        let before = draw.normal();
        self.arms[arm].push(&[before + draw.normal(), before]);
    }

    fn look(&self) -> Defined<Option<Estimate>> {
        if !has_begun(self.arms.map(|arm| arm.n())) {
            return Ok(None);
        }
        let adjusted = cuped::difference(&self.arms[0], &self.arms[1])?;
        Ok(Some(adjusted.estimate))
    }
}

/// Answers that a judge rates, and people rate one in five of: prediction-powered means, whose units are the labels.
#[derive(Clone, Default)]
pub(super) struct Judged {
    labelled: [CrossMoments<2>; 2],
    others: [Moments; 2],
}

impl Judged {
    const RATE: f64 = 0.6;
    const ACCURACY: f64 = 0.85;
    pub(super) const LABELLED: f64 = 0.2;
}

impl Arms for Judged {
    fn push(&mut self, arm: usize, draw: &mut Draw) {
        let [human, judge] = verdicts(draw, Self::RATE, Self::ACCURACY);
        if draw.chance(Self::LABELLED) {
            self.labelled[arm].push(&[human, judge]);
        } else {
            self.others[arm].push(judge);
        }
    }

    fn look(&self) -> Defined<Option<Estimate>> {
        if !has_begun(self.labelled.map(|arm| arm.n())) {
            return Ok(None);
        }
        let arm = |arm: usize| {
            ppi::mean(
                &self.labelled[arm],
                &self.others[arm],
                ppi::Weight::Tuned,
                ppi::SmallSamples::Corrected,
                super::level::ALPHA,
            )
            .map(|mean| mean.arm())
        };
        Estimate::difference(&arm(0)?, &arm(1)?).map(Some)
    }
}

/// A human verdict, and that of a judge who agrees with it this often.
pub(super) fn verdicts(draw: &mut Draw, rate: f64, accuracy: f64) -> [f64; 2] {
    let human = draw.outcome(rate);
    let judge = match draw.chance(accuracy) {
        true => human,
        false => 1.0 - human,
    };
    [human, judge]
}
