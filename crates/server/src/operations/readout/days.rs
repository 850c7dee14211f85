//! Days: until when an arm is compared, when a plan ends, and what of an arm changed weights have left to it.

use std::collections::BTreeSet;

use flywheel_core::assignment::ALL_BASIS_POINTS;
use flywheel_core::experiment::{Epoch, UnitKind};
use flywheel_core::metric::MetricKind;
use flywheel_core::plan::ReadingMode;
use flywheel_stats::sequential::t_mixture::FIRST_LOOK;
use flywheel_storage::statistics::UnitSums;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::compare::Comparing;
use super::{MICROSECONDS_PER_DAY, few, words};

/// Units that each of two arms needs for an epoch to be compared, of whatever kind the metric is.
pub(super) const FEWEST_IN_EPOCH: i64 = 2;

/// Which share of a plan's units is enough for the last of its planned looks: one just before the end would leave hardly any
/// of the level for the end.
const ENOUGH_TO_END: f64 = 0.95;

/// How far an arm is compared that was served to nobody at some time: what the others did from then on is of another time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ComparedUntil {
    /// The last UTC day whose sums are compared, of units that came before.
    pub day: String,
    /// Whether it is served again; units that came since are compared as ever.
    pub is_served_again: bool,
}

impl Comparing<'_> {
    /// The days at whose end something was different, as far as an arm is compared.
    pub(super) fn days(&self, reading: usize, arm: usize) -> BTreeSet<i64> {
        let mut days = BTreeSet::new();
        for epoch in self.compared_epochs(arm) {
            let last = self.last_day(epoch, reading, arm).unwrap_or(i64::MAX);
            for place in [self.control, arm] {
                let found = self.source(epoch, place, reading).days.iter();
                days.extend(found.map(|(day, _)| *day).filter(|day| *day <= last));
            }
        }
        days
    }

    /// Whether arm and control were both served to somebody in an epoch.
    pub(super) fn are_both_in(&self, epoch: usize, arm: usize) -> bool {
        let epoch = self.experiment.epochs.get(epoch);
        epoch.is_none_or(|epoch| {
            let mut both = [self.control, arm].into_iter();
            both.all(|place| epoch.weights.get(place) != Some(&0))
        })
    }

    /// The epochs in which there is something to compare.
    pub(super) fn compared_epochs(&self, arm: usize) -> impl Iterator<Item = usize> {
        (0..self.epochs()).filter(move |epoch| self.are_both_in(*epoch, arm))
    }

    /// The last day on which units of an epoch are compared, if their arm or the control was served to nobody later: what the
    /// others do from then on is of another time. Totals grow, and end with the last day on which both were served throughout.
    fn last_day(&self, epoch: usize, reading: usize, arm: usize) -> Option<i64> {
        let day = self.out_since(epoch, arm)?;
        match self.metric_of(reading).kind {
            MetricKind::Count => Some(day - 1),
            _ => Some(day),
        }
    }

    /// The day on which an arm or the control was first served to nobody, after an epoch.
    fn out_since(&self, epoch: usize, arm: usize) -> Option<i64> {
        let mut later = epoch + 1..self.epochs();
        let out = later.find(|later| !self.are_both_in(*later, arm))?;
        Some(day_of(self.experiment.epochs.get(out)?.since))
    }

    /// Whether an arm or the control was served to nobody at some time after others were in it.
    pub(super) fn was_out(&self, arm: usize) -> bool {
        self.compared_epochs(arm)
            .any(|epoch| self.out_since(epoch, arm).is_some())
    }

    /// A day, or now, as far as units of an epoch are compared.
    pub(super) fn compared_until(
        &self,
        epoch: usize,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> Option<i64> {
        let last = self.last_day(epoch, reading, arm);
        until.into_iter().chain(last).min()
    }

    /// The last day on which units of an arm that was served to nobody for a time are compared.
    pub(super) fn was_compared_until(&self, reading: usize, arm: usize) -> Option<ComparedUntil> {
        let ended = |epoch: usize| self.last_day(epoch, reading, arm);
        let day = self.compared_epochs(arm).filter_map(ended).last()?;
        Some(ComparedUntil {
            day: words::day(day),
            is_served_again: self.are_both_in(self.epochs() - 1, arm),
        })
    }

    /// Sums of the control and of an arm, over epochs in which both have units enough, as far as they are compared.
    pub(super) fn both_until(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
    ) -> [UnitSums; 2] {
        let mut both = [UnitSums::default(); 2];
        for epoch in self.compared_epochs(arm) {
            let until = self.compared_until(epoch, reading, arm, until);
            let of = |place: usize| self.source(epoch, place, reading).sums(until);
            let found = [of(self.control), of(arm)];
            if found.iter().all(|sums| sums.n >= FEWEST_IN_EPOCH) {
                both[0].add(&found[0]);
                both[1].add(&found[1]);
            }
        }
        both
    }

    /// Units of both arms.
    fn units_until(&self, reading: usize, arm: usize, until: i64) -> f64 {
        let both = self.both_until(reading, arm, Some(until));
        both.iter().map(|sums| sums.n as f64).sum()
    }

    /// The day of a plan's last look, if it has one and that day is over: there are enough units, of each arm too, and there is
    /// something to look at.
    pub(super) fn end_day(&self, reading: usize, arm: usize) -> Option<i64> {
        let needed = match self.mode(reading) {
            ReadingMode::Anytime => return None,
            ReadingMode::Planned => ENOUGH_TO_END * self.planned_units(arm),
            ReadingMode::Hybrid | ReadingMode::Fixed => self.planned_units(arm),
        };
        let metric = self.metric_of(reading);
        let fewest = self.experiment.plan.floor.max(FIRST_LOOK);
        let can_end = |day: i64| {
            let both = self.both_until(reading, arm, Some(day));
            let has_enough = both.iter().all(|sums| sums.n >= fewest as i64);
            let is_few = || both.iter().any(|sums| few::are_few(metric, sums));
            self.units_until(reading, arm, day) >= needed
                && has_enough
                && (is_few() || self.pooled(reading, arm, Some(day)).is_ok())
        };
        let mut days = self.days(reading, arm).into_iter();
        days.find(|day| *day < self.open_day && can_end(*day))
    }

    /// The share of all units that an arm got in an epoch and that no change of the weights has given to another until the end of a
    /// day: those others are in no sum.
    pub(super) fn kept_share(&self, arm: usize, epoch: usize, until: i64) -> f64 {
        let experiment = self.experiment;
        let range = |weights: &[u32]| {
            let low: u32 = weights.iter().take(arm).sum();
            (low, low + weights.get(arm).copied().unwrap_or(0))
        };
        let Some(own) = experiment.epochs.get(epoch) else {
            return f64::from(experiment.arms[arm].weight) / f64::from(ALL_BASIS_POINTS);
        };
        let (mut low, mut high) = range(&own.weights);
        let name = &experiment.arms[arm].name;
        let later = experiment.epochs.iter().skip(epoch + 1);
        let begun = |later: &&Epoch| day_of(later.since) <= until;
        for later in later.take_while(begun) {
            let is_stopped = later.stopped_arm.as_ref().is_some_and(|s| s.arm == *name);
            // What an arm had that nobody is in any more stays.
            if is_stopped
                || later.weights.get(arm) == Some(&0)
                || experiment.unit == UnitKind::Request
            {
                break;
            }
            let (from, to) = range(&later.weights);
            (low, high) = (low.max(from), high.min(to));
        }
        f64::from(high.saturating_sub(low)) / f64::from(ALL_BASIS_POINTS)
    }

    /// Units of the control and an arm at which a plan has its last look: their part of those of all arms.
    pub(super) fn planned_units(&self, arm: usize) -> f64 {
        let plan = &self.experiment.plan;
        let all = plan.size.map_or(plan.tuned_for, |size| size.largest);
        let weights = [self.control, arm].map(|place| self.experiment.planned_weight(place));
        all * f64::from(weights[0] + weights[1]) / f64::from(ALL_BASIS_POINTS)
    }
}

fn day_of(at: Timestamp) -> i64 {
    at.as_microsecond().div_euclid(MICROSECONDS_PER_DAY)
}
