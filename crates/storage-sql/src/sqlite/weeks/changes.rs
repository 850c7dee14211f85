//! What events since the last time change in the units of weeks and in the sums over them. It is read beside the writers and
//! holds up none of them.

use std::collections::BTreeMap;

use flywheel_core::feedback::LARGEST_OUTCOME;
use flywheel_core::metric::{self, MetricSource, Signal};
use flywheel_storage::StorageResult;
use flywheel_storage::exact::Double;
use flywheel_storage::statistics::UnitSums;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::error::unfulfilled;
use super::super::sums::{Opinion, Progress, TakenIn, each_changed_opinion};
use super::super::units::{MEASURED, measured};
use super::write::read_values;
use flywheel_storage::weeks::Week;

/// How many calls, and how many pieces of feedback, are taken in at a time: each may change a row of its own, while
/// everybody who writes waits.
const MOST: i64 = 500;

/// Of how many weeks the units are kept, the newest among them: what is said of calls before that comes too late.
const KEPT: i64 = 8;

/// A week of a prompt version in one environment of an app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) week: i64,
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) prompt_version: Vec<u8>,
}

impl Cell {
    /// The columns that [`Cell::read`] reads, and the unit after them.
    const COLUMNS: &str = "app, coalesce(environment, ''), prompt_version, started_at, unit";

    /// A call that no prompt version of an app answered is in none.
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        let (app, version): (Option<String>, Option<Vec<u8>>) =
            (row.get(first)?, row.get(first + 2)?);
        let at = Timestamp::from_microsecond(row.get(first + 3)?);
        let (Some(app), Some(prompt_version), Ok(at)) = (app, version, at) else {
            return Ok(None);
        };
        Ok(Some(Self {
            week: Week::of(at).0,
            app,
            environment: row.get(first + 1)?,
            prompt_version,
        }))
    }
}

/// The sum of a unit's values of one source, and how many they are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Value {
    pub(super) x: Double,
    pub(super) n: i64,
}

/// By source of values.
pub(super) type Values = BTreeMap<String, Value>;

/// What changes in the sums of one source.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Delta {
    pub(super) sums: UnitSums,
    pub(super) classes: BTreeMap<i32, i64>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) progress: Progress,
    pub(super) units: BTreeMap<(Cell, String), Values>,
    pub(super) deltas: BTreeMap<(Cell, String), Delta>,
    /// From which week on units are kept.
    pub(super) first_week: i64,
    is_all: bool,
}

impl TakenIn for Changes {
    fn is_all(&self) -> bool {
        self.is_all
    }
}

/// Reads what is new; nothing if nothing is.
pub(super) fn read(connection: &Connection) -> StorageResult<Option<Changes>> {
    let transaction = connection
        .unchecked_transaction()
        .map_err(unfulfilled("beginning to look at the units of weeks"))?;
    read_new(&transaction).map_err(unfulfilled("looking at the units of weeks"))
}

fn read_new(connection: &Connection) -> rusqlite::Result<Option<Changes>> {
    let (calls, feedback, newest, first_week, oldest, newest_week) = connection
        .prepare_cached(
            "SELECT calls, feedback,
                    (SELECT coalesce(max(number), 0) FROM calls),
                    (SELECT coalesce(max(number), 0) FROM feedback),
                    first_week, (SELECT min(week) FROM week_units), (SELECT max(week) FROM week_units)
             FROM week_progress",
        )?
        .query_row([], |row| {
            let newest: (i64, i64) = (row.get(2)?, row.get(3)?);
            let first_week: i64 = row.get(4)?;
            let (oldest, newest_week): (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
            let (calls, feedback): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok((calls, feedback, newest, first_week, oldest, newest_week))
        })?;
    let has_old = oldest.is_some_and(|week| week < first_week);
    if calls >= newest.0 && feedback >= newest.1 && !has_old {
        return Ok(None);
    }
    let progress = Progress {
        calls: (calls, newest.0.max(calls).min(calls + MOST)),
        feedback: (feedback, newest.1.max(feedback).min(feedback + MOST)),
    };
    let mut taking = Taking {
        connection,
        first_week,
        newest_week,
        units: BTreeMap::new(),
        deltas: BTreeMap::new(),
    };
    taking.calls(progress)?;
    taking.feedback(progress)?;
    let mut changes = taking.finish(progress);
    changes.is_all = progress.calls.1 >= newest.0 && progress.feedback.1 >= newest.1;
    Ok(Some(changes))
}

struct Taking<'c> {
    connection: &'c Connection,
    first_week: i64,
    /// The newest week that has units.
    newest_week: Option<i64>,
    /// What units had before, and what they have now.
    units: BTreeMap<(Cell, String), (Values, Values)>,
    deltas: BTreeMap<(Cell, String), Delta>,
}

impl Taking<'_> {
    fn calls(&mut self, progress: Progress) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {}, {MEASURED} FROM calls
             WHERE number > ? AND number <= ? AND app IS NOT NULL AND prompt_version IS NOT NULL",
            Cell::COLUMNS
        ))?;
        let mut rows = statement.query([progress.calls.0, progress.calls.1])?;
        while let Some(row) = rows.next()? {
            let Some(cell) = Cell::read(row, 0)?.filter(|cell| cell.week >= self.first_week) else {
                continue;
            };
            self.newest_week = self.newest_week.max(Some(cell.week));
            let unit: Option<String> = row.get(4)?;
            let call = measured(row, 5)?;
            for signal in Signal::ALL {
                let Some(value) = signal.of(&call) else {
                    continue;
                };
                let source = MetricSource::Signal(signal).to_string();
                if has_quantiles(signal) {
                    let delta = self.deltas.entry((cell.clone(), source.clone()));
                    let classes = &mut delta.or_default().classes;
                    *classes.entry(metric::bucket(value)).or_default() += 1;
                }
                self.change(&cell, unit.as_deref(), source, value, 1)?;
            }
        }
        Ok(())
    }

    fn feedback(&mut self, progress: Progress) -> rusqlite::Result<()> {
        let first_week = self.first_week;
        each_changed_opinion(
            self.connection,
            progress,
            Cell::COLUMNS,
            |row, first, series, before, after| {
                let Some(cell) = Cell::read(row, first)?.filter(|cell| cell.week >= first_week)
                else {
                    return Ok(());
                };
                let unit: Option<String> = row.get(first + 4)?;
                for (opinion, sign) in [(before, -1), (after, 1)] {
                    if let Some(value) = opinion.and_then(value_of) {
                        self.change(&cell, unit.as_deref(), series.to_owned(), value, sign)?;
                    }
                }
                Ok(())
            },
        )
    }

    /// Adds a value, or takes one away. A call without a unit is one of its own.
    fn change(
        &mut self,
        cell: &Cell,
        unit: Option<&str>,
        source: String,
        value: f64,
        sign: i64,
    ) -> rusqlite::Result<()> {
        let Some(unit) = unit else {
            let delta = self.deltas.entry((cell.clone(), source)).or_default();
            delta.sums.put(&[value, 1.0, 1.0, 0.0], sign > 0);
            return Ok(());
        };
        let key = (cell.clone(), unit.to_owned());
        let now = match self.units.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => &mut known.into_mut().1,
            std::collections::btree_map::Entry::Vacant(place) => {
                let before = load(self.connection, cell, unit)?;
                &mut place.insert((before.clone(), before)).1
            }
        };
        let known = now.entry(source).or_default();
        known.x += Double::from(value * sign as f64);
        known.n += sign;
        Ok(())
    }

    /// Of each unit that changed, what it added to the sums is taken away and what it adds now put in its place.
    fn finish(mut self, progress: Progress) -> Changes {
        let mut units = BTreeMap::new();
        for ((cell, unit), (before, mut now)) in self.units {
            now.retain(|_, value| value.n > 0);
            for (values, is_added) in [(&before, false), (&now, true)] {
                let calls = values.get(CALLS).map_or(0, |calls| calls.n) as f64;
                for (source, value) in values {
                    let columns = [value.x.value(), value.n as f64, calls, 0.0];
                    let delta = self.deltas.entry((cell.clone(), source.clone()));
                    delta.or_default().sums.put(&columns, is_added);
                }
            }
            units.insert((cell, unit), now);
        }
        let kept = self.newest_week.map(|week| week - (KEPT - 1));
        Changes {
            progress,
            units,
            deltas: self.deltas,
            first_week: kept.unwrap_or(self.first_week).max(self.first_week),
            is_all: false,
        }
    }
}

/// The name of the source that every call has a value of.
const CALLS: &str = "signal:calls";

/// Whether a signal's values are measured, so that quantiles of them mean something.
fn has_quantiles(signal: Signal) -> bool {
    !matches!(
        signal,
        Signal::Calls | Signal::HardFailure | Signal::SoftFailure | Signal::ToolSuccess
    )
}

/// What a piece of feedback counts for: 1 for words, a rating's share of its scale, otherwise the value itself.
fn value_of(opinion: Opinion) -> Option<f64> {
    let value = match opinion.value {
        None => 1.0,
        Some(_) => opinion.share()?,
    };
    (value.abs() <= LARGEST_OUTCOME).then_some(value)
}

fn load(connection: &Connection, cell: &Cell, unit: &str) -> rusqlite::Result<Values> {
    let found: Option<String> = connection
        .prepare_cached(
            "SELECT readings FROM week_units
             WHERE week = ? AND app = ? AND environment = ? AND prompt_version = ? AND unit = ?",
        )?
        .query_row(
            params![
                cell.week,
                cell.app,
                cell.environment,
                cell.prompt_version,
                unit
            ],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.as_deref().map(read_values).unwrap_or_default())
}
