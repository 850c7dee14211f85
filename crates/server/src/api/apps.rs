//! Apps.

use axum::Json;
use axum::extract::State;
use flywheel_core::AppName;
use flywheel_core::deployment::{App, AppSettings};
use flywheel_core::manifest::RequiredMember;
use flywheel_core::metric::Metric;
use flywheel_core::name::EnvironmentName;
use flywheel_core::plan::MOST_METRICS;
use flywheel_storage::StateSession;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::deployments::{DescribedDeployment, describe_deployment};
use super::to_json;
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams, present};
use crate::operations::deploy::{find_app, find_manifest};
use crate::problem::{ApiResult, Problem};
use crate::respond::{List, list};

/// An app with what its environments serve.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedApp {
    #[serde(flatten)]
    app: App,
    /// The current deployments, in the order of the environments.
    current: Vec<DescribedDeployment>,
}

/// `GET /api/v1/apps`
pub async fn list_apps(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Json<List<DescribedApp>>> {
    let mut session = context.state.read().await?;
    let mut items = Vec::new();
    let apps = session.deployments().list_apps().await?;
    for app in apps {
        if caller.must_cover(&app.name).is_ok() {
            items.push(describe(&mut *session, app).await?);
        }
    }
    Ok(list(items, None))
}

/// `GET /api/v1/apps/{app}`
pub async fn get_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
) -> ApiResult<Json<DescribedApp>> {
    caller.must_cover(&app)?;
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, &app).await?;
    Ok(Json(describe(&mut *session, app).await?))
}

/// What of an app is to be changed. Absent members stay as they are.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppBody {
    /// What the feature does.
    description: Option<String>,
    /// Its environments, the one that a request without a choice gets last.
    environments: Option<Vec<EnvironmentName>>,
    /// Members that every manifest of this app must have.
    required_members: Option<Vec<RequiredMember>>,
    /// A prefix of a manifest's id, or null for none.
    #[serde(deserialize_with = "present")]
    fallback_manifest: Option<Option<String>>,
    /// Its metrics, all of them, or null for those that every app begins with. Running experiments keep theirs.
    #[serde(deserialize_with = "present")]
    metrics: Option<Option<Vec<Metric>>>,
}

/// `PUT /api/v1/apps/{app}`
pub async fn put_app(
    State(context): State<Context>,
    caller: Caller,
    PathParams(name): PathParams<AppName>,
    JsonBody(body): JsonBody<AppBody>,
) -> ApiResult<Json<DescribedApp>> {
    caller.must_cover(&name)?;
    let mut transaction = context.state.begin().await?;
    let there = transaction.deployments().get_app(&name).await?;
    let (mut settings, created_at) = match there {
        Some(app) => (app.settings, app.created_at),
        None => (AppSettings::default(), context.sources.clock.now()),
    };
    if let Some(description) = body.description {
        settings.description = description;
    }
    if let Some(environments) = body.environments {
        check_environments(&mut *transaction, &name, &environments).await?;
        let default = settings.default_environment();
        check_default(&mut *transaction, &name, default, environments.last()).await?;
        settings.environments = environments;
    }
    if let Some(required) = body.required_members {
        settings.required_members = required;
    }
    match body.fallback_manifest {
        None => {}
        Some(None) => settings.fallback_manifest = None,
        Some(Some(prefix)) => {
            settings.fallback_manifest =
                Some(find_manifest(&mut *transaction, &prefix).await?.id());
        }
    }
    if let Some(metrics) = body.metrics {
        check_metrics(metrics.as_deref().unwrap_or_default())?;
        settings.metrics = metrics;
    }
    let app = App {
        name,
        settings,
        created_at,
    };
    transaction.deployments().put_app(&app).await?;
    let subject = app.name.to_string();
    context
        .commit(transaction, &caller, "app.put", &subject, to_json(&app))
        .await?;
    let mut session = context.state.read().await?;
    Ok(Json(describe(&mut *session, app).await?))
}

fn check_metrics(metrics: &[Metric]) -> ApiResult<()> {
    for (index, metric) in metrics.iter().enumerate() {
        metric
            .check()
            .map_err(|error| Problem::invalid(error.to_string()))?;
        if metrics[..index]
            .iter()
            .any(|other| other.name == metric.name)
        {
            return Err(Problem::invalid(format!(
                "`metrics` names `{}` twice",
                metric.name
            )));
        }
    }
    if metrics.len() > MOST_METRICS {
        return Err(Problem::invalid(format!(
            "an app has at most {MOST_METRICS} metrics, {} given",
            metrics.len()
        )));
    }
    Ok(())
}

/// `GET /api/v1/apps/{app}/metrics`
pub async fn list_metrics(
    State(context): State<Context>,
    caller: Caller,
    PathParams(app): PathParams<AppName>,
) -> ApiResult<Json<List<Metric>>> {
    caller.must_cover(&app)?;
    let mut session = context.state.read().await?;
    let app = find_app(&mut *session, &app).await?;
    Ok(list(app.settings.metrics(), None))
}

async fn check_environments(
    session: &mut dyn StateSession,
    app: &AppName,
    environments: &[EnvironmentName],
) -> ApiResult<()> {
    if environments.is_empty() {
        return Err(Problem::invalid("`environments` must name at least one"));
    }
    for (index, environment) in environments.iter().enumerate() {
        if environments[..index].contains(environment) {
            return Err(Problem::invalid(format!(
                "`environments` names `{environment}` twice"
            )));
        }
    }
    let current = session.deployments().all_current().await?;
    let serving = current.iter().find(|deployment| {
        deployment.app == *app && !environments.contains(&deployment.environment)
    });
    match serving {
        Some(deployment) => {
            let detail = format!(
                "environment `{}` serves a manifest and cannot be left out",
                deployment.environment
            );
            Err(Problem::conflict("environment_in_use", detail))
        }
        None => Ok(()),
    }
}

/// Requests that name no environment go to the last one. They must not be left without an answer by a change of the list.
async fn check_default(
    session: &mut dyn StateSession,
    app: &AppName,
    before: Option<&EnvironmentName>,
    after: Option<&EnvironmentName>,
) -> ApiResult<()> {
    let (Some(before), Some(after)) = (before, after) else {
        return Ok(());
    };
    let served = session.deployments().current(app, before).await?.is_some();
    let would_be = session.deployments().current(app, after).await?.is_some();
    if served && !would_be {
        let detail = format!(
            "requests that name no environment would go to `{after}`, the last one, where nothing is deployed"
        );
        return Err(
            Problem::conflict("default_not_deployed", detail).hint(format!(
                "name `{before}` last, or deploy to `{after}` first"
            )),
        );
    }
    Ok(())
}

async fn describe(session: &mut dyn StateSession, app: App) -> ApiResult<DescribedApp> {
    let mut current = Vec::new();
    for environment in &app.settings.environments {
        let deployment = session
            .deployments()
            .current(&app.name, environment)
            .await?;
        if let Some(deployment) = deployment {
            current.push(describe_deployment(session, deployment).await?);
        }
    }
    Ok(DescribedApp { app, current })
}
