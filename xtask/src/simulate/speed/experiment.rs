//! An experiment of 20 metrics and 5 arms as a store keeps it, and everything that a reader is shown of it.

use flywheel_stats::accumulate::{CrossMoments, Histogram, LogHistogram, Moments};
use flywheel_stats::estimate::{ArmEstimate, Estimate};
use flywheel_stats::inference::{Mode, infer};
use flywheel_stats::proportion::{Proportion, wilson_interval};
use flywheel_stats::rank::{RankMethod, RankedCounts};
use flywheel_stats::sequential::rho_squared;
use flywheel_stats::undefined::Defined;
use flywheel_stats::{cuped, means, multiplicity, quantile, ratio, srm, two_proportions};

use crate::simulate::draw::Draw;
use crate::simulate::level::{ALPHA, PLANNED};

const ARMS: usize = 5;
const USERS: u64 = 2000;

/// One metric's sufficient statistics in each arm.
enum Metric {
    Rate(Vec<Proportion>),
    Mean(Vec<Moments>),
    Ratio(Vec<CrossMoments<2>>),
    Adjusted(Vec<CrossMoments<2>>),
    Ratings(Vec<Histogram>),
    Latency(Vec<LogHistogram>),
}

pub(super) struct Experiment {
    metrics: Vec<Metric>,
    units: Vec<u64>,
}

impl Experiment {
    pub(super) fn make(seed: u64) -> Defined<Self> {
        let mut draw = Draw::of_run(seed, "experiment", 0);
        let mut metrics = Vec::new();
        for _ in 0..6 {
            let arm = || Proportion::new(draw.successes(USERS, 0.6), USERS);
            metrics.push(Metric::Rate(arms(arm)?));
        }
        for _ in 0..5 {
            metrics.push(Metric::Mean(arms(|| mean(&mut draw))?));
        }
        for _ in 0..4 {
            metrics.push(Metric::Ratio(arms(|| requests(&mut draw))?));
        }
        for _ in 0..2 {
            metrics.push(Metric::Adjusted(arms(|| requests(&mut draw))?));
        }
        for _ in 0..2 {
            metrics.push(Metric::Ratings(arms(|| ratings(&mut draw))?));
        }
        metrics.push(Metric::Latency(arms(|| latencies(&mut draw))?));
        Ok(Self {
            metrics,
            units: vec![USERS; ARMS],
        })
    }

    pub(super) fn arms(&self) -> usize {
        self.units.len()
    }

    /// Estimates, intervals for one look and for any time, lifts, tests and corrections of every treatment against the
    /// control; how many metrics that were.
    pub(super) fn analyse(&self) -> Defined<usize> {
        srm::averaged_log_e(&self.units, &[1.0; ARMS])?;
        let mut p_values = Vec::new();
        for metric in &self.metrics {
            for treatment in 1..ARMS {
                p_values.extend(metric.compare(treatment)?);
            }
        }
        multiplicity::holm(&p_values)?;
        multiplicity::benjamini_hochberg(&p_values)?;
        Ok(self.metrics.len())
    }
}

fn arms<T>(mut arm: impl FnMut() -> Defined<T>) -> Defined<Vec<T>> {
    (0..ARMS).map(|_| arm()).collect()
}

fn mean(draw: &mut Draw) -> Defined<Moments> {
    let mut moments = Moments::default();
    for _ in 0..USERS {
        moments.push(draw.lognormal(1.0));
    }
    Ok(moments)
}

fn requests(draw: &mut Draw) -> Defined<CrossMoments<2>> {
    let mut users = CrossMoments::default();
    for _ in 0..USERS {
        let requests = draw.requests(5.0);
        users.push(&[draw.successes(requests, 0.9) as f64, requests as f64]);
    }
    Ok(users)
}

fn ratings(draw: &mut Draw) -> Defined<Histogram> {
    let mut histogram = Histogram::default();
    for _ in 0..USERS {
        histogram.push(draw.class(&[0.1, 0.1, 0.2, 0.3, 0.3]))?;
    }
    Ok(histogram)
}

fn latencies(draw: &mut Draw) -> Defined<LogHistogram> {
    let mut histogram = LogHistogram::default();
    for _ in 0..USERS {
        histogram.push(900.0 * draw.lognormal(0.8))?;
    }
    Ok(histogram)
}

impl Metric {
    /// The p-values of one treatment against the control.
    fn compare(&self, treatment: usize) -> Defined<Vec<f64>> {
        match self {
            Self::Rate(arms) => rates(arms[0], arms[treatment]),
            Self::Mean(arms) => {
                let (a, b) = (means::arm(&arms[0])?, means::arm(&arms[treatment])?);
                difference(&a, &b)
            }
            Self::Ratio(arms) => {
                let (a, b) = (ratio::arm(&arms[0])?, ratio::arm(&arms[treatment])?);
                difference(&a, &b)
            }
            Self::Adjusted(arms) => {
                cuped::covariate_imbalance(&arms[0], &arms[treatment])?;
                inferred(&cuped::difference(&arms[0], &arms[treatment])?.estimate)
            }
            Self::Ratings(arms) => {
                let (a, b) = (arms[0].counts(), arms[treatment].counts());
                let ranked = RankedCounts::from_histograms(a, b)?;
                let familiar = ranked.mann_whitney(RankMethod::Automatic)?;
                Ok(vec![ranked.brunner_munzel(ALPHA)?.p, familiar.p])
            }
            Self::Latency(arms) => {
                for p in [0.5, 0.95, 0.99] {
                    let find = |arm| quantile::interval_of_histogram(arm, p, ALPHA);
                    quantile::mover_difference(&find(&arms[0])?, &find(&arms[treatment])?)?;
                }
                Ok(Vec::new())
            }
        }
    }
}

fn rates(a: Proportion, b: Proportion) -> Defined<Vec<f64>> {
    for arm in [a, b] {
        wilson_interval(arm.successes(), arm.n(), ALPHA)?;
    }
    two_proportions::newcombe_interval(a, b, ALPHA)?;
    let (_, p) = two_proportions::test(a, b)?;
    let arm = |arm: Proportion| {
        Moments::of_proportion(arm.successes(), arm.n()).and_then(|moments| means::arm(&moments))
    };
    let mut p_values = difference(&arm(a)?, &arm(b)?)?;
    p_values.push(p);
    Ok(p_values)
}

fn difference(a: &ArmEstimate, b: &ArmEstimate) -> Defined<Vec<f64>> {
    infer(&Estimate::relative(a, b)?, Mode::Fixed, ALPHA)?;
    inferred(&Estimate::difference(a, b)?)
}

/// Read once, and at any time.
fn inferred(estimate: &Estimate) -> Defined<Vec<f64>> {
    let rho_squared = rho_squared(ALPHA, PLANNED)?;
    let modes = [Mode::Fixed, Mode::Anytime { rho_squared }];
    modes
        .into_iter()
        .map(|mode| infer(estimate, mode, ALPHA)?.p)
        .collect()
}
