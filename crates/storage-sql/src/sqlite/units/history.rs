//! What metrics of an app were before an experiment: for its plan, and for each unit as a covariate.

use std::collections::{BTreeMap, HashMap};

use flywheel_core::experiment::UnitKind;
use flywheel_core::feedback::LARGEST_OUTCOME;
use flywheel_core::metric::{self, Measured, Metric, MetricKind, MetricSource};
use flywheel_storage::StorageResult;
use flywheel_storage::statistics::{HistoryQuery, MetricHistory, UnitHistory};
use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::super::error::unfulfilled;
use super::DAY_MICROSECONDS;
use super::follow::{MEASURED, measured};
use super::running::Running;

/// How many of the newest calls a plan looks at.
const MOST_CALLS: i64 = 100_000;
/// How many calls of a unit before its first exposure are looked at.
const MOST_BEFORE: i64 = 500;
/// How long before its first exposure.
pub(super) const BEFORE_MICROSECONDS: i64 = 28 * DAY_MICROSECONDS;

/// Numerator and denominator of each metric for one call, as far as it has them.
type Parts = Vec<Option<(f64, f64)>>;

/// A value, and the scale of a rating.
type Said = (Option<f64>, Option<(f64, f64)>);

/// What feedback was given on a call until some time, the latest of each series.
fn opinions(
    connection: &Connection,
    call: &str,
    until: i64,
) -> rusqlite::Result<BTreeMap<String, Said>> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, value, scale_min, scale_max FROM feedback
         WHERE call_id = ? AND created_at < ? ORDER BY created_at, number",
    )?;
    let mut rows = statement.query(rusqlite::params![call, until])?;
    let mut latest: BTreeMap<String, Said> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (kind, name): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let series = match name {
            Some(name) => format!("{kind}:{name}"),
            None => kind,
        };
        let min: Option<f64> = row.get(3)?;
        latest.insert(series, (row.get(2)?, min.zip(row.get(4)?)));
    }
    Ok(latest)
}

/// What a call adds to each metric.
fn parts(
    connection: &Connection,
    metrics: &[&Metric],
    call: (&str, &Measured),
    until: i64,
) -> rusqlite::Result<Parts> {
    let (id, measured) = call;
    let is_feedback = |source: &MetricSource| matches!(source, MetricSource::Feedback(_));
    let asks = |metric: &&Metric| {
        is_feedback(&metric.source) || metric.per.as_ref().is_some_and(is_feedback)
    };
    let said = match metrics.iter().any(asks) {
        true => opinions(connection, id, until)?,
        false => BTreeMap::new(),
    };
    let value = |metric: &Metric, source: &MetricSource| match source {
        MetricSource::Signal(signal) => signal.of(measured),
        MetricSource::Feedback(series) => said
            .get(series)
            .and_then(|(value, scale)| metric.value_of_feedback(*value, *scale))
            .filter(|value| value.abs() <= LARGEST_OUTCOME),
    };
    Ok(metrics
        .iter()
        .map(|metric| {
            let x = value(metric, &metric.source);
            if let Some(per) = metric.denominator() {
                let y = value(metric, &per);
                return (x.is_some() || y.is_some()).then(|| (x.unwrap_or(0.0), y.unwrap_or(0.0)));
            }
            x.map(|x| (x, 1.0))
        })
        .collect())
}

/// What the covariates of a unit were before its first exposure: metrics, numerators and denominators.
pub(super) fn before(
    connection: &Connection,
    running: &Running,
    name: &str,
    at: i64,
) -> rusqlite::Result<Vec<(usize, [f64; 2])>> {
    let counted = &running.counted;
    // Sessions and requests have no time before.
    if running.unit != UnitKind::User || !running.needs_history {
        return Ok(Vec::new());
    }
    let places: Vec<usize> = counted
        .plan
        .metrics
        .iter()
        .enumerate()
        .filter(|(_, metric)| metric.covariate && metric.kind != MetricKind::Quantile)
        .map(|(place, _)| place)
        .collect();
    let metrics: Vec<&Metric> = places.iter().map(|p| &counted.plan.metrics[*p]).collect();
    let mut sums = vec![[0.0; 2]; places.len()];
    let mut statement = connection.prepare_cached(&format!(
        "SELECT calls.id, {MEASURED} FROM calls
         WHERE unit = :unit AND started_at >= :since AND started_at < :until
           AND app = :app AND environment = :environment
         ORDER BY started_at DESC LIMIT :most"
    ))?;
    let mut rows = statement.query(named_params! {
        ":unit": name,
        ":since": at - BEFORE_MICROSECONDS,
        ":until": at,
        ":app": running.app,
        ":environment": running.environment,
        ":most": MOST_BEFORE,
    })?;
    while let Some(row) = rows.next()? {
        let (id, measured): (String, Measured) = (row.get(0)?, measured(row, 1)?);
        let parts = parts(connection, &metrics, (&id, &measured), at)?;
        for (sum, part) in sums.iter_mut().zip(parts) {
            if let Some((x, y)) = part {
                *sum = [sum[0] + x, sum[1] + y];
            }
        }
    }
    Ok(places.into_iter().zip(sums).collect())
}

/// What metrics were, from the newest calls of the time asked for.
pub(in super::super) fn history(
    connection: &Connection,
    query: &HistoryQuery,
) -> StorageResult<UnitHistory> {
    let transaction = connection
        .unchecked_transaction()
        .map_err(unfulfilled("beginning to look at past calls"))?;
    read(&transaction, query).map_err(unfulfilled("looking at past calls"))
}

fn read(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<UnitHistory> {
    let metrics: Vec<&Metric> = query.metrics.iter().collect();
    let until = query.until.as_microsecond();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT calls.id, started_at, unit, session, {MEASURED} FROM calls
         WHERE app = :app AND started_at >= :since AND started_at < :until AND environment = :environment
         ORDER BY started_at DESC LIMIT :most"
    ))?;
    let mut rows = statement.query(named_params! {
        ":app": query.app.as_str(),
        ":environment": query.environment.as_str(),
        ":since": query.since.as_microsecond(),
        ":until": until,
        ":most": MOST_CALLS,
    })?;
    let mut units: HashMap<String, (i64, Vec<[f64; 2]>)> = HashMap::new();
    let mut found = vec![MetricHistory::default(); metrics.len()];
    let mut since = None;
    while let Some(row) = rows.next()? {
        let (id, at): (String, i64) = (row.get(0)?, row.get(1)?);
        let unit: Option<String> = match query.unit {
            UnitKind::User => row.get(2)?,
            UnitKind::Session => row.get(3)?,
            UnitKind::Request => Some(id.clone()),
        };
        since = Some(at);
        let Some(unit) = unit else {
            continue;
        };
        let measured = measured(row, 4)?;
        // What was said until now, this moment included.
        let parts = parts(
            connection,
            &metrics,
            (&id, &measured),
            until.saturating_add(1),
        )?;
        let (first, sums) = units
            .entry(unit)
            .or_insert_with(|| (at, vec![[0.0; 2]; metrics.len()]));
        *first = at.min(*first);
        for (place, part) in parts.into_iter().enumerate() {
            let Some((x, y)) = part else {
                continue;
            };
            if metrics[place].kind == MetricKind::Quantile {
                *found[place].buckets.entry(metric::bucket(x)).or_default() += 1;
            }
            sums[place] = [sums[place][0] + x, sums[place][1] + y];
        }
    }
    for (_, sums) in units.values() {
        for ((metric, history), [x, y]) in metrics.iter().zip(&mut found).zip(sums) {
            let is_total = metric.kind == MetricKind::Count;
            let x = x.min(metric.most(*y));
            if is_total || *y != 0.0 {
                let y = if is_total { 1.0 } else { *y };
                history.sums.put(&[x, y, 0.0, 0.0], true);
            }
        }
    }
    Ok(UnitHistory {
        since: since.and_then(|at| Timestamp::from_microsecond(at).ok()),
        distinct_units: distinct(units.values().map(|(first, _)| *first), since, until),
        metrics: found,
    })
}

/// For each day distinct units until its end, from the moments at which each was first seen.
fn distinct(firsts: impl Iterator<Item = i64>, since: Option<i64>, until: i64) -> Vec<u64> {
    let Some(since) = since else {
        return Vec::new();
    };
    let days = ((until - since) / DAY_MICROSECONDS + 1).clamp(1, 400) as usize;
    let mut seen = vec![0_u64; days];
    for first in firsts {
        let day = ((first - since) / DAY_MICROSECONDS).clamp(0, days as i64 - 1) as usize;
        seen[day] += 1;
    }
    let mut all = 0;
    seen.into_iter()
        .map(|new| {
            all += new;
            all
        })
        .collect::<Vec<_>>()
}
