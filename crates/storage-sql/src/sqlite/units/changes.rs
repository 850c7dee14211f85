//! What events since the last time change in the units of experiments and in the sums over them. It is read beside the
//! writers and holds up none of them.

use std::collections::{BTreeMap, HashMap};

use flywheel_core::call::CallStatus;
use flywheel_core::experiment::{Arm, UnitKind};
use flywheel_core::metric::{self, Measured, MetricKind, MetricSource};
use flywheel_storage::StorageResult;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::super::error::unfulfilled;
use super::super::fields::unsigned;
use super::super::sums::TakenIn;
use super::history;
use super::opinions::{Said, latest, part_of};
use super::running::{Running, document, running};
use super::state::{Counted, Deltas, Standing, Unit, read_values};
use super::{ALL, DAY_MICROSECONDS};

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
    deltas: Deltas,
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
        deltas: Deltas::default(),
    };
    taking.calls(of, progress)?;
    taking.feedback(of, progress)?;
    Ok(Changes {
        of: of.to_owned(),
        progress,
        has_caught_up: false,
        units: taking.units,
        deltas: taking.deltas,
        is_all: false,
    })
}

/// A call of an experiment.
struct Exposure {
    id: String,
    started_at: i64,
    experiment: String,
    arm: String,
    user: Option<String>,
    session: Option<String>,
    tags: Option<String>,
    app: Option<String>,
}

impl Exposure {
    const COLUMNS: &str = "calls.id, calls.started_at, calls.experiment, calls.arm, calls.unit, calls.session, calls.tags, calls.app";

    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(first)?,
            started_at: row.get(first + 1)?,
            experiment: row.get(first + 2)?,
            arm: row.get(first + 3)?,
            user: row.get(first + 4)?,
            session: row.get(first + 5)?,
            tags: row.get(first + 6)?,
            app: row.get(first + 7)?,
        })
    }

    fn unit(&self, kind: UnitKind) -> Option<&str> {
        match kind {
            UnitKind::User => self.user.as_deref(),
            UnitKind::Session => self.session.as_deref(),
            UnitKind::Request => Some(&self.id),
        }
    }

    fn segments(&self, tags: &[String]) -> Vec<String> {
        let given: serde_json::Value = self
            .tags
            .as_deref()
            .and_then(|tags| serde_json::from_str(tags).ok())
            .unwrap_or_default();
        tags.iter()
            .map(|tag| match given.get(tag) {
                Some(serde_json::Value::String(value)) => format!("{tag}={value}"),
                Some(value) => format!("{tag}={value}"),
                None => format!("{tag}="),
            })
            .collect()
    }
}

/// The columns of `calls` that [`measured`] reads.
pub(in super::super) const MEASURED: &str = "calls.status, calls.latency_us, calls.first_byte_us, calls.input_tokens, calls.output_tokens, calls.cost_nano_usd, calls.tool_success";

pub(in super::super) fn measured(row: &Row<'_>, first: usize) -> rusqlite::Result<Measured> {
    let status: String = row.get(first)?;
    let count = |place| -> rusqlite::Result<_> {
        Ok(row.get::<_, Option<i64>>(first + place)?.map(unsigned))
    };
    Ok(Measured {
        status: CallStatus::ALL
            .into_iter()
            .find(|known| known.as_str() == status)
            .unwrap_or(CallStatus::Ok),
        latency_us: count(1)?,
        first_byte_us: count(2)?,
        input_tokens: count(3)?,
        output_tokens: count(4)?,
        cost_nano_usd: row.get(first + 5)?,
        tool_success: row.get(first + 6)?,
    })
}

impl Taking<'_> {
    fn calls(&mut self, of: &str, progress: Progress) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {}, {MEASURED}
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
            self.expose(&exposure, &measured(row, 8)?)?;
        }
        Ok(())
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

    fn expose(&mut self, exposure: &Exposure, call: &Measured) -> rusqlite::Result<()> {
        let Some(Some(running)) = self.experiments.get(&exposure.experiment) else {
            return Ok(());
        };
        let counted = &running.counted;
        let is_its = |arm: &Arm| arm.name.as_str() == exposure.arm;
        let arm = running.arms.iter().position(is_its).map(|arm| arm as u32);
        let (Some(name), Some(arm)) = (exposure.unit(running.unit), arm) else {
            return Ok(());
        };
        // Whoever logs a call may name any experiment.
        if exposure.app.as_deref() != Some(&running.app) {
            return Ok(());
        }
        let at = exposure.started_at;
        let epoch = running.epoch_at(at);
        // What was on its way, or is logged, in an arm that was stopped by then.
        if running.is_stopped(arm, epoch) {
            return Ok(());
        }
        let key = (counted.name.clone(), name.to_owned());
        load(self.connection, &mut self.units, &key)?;
        let deltas = &mut self.deltas;
        let day = at.div_euclid(DAY_MICROSECONDS);
        let unit = match self.units.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => {
                let unit = known.into_mut();
                unit.day = unit.day.max(day);
                unit
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                let unit = place.insert(Unit {
                    epoch,
                    arm,
                    first_at: at,
                    day,
                    standing: Standing::Counts,
                    segments: exposure.segments(&counted.plan.segments),
                    values: BTreeMap::new(),
                });
                if running.needs_history {
                    let place = (running.app.as_str(), running.environment.as_str());
                    history::before(
                        self.connection,
                        counted,
                        place,
                        running.unit,
                        name,
                        at,
                        unit,
                    )?;
                }
                unit.begin(counted, deltas);
                unit
            }
        };
        if unit.standing != Standing::Counts {
            return Ok(());
        }
        if unit.arm != arm && running.is_stopped(unit.arm, epoch) {
            return Ok(());
        }
        if unit.arm != arm {
            let standing = if unit.epoch == epoch {
                Standing::InTwoArms
            } else {
                Standing::Moved
            };
            unit.drop_from(counted, standing, deltas);
            return Ok(());
        }
        let is_early = at < unit.first_at + counted.plan.newcomer_seconds() * 1_000_000;
        take_signals(counted, unit, call, is_early, deltas);
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
        let series = match name {
            Some(name) => format!("{kind}:{name}"),
            None => kind.to_owned(),
        };
        if !counted
            .plan
            .metrics
            .iter()
            .any(|metric| metric.reads(&series))
        {
            return Ok(());
        }
        let Some(unit_name) = exposure.unit(running.unit) else {
            return Ok(());
        };
        if exposure.app.as_deref() != Some(&running.app) {
            return Ok(());
        }
        let key = (counted.name.clone(), unit_name.to_owned());
        load(self.connection, &mut self.units, &key)?;
        let Some(unit) = self.units.get_mut(&key) else {
            return Ok(());
        };
        let own = running.arms.get(unit.arm as usize);
        let is_own = own.is_some_and(|arm| arm.name.as_str() == exposure.arm);
        let at = exposure.started_at;
        let is_over = running.is_stopped(unit.arm, running.epoch_at(at));
        if unit.standing != Standing::Counts || !is_own || is_over {
            return Ok(());
        }
        let is_early = at < unit.first_at + counted.plan.newcomer_seconds() * 1_000_000;
        for (place, metric) in counted.plan.metrics.iter().enumerate() {
            if !metric.reads(&series) {
                continue;
            }
            let until = metric.window_hours.map_or(i64::MAX, |hours| {
                at.saturating_add(i64::from(hours) * 3_600_000_000)
            });
            let said = Said {
                call: &exposure.id,
                kind,
                name,
                until,
            };
            let old = before
                .map(|number| latest(self.connection, &said, number))
                .transpose()?
                .flatten();
            let new = latest(self.connection, &said, after)?;
            if old == new {
                continue;
            }
            if let Some(opinion) = &new {
                unit.day = unit.day.max(opinion.at.div_euclid(DAY_MICROSECONDS));
            }
            for (opinion, sign) in [(old, -1.0), (new, 1.0)] {
                let Some(opinion) = opinion else {
                    continue;
                };
                let Some((x, y)) = part_of(metric, &series, &opinion) else {
                    continue;
                };
                unit.change(
                    counted,
                    place,
                    is_early,
                    (sign * x, sign * y),
                    &mut self.deltas,
                );
                if matches!(&metric.source, MetricSource::Feedback(own) if *own == series) {
                    let took = opinion.at.saturating_sub(at).max(0) as f64;
                    unit.delay(counted, place, (sign * took, sign), &mut self.deltas);
                }
            }
        }
        Ok(())
    }
}

/// Takes in what was measured of a call.
fn take_signals(
    counted: &Counted,
    unit: &mut Unit,
    call: &Measured,
    is_early: bool,
    deltas: &mut Deltas,
) {
    for (place, metric) in counted.plan.metrics.iter().enumerate() {
        let signal = |source: &MetricSource| match source {
            MetricSource::Signal(signal) => signal.of(call),
            MetricSource::Feedback(_) => None,
        };
        if let Some(per) = metric.denominator() {
            let (x, y) = (signal(&metric.source), signal(&per));
            if x.is_some() || y.is_some() {
                let added = (x.unwrap_or(0.0), y.unwrap_or(0.0));
                unit.change(counted, place, is_early, added, deltas);
            }
            continue;
        }
        let Some(value) = signal(&metric.source) else {
            continue;
        };
        if metric.kind == MetricKind::Quantile {
            let whole = counted
                .readings
                .iter()
                .position(|reading| reading.metric == place);
            if let Some(whole) = whole {
                unit.classify(counted, whole, metric::bucket(value), 1, deltas);
            }
            let threshold = counted.plan.thresholds.get(&metric.name);
            let is_beyond = threshold.is_some_and(|threshold| value > *threshold);
            let added = (f64::from(u8::from(is_beyond)), 1.0);
            unit.change(counted, place, is_early, added, deltas);
            continue;
        }
        unit.change(counted, place, is_early, (value, 1.0), deltas);
    }
}

/// Brings a unit's row into memory, if there is one and it is not there yet.
fn load(
    connection: &Connection,
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
        .query_row(params![key.0, key.1], |row| {
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
        })
        .optional()?;
    if let Some(unit) = found {
        units.insert(key.clone(), unit);
    }
    Ok(())
}
