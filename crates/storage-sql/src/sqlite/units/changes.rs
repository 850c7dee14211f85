//! What events since the last time change in the units of experiments and in the sums over them. It is read beside the
//! writers and holds up none of them.

use std::collections::{BTreeMap, HashMap};

use flywheel_core::metric::{Measured, Metric};
use flywheel_storage::StorageResult;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::super::error::unfulfilled;
use super::super::sums::TakenIn;
use super::follow::{
    Exposure, MEASURED, MEASURED_COLUMNS, Series, follow, hear, measured, series_of,
};
use super::running::{Own, Running, document, running};
use super::state::{Deltas, Standing, Unit, read_values};
use super::{ALL, history, late};

/// How many calls, and how many pieces of feedback, are taken in at a time: each may change a row of its own, while
/// everybody who writes waits.
const MOST: i64 = 4000;

/// Up to which numbers events are taken in, and up to which they will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) calls: (i64, i64),
    pub(super) feedback: (i64, i64),
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Changes {
    /// Under which name the progress is kept.
    pub(super) of: String,
    pub(super) progress: Progress,
    /// Whether an experiment that is made again has caught up with the others.
    pub(super) has_caught_up: bool,
    pub(super) units: BTreeMap<(String, String), Unit>,
    pub(super) deltas: Deltas,
    /// Whether nothing newer was there.
    pub(super) is_all: bool,
}

impl TakenIn for Changes {
    fn is_all(&self) -> bool {
        self.is_all
    }
}

/// Reads what is new, apart from that of experiments that are made again; nothing if nothing is.
pub(super) fn read(connection: &Connection) -> StorageResult<Option<Changes>> {
    in_one_moment(connection, new_events)
}

/// Reads the next events of an experiment that is made again; nothing if none is.
pub(super) fn read_again(connection: &Connection) -> StorageResult<Option<Changes>> {
    in_one_moment(connection, earlier_events)
}

fn in_one_moment(
    connection: &Connection,
    look: fn(&Connection) -> rusqlite::Result<Option<Changes>>,
) -> StorageResult<Option<Changes>> {
    let transaction = connection
        .unchecked_transaction()
        .map_err(unfulfilled("beginning to look at units"))?;
    look(&transaction).map_err(unfulfilled("looking at the units of experiments"))
}

/// How far all experiments are, and how far each is that is made again.
type Places = ((i64, i64), Vec<(String, i64, i64)>);

fn places(connection: &Connection) -> rusqlite::Result<Option<Places>> {
    let mut rows: Vec<(String, i64, i64)> = connection
        .prepare_cached(
            "SELECT experiment, calls, feedback FROM experiment_progress ORDER BY experiment",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let all = rows.iter().position(|(name, ..)| name == ALL);
    Ok(all.map(|place| {
        let (_, calls, feedback) = rows.remove(place);
        ((calls, feedback), rows)
    }))
}

fn new_events(connection: &Connection) -> rusqlite::Result<Option<Changes>> {
    let newest: (i64, i64) = connection.query_row(
        "SELECT (SELECT coalesce(max(number), 0) FROM calls),
                (SELECT coalesce(max(number), 0) FROM feedback)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some(((calls, feedback), again)) = places(connection)? else {
        return Ok(None);
    };
    if calls >= newest.0 && feedback >= newest.1 {
        return Ok(None);
    }
    let progress = Progress {
        calls: (calls, newest.0.max(calls).min(calls + MOST)),
        feedback: (feedback, newest.1.max(feedback).min(feedback + MOST)),
    };
    let without: Vec<String> = again.into_iter().map(|(name, ..)| name).collect();
    let mut changes = take_in(connection, ALL, progress, &without)?;
    changes.is_all = (progress.calls.1, progress.feedback.1) == newest;
    Ok(Some(changes))
}

fn earlier_events(connection: &Connection) -> rusqlite::Result<Option<Changes>> {
    let Some(((calls, feedback), again)) = places(connection)? else {
        return Ok(None);
    };
    let Some((name, from_calls, from_feedback)) = again.first() else {
        return Ok(None);
    };
    let progress = evenly((*from_calls, calls), (*from_feedback, feedback));
    let mut changes = take_in(connection, name, progress, &[])?;
    changes.has_caught_up = (progress.calls.1, progress.feedback.1) == (calls, feedback);
    changes.is_all = changes.has_caught_up && again.len() == 1;
    Ok(Some(changes))
}

/// Takes calls and feedback in at the same pace, about as they came.
fn evenly(calls: (i64, i64), feedback: (i64, i64)) -> Progress {
    let (all_calls, all_feedback) = (calls.1 - calls.0, feedback.1 - feedback.0);
    let steps = (all_calls.max(all_feedback) + MOST - 1) / MOST;
    let part = |from: i64, all: i64| match steps {
        0 | 1 => from + all,
        steps => from + all / steps,
    };
    Progress {
        calls: (calls.0, part(calls.0, all_calls)),
        feedback: (feedback.0, part(feedback.0, all_feedback)),
    }
}

struct Taking<'c> {
    connection: &'c Connection,
    /// Whether it is of statistics that are made again.
    is_again: bool,
    experiments: HashMap<String, Option<Running>>,
    units: BTreeMap<(String, String), Unit>,
    late: BTreeMap<(String, String), Late>,
    deltas: Deltas,
}

/// A unit's calls from the first on that came out of its order, with its number.
struct Late {
    number: i64,
    calls: Vec<(Exposure, Own, Measured)>,
}

fn take_in(
    connection: &Connection,
    of: &str,
    progress: Progress,
    without: &[String],
) -> rusqlite::Result<Changes> {
    let mut taking = Taking {
        connection,
        is_again: of != ALL,
        experiments: without.iter().map(|name| (name.clone(), None)).collect(),
        units: BTreeMap::new(),
        late: BTreeMap::new(),
        deltas: Deltas::default(),
    };
    taking.calls(of, progress)?;
    taking.feedback(of, progress)?;
    taking.earlier(of, progress)?;
    Ok(Changes {
        of: of.to_owned(),
        progress,
        has_caught_up: false,
        units: taking.units,
        deltas: taking.deltas,
        is_all: false,
    })
}

impl Taking<'_> {
    fn calls(&mut self, of: &str, progress: Progress) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {}, {MEASURED}, calls.number
             FROM calls
             WHERE number > :from AND number <= :to
               AND experiment IS NOT NULL AND arm IS NOT NULL AND (:of = '' OR experiment = :of)
             ORDER BY number",
            Exposure::COLUMNS
        ))?;
        let (from, to) = progress.calls;
        let mut rows = statement.query(named_params! {":from": from, ":to": to, ":of": of})?;
        while let Some(row) = rows.next()? {
            let exposure = Exposure::read(row, 0)?;
            self.know(&exposure.experiment)?;
            let number = row.get(8 + MEASURED_COLUMNS)?;
            self.expose(exposure, measured(row, 8)?, number)?;
        }
        self.anew(progress)
    }

    /// Looks an experiment up, once.
    fn know(&mut self, name: &str) -> rusqlite::Result<()> {
        if self.experiments.contains_key(name) {
            return Ok(());
        }
        let found = running(self.connection, name, self.is_again)?;
        self.experiments.insert(name.to_owned(), found);
        Ok(())
    }

    /// Takes in the call of a number, when those before it are taken in.
    fn expose(&mut self, exposure: Exposure, call: Measured, number: i64) -> rusqlite::Result<()> {
        let Some(Some(running)) = self.experiments.get(&exposure.experiment) else {
            return Ok(());
        };
        let (Some(name), Some(own)) = (exposure.unit(running.unit), running.admits(&exposure))
        else {
            return Ok(());
        };
        let key = (running.counted.name.clone(), name.to_owned());
        if let Some(late) = self.late.get_mut(&key) {
            late.calls.push((exposure, own, call));
            return Ok(());
        }
        load(self.connection, running, &mut self.units, &key)?;
        let known = self.units.remove(&key);
        let is_changed = |unit: &&Unit| running.is_changed(unit, own, exposure.started_at);
        if let Some(unit) = known.as_ref().filter(is_changed)
            && running.is_whole
        {
            self.units.insert(key.clone(), unit.clone());
            let calls = vec![(exposure, own, call)];
            self.late.insert(key, Late { number, calls });
            return Ok(());
        }
        let of = (self.connection, running, key.1.as_str());
        let unit = follow(of, known, own, (&exposure, &call), &mut self.deltas)?;
        self.units.insert(key, unit);
        Ok(())
    }

    /// Makes units again of which calls came out of their order, or, where retention has removed some of theirs, takes in what
    /// came as it came.
    fn anew(&mut self, progress: Progress) -> rusqlite::Result<()> {
        for (key, late) in std::mem::take(&mut self.late) {
            let (Some(Some(running)), Some(known)) =
                (self.experiments.get(&key.0), self.units.remove(&key))
            else {
                continue;
            };
            let of = (self.connection, running, key.1.as_str());
            let unit = match late::anew(of, &known, late.number, progress, &mut self.deltas)? {
                Some(unit) => unit,
                None => late
                    .calls
                    .iter()
                    .try_fold(known, |unit, (exposure, own, call)| {
                        follow(of, Some(unit), *own, (exposure, call), &mut self.deltas)
                    })?,
            };
            self.units.insert(key, unit);
        }
        Ok(())
    }

    /// A series of a call changes when feedback of it is new, and when there was feedback of it before the call was known.
    /// What counted until now is the latest of what was taken in, what counts from now on the latest of what will be.
    fn feedback(&mut self, of: &str, progress: Progress) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {}, changed.kind, changed.name, calls.number > :calls_from
             FROM (
                 SELECT call_id, kind, name
                 FROM feedback
                 WHERE number > :feedback_from AND number <= :feedback_to
                 UNION
                 SELECT earlier.call_id, earlier.kind, earlier.name
                 FROM calls
                 CROSS JOIN feedback AS earlier ON earlier.call_id = calls.id
                 WHERE calls.number > :calls_from AND calls.number <= :calls_to
                   AND calls.experiment IS NOT NULL AND earlier.number <= :feedback_to
             ) AS changed
             JOIN calls ON calls.id = changed.call_id
             WHERE calls.number <= :calls_to AND calls.experiment IS NOT NULL AND calls.arm IS NOT NULL
               AND (:of = '' OR calls.experiment = :of)",
            Exposure::COLUMNS
        ))?;
        let mut rows = statement.query(named_params! {
            ":calls_from": progress.calls.0,
            ":calls_to": progress.calls.1,
            ":feedback_from": progress.feedback.0,
            ":feedback_to": progress.feedback.1,
            ":of": of,
        })?;
        while let Some(row) = rows.next()? {
            let exposure = Exposure::read(row, 0)?;
            let (kind, name): (String, Option<String>) = (row.get(8)?, row.get(9)?);
            let before = if row.get(10)? {
                None
            } else {
                Some(progress.feedback.0)
            };
            self.know(&exposure.experiment)?;
            self.say(
                &exposure,
                (&kind, name.as_deref()),
                before,
                progress.feedback.1,
            )?;
        }
        Ok(())
    }

    /// Looks again at what covariates were before the first exposure of units, where calls or feedback of that time are new.
    fn earlier(&mut self, of: &str, progress: Progress) -> rusqlite::Result<()> {
        for name in late::with_covariates(self.connection, of)? {
            self.know(&name)?;
            let Some(Some(running)) = self.experiments.get(&name) else {
                continue;
            };
            let counted = &running.counted;
            for unit in late::earlier_units(self.connection, running, progress)? {
                let key = (name.clone(), unit);
                load(self.connection, running, &mut self.units, &key)?;
                let Some(unit) = self.units.get_mut(&key) else {
                    continue;
                };
                let at = unit.first_at;
                if unit.standing != Standing::Counts || !running.has_history(at) {
                    continue;
                }
                for (metric, before) in history::before(self.connection, running, &key.1, at)? {
                    unit.was_before(counted, metric, before, &mut self.deltas);
                }
            }
        }
        Ok(())
    }

    fn say(
        &mut self,
        exposure: &Exposure,
        (kind, name): (&str, Option<&str>),
        before: Option<i64>,
        after: i64,
    ) -> rusqlite::Result<()> {
        let Some(Some(running)) = self.experiments.get(&exposure.experiment) else {
            return Ok(());
        };
        let counted = &running.counted;
        let series = series_of(kind, name);
        let is_read = |metric: &Metric| metric.reads(&series);
        if !counted.plan.metrics.iter().any(is_read) {
            return Ok(());
        }
        let Some(unit_name) = exposure.unit(running.unit) else {
            return Ok(());
        };
        let key = (counted.name.clone(), unit_name.to_owned());
        load(self.connection, running, &mut self.units, &key)?;
        let Some(unit) = self.units.get_mut(&key) else {
            return Ok(());
        };
        if !running.counts(unit, exposure) {
            return Ok(());
        }
        let series = Series {
            kind,
            name,
            before,
            after,
        };
        hear(
            self.connection,
            running,
            unit,
            exposure,
            &series,
            &mut self.deltas,
        )
    }
}

/// Brings a unit's row into memory, if there is one and it is not there yet.
fn load(
    connection: &Connection,
    running: &Running,
    units: &mut BTreeMap<(String, String), Unit>,
    key: &(String, String),
) -> rusqlite::Result<()> {
    if units.contains_key(key) {
        return Ok(());
    }
    let found = connection
        .prepare_cached(
            "SELECT epoch, arm, first_at, day, state, segments, readings
             FROM experiment_units WHERE experiment = ? AND unit = ?",
        )?
        .query_row(params![key.0, key.1], unit_from)
        .optional()?;
    if let Some(mut unit) = found {
        unit.day = unit.day.max(running.open_day);
        units.insert(key.clone(), unit);
    }
    Ok(())
}

/// A unit of a row that begins with its columns.
pub(super) fn unit_from(row: &Row<'_>) -> rusqlite::Result<Unit> {
    let segments: Option<String> = row.get(5)?;
    Ok(Unit {
        epoch: row.get(0)?,
        arm: row.get(1)?,
        first_at: row.get(2)?,
        day: row.get(3)?,
        standing: Standing::of(row.get(4)?),
        segments: segments
            .and_then(|text| document(&text))
            .unwrap_or_default(),
        values: read_values(&row.get::<_, String>(6)?),
    })
}
