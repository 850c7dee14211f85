//! What a metric is in one arm, with its interval for one look.

use flywheel_core::metric::{Metric, MetricKind};
use flywheel_stats::special::normal;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{Interval, clustered, quantile, ratio};

use super::super::moments;
use super::compare::Comparing;
use super::{ArmValue, Sums, few, is_quantile};

impl Comparing<'_> {
    /// The control's value, as far as an arm is compared with it, of which differences are told as a share; none if it is not
    /// four standard errors from zero, so that such a share might be anything.
    pub(super) fn base(
        &self,
        reading: usize,
        arm: usize,
        now: Option<&ArmValue>,
        until: Option<i64>,
    ) -> Option<f64> {
        const ERRORS: f64 = 4.0;
        let (value, error) = self.control_value(reading, arm, now, until)?;
        (value.abs() > ERRORS * error && value != 0.0).then_some(value)
    }

    /// The control's value, as far as an arm is compared with it, and its standard error. Of a quantile there is only what is known
    /// now.
    pub(super) fn control_value(
        &self,
        reading: usize,
        arm: usize,
        now: Option<&ArmValue>,
        until: Option<i64>,
    ) -> Option<(f64, f64)> {
        if is_quantile(self.metric_of(reading)) {
            let now = now?;
            let critical = normal::upper_quantile(self.experiment.plan.alpha / 2.0).ok()?;
            Some((now.value?, (now.high? - now.low?) / (2.0 * critical)))
        } else {
            let [control, _] = self.both_until(reading, arm, until);
            let found = moments::pair(&control).and_then(|pair| ratio::arm(&pair));
            let found = found.ok()?;
            Some((found.value, found.squared_error().sqrt()))
        }
    }

    /// A metric's value in one arm, with its interval for one look.
    pub(super) fn value(&self, reading: usize, arm: usize, metric: &Metric) -> ArmValue {
        let sums = self.all_sums(arm, reading);
        let found: Defined<(f64, Defined<Interval>)> = if is_quantile(metric) {
            let histogram = moments::histogram(&self.all_classes(arm, reading));
            let alpha = self.experiment.plan.alpha;
            quantile::interval_of_histogram(&histogram, metric.quantile(), alpha).map(|found| {
                let bounds = found.lower.zip(found.upper);
                let interval = bounds.map(|(low, high)| Interval { low, high });
                (found.estimate, interval.ok_or(Undefined::Unbounded))
            })
        } else {
            let alpha = self.experiment.plan.alpha;
            moments::pair(&sums).and_then(|pair| {
                let interval = match metric.kind {
                    MetricKind::Binary => clustered::rate_interval(&pair, alpha),
                    _ => clustered::mean_interval(&pair, alpha),
                };
                Ok((ratio::arm(&pair)?.value, interval))
            })
        };
        // Where one unit or none has a value there is a mean but no spread.
        let has_mean = sums.n > 0 && sums.sum(1) != 0.0 && !is_quantile(metric);
        let mean = || has_mean.then(|| sums.sum(0) / sums.sum(1));
        let interval = match found.and_then(|(_, interval)| interval) {
            _ if sums.n > 0 && few::are_few(metric, &sums) => Err(few::TOO_FEW),
            interval => interval,
        };
        ArmValue {
            arm: self.name(arm),
            value: found.ok().map(|(value, _)| value).or_else(mean),
            low: interval.ok().map(|interval| interval.low),
            high: interval.ok().map(|interval| interval.high),
            undefined: interval.err().map(|undefined| undefined.to_string()),
            sums: Sums::from(&sums),
        }
    }
}
