//! What logged calls refer to, and whether it fits together.

use std::collections::HashMap;

use flywheel_core::deployment::App;
use flywheel_core::experiment::{Arm, Experiment, UnitKind};
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::{AppName, Manifest};
use flywheel_storage::StateSession;

use super::LoggedCall;
use crate::operations::{deploy, experiments};
use crate::problem::ApiResult;

/// What was asked for, or what to tell the caller who asked; that the store fails is not for one item.
fn of_caller<T>(found: ApiResult<T>) -> ApiResult<Result<T, String>> {
    match found {
        Err(problem) if problem.status().is_client_error() => Ok(Err(match problem.advice() {
            Some(advice) => format!("{}; {advice}", problem.detail()),
            None => problem.detail().to_owned(),
        })),
        found => found.map(Ok),
    }
}

/// What the calls of a request refer to, each looked up once.
#[derive(Default)]
pub(super) struct Known {
    apps: HashMap<AppName, App>,
    manifests: HashMap<String, Manifest>,
    experiments: HashMap<ExperimentName, Experiment>,
}

impl Known {
    /// Looks up what a call refers to. What does not fit together is told, as it would be compared with what it was
    /// not part of; and what is misspelt, as nobody would find it again.
    pub(super) async fn look_up(
        &mut self,
        session: &mut dyn StateSession,
        call: &LoggedCall,
    ) -> ApiResult<Result<(), String>> {
        if let Err(detail) = self.find_app(session, call).await? {
            return Ok(Err(detail));
        }
        let arm = match (&call.experiment, &call.arm) {
            (Some(experiment), Some(arm)) => {
                match self.find_arm(session, call, experiment, arm).await? {
                    Ok(arm) => Some(arm),
                    Err(detail) => return Ok(Err(detail)),
                }
            }
            _ => None,
        };
        let of_arm = arm.as_ref().and_then(|arm| arm.manifest);
        let Some(name) = call.manifest.clone().or(of_arm.map(|id| id.to_string())) else {
            return Ok(Ok(()));
        };
        if !self.manifests.contains_key(&name) {
            match of_caller(deploy::find_manifest(session, &name).await)? {
                Ok(manifest) => self.manifests.insert(name.clone(), manifest),
                Err(detail) => return Ok(Err(detail)),
            };
        }
        let id = self.manifests[&name].id();
        Ok(match (arm, of_arm) {
            (Some(arm), Some(of_arm)) if of_arm != id => Err(format!(
                "manifest `{id}` is not that of arm `{}`, which is `{of_arm}`",
                arm.name
            )),
            _ => Ok(()),
        })
    }

    async fn find_app(
        &mut self,
        session: &mut dyn StateSession,
        call: &LoggedCall,
    ) -> ApiResult<Result<(), String>> {
        let name = &call.app;
        if !self.apps.contains_key(name) {
            match of_caller(deploy::find_app(session, name).await)? {
                Ok(app) => self.apps.insert(name.clone(), app),
                Err(detail) => return Ok(Err(detail)),
            };
        }
        Ok(match &call.environment {
            Some(asked) => {
                of_caller(deploy::find_environment(&self.apps[name], Some(asked)))?.map(|_| ())
            }
            None => Ok(()),
        })
    }

    async fn find_arm(
        &mut self,
        session: &mut dyn StateSession,
        call: &LoggedCall,
        name: &ExperimentName,
        arm: &ArmName,
    ) -> ApiResult<Result<Arm, String>> {
        if !self.experiments.contains_key(name)
            && let Some(found) = session.experiments().get(name).await?
        {
            self.experiments.insert(name.clone(), found);
        }
        // Of an experiment of another app, not even the name is told.
        let found = self.experiments.get(name);
        let Some(experiment) = found.filter(|experiment| experiment.app == call.app) else {
            let detail = format!("app `{}` has no experiment `{name}`", call.app);
            return Ok(Err(detail));
        };
        if experiment.started_at.is_none() {
            return Ok(Err(format!("experiment `{name}` has not been started")));
        }
        let environment = &experiment.environment;
        if call
            .environment
            .as_ref()
            .is_some_and(|own| own != environment)
        {
            let detail = format!("experiment `{name}` runs in environment `{environment}`");
            return Ok(Err(detail));
        }
        let (has_unit, member) = match experiment.unit {
            UnitKind::User => (call.unit.is_some(), "`unit` (or `user`)"),
            UnitKind::Session => (call.session.is_some(), "`session`"),
            UnitKind::Request => (true, ""),
        };
        if !has_unit {
            return Ok(Err(format!(
                "{member} is missing, by which experiment `{name}` tells its units apart"
            )));
        }
        let found = experiment.arm(arm).cloned();
        Ok(found.ok_or_else(|| experiments::no_arm(experiment, arm)))
    }

    /// The manifest that answered, its own or its arm's.
    pub(super) fn manifest(&self, call: &LoggedCall) -> Option<&Manifest> {
        if let Some(name) = &call.manifest {
            return self.manifests.get(name);
        }
        let experiment = self.experiments.get(call.experiment.as_ref()?)?;
        let arm = experiment.arm(call.arm.as_ref()?)?;
        self.manifests.get(&arm.manifest?.to_string())
    }

    /// The environment of its experiment.
    pub(super) fn environment(&self, call: &LoggedCall) -> Option<&EnvironmentName> {
        let experiment = self.experiments.get(call.experiment.as_ref()?)?;
        Some(&experiment.environment)
    }
}
