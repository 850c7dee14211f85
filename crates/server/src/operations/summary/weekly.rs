//! Weekly summaries by prompt version: every metric of an app with its interval, which knows which calls came from the same
//! user.

use std::collections::BTreeMap;

use flywheel_core::feedback::RatingScale;
use flywheel_core::metric::{Metric, MetricKind, MetricSource, Signal};
use flywheel_core::name::MetricName;
use flywheel_core::{AppName, EnvironmentName, PromptVersionId};
use flywheel_stats::accumulate::CrossMoments;
use flywheel_stats::undefined::{Defined, Undefined};
use flywheel_stats::{Interval, clustered, means, proportion, quantile};
use flywheel_storage::events::{SummaryFilter, SummaryKey};
use flywheel_storage::weeks::{SourceSums, VersionWeek, Week, WeeksQuery};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::moments;
use super::{ALPHA, Summary, name_versions, summarize};
use crate::context::Context;
use crate::problem::ApiResult;

/// The columns of [`SourceSums`].
const CALLS: usize = 2;

/// A metric of the app in one week of one prompt version.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct MetricSummary {
    /// The metric.
    pub metric: MetricName,
    /// How its values are summed up.
    pub kind: MetricKind,
    /// The unit of its values; none for shares and counts.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// How many users have a value; a call that named no user is one of its own.
    pub units: u64,
    /// How many values there are.
    pub n: u64,
    /// A rate from 0 to 1, a mean or a quantile.
    pub value: Option<f64>,
    /// The lower end of the 95% interval, where there is one.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// How the interval was computed.
    pub method: &'static str,
    /// The sums over users that both follow from: x is a user's sum of values, y how many they are (of ratios the calls, of
    /// counts 1).
    pub sums: Option<UserSums>,
    /// The scale that ratings are shown on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<RatingScale>,
    /// Why there is no value or no interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
}

/// Sums over users, as many as `units`. Of ratings x is on a scale from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct UserSums {
    /// Σx.
    pub x: f64,
    /// Σy.
    pub y: f64,
    /// Σ(x − x̄)².
    pub xx: f64,
    /// Σ(x − x̄)(y − ȳ).
    pub xy: f64,
    /// Σ(y − ȳ)².
    pub yy: f64,
}

impl UserSums {
    fn of(source: &SourceSums) -> Self {
        let sums = &source.sums;
        Self {
            x: sums.sum(0),
            y: sums.sum(1),
            xx: sums.centred(0, 0),
            xy: sums.centred(0, 1),
            yy: sums.centred(1, 1),
        }
    }
}

/// Which weeks are asked for: those of the window's ends are taken whole.
#[derive(Debug, Clone, PartialEq)]
pub struct WeeklyQuery {
    /// Of this app.
    pub app: AppName,
    /// In this environment, or in all of them.
    pub environment: Option<EnvironmentName>,
    /// From the week of this time on.
    pub since: Option<Timestamp>,
    /// Up to the week before this time.
    pub until: Option<Timestamp>,
}

/// Weeks by prompt version, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Weekly {
    /// A row for each week and version.
    pub rows: Vec<Summary>,
    /// Which share of the events is taken in, while not all are.
    pub taken_in: Option<f64>,
}

/// Sums an app up by week and prompt version.
///
/// # Errors
/// When the store fails.
pub async fn weekly(context: &Context, asked: WeeklyQuery) -> ApiResult<Weekly> {
    let from = asked.since.map(Week::of);
    // The week in which the last moment before the end is.
    let to = asked.until.map(|until| {
        let last = Timestamp::from_microsecond(until.as_microsecond().saturating_sub(1));
        Week::of(last.unwrap_or(until))
    });
    let settings = {
        let mut session = context.state.read().await?;
        let app = session.deployments().get_app(&asked.app).await?;
        app.map(|app| app.settings).unwrap_or_default()
    };
    let weeks = context
        .statistics
        .weeks(&WeeksQuery {
            app: asked.app.clone(),
            environment: asked.environment.clone(),
            from,
            to,
        })
        .await?;
    let filter = SummaryFilter {
        apps: vec![asked.app],
        environment: asked.environment,
        since: from.map(Week::begin),
        until: to.map(|week| week.next().begin()),
        ..SummaryFilter::default()
    };
    let by = SummaryKey::Week;
    let mut rows = summarize(context.events.summarize(&filter, by).await?);
    let metrics = settings.metrics();
    let found: BTreeMap<(String, PromptVersionId), &VersionWeek> = weeks
        .rows
        .iter()
        .map(|row| ((row.week.monday(), row.prompt_version), row))
        .collect();
    for row in &mut rows {
        let key = row.key.split_once('/');
        let Some((week, version)) = key.and_then(|(week, version)| {
            let version: PromptVersionId = version.parse().ok()?;
            Some((week.to_owned(), version))
        }) else {
            continue;
        };
        // What is said of series would take each call for independent of the others.
        row.series.clear();
        let sources = found.get(&(week.clone(), version)).map(|row| &row.sources);
        row.metrics = sources
            .map(|sources| metrics.iter().map(|m| read(m, sources)).collect())
            .unwrap_or_default();
        row.week = Some(week);
        row.prompt_version = Some(version);
    }
    name_versions(&mut *context.state.read().await?, by, &mut rows).await?;
    rows.sort_by(|left, right| {
        let place = |row: &Summary| {
            let prompt = row.prompt.as_ref().map(ToString::to_string);
            (
                row.week.clone(),
                prompt,
                row.prompt_ordinal,
                row.key.clone(),
            )
        };
        place(left).cmp(&place(right))
    });
    Ok(Weekly {
        rows,
        taken_in: weeks.taken_in,
    })
}

type Sources = BTreeMap<MetricSource, SourceSums>;

/// A value and its interval.
struct Found {
    value: Defined<f64>,
    interval: Defined<Interval>,
    method: &'static str,
    sums: Option<UserSums>,
}

impl Found {
    fn nothing(reason: Undefined) -> Self {
        Self {
            value: Err(reason),
            interval: Err(reason),
            method: "none",
            sums: None,
        }
    }
}

fn read(metric: &Metric, sources: &Sources) -> MetricSummary {
    let nothing = SourceSums::default();
    let of = |source: &MetricSource| sources.get(source).unwrap_or(&nothing);
    let own = of(&metric.source);
    let calls = of(&MetricSource::Signal(Signal::Calls));
    let found = match metric.kind {
        MetricKind::Quantile => of_quantile(own, metric.quantile()),
        MetricKind::Count => per_unit(own, calls),
        MetricKind::Ratio => match metric.denominator() {
            Some(MetricSource::Signal(Signal::Calls)) | None => per_call(own, calls),
            Some(per) => per_other(own, of(&per)),
        },
        MetricKind::Binary => rate(own),
        MetricKind::Continuous | MetricKind::Ordinal => mean(own),
    };
    let is_of_all = matches!(metric.kind, MetricKind::Count | MetricKind::Ratio);
    let counted = if is_of_all { calls } else { own };
    let is_rating = metric.source == MetricSource::Feedback("rating".to_owned());
    let scale = (is_rating && !is_of_all).then(|| metric.rating_scale());
    let shown = |value: f64| match scale {
        Some(RatingScale { min, max }) => min * (1.0 - value) + max * value,
        None => value,
    };
    // No mean of grades is beyond the best and the worst of them.
    let within = |end: f64| match scale {
        Some(_) => end.clamp(0.0, 1.0),
        None => end,
    };
    // Values that have been the same until now are no proof that they always will be.
    let interval = found.interval.and_then(|interval| {
        let has_width = interval.low < interval.high;
        has_width.then_some(interval).ok_or(Undefined::ZeroVariance)
    });
    let reason = found.value.err().or(interval.err());
    let interval = interval.ok();
    MetricSummary {
        metric: metric.name.clone(),
        kind: metric.kind,
        unit: metric.unit.clone(),
        units: u64::try_from(counted.sums.n).unwrap_or(0),
        n: counted.sums.sum(1).max(0.0) as u64,
        value: found.value.ok().map(shown),
        low: interval.map(|interval| shown(within(interval.low))),
        high: interval.map(|interval| shown(within(interval.high))),
        method: found.method,
        sums: found.sums,
        scale,
        undefined: reason.map(|undefined| undefined.to_string()),
    }
}

/// Whether every unit has one value.
fn is_one_each(source: &SourceSums) -> bool {
    source.sums.sum(1) == source.sums.n as f64 && source.sums.centred(1, 1) == 0.0
}

/// The sum of the values over how many they are.
fn share(source: &SourceSums) -> Defined<f64> {
    match source.sums.sum(1) {
        n if n > 0.0 => Ok(source.sums.sum(0) / n),
        _ => Err(Undefined::NoData),
    }
}

fn rate(source: &SourceSums) -> Found {
    let value = share(source);
    if value.is_ok_and(|value| !(0.0..=1.0).contains(&value)) {
        return Found::nothing(Undefined::Domain(
            "some values are neither yes nor no, so there is no rate",
        ));
    }
    let (yes, n) = (source.sums.sum(0), source.sums.n);
    if is_one_each(source) && yes.fract() == 0.0 && yes >= 0.0 {
        let n = u64::try_from(n).unwrap_or(0);
        return Found {
            value,
            interval: proportion::wilson_interval(yes as u64, n, ALPHA),
            method: "Wilson",
            sums: Some(UserSums::of(source)),
        };
    }
    Found {
        value,
        interval: moments::pair(&source.sums)
            .and_then(|users| clustered::rate_interval(&users, ALPHA)),
        method: "Wilson, by user",
        sums: Some(UserSums::of(source)),
    }
}

fn mean(source: &SourceSums) -> Found {
    let value = share(source);
    if is_one_each(source) {
        let n = u64::try_from(source.sums.n).unwrap_or(0);
        let (sum, squares) = (source.sums.sum(0), source.sums.centred(0, 0));
        return Found {
            value,
            interval: means::student_interval(n, sum, squares, ALPHA),
            method: "Student",
            sums: Some(UserSums::of(source)),
        };
    }
    Found {
        value,
        interval: moments::pair(&source.sums)
            .and_then(|users| clustered::mean_interval(&users, ALPHA)),
        method: "ratio of sums, by user",
        sums: Some(UserSums::of(source)),
    }
}

/// The mean of the units' totals, over all units that called.
fn per_unit(source: &SourceSums, calls: &SourceSums) -> Found {
    let Ok(n) = u64::try_from(calls.sums.n) else {
        return Found::nothing(Undefined::InconsistentSums);
    };
    if n == 0 {
        return Found::nothing(Undefined::NoData);
    }
    let mut of_all = source.sums;
    of_all.n = calls.sums.n;
    Found {
        value: Ok(of_all.sum(0) / n as f64),
        interval: means::student_interval(n, of_all.sum(0), of_all.centred(0, 0), ALPHA),
        method: "Student, over users",
        sums: Some(UserSums {
            x: of_all.sum(0),
            y: n as f64,
            xx: of_all.centred(0, 0),
            xy: 0.0,
            yy: 0.0,
        }),
    }
}

/// The sum of the values over all calls. Units without a value have calls too.
fn per_call(source: &SourceSums, calls: &SourceSums) -> Found {
    let n = calls.sums.n as f64;
    let (x, y) = (source.sums.sum(0), calls.sums.sum(0));
    if n < 1.0 || y <= 0.0 {
        return Found::nothing(Undefined::NoData);
    }
    let mut of_all = source.sums;
    of_all.n = calls.sums.n;
    let xx = of_all.centred(0, 0);
    let yy = calls.sums.centred(0, 0);
    // The products of the units that have values, about the means of all.
    let xy = match source.sums.n {
        own if own > 0 => {
            let within = source.sums.centred(0, CALLS);
            within + x * (source.sums.sum(CALLS) / own as f64 - y / n)
        }
        _ => 0.0,
    };
    let units = u64::try_from(calls.sums.n).unwrap_or(0);
    let users = CrossMoments::new(units, [x / n, y / n], [[xx, xy], [xy, yy]]);
    Found {
        value: Ok(x / y),
        interval: users.and_then(|users| clustered::mean_interval(&users, ALPHA)),
        method: "ratio of sums, by user",
        sums: Some(UserSums { x, y, xx, xy, yy }),
    }
}

fn per_other(source: &SourceSums, per: &SourceSums) -> Found {
    let value = match per.sums.sum(0) {
        y if y != 0.0 => Ok(source.sums.sum(0) / y),
        _ => Err(Undefined::NoData),
    };
    Found {
        value,
        interval: Err(Undefined::Domain(
            "weeks keep no products of two sources by user; an experiment has the interval",
        )),
        method: "none",
        sums: None,
    }
}

/// Calls of one user are taken for as alike as they can be, because weeks do not know how alike they are.
fn of_quantile(source: &SourceSums, p: f64) -> Found {
    let histogram = moments::histogram(&source.classes);
    let effect = match moments::pair(&source.sums) {
        Ok(users) => clustered::largest_design_effect(&users),
        Err(undefined) => Err(undefined),
    };
    let found = effect
        .and_then(|effect| quantile::clustered_interval_of_histogram(&histogram, p, ALPHA, effect));
    let value = quantile::interval_of_histogram(&histogram, p, ALPHA).map(|found| found.estimate);
    let interval = found.and_then(|found| {
        let bounds = found.lower.zip(found.upper);
        bounds
            .map(|(low, high)| Interval { low, high })
            .ok_or(Undefined::Domain(
                "too few users for an interval of this quantile",
            ))
    });
    Found {
        value,
        interval,
        method: if is_one_each(source) {
            "order statistics"
        } else {
            "order statistics, a user's calls taken for one"
        },
        sums: Some(UserSums::of(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flywheel_core::metric::{self, starter_set};
    use flywheel_storage::statistics::UnitSums;

    fn source(units: &[[f64; 3]]) -> SourceSums {
        let mut sums = UnitSums::default();
        for [x, n, calls] in units {
            sums.put(&[*x, *n, *calls, 0.0], true);
        }
        SourceSums {
            sums,
            classes: BTreeMap::new(),
        }
    }

    fn named(name: &str) -> Metric {
        let mut all = starter_set().into_iter();
        all.find(|metric| metric.name.as_str() == name).unwrap()
    }

    fn read_alone(name: &str, units: &[[f64; 3]]) -> MetricSummary {
        let metric = named(name);
        read(
            &metric,
            &BTreeMap::from([(metric.source.clone(), source(units))]),
        )
    }

    fn near(found: Option<f64>, expected: f64) -> bool {
        found.is_some_and(|found| (found - expected).abs() < 1e-9)
    }

    #[test]
    fn one_value_of_each_user_is_wilsons_and_several_are_worth_less() {
        let each: Vec<[f64; 3]> = (0..100).map(|n| [f64::from(n % 2), 1.0, 1.0]).collect();
        let plain = read_alone("thumbs_up", &each);
        assert_eq!((plain.units, plain.n, plain.method), (100, 100, "Wilson"));
        assert!(near(plain.low, 0.403_831_530_365_996), "{plain:?}");
        let alike: Vec<[f64; 3]> = (0..10)
            .map(|n| [f64::from(n % 2) * 10.0, 10.0, 10.0])
            .collect();
        let found = read_alone("thumbs_up", &alike);
        assert_eq!((found.units, found.n, found.value), (10, 100, Some(0.5)));
        assert_eq!(found.method, "Wilson, by user");
        let width = |found: &MetricSummary| found.high.unwrap() - found.low.unwrap();
        assert!(width(&found) > 2.5 * width(&plain), "{found:?} {plain:?}");
    }

    #[test]
    fn grades_stay_on_their_scale() {
        let found = read_alone(
            "rating",
            &[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.9, 1.0, 1.0]],
        );
        assert_eq!(found.scale, Some(RatingScale::default()));
        assert_eq!(found.high, Some(5.0), "{found:?}");
        assert!(found.low.unwrap() > 1.0 && found.low < found.value);
    }

    #[test]
    fn what_never_varied_is_not_certain() {
        for (name, units) in [
            ("rating", [[1.0, 1.0, 1.0]; 50]),
            ("rating", [[3.0, 3.0, 3.0]; 50]),
            ("output_tokens", [[24.0, 2.0, 2.0]; 50]),
        ] {
            let found = read_alone(name, &units);
            assert!(found.value.is_some() && found.low.is_none(), "{found:?}");
            assert!(found.undefined.unwrap().contains("do not vary"));
        }
        let calls = source(&[[1.0, 1.0, 1.0]; 50]);
        let found = read(
            &named("corrections"),
            &BTreeMap::from([("signal:calls".parse().unwrap(), calls)]),
        );
        assert_eq!((found.value, found.high), (Some(0.0), None), "{found:?}");
    }

    #[test]
    fn totals_and_ratios_are_over_all_who_called() {
        // Three users with 1, 2 and 3 calls, of whom the last corrected twice.
        let calls = source(&[[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [3.0, 3.0, 3.0]]);
        let corrections = source(&[[2.0, 2.0, 3.0]]);
        let metric = named("corrections");
        let sources = BTreeMap::from([
            (metric.source.clone(), corrections),
            ("signal:calls".parse().unwrap(), calls),
        ]);
        let found = read(&metric, &sources);
        assert!(near(found.value, 2.0 / 6.0), "{found:?}");
        assert_eq!((found.units, found.n), (3, 6));
        let by_hand = CrossMoments::of(&[[0.0, 1.0], [0.0, 2.0], [2.0, 3.0]]);
        let expected = clustered::mean_interval(&by_hand, ALPHA).unwrap();
        assert!(near(found.low, expected.low), "{found:?} {expected:?}");
        let mut total = metric;
        total.kind = MetricKind::Count;
        let found = read(&total, &sources);
        assert!(near(found.value, 2.0 / 3.0), "{found:?}");
        let expected = means::student_interval(3, 2.0, 8.0 / 3.0, ALPHA).unwrap();
        assert!(near(found.high, expected.high), "{found:?}");
    }

    #[test]
    fn quantiles_do_not_take_a_users_calls_for_many() {
        let latency = |users: u32, calls: u32| {
            let each = f64::from(calls);
            let mut found = source(&vec![[100.0 * each, each, each]; users as usize]);
            for class in 0..20_i64 {
                let bucket = metric::bucket(100.0 + class as f64 * 20.0);
                found.classes.insert(bucket, i64::from(users * calls) / 20);
            }
            let metric = named("latency_p95");
            read(&metric, &BTreeMap::from([(metric.source.clone(), found)]))
        };
        let (one_each, alike) = (latency(2000, 1), latency(100, 20));
        assert_eq!(one_each.value, alike.value);
        assert!(alike.low.unwrap() < one_each.low.unwrap(), "{alike:?}");
        let few = latency(20, 20);
        assert!(few.value.is_some() && few.low.is_none(), "{few:?}");
        assert!(few.undefined.unwrap().contains("too few users"));
    }

    #[test]
    fn what_nobody_said_has_a_reason() {
        for metric in starter_set() {
            let found = read(&metric, &BTreeMap::new());
            assert_eq!((found.value, found.low, found.n), (None, None, 0));
            assert!(found.undefined.is_some(), "{found:?}");
        }
    }
}
