//! What a week said of a prompt version, by unit: what a weekly summary reads instead of events.

use std::collections::BTreeMap;

use flywheel_core::metric::MetricSource;
use flywheel_core::{AppName, EnvironmentName, PromptVersionId};
use jiff::Timestamp;

use crate::statistics::UnitSums;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
/// 1 January 1970 was a Thursday.
const DAYS_SINCE_MONDAY: i64 = 3;

/// A week from Monday in UTC, counted from the one of 1 January 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Week(pub i64);

impl Week {
    /// The week of a moment.
    #[must_use]
    pub fn of(at: Timestamp) -> Self {
        let day = at.as_microsecond().div_euclid(MICROSECONDS_PER_DAY);
        Self((day + DAYS_SINCE_MONDAY).div_euclid(7))
    }

    /// When it begins; the end of time for a week that is beyond it.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        let day = self.0.saturating_mul(7).saturating_sub(DAYS_SINCE_MONDAY);
        Timestamp::from_second(day.saturating_mul(86_400)).unwrap_or(Timestamp::MAX)
    }

    /// The week after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Its Monday, as `2026-01-26`.
    #[must_use]
    pub fn monday(self) -> String {
        self.begin().strftime("%Y-%m-%d").to_string()
    }
}

/// Which weeks are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct WeeksQuery {
    /// Of this app.
    pub app: AppName,
    /// In this environment, or in all of them.
    pub environment: Option<EnvironmentName>,
    /// From this week on.
    pub from: Option<Week>,
    /// Up to and with this one.
    pub to: Option<Week>,
}

/// What the values of one source came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceSums {
    /// Over the units that have a value, in three columns: the sum of a unit's values, how many they are, and the unit's calls.
    /// Ratings are shares of their scale, and words count as 1.
    pub sums: UnitSums,
    /// Of signals that are no counts, how often each bucket of values occurs.
    pub classes: BTreeMap<i32, i64>,
}

/// What a week said of one prompt version.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionWeek {
    /// The week.
    pub week: Week,
    /// The version.
    pub prompt_version: PromptVersionId,
    /// By source. `signal:calls` has all units.
    pub sources: BTreeMap<MetricSource, SourceSums>,
}

/// What is known of the weeks that were asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weeks {
    /// By week and version.
    pub rows: Vec<VersionWeek>,
    /// Which share of the events is taken in, while not all are that there were when this was asked for.
    pub taken_in: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday() {
        for (at, monday) in [
            ("1970-01-01T00:00:00Z", "1969-12-29"),
            ("1969-12-28T23:59:59.999999Z", "1969-12-22"),
            ("2026-01-04T23:59:59Z", "2025-12-29"),
            ("2026-01-05T00:00:00Z", "2026-01-05"),
        ] {
            let at: Timestamp = at.parse().unwrap();
            let week = Week::of(at);
            assert_eq!(week.monday(), monday);
            assert!(week.begin() <= at && at < week.next().begin(), "{at}");
        }
    }
}
