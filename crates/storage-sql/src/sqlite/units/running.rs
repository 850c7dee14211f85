//! An experiment whose events are taken in, as the store keeps it.

use flywheel_core::experiment::{Arm, Epoch, UnitKind};
use flywheel_core::plan::Plan;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::follow::Exposure;
use super::state::{Counted, Standing, Unit};

/// An experiment whose events are taken in.
pub(super) struct Running {
    pub(super) counted: Counted,
    pub(super) unit: UnitKind,
    pub(super) arms: Vec<Arm>,
    pub(super) epochs: Vec<Epoch>,
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) needs_history: bool,
    /// Whether all of its events are there: retention may have removed some.
    pub(super) is_whole: bool,
}

/// The arm and the epoch that a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) arm: u32,
    pub(super) epoch: u32,
}

impl Running {
    /// Where a call counts. Whoever logs a call may name any experiment; and what was on its way, or is logged, in an arm that
    /// was stopped by then counts nowhere.
    pub(super) fn admits(&self, exposure: &Exposure) -> Option<Own> {
        let is_its = |arm: &Arm| arm.name.as_str() == exposure.arm;
        let arm = self.arms.iter().position(is_its)? as u32;
        let epoch = self.epoch_at(exposure.started_at);
        let is_own = exposure.app.as_deref() == Some(&self.app);
        (is_own && !self.is_stopped(arm, epoch)).then_some(Own { arm, epoch })
    }

    /// Whether a call changes what was counted of a unit's earlier ones: because it began before them, or because the unit is
    /// in another arm there.
    pub(super) fn is_changed(&self, unit: &Unit, own: Own, started_at: i64) -> bool {
        let is_other = own.arm != unit.arm && !self.is_stopped(unit.arm, own.epoch);
        started_at < unit.first_at || (is_other && unit.standing == Standing::Counts)
    }

    pub(super) fn epoch_at(&self, at: i64) -> u32 {
        let begun = |epoch: &&Epoch| epoch.since.as_microsecond() <= at;
        self.epochs.iter().filter(begun).count().saturating_sub(1) as u32
    }

    /// Whether an arm was stopped until an epoch. What its units do elsewhere from then on counts nowhere, and what they did
    /// until then stays: if those who come back were taken out, those who do not would be left.
    pub(super) fn is_stopped(&self, arm: u32, until: u32) -> bool {
        let name = self.arms.get(arm as usize).map(|arm| &arm.name);
        let begun = self.epochs.iter().take(until as usize + 1);
        let mut stopped = begun.filter_map(|epoch| epoch.stopped_arm.as_ref());
        stopped.any(|stopped| Some(&stopped.arm) == name)
    }
}

/// An experiment, unless it cannot be read: nothing is counted for one whose plan is not known. What is archived stays as
/// it is, unless it was being made again.
pub(super) fn running(
    connection: &Connection,
    name: &str,
    is_made_again: bool,
) -> rusqlite::Result<Option<Running>> {
    connection
        .prepare_cached(
            "SELECT unit, arms, plan, epochs, app, environment,
                 coalesce(started_at, created_at) >= (SELECT first_hour FROM sums_progress) * 3600000000.0
             FROM experiments
             WHERE name = ?1 AND (?2 OR status <> 'archived')",
        )?
        .query_row(params![name, is_made_again], |row| {
            let text = |place| row.get::<_, Option<String>>(place);
            let (arms, plan, epochs) = (text(1)?, text(2)?, text(3)?);
            let unit = serde_json::from_value(serde_json::Value::String(row.get(0)?)).ok();
            let (app, environment, is_whole) = (row.get(4)?, row.get(5)?, row.get(6)?);
            let read = || {
                let arms: Vec<Arm> = document(&arms?)?;
                let plan: Plan = match plan {
                    Some(plan) => document(&plan)?,
                    None => super::super::experiments::unplanned(&arms)?,
                };
                Some(Running {
                    unit: unit?,
                    needs_history: plan.metrics.iter().any(|metric| metric.covariate),
                    counted: Counted::new(name.to_owned(), plan),
                    arms,
                    epochs: epochs.and_then(|text| document(&text)).unwrap_or_default(),
                    app,
                    environment,
                    is_whole,
                })
            };
            Ok(read())
        })
        .optional()
        .map(Option::flatten)
}

pub(super) fn document<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}
