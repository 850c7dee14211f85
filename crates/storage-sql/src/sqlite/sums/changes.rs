//! What events since the last time change in the sums. It is read beside the writers and holds up none of them.

use std::collections::BTreeMap;

use flywheel_storage::StorageResult;
use rusqlite::{Connection, Row, named_params};

use super::super::activity::TWO_DIGITS;
use super::super::error::unfulfilled;

/// How many calls, and how many pieces of feedback, are taken in at a time.
const MOST: i64 = 20_000;

/// How many when they have little in common: each may then change a row of its own, while everybody who writes waits.
const FEW: i64 = 500;

/// The hour in which a call began, counted from 1970 and rounded down before it too.
const HOUR: &str =
    "(started_at - ((started_at % 3600000000) + 3600000000) % 3600000000) / 3600000000";

/// What the calls of a row have in common, beside their hour.
pub(super) const COMMON: &str = "app, environment, manifest, prompt_version, model_id, model_version, experiment, arm, fallback";

/// Up to which numbers events are summed, and up to which they will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Progress {
    pub(in super::super) calls: (i64, i64),
    pub(in super::super) feedback: (i64, i64),
}

/// The calls that are summed together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) hour: i64,
    pub(super) names: [Option<String>; 6],
    pub(super) hashes: [Option<Vec<u8>>; 2],
    pub(super) fallback: i64,
}

impl Group {
    /// The hour and the columns of [`COMMON`], from a place in a row on.
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            hour: row.get(first)?,
            names: [
                row.get(first + 1)?,
                row.get(first + 2)?,
                row.get(first + 5)?,
                row.get(first + 6)?,
                row.get(first + 7)?,
                row.get(first + 8)?,
            ],
            hashes: [row.get(first + 3)?, row.get(first + 4)?],
            fallback: row.get(first + 9)?,
        })
    }
}

/// How many columns [`Group::read`] reads.
const GROUP_COLUMNS: usize = 10;

/// How many counts there are of a group, in the order of `COUNT_COLUMNS` in `apply.rs`.
pub(super) const COUNTS: usize = 10;

/// Sums over new calls.
#[derive(Debug, Clone, Default)]
pub(super) struct CallSums {
    pub(super) counts: [i64; COUNTS],
    pub(super) latencies: BTreeMap<i64, i64>,
}

/// A series of feedback on a group's calls, on one scale. Scales are told apart by the bits of their ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) group: Group,
    pub(super) name: String,
    pub(super) scale: Option<(u64, u64)>,
}

/// A value that counts from now on, or no longer; none for feedback in words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Change {
    Added(Option<f64>),
    TakenAway(Option<f64>),
}

/// What is to be added to the sums.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) progress: Progress,
    pub(super) calls: BTreeMap<Group, CallSums>,
    pub(super) feedback: BTreeMap<Series, Vec<Change>>,
    /// Whether nothing newer was there.
    pub(super) is_all: bool,
}

/// Reads what is new, at most so much that it can be added in no time; nothing if nothing is.
pub(super) fn read(connection: &Connection) -> StorageResult<Option<Changes>> {
    let transaction = connection
        .unchecked_transaction()
        .map_err(unfulfilled("beginning to sum up"))?;
    let Some(newest) = progress(&transaction).map_err(unfulfilled("looking for new events"))?
    else {
        return Ok(None);
    };
    let changes = read_up_to(&transaction, newest, MOST)?;
    let rows = changes.calls.len() + changes.feedback.len();
    if rows as i64 <= FEW {
        return Ok(Some(changes));
    }
    read_up_to(&transaction, newest, FEW).map(Some)
}

fn read_up_to(connection: &Connection, newest: Progress, most: i64) -> StorageResult<Changes> {
    let progress = Progress {
        calls: (newest.calls.0, newest.calls.1.min(newest.calls.0 + most)),
        feedback: (
            newest.feedback.0,
            newest.feedback.1.min(newest.feedback.0 + most),
        ),
    };
    let calls = new_calls(connection, progress).map_err(unfulfilled("summing up calls"))?;
    let feedback =
        changed_feedback(connection, progress).map_err(unfulfilled("summing up feedback"))?;
    Ok(Changes {
        is_all: progress == newest,
        progress,
        calls,
        feedback,
    })
}

/// Up to which events are summed, and up to which there are any; nothing if that is the same.
fn progress(connection: &Connection) -> rusqlite::Result<Option<Progress>> {
    let progress = connection
        .prepare_cached(
            "SELECT calls, feedback,
                    (SELECT coalesce(max(number), 0) FROM calls),
                    (SELECT coalesce(max(number), 0) FROM feedback)
             FROM sums_progress",
        )?
        .query_row([], |row| {
            let (calls, feedback): (i64, i64) = (row.get(0)?, row.get(1)?);
            Ok(Progress {
                calls: (calls, calls.max(row.get(2)?)),
                feedback: (feedback, feedback.max(row.get(3)?)),
            })
        })?;
    let is_new = |(from, to)| from < to;
    Ok((is_new(progress.calls) || is_new(progress.feedback)).then_some(progress))
}

/// Grouped by latencies of two digits, as charts show them.
fn new_calls(
    connection: &Connection,
    progress: Progress,
) -> rusqlite::Result<BTreeMap<Group, CallSums>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {HOUR} AS hour, {COMMON},
                count(*),
                count(*) FILTER (WHERE status = 'provider_error'),
                count(*) FILTER (WHERE status = 'gateway_error'),
                count(*) FILTER (WHERE status = 'invalid_output'),
                count(latency_us),
                coalesce(sum(latency_us >> 32), 0),
                coalesce(sum(latency_us & 4294967295), 0),
                count(cost_nano_usd),
                coalesce(sum(cost_nano_usd >> 32), 0),
                coalesce(sum(cost_nano_usd & 4294967295), 0),
                {TWO_DIGITS} AS latency,
                latency_us IS NULL AS untimed
         FROM calls
         WHERE number > :from AND number <= :to
         GROUP BY hour, {COMMON}, untimed, latency"
    ))?;
    let (from, to) = progress.calls;
    let mut rows = statement.query(named_params! {":from": from, ":to": to})?;
    let mut sums: BTreeMap<Group, CallSums> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let group = sums.entry(Group::read(row, 0)?).or_default();
        for (place, count) in group.counts.iter_mut().enumerate() {
            *count += row.get::<_, i64>(GROUP_COLUMNS + place)?;
        }
        if !row.get::<_, bool>(GROUP_COLUMNS + COUNTS + 1)? {
            let latency = row.get(GROUP_COLUMNS + COUNTS)?;
            *group.latencies.entry(latency).or_default() += row.get::<_, i64>(GROUP_COLUMNS)?;
        }
    }
    Ok(sums)
}

fn changed_feedback(
    connection: &Connection,
    progress: Progress,
) -> rusqlite::Result<BTreeMap<Series, Vec<Change>>> {
    let mut changes: BTreeMap<Series, Vec<Change>> = BTreeMap::new();
    let columns = format!("{HOUR}, {COMMON}");
    each_changed_opinion(
        connection,
        progress,
        &columns,
        |row, first, name, before, after| {
            let group = Group::read(row, first)?;
            let mut note = |opinion: Opinion, change: fn(Option<f64>) -> Change| {
                let series = Series {
                    group: group.clone(),
                    name: name.to_owned(),
                    scale: opinion
                        .scale
                        .map(|(min, max)| (min.to_bits(), max.to_bits())),
                };
                changes
                    .entry(series)
                    .or_default()
                    .push(change(opinion.share()));
            };
            if let Some(opinion) = before {
                note(opinion, Change::TakenAway);
            }
            if let Some(opinion) = after {
                note(opinion, Change::Added);
            }
            Ok(())
        },
    )?;
    Ok(changes)
}

/// Calls `changed` for each series of a call that changed: with a row that has `columns` of the call from a place on, that
/// place, the series, what counted until now and what counts from now on.
///
/// A series of a call changes when feedback of it is new, and when there was feedback of it before the call was known. What
/// counted until now is the latest of what was summed, what counts from now on the latest of what will be.
pub(in super::super) fn each_changed_opinion(
    connection: &Connection,
    progress: Progress,
    columns: &str,
    mut changed: impl FnMut(
        &Row<'_>,
        usize,
        &str,
        Option<Opinion>,
        Option<Opinion>,
    ) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT changed.call_id, changed.kind, changed.name, calls.number > :calls_from,
                {columns}
         FROM (
             SELECT call_id, kind, name
             FROM feedback
             WHERE number > :feedback_from AND number <= :feedback_to
             UNION
             SELECT earlier.call_id, earlier.kind, earlier.name
             FROM calls
             CROSS JOIN feedback AS earlier ON earlier.call_id = calls.id
             WHERE calls.number > :calls_from AND calls.number <= :calls_to
               AND earlier.number <= :feedback_to
         ) AS changed
         JOIN calls ON calls.id = changed.call_id
         WHERE calls.number <= :calls_to"
    ))?;
    let mut latest = connection.prepare_cached(
        "SELECT value, scale_min, scale_max
         FROM feedback
         WHERE call_id = :call AND kind = :kind AND name IS :name AND number <= :to
         ORDER BY created_at DESC, number DESC
         LIMIT 1",
    )?;
    let mut rows = statement.query(named_params! {
        ":calls_from": progress.calls.0,
        ":calls_to": progress.calls.1,
        ":feedback_from": progress.feedback.0,
        ":feedback_to": progress.feedback.1,
    })?;
    while let Some(row) = rows.next()? {
        let call: String = row.get(0)?;
        let kind: String = row.get(1)?;
        let name: Option<String> = row.get(2)?;
        let is_new: bool = row.get(3)?;
        let mut up_to = |to: i64| {
            let asked = named_params! {":call": call, ":kind": kind, ":name": name, ":to": to};
            let mut found = latest.query(asked)?;
            found.next()?.map(Opinion::read).transpose()
        };
        let before = match is_new {
            true => None,
            false => up_to(progress.feedback.0)?,
        };
        let after = up_to(progress.feedback.1)?;
        if before == after {
            continue;
        }
        let series = match &name {
            Some(name) => format!("{kind}:{name}"),
            None => kind,
        };
        changed(row, 4, &series, before, after)?;
    }
    Ok(())
}

/// A piece of feedback, as far as it is summed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Opinion {
    pub(in super::super) value: Option<f64>,
    scale: Option<(f64, f64)>,
}

impl Opinion {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let min: Option<f64> = row.get(1)?;
        Ok(Self {
            value: row.get(0)?,
            scale: min.zip(row.get(2)?),
        })
    }

    /// A rating's share of its scale, in halves, because the extent of a very wide scale is no number.
    pub(in super::super) fn share(self) -> Option<f64> {
        match (self.value, self.scale) {
            (Some(value), Some((min, max))) => {
                let share = (value / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0);
                // Of a scale too narrow to be halved there is none.
                (!share.is_nan()).then_some(share)
            }
            (value, _) => value,
        }
    }
}
