//! Looks: what may be read of a metric at the end of each day, by the plan's way of reading.

use flywheel_core::metric::MetricKind;
use flywheel_core::plan::ReadingMode;
use flywheel_stats::Interval;
use flywheel_stats::estimate::Estimate;
use flywheel_stats::inference::{Inference, Mode, infer};
use flywheel_stats::sequential::group_sequential::{self, SPENDING_EXPONENT};
use flywheel_stats::sequential::hybrid::{self, RUNNING_SHARE};
use flywheel_stats::sequential::running::Running;
use flywheel_stats::sequential::t_mixture::FIRST_LOOK;
use flywheel_stats::undefined::{Defined, Undefined};

use super::compare::Comparing;
use super::{few, is_quantile};

/// Which share of a plan's units a planned look has more than the one before.
const SMALLEST_STEP: f64 = 0.005;

const READ_ONCE: Undefined = Undefined::Domain(
    "this plan is read once, at the end of the UTC day on which it has its units",
);
const DAY_IS_OPEN: Undefined =
    Undefined::Domain("this plan is looked at when a UTC day is over, and this one is not");

/// A difference, and what was said of it at each look.
pub(super) struct Series {
    pub(super) estimate: Defined<Estimate>,
    pub(super) looks: Vec<Seen>,
    pub(super) running: Running,
    /// The smallest p-value of all looks, which may be held against the level; planned looks have none.
    pub(super) p: Option<f64>,
    /// At the last look that was allowed.
    pub(super) last: Defined<Inference>,
    pub(super) variance_reduction: Option<f64>,
    /// The day of the look that ended a plan which has one, and what it saw: that and its interval stay.
    pub(super) decided: Option<(i64, Estimate)>,
    /// Why there was no look at the end of the last day, if there was not enough for one.
    pub(super) too_few: Option<Undefined>,
    /// The day of the plan's last look, if it has one and that is over.
    pub(super) end: Option<i64>,
}

/// What was seen at the end of a day.
pub(super) struct Seen {
    pub(super) day: i64,
    pub(super) estimate: Estimate,
    pub(super) inference: Inference,
    /// The smallest p-value until then.
    pub(super) p: Option<f64>,
}

impl Comparing<'_> {
    /// Whether an arm has enough for a look.
    pub(super) fn may_look(&self, reading: usize, arm: usize, until: Option<i64>) -> Defined<()> {
        self.must_have(reading, arm, until, FIRST_LOOK)?;
        let metric = self.metric_of(reading);
        let both = self.both_until(reading, arm, until);
        match both.iter().any(|sums| few::are_few(metric, sums)) {
            true => Err(few::TOO_FEW),
            false => Ok(()),
        }
    }

    /// Whether both arms have so many units with a value.
    fn must_have(
        &self,
        reading: usize,
        arm: usize,
        until: Option<i64>,
        needed: u64,
    ) -> Defined<()> {
        let [control, own] = self.both_until(reading, arm, until);
        let fewest = control.n.min(own.n);
        match u64::try_from(fewest).unwrap_or(0) {
            found if found < needed => Err(Undefined::TooFewValues { needed, found }),
            _ => Ok(()),
        }
    }

    /// How a metric may be read: the plan says it of the one that decides. Others, and quantiles, of which only the present is
    /// kept, may be read at any time.
    pub(super) fn mode(&self, reading: usize) -> ReadingMode {
        let metric = self.metric_of(reading);
        let is_primary = self.experiment.plan.primary.as_ref() == Some(&metric.name);
        match is_primary && !is_quantile(metric) {
            true => self.experiment.plan.mode,
            false => ReadingMode::Anytime,
        }
    }

    pub(super) fn series(&self, reading: usize, arm: usize, alpha: f64) -> Series {
        let mode = self.mode(reading);
        let now = self.pooled(reading, arm, None);
        let mut series = Series {
            estimate: now.map(|(estimate, _)| estimate),
            variance_reduction: now.ok().and_then(|(_, explained)| explained),
            looks: Vec::new(),
            running: Running::default(),
            p: None,
            last: Err(Undefined::NoData),
            decided: None,
            too_few: None,
            end: self.end_day(reading, arm),
        };
        // Of a quantile only its present is kept.
        let moments: Vec<i64> = match is_quantile(self.metric_of(reading)) {
            true => self
                .days(reading, arm)
                .last()
                .copied()
                .into_iter()
                .collect(),
            false => self.days(reading, arm).into_iter().collect(),
        };
        let planned = self.planned_units(arm);
        let end = series.end;
        let mut estimates = Vec::new();
        let until_end = |day: &i64| end.is_none_or(|end| *day <= end);
        for day in moments.into_iter().filter(until_end) {
            // A look at a day that goes on would be one of many.
            let is_over = day < self.open_day;
            if !is_over && matches!(mode, ReadingMode::Planned | ReadingMode::Fixed) {
                series.last = Err(match mode {
                    ReadingMode::Planned => DAY_IS_OPEN,
                    _ => READ_ONCE,
                });
                continue;
            }
            let until = Some(day);
            // A plan that ends with a look has none before a verdict may rest on it.
            let fewest = match mode {
                ReadingMode::Anytime => FIRST_LOOK,
                _ => self.experiment.plan.floor.max(FIRST_LOOK),
            };
            let allowed = self.may_look(reading, arm, until);
            let enough = self.must_have(reading, arm, until, fewest);
            let found = allowed.and(enough);
            series.too_few = found.err();
            if let Err(undefined) = found {
                series.last = Err(undefined);
                continue;
            }
            match self.pooled(reading, arm, until) {
                Ok((estimate, _)) => {
                    estimates.push((day, estimate));
                    // There is another look when there are enough more units for one, and at the end.
                    let is_one = Some(day) == end || is_another(&estimates, planned);
                    if mode == ReadingMode::Planned && !is_one {
                        estimates.pop();
                    }
                }
                Err(undefined) => series.last = Err(undefined),
            }
        }
        let boundaries = match mode {
            ReadingMode::Planned => boundaries(&estimates, planned, alpha, end),
            _ => Vec::new(),
        };
        for (place, (day, estimate)) in estimates.into_iter().enumerate() {
            let is_over = day < self.open_day && mode != ReadingMode::Anytime;
            let is_final = Some(day) == end;
            let boundary = boundaries.get(place).copied();
            series.last = self.look(mode, &estimate, boundary, is_final, alpha);
            let Ok(inference) = series.last else {
                continue;
            };
            if self.metric_of(reading).kind == MetricKind::Count {
                // A total grows with the time since the first exposure, and so does its difference: each look is at another.
                (series.running, series.p) = (Running::default(), None);
            }
            series.running.push(&inference);
            let p = inference.p.ok().map(|p| match mode {
                // Each part of the level against the whole.
                ReadingMode::Hybrid if is_final => (p / (1.0 - RUNNING_SHARE)).min(1.0),
                ReadingMode::Hybrid => (p / RUNNING_SHARE).min(1.0),
                _ => p,
            });
            let p = p.filter(|_| mode != ReadingMode::Planned);
            series.p = series.p.into_iter().chain(p).reduce(f64::min);
            series.looks.push(Seen {
                day,
                estimate,
                inference,
                p: series.p,
            });
            // A plan that has a last look ends with it, or where an earlier one finds something: looking again would be peeking.
            let leaves_out_0 = |interval: Interval| interval.low > 0.0 || interval.high < 0.0;
            let has_found = inference.interval.is_ok_and(leaves_out_0);
            if is_final || (has_found && is_over) {
                series.decided = Some((day, estimate));
                break;
            }
        }
        series
    }

    fn look(
        &self,
        mode: ReadingMode,
        estimate: &Estimate,
        boundary: Option<f64>,
        is_final: bool,
        alpha: f64,
    ) -> Defined<Inference> {
        let rho_squared = self.rho_squared?;
        match mode {
            ReadingMode::Anytime => infer(estimate, Mode::Anytime { rho_squared }, alpha),
            ReadingMode::Planned => {
                let boundary = boundary.ok_or(Undefined::NoData)?;
                infer(estimate, Mode::Planned { boundary }, alpha)
            }
            ReadingMode::Hybrid => hybrid::look(estimate, rho_squared, is_final, alpha),
            ReadingMode::Fixed if !is_final => Err(READ_ONCE),
            ReadingMode::Fixed => infer(estimate, Mode::Fixed, alpha),
        }
    }

    /// The level of one interval: several arms share that of the primary metric.
    pub(super) fn level(&self, is_primary: bool) -> f64 {
        let comparisons = if is_primary {
            self.experiment.arms.len().saturating_sub(1).max(1)
        } else {
            1
        };
        self.experiment.plan.alpha / comparisons as f64
    }
}

/// Whether the last of some looks has enough more units than the one before for a look of its own.
fn is_another(looks: &[(i64, Estimate)], planned: f64) -> bool {
    match looks {
        [.., (_, before), (_, last)] => last.units - before.units >= planned * SMALLEST_STEP,
        _ => true,
    }
}

/// |z| at each look of a plan with looks: of α a share t² is spent until the share t of the units is there, and all of it at the
/// last.
fn boundaries(looks: &[(i64, Estimate)], planned: f64, alpha: f64, end: Option<i64>) -> Vec<f64> {
    if looks.is_empty() {
        return Vec::new();
    }
    let information: Vec<f64> = looks.iter().map(|(_, e)| e.units / planned).collect();
    let is_ended = looks.last().map(|(day, _)| *day) == end;
    let found = match is_ended {
        true => group_sequential::boundaries_at_early_end,
        false => group_sequential::boundaries,
    };
    found(&information, alpha, SPENDING_EXPONENT, 2).unwrap_or_default()
}
