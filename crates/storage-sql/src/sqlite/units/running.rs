//! An experiment whose events are taken in, as the store keeps it.

use flywheel_core::experiment::{Arm, Epoch, UnitKind};
use flywheel_core::plan::Plan;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::de::DeserializeOwned;

use super::state::Counted;

/// An experiment whose events are taken in.
pub(super) struct Running {
    pub(super) counted: Counted,
    pub(super) unit: UnitKind,
    pub(super) arms: Vec<Arm>,
    pub(super) epochs: Vec<Epoch>,
    pub(super) app: String,
    pub(super) environment: String,
    pub(super) needs_history: bool,
}

impl Running {
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
            "SELECT unit, arms, plan, epochs, app, environment FROM experiments
             WHERE name = ?1 AND (?2 OR status <> 'archived')",
        )?
        .query_row(params![name, is_made_again], |row| {
            let text = |place| row.get::<_, Option<String>>(place);
            let (arms, plan, epochs) = (text(1)?, text(2)?, text(3)?);
            let unit = serde_json::from_value(serde_json::Value::String(row.get(0)?)).ok();
            let (app, environment) = (row.get(4)?, row.get(5)?);
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
