//! An experiment whose events are taken in, as the store keeps it.

use flywheel_core::assignment;
use flywheel_core::experiment::{Arm, Epoch, UnitKind};
use flywheel_core::plan::Plan;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::follow::Exposure;
use super::history::BEFORE_MICROSECONDS;
use super::state::{Counted, Standing, Unit};

/// An experiment whose events are taken in.
pub(super) struct Running {
    pub(super) counted: Counted,
    pub(super) unit: UnitKind,
    pub(super) arms: Vec<Arm>,
    pub(super) epochs: Vec<Epoch>,
    pub(super) app: String,
    pub(super) environment: String,
    salt: String,
    pub(super) needs_history: bool,
    /// Whether all of its events are there: retention may have removed some.
    pub(super) is_whole: bool,
    /// From when on all events are there.
    first_at: f64,
    /// The first day that is not over: what comes of earlier ones counts there.
    pub(super) open_day: i64,
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
        (is_own && !self.is_out(arm, epoch)).then_some(Own { arm, epoch })
    }

    /// Whether a call changes what was counted of a unit's earlier ones: because it began before them, or because the unit is
    /// in another arm there.
    pub(super) fn is_changed(&self, unit: &Unit, own: Own, started_at: i64) -> bool {
        let is_other = own.arm != unit.arm && !self.was_out(unit, own.epoch);
        let is_moved = match unit.standing {
            Standing::Counts => true,
            // In the epoch of its first call too, which weighs more.
            Standing::Moved => own.epoch == unit.epoch,
            Standing::InTwoArms => false,
        };
        started_at < unit.first_at || (is_other && is_moved)
    }

    /// Whether a call is one of those that a unit comes to.
    pub(super) fn counts(&self, unit: &Unit, exposure: &Exposure) -> bool {
        let is_its = |own: Own| own.arm == unit.arm && !self.was_out(unit, own.epoch);
        unit.standing == Standing::Counts && self.admits(exposure).is_some_and(is_its)
    }

    /// Whether nobody was in a unit's arm for a time between its epoch and another. What it did until then stays, and what it
    /// does from then on counts nowhere: of those who are away for a time not all come back.
    pub(super) fn was_out(&self, unit: &Unit, until: u32) -> bool {
        (unit.epoch + 1..=until).any(|epoch| self.is_out(unit.arm, epoch))
    }

    /// Whether the calls before a first exposure are all there.
    pub(super) fn has_history(&self, first_at: i64) -> bool {
        (first_at - BEFORE_MICROSECONDS) as f64 >= self.first_at
    }

    /// Whether a later change of the weights gives a unit another arm. It is left out then whether it comes again or not: if only
    /// those were that come, the arm that lost them would be left with the others. What was logged in an arm that the weights
    /// do not give says nothing of that.
    pub(super) fn is_given_away(&self, name: &str, own: Own) -> bool {
        if self.unit == UnitKind::Request {
            return false;
        }
        let arm_in = |epoch: &Epoch| {
            let weights = epoch.weights.iter().copied();
            assignment::arm(&self.salt, name, weights).map(|arm| arm as u32)
        };
        let mut epochs = self.epochs.iter().enumerate().skip(own.epoch as usize);
        let is_given = |(_, epoch): (usize, &Epoch)| arm_in(epoch) == Some(own.arm);
        epochs.next().is_some_and(is_given)
            && epochs
                .take_while(|(place, _)| !self.is_out(own.arm, *place as u32))
                .any(|(_, epoch)| arm_in(epoch) != Some(own.arm))
    }

    pub(super) fn epoch_at(&self, at: i64) -> u32 {
        let begun = |epoch: &&Epoch| epoch.since.as_microsecond() <= at;
        self.epochs.iter().filter(begun).count().saturating_sub(1) as u32
    }

    /// Whether nobody is in an arm any more: because it was stopped, or because it has no weight. Where all leave, those who do
    /// are no others than those who stay, so that what they did until then stays.
    pub(super) fn is_out(&self, arm: u32, epoch: u32) -> bool {
        let weights = self.epochs.get(epoch as usize).map(|epoch| &epoch.weights);
        let weight = weights.and_then(|weights| weights.get(arm as usize));
        weight == Some(&0) || self.is_stopped(arm, epoch)
    }

    /// Whether an arm was stopped until an epoch. What its units do elsewhere from then on counts nowhere, and what they did
    /// until then stays: if those who come back were taken out, those who do not would be left.
    fn is_stopped(&self, arm: u32, until: u32) -> bool {
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
                 coalesce(started_at, created_at), (SELECT first_hour FROM sums_progress) * 3600000000.0, salt,
                 coalesce((SELECT day FROM experiment_open_days WHERE experiment = name), 0)
             FROM experiments
             WHERE name = ?1 AND (?2 OR status <> 'archived')",
        )?
        .query_row(params![name, is_made_again], |row| {
            let text = |place| row.get::<_, Option<String>>(place);
            let (arms, plan, epochs) = (text(1)?, text(2)?, text(3)?);
            let unit = serde_json::from_value(serde_json::Value::String(row.get(0)?)).ok();
            let (app, environment) = (row.get(4)?, row.get(5)?);
            let (begun_at, first_at): (f64, f64) = (row.get::<_, i64>(6)? as f64, row.get(7)?);
            let (salt, open_day) = (row.get(8)?, row.get(9)?);
            let read = || {
                let arms: Vec<Arm> = document(&arms?)?;
                let plan: Plan = match plan {
                    Some(plan) => document(&plan)?,
                    None => super::super::experiments::unplanned(&arms)?,
                };
                Some(Running {
                    unit: unit?,
                    salt,
                    needs_history: plan.metrics.iter().any(|metric| metric.covariate),
                    counted: Counted::new(name.to_owned(), plan),
                    arms,
                    epochs: epochs.and_then(|text| document(&text)).unwrap_or_default(),
                    app,
                    environment,
                    is_whole: begun_at >= first_at,
                    first_at,
                    open_day,
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
