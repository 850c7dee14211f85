//! The primary metric day by day: every look at it, and the small counts before there was enough for one.

use flywheel_core::name::ArmName;
use flywheel_core::plan::ReadingMode;
use schemars::JsonSchema;
use serde::Serialize;

use super::compare::{Comparing, one_look};
use super::few::{FewLook, SmallCounts};
use super::looks::Seen;
use super::{deciding, words};

/// The primary metric's difference at the end of a day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Look {
    /// The UTC day.
    pub day: String,
    /// The arm.
    pub arm: ArmName,
    /// Units of both arms.
    pub units: f64,
    /// The difference.
    pub difference: f64,
    /// Its standard error; none of small counts.
    pub standard_error: Option<f64>,
    /// Degrees of freedom.
    pub degrees_of_freedom: Option<f64>,
    /// Where there are too few events for an interval: units of the arm against units of the control that are counted.
    pub small_counts: Option<String>,
    /// The lower end of the interval that may be looked at as often as one likes, of this look.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// The lower end of the interval for one look.
    pub fixed_low: Option<f64>,
    /// Its upper end.
    pub fixed_high: Option<f64>,
    /// The smallest p-value until then, of this arm alone; planned looks have none.
    pub p: Option<f64>,
}

impl Comparing<'_> {
    /// All arms, each day by day.
    pub(super) fn timeline(&self) -> Vec<Look> {
        let plan = &self.experiment.plan;
        let place = plan
            .metrics
            .iter()
            .position(|metric| Some(&metric.name) == plan.primary.as_ref());
        let Some(reading) = place.and_then(|place| deciding(&self.readings, place)) else {
            return Vec::new();
        };
        let mut timeline = Vec::new();
        for arm in self.treatments() {
            timeline.extend(self.days_of_arm(reading, arm));
        }
        timeline
    }

    fn days_of_arm(&self, reading: usize, arm: usize) -> Vec<Look> {
        let series = self.series(reading, arm, self.level(true));
        let is_anytime = self.mode(reading) == ReadingMode::Anytime;
        // A plan with a last look reads small counts there only.
        if !is_anytime {
            let few = self.few(reading, arm);
            let few = few.filter(|few| few.comes_before(series.decided.map(|(day, _)| day)));
            if let Some(look) = few.and_then(|few| few.last_look()) {
                return vec![self.few_of_day(reading, arm, look)];
            }
        }
        let mut found: Vec<Look> = Vec::new();
        if is_anytime {
            let few = self.looks_at_few(reading, arm, None).unwrap_or_default();
            found.extend(
                few.into_iter()
                    .map(|look| self.few_of_day(reading, arm, look)),
            );
        }
        found.extend(series.looks.iter().map(|seen| self.day(arm, seen)));
        found.sort_by(|one, other| one.day.cmp(&other.day));
        // Of small counts each has its own; looks have the smallest until then already.
        let mut smallest: Option<f64> = None;
        let has_few = found.iter().any(|look| look.small_counts.is_some());
        for look in found.iter_mut().filter(|_| has_few) {
            smallest = smallest.into_iter().chain(look.p).reduce(f64::min);
            look.p = smallest;
        }
        found
    }

    fn few_of_day(&self, reading: usize, arm: usize, look: FewLook) -> Look {
        let [control, own] = self.both_until(reading, arm, Some(look.day));
        Look {
            day: words::day(look.day),
            arm: self.name(arm),
            units: (control.n + own.n) as f64,
            difference: look.difference,
            standard_error: None,
            degrees_of_freedom: None,
            small_counts: Some(SmallCounts::new(&control, &own, None).brief),
            low: None,
            high: None,
            fixed_low: None,
            fixed_high: None,
            p: Some(look.p),
        }
    }

    fn day(&self, arm: usize, seen: &Seen) -> Look {
        let estimate = seen.estimate;
        let look = seen.inference.interval.ok();
        let fixed = one_look(&estimate, self.level(true)).and_then(|look| look.interval);
        let fixed = fixed.ok();
        Look {
            day: words::day(seen.day),
            arm: self.name(arm),
            units: estimate.units,
            difference: estimate.value,
            standard_error: Some(estimate.standard_error),
            degrees_of_freedom: Some(estimate.degrees_of_freedom).filter(|df| df.is_finite()),
            small_counts: None,
            low: look.map(|interval| interval.low),
            high: look.map(|interval| interval.high),
            fixed_low: fixed.map(|interval| interval.low),
            fixed_high: fixed.map(|interval| interval.high),
            p: seen.p,
        }
    }
}
