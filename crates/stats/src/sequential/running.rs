//! What has been seen so far of a sequence: the smallest p-value and the intersection of intervals.

use crate::Interval;
use crate::inference::Inference;

/// The running minimum of p and the running intersection of intervals, over looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Running {
    /// The smallest p-value so far.
    pub p: f64,
    /// The intersection so far; none before the first bounded look.
    pub interval: Option<Interval>,
    /// Whether the intersection has become empty, or without the estimate of a look, which of a stationary effect it hardly ever
    /// does. The interval is from then on that of the last look.
    pub nonstationary: bool,
}

impl Default for Running {
    fn default() -> Self {
        Self {
            p: 1.0,
            interval: None,
            nonstationary: false,
        }
    }
}

impl Running {
    /// Adds a look.
    pub fn push(&mut self, look: &Inference) {
        if let Ok(p) = look.p {
            self.p = self.p.min(p);
        }
        let Ok(now) = look.interval else { return };
        let before = self.interval.unwrap_or(now);
        let both = Interval {
            low: before.low.max(now.low),
            high: before.high.min(now.high),
        };
        let has_estimate = (both.low..=both.high).contains(&look.estimate);
        if self.nonstationary || !has_estimate {
            self.nonstationary = true;
            self.interval = Some(now);
        } else {
            self.interval = Some(both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Estimate;
    use crate::inference::{Mode, infer};

    #[test]
    fn an_interval_contains_its_estimate() {
        let look = |value: f64, standard_error: f64| {
            let estimate = Estimate::new(value, standard_error, 998.0, 1000.0).unwrap();
            infer(&estimate, Mode::Anytime { rho_squared: 0.01 }, 0.05).unwrap()
        };
        let mut running = Running::default();
        running.push(&look(0.0, 0.05));
        let first = running.interval.unwrap();
        // What both have in common is there, and the second estimate is not in it.
        let second = look(first.high * 1.5, 0.05);
        running.push(&second);
        assert!(second.interval.unwrap().low < first.high);
        assert!(running.nonstationary);
        assert_eq!(running.interval, second.interval.ok());
    }

    #[test]
    fn intervals_only_shrink_until_they_part() {
        let look = |value: f64| {
            let estimate = Estimate::new(value, 0.05, 998.0, 1000.0).unwrap();
            infer(&estimate, Mode::Anytime { rho_squared: 0.01 }, 0.05).unwrap()
        };
        let mut running = Running::default();
        running.push(&look(0.2));
        let first = running.interval.unwrap();
        running.push(&look(0.25));
        let second = running.interval.unwrap();
        assert!(second.low > first.low && second.high == first.high);
        assert!(!running.nonstationary);
        running.push(&look(-2.0));
        assert!(running.nonstationary && running.p < 1e-3);
        assert!(running.interval.unwrap().high < 0.0);
    }
}
