//! What one call, and what is said of it, changes in its unit.

use std::collections::BTreeMap;

use flywheel_core::call::CallStatus;
use flywheel_core::experiment::UnitKind;
use flywheel_core::metric::{self, Measured, MetricKind, MetricSource};
use rusqlite::{Connection, Row};

use super::super::fields::unsigned;
use super::opinions::{Said, latest, part_of};
use super::running::{Own, Running};
use super::state::{Counted, Deltas, Standing, Unit};
use super::{DAY_MICROSECONDS, history};

/// A call of an experiment.
pub(super) struct Exposure {
    pub(super) id: String,
    pub(super) started_at: i64,
    pub(super) experiment: String,
    pub(super) arm: String,
    user: Option<String>,
    session: Option<String>,
    tags: Option<String>,
    pub(super) app: Option<String>,
}

impl Exposure {
    pub(super) const COLUMNS: &str = "calls.id, calls.started_at, calls.experiment, calls.arm, calls.unit, calls.session, calls.tags, calls.app";

    pub(super) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
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

    pub(super) fn unit(&self, kind: UnitKind) -> Option<&str> {
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

/// How many columns [`MEASURED`] has.
pub(super) const MEASURED_COLUMNS: usize = 7;
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

/// Takes a call of a unit in, which is its first if the unit is not known yet.
pub(super) fn follow(
    (connection, running, name): (&Connection, &Running, &str),
    unit: Option<Unit>,
    own: Own,
    (exposure, call): (&Exposure, &Measured),
    deltas: &mut Deltas,
) -> rusqlite::Result<Unit> {
    let counted = &running.counted;
    let at = exposure.started_at;
    let day = at.div_euclid(DAY_MICROSECONDS);
    let mut unit = match unit {
        Some(mut unit) => {
            unit.day = unit.day.max(day);
            unit
        }
        None => {
            let mut unit = Unit {
                epoch: own.epoch,
                arm: own.arm,
                first_at: at,
                day: day.max(running.open_day),
                standing: Standing::Counts,
                segments: exposure.segments(&counted.plan.segments),
                values: BTreeMap::new(),
            };
            if running.is_given_away(name, own) {
                unit.standing = Standing::Moved;
                unit.enter(counted, true, deltas);
                return Ok(unit);
            }
            for (metric, before) in history::before(connection, running, name, at)? {
                // Nothing of the unit is in any sum yet.
                unit.was_before(counted, metric, before, &mut Deltas::default());
            }
            unit.begin(counted, deltas);
            unit
        }
    };
    if unit.standing == Standing::Moved && own.epoch == unit.epoch && own.arm != unit.arm {
        unit.enter(counted, false, deltas);
        unit.standing = Standing::InTwoArms;
        unit.enter(counted, true, deltas);
    }
    if unit.standing != Standing::Counts {
        return Ok(unit);
    }
    if running.was_out(&unit, own.epoch) {
        return Ok(unit);
    }
    if unit.arm != own.arm {
        let standing = if unit.epoch == own.epoch {
            Standing::InTwoArms
        } else {
            Standing::Moved
        };
        unit.drop_from(counted, standing, deltas);
        return Ok(unit);
    }
    let is_early = unit.is_early(counted, at);
    take_signals(counted, &mut unit, call, is_early, deltas);
    Ok(unit)
}

/// A series of a call, and up to which feedback it was taken in, if it was, and is now.
pub(super) struct Series<'a> {
    pub(super) kind: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) before: Option<i64>,
    pub(super) after: i64,
}

/// Takes in what changed in a series of a unit's call.
pub(super) fn hear(
    connection: &Connection,
    running: &Running,
    unit: &mut Unit,
    exposure: &Exposure,
    changed: &Series<'_>,
    deltas: &mut Deltas,
) -> rusqlite::Result<()> {
    let counted = &running.counted;
    let Series {
        kind,
        name,
        before,
        after,
    } = *changed;
    let series = series_of(kind, name);
    let at = exposure.started_at;
    let is_early = unit.is_early(counted, at);
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
            .map(|number| latest(connection, &said, number))
            .transpose()?
            .flatten();
        let new = latest(connection, &said, after)?;
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
            unit.change(counted, place, is_early, (sign * x, sign * y), deltas);
            if matches!(&metric.source, MetricSource::Feedback(own) if *own == series) {
                let took = opinion.at.saturating_sub(at).max(0) as f64;
                unit.delay(counted, place, (sign * took, sign), deltas);
            }
        }
    }
    Ok(())
}

pub(super) fn series_of(kind: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{kind}:{name}"),
        None => kind.to_owned(),
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
