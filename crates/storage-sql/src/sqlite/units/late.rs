//! What arrives out of its order: calls from before a unit's first exposure, and what moves a unit out of its arm after calls
//! were counted. Such a unit is made again from its events, so that their order makes no difference.

use flywheel_core::experiment::UnitKind;
use flywheel_core::metric::{self, Measured, Metric, MetricKind, MetricSource, Signal};
use rusqlite::{Connection, named_params, params};

use super::ALL;
use super::changes::Progress;
use super::follow::{Exposure, MEASURED, MEASURED_COLUMNS, Series, follow, hear, measured};
use super::running::Running;
use super::state::{Deltas, Unit};

/// A unit made again from all its calls, of which those from the given number on are not counted yet, and from the feedback that
/// is taken in. What it came to is taken out of the sums and what it comes to is put in; both on its last day, because the days
/// before are what was known then. Nothing if its first call is gone.
pub(super) fn anew(
    (connection, running, name): (&Connection, &Running, &str),
    known: &Unit,
    first_new: i64,
    progress: Progress,
    deltas: &mut Deltas,
) -> rusqlite::Result<Option<Unit>> {
    let counted = &running.counted;
    let Some(calls) = calls_of(connection, running, name, progress.calls.1)? else {
        return Ok(None);
    };
    let is_first = |(call, ..): &(Exposure, Measured, i64)| call.started_at == known.first_at;
    if !calls.iter().any(is_first) {
        return Ok(None);
    }
    let mut unit = None;
    // What changes on the way is in no sum.
    let mut aside = Deltas::default();
    for (exposure, call, _) in &calls {
        if let Some(own) = running.admits(exposure) {
            let of = (connection, running, name);
            unit = Some(follow(of, unit, own, (exposure, call), &mut aside)?);
        }
    }
    let mut known = known.clone();
    let Some(mut unit) = unit else {
        return Ok(None);
    };
    if running.needs_history && !running.has_history(unit.first_at) {
        unit.keep_before(&known);
    }
    let counts = |unit: &Unit, exposure: &Exposure| running.counts(unit, exposure);
    // What was said of calls that are new now is taken in after all of them.
    let heard = calls
        .iter()
        .filter(|(.., number)| *number <= progress.calls.0);
    for (exposure, ..) in heard {
        if !counts(&unit, exposure) {
            continue;
        }
        for (kind, series) in series_of(connection, &exposure.id, progress.feedback.0)? {
            let changed = Series {
                kind: &kind,
                name: series.as_deref(),
                before: None,
                after: progress.feedback.0,
            };
            hear(
                connection, running, &mut unit, exposure, &changed, &mut aside,
            )?;
        }
    }
    let day = known.day.max(unit.day);
    (known.day, unit.day) = (day, day);
    known.enter(counted, false, deltas);
    unit.enter(counted, true, deltas);
    for (exposure, call, number) in &calls {
        for (unit, sign) in [(&known, -1), (&unit, 1)] {
            if counts(unit, exposure) && (sign > 0 || *number < first_new) {
                classify(running, unit, call, sign, deltas);
            }
        }
    }
    Ok(Some(unit))
}

/// Takes away what the calls of a unit measured for quantiles, of those up to a number.
pub(super) fn unclassify(
    (connection, running, name): (&Connection, &Running, &str),
    unit: &Unit,
    last: i64,
    deltas: &mut Deltas,
) -> rusqlite::Result<()> {
    let is_quantile = |metric: &Metric| metric.kind == MetricKind::Quantile;
    if !running.counted.plan.metrics.iter().any(is_quantile) {
        return Ok(());
    }
    for (exposure, call, _) in calls_of(connection, running, name, last)?
        .into_iter()
        .flatten()
    {
        if running.counts(unit, &exposure) {
            classify(running, unit, &call, -1, deltas);
        }
    }
    Ok(())
}

/// Counts what a call measured for quantiles, or takes it away.
fn classify(running: &Running, unit: &Unit, call: &Measured, sign: i64, deltas: &mut Deltas) {
    let counted = &running.counted;
    for (place, reading) in counted.readings.iter().enumerate() {
        let metric = &counted.plan.metrics[reading.metric];
        let is_first = counted.readings[..place]
            .iter()
            .all(|earlier| earlier.metric != reading.metric);
        if let MetricSource::Signal(signal) = metric.source
            && metric.kind == MetricKind::Quantile
            && is_first
            && let Some(value) = Signal::of(signal, call)
        {
            unit.classify(counted, place, metric::bucket(value), sign, deltas);
        }
    }
}

/// So many calls of a unit are brought into memory at most.
const MOST_CALLS: usize = 20_000;

/// The calls of a unit in an experiment up to a number, in the order of their beginning, with their numbers; nothing if they are
/// too many, as those of everybody who has no name may be.
fn calls_of(
    connection: &Connection,
    running: &Running,
    name: &str,
    last: i64,
) -> rusqlite::Result<Option<Vec<(Exposure, Measured, i64)>>> {
    let column = match running.unit {
        UnitKind::User => "unit",
        UnitKind::Session => "session",
        UnitKind::Request => "id",
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {}, {MEASURED}, calls.number FROM calls
         WHERE {column} = :name AND +experiment = :experiment AND arm IS NOT NULL AND number <= :last
         ORDER BY started_at, number LIMIT {}",
        Exposure::COLUMNS,
        MOST_CALLS + 1
    ))?;
    let of = named_params! {
        ":name": name,
        ":experiment": running.counted.name,
        ":last": last,
    };
    let calls: Vec<_> = statement
        .query_map(of, |row| {
            let number = row.get(8 + MEASURED_COLUMNS)?;
            Ok((Exposure::read(row, 0)?, measured(row, 8)?, number))
        })?
        .collect::<rusqlite::Result<_>>()?;
    Ok((calls.len() <= MOST_CALLS).then_some(calls))
}

/// Of which kinds, and which outcomes, there is feedback on a call up to a number.
fn series_of(
    connection: &Connection,
    call: &str,
    last: i64,
) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    connection
        .prepare_cached(
            "SELECT DISTINCT kind, name FROM feedback WHERE call_id = ? AND number <= ?",
        )?
        .query_map(params![call, last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The experiments whose events are taken in and which compare with what was before: all of them, or the one.
pub(super) fn with_covariates(connection: &Connection, of: &str) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(
            "SELECT name FROM experiments
             WHERE (:of = name OR :of = :all AND status IN ('running', 'stopped')
                 AND NOT EXISTS (SELECT 1 FROM experiment_progress WHERE experiment = name))
               AND EXISTS (SELECT 1 FROM json_each(plan, '$.metrics') WHERE value ->> 'covariate')",
        )?
        .query_map(named_params! {":of": of, ":all": ALL}, |row| row.get(0))?
        .collect()
}

/// Units of whose time before their first exposure calls or feedback are new.
pub(super) fn earlier_units(
    connection: &Connection,
    running: &Running,
    progress: Progress,
) -> rusqlite::Result<Vec<String>> {
    if running.unit != UnitKind::User {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached(
        "SELECT calls.unit FROM calls NOT INDEXED
         CROSS JOIN experiment_units AS known ON known.experiment = :experiment AND known.unit = calls.unit
         WHERE calls.number > :calls_from AND calls.number <= :calls_to
           AND calls.app = :app AND calls.environment = :environment AND calls.started_at < known.first_at
         UNION
         SELECT calls.unit FROM feedback
         CROSS JOIN calls ON calls.id = feedback.call_id
         CROSS JOIN experiment_units AS known ON known.experiment = :experiment AND known.unit = calls.unit
         WHERE feedback.number > :feedback_from AND feedback.number <= :feedback_to
           AND calls.app = :app AND calls.environment = :environment
           AND calls.started_at < known.first_at AND feedback.created_at < known.first_at",
    )?;
    let of = named_params! {
        ":experiment": running.counted.name,
        ":app": running.app,
        ":environment": running.environment,
        ":calls_from": progress.calls.0,
        ":calls_to": progress.calls.1,
        ":feedback_from": progress.feedback.0,
        ":feedback_to": progress.feedback.1,
    };
    statement.query_map(of, |row| row.get(0))?.collect()
}
