//! The plan of a call: which manifest serves it, in which arm, with which rendered messages.

use std::sync::Arc;

use flywheel_core::AppName;
use flywheel_core::name::{ArmName, EnvironmentName, ExperimentName};
use flywheel_core::template::RenderError;
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::provider::format::ChatRequest;
use crate::request::{ChatBody, Target};
use crate::routing::{
    self, EnvironmentRoutes, ModelRoute, Route, RoutingTable, ServedManifest, Unservable,
};

/// Where a call goes.
#[derive(Clone)]
pub struct Destination {
    /// The app and environment, unless a model was called by its name.
    pub app: Option<(AppName, EnvironmentName)>,
    /// What answers, or why nothing can.
    pub chosen: Result<Chosen, Unservable>,
    /// The experiment and arm, if the unit takes part in one.
    pub assignment: Option<(ExperimentName, ArmName)>,
    /// What should have answered and cannot be served; the manifest of another one stands in for it.
    pub stands_in_for: Option<Unservable>,
    /// What answers if the model's provider fails.
    pub fallback: Option<Arc<ServedManifest>>,
}

/// What answers a call.
#[derive(Clone)]
pub struct Chosen {
    /// The manifest, unless a model was called by its name.
    pub served: Option<Arc<ServedManifest>>,
    /// The model.
    pub model: Arc<ModelRoute>,
}

impl From<Arc<ServedManifest>> for Chosen {
    fn from(served: Arc<ServedManifest>) -> Self {
        Self {
            model: Arc::clone(&served.model),
            served: Some(served),
        }
    }
}

/// Finds what serves a request. `request_id` is the unit of experiments that randomise requests.
///
/// # Errors
/// When the app, environment or model is unknown, or nothing is deployed.
pub fn destination(
    table: &RoutingTable,
    body: &ChatBody,
    request_id: &str,
) -> Result<Destination, Failure> {
    match &body.target {
        Target::Model(name) => {
            let model = table.model(name).ok_or_else(|| {
                let app = name.split('@').next().and_then(|app| app.parse().ok());
                let how = match app.filter(|app| table.app(app).is_some()) {
                    Some(_) => format!("the app of that name is `flywheel/{name}`"),
                    None => "name an app as `flywheel/<app>`, or register the model".to_owned(),
                };
                Failure::NotFound(format!("model `{name}` is not registered; {how}"))
            })?;
            Ok(Destination {
                app: None,
                chosen: Ok(Chosen {
                    served: None,
                    model: Arc::clone(model),
                }),
                assignment: None,
                stands_in_for: None,
                fallback: None,
            })
        }
        Target::App { app, environment } => {
            app_destination(table, app, environment.as_ref(), body, request_id)
        }
    }
}

fn app_destination(
    table: &RoutingTable,
    app: &AppName,
    environment: Option<&EnvironmentName>,
    body: &ChatBody,
    request_id: &str,
) -> Result<Destination, Failure> {
    let not_found = |text: String| Failure::NotFound(text);
    let routes = table
        .app(app)
        .ok_or_else(|| not_found(format!("app `{app}` does not exist")))?;
    let environment = environment
        .or(routes.default_environment.as_ref())
        .ok_or_else(|| not_found(format!("app `{app}` has no environment")))?;
    let serving = routes
        .environments
        .get(environment)
        .ok_or_else(|| not_found(format!("app `{app}` has no environment `{environment}`")))?;
    let (route, assignment) = match assigned(serving, body, request_id) {
        Some((route, experiment, arm)) => (route, Some((experiment, arm))),
        None => (None, None),
    };
    let route = route.or(serving.deployed.as_ref()).ok_or_else(|| {
        not_found(format!(
            "nothing is deployed for app `{app}` in `{environment}`"
        ))
    })?;
    let (chosen, stands_in_for) = match route {
        Ok(served) => (Ok(Chosen::from(Arc::clone(served))), None),
        // Something else can answer: for an arm what is deployed, and for that the fallback.
        Err(unservable) => {
            let deployed = serving.deployed.iter().filter(|_| assignment.is_some());
            let stand_in = deployed
                .chain(&routes.fallback)
                .find_map(|route| route.as_ref().ok());
            match stand_in {
                Some(stand_in) => (
                    Ok(Chosen::from(Arc::clone(stand_in))),
                    Some(unservable.clone()),
                ),
                None => (Err(unservable.clone()), None),
            }
        }
    };
    let answers = |manifest: &ServedManifest| {
        let served = chosen
            .as_ref()
            .ok()
            .and_then(|chosen| chosen.served.as_ref());
        served.is_some_and(|served| served.id == manifest.id)
    };
    let fallback = match &routes.fallback {
        Some(Ok(fallback)) if !answers(fallback) => Some(Arc::clone(fallback)),
        _ => None,
    };
    Ok(Destination {
        app: Some((app.clone(), environment.clone())),
        chosen,
        assignment,
        stands_in_for,
        fallback,
    })
}

fn assigned<'a>(
    serving: &'a EnvironmentRoutes,
    body: &ChatBody,
    request_id: &str,
) -> Option<(Option<&'a Route>, ExperimentName, ArmName)> {
    serving.experiments.iter().find_map(|routes| {
        let experiment = &routes.experiment;
        let session = body.flywheel.session.as_deref();
        let unit = routing::unit_of(experiment.unit, body.user.as_deref(), session, request_id)?;
        let arm = experiment.assign(unit)?;
        let index = experiment
            .arms
            .iter()
            .position(|other| other.name == arm.name)?;
        Some((
            routes.arms.get(index)?.as_ref(),
            experiment.name.clone(),
            arm.name.clone(),
        ))
    })
}

/// Renders the messages of a manifest, the caller's own behind them.
///
/// # Errors
/// When a variable is missing or wrong.
pub fn render(served: &ServedManifest, body: &ChatBody) -> Result<Vec<Value>, RenderError> {
    let mut messages = served.prompt.render(&body.flywheel.variables)?;
    messages.extend(body.messages.iter().cloned());
    Ok(messages)
}

/// The request to the provider. What the prompt version decides, the caller cannot change; what it leaves open, the
/// caller may set.
#[must_use]
pub fn chat_request(
    model: &ModelRoute,
    served: Option<&ServedManifest>,
    messages: Vec<Value>,
    body: &ChatBody,
    stream: bool,
) -> ChatRequest {
    let mut members = Map::new();
    members.insert("messages".into(), messages.into());
    for (name, value) in &body.further {
        members.insert(name.clone(), value.clone());
    }
    if let Some(user) = &body.user {
        members.insert("user".into(), user.as_str().into());
    }
    for (name, value) in served.iter().flat_map(|served| &served.request_members) {
        // The same limit under its older and its newer name must not reach the provider twice.
        if name == "max_tokens" {
            members.shift_remove("max_completion_tokens");
        }
        members.insert(name.clone(), value.clone());
    }
    ChatRequest {
        model: model.provider_model.clone(),
        body: members,
        stream,
    }
}
