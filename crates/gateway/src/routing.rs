//! The routing table: what serves each app, an immutable snapshot that is replaced as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use flywheel_core::deployment::Deployment;
use flywheel_core::experiment::{Experiment, UnitKind};
use flywheel_core::model::{ModelVersion, Price, Usage};
use flywheel_core::name::{EnvironmentName, VersionName};
use flywheel_core::postprocess::PreparedStep;
use flywheel_core::template::CompiledPrompt;
use flywheel_core::{AppName, Manifest, ManifestId, ModelName, PromptContent};
use flywheel_storage::{StateSession, StateStore, StorageResult};
use serde_json::{Map, Value};

use crate::endpoint::Endpoint;

/// Everything that requests need to know, as of one revision of the state.
#[derive(Default)]
pub struct RoutingTable {
    /// The state's revision.
    pub revision: u64,
    apps: HashMap<AppName, AppRoutes>,
    models: HashMap<(ModelName, VersionName), Arc<ModelRoute>>,
    /// What a model's bare name means: its newest version.
    newest: HashMap<ModelName, Arc<ModelRoute>>,
    aliases: HashMap<(ModelName, VersionName), Arc<ModelRoute>>,
}

/// What serves an app.
pub struct AppRoutes {
    /// The environment for requests that name none.
    pub default_environment: Option<EnvironmentName>,
    /// Its environments.
    pub environments: HashMap<EnvironmentName, EnvironmentRoutes>,
    /// What answers when a provider fails.
    pub fallback: Option<Route>,
}

/// What serves an environment.
#[derive(Default)]
pub struct EnvironmentRoutes {
    /// The deployed manifest, if there is one.
    pub deployed: Option<Route>,
    /// Running experiments.
    pub experiments: Vec<ExperimentRoutes>,
}

/// What serves the arms of an experiment.
pub struct ExperimentRoutes {
    /// The experiment.
    pub experiment: Experiment,
    /// One route for each arm, in order; none where the arm follows its environment.
    pub arms: Vec<Option<Route>>,
}

/// A manifest that can be served, or the reason why it cannot.
pub type Route = Result<Arc<ServedManifest>, Unservable>;

/// Why a manifest cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("manifest `{}` cannot be served: {problem}", .manifest.short())]
pub struct Unservable {
    /// The manifest.
    pub manifest: ManifestId,
    /// What is missing.
    pub problem: String,
}

/// A manifest with everything that serving it takes.
pub struct ServedManifest {
    /// Its id.
    pub id: ManifestId,
    /// Its members.
    pub manifest: Manifest,
    /// The compiled templates.
    pub prompt: CompiledPrompt,
    /// What the prompt asks of the provider beside the messages.
    pub request_members: Map<String, Value>,
    /// What is done to the answer.
    pub postprocess: Vec<PreparedStep>,
    /// The model.
    pub model: Arc<ModelRoute>,
}

/// A model version with what serves it.
pub struct ModelRoute {
    /// The registered name.
    pub model_id: ModelName,
    /// The version.
    pub model_version: VersionName,
    /// The provider's own name for it.
    pub provider_model: String,
    /// What its tokens cost.
    pub price: Option<Price>,
    /// Where it is served.
    pub endpoint: Arc<Endpoint>,
}

impl ModelRoute {
    /// What tokens cost, in billionths of a dollar, if they were counted and have a price.
    #[must_use]
    pub fn cost(&self, usage: Option<Usage>) -> Option<i64> {
        self.price
            .zip(usage)
            .map(|(price, usage)| price.cost(&usage))
    }
}

/// The configured providers by name.
pub type Endpoints = HashMap<String, Arc<Endpoint>>;

/// The current table, shared by all requests.
pub type SharedTable = Arc<ArcSwap<RoutingTable>>;

impl RoutingTable {
    /// What serves an app.
    #[must_use]
    pub fn app(&self, app: &AppName) -> Option<&AppRoutes> {
        self.apps.get(app)
    }

    /// The model a request names: `name` (its newest version), `name:version` or `name@alias`. Names and versions may
    /// hold colons themselves; of the registered models that fit, the one with the longest name is meant.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<ModelRoute>> {
        if let Some((model, alias)) = name.split_once('@') {
            let key = (model.parse().ok()?, alias.parse().ok()?);
            return self.aliases.get(&key);
        }
        self.newest.get(name).or_else(|| {
            name.rmatch_indices(':').find_map(|(colon, _)| {
                let model = name[..colon].parse().ok()?;
                let version = name[colon + 1..].parse().ok()?;
                self.model_version(&model, &version)
            })
        })
    }

    /// A version of a model.
    #[must_use]
    pub fn model_version(
        &self,
        model: &ModelName,
        version: &VersionName,
    ) -> Option<&Arc<ModelRoute>> {
        self.models.get(&(model.clone(), version.clone()))
    }

    /// The names under which apps and models can be called, sorted.
    #[must_use]
    pub fn callable_names(&self) -> Vec<String> {
        let apps = self.apps.iter().flat_map(|(app, routes)| {
            let default = routes
                .default_environment
                .iter()
                .map(move |_| format!("flywheel/{app}"));
            let named = routes
                .environments
                .iter()
                .filter(|(_, routes)| routes.deployed.is_some());
            default
                .chain(named.map(move |(environment, _)| format!("flywheel/{app}@{environment}")))
        });
        let newest = self.newest.keys().map(ToString::to_string);
        let pair = |mark: char| {
            move |(model, name): &(ModelName, VersionName)| format!("{model}{mark}{name}")
        };
        let versions = self.models.keys().map(pair(':'));
        let aliases = self.aliases.keys().map(pair('@'));
        let mut names: Vec<_> = apps.chain(newest).chain(versions).chain(aliases).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The apps that have a route, for metrics and checks.
    pub fn apps(&self) -> impl Iterator<Item = &AppName> {
        self.apps.keys()
    }
}

/// Loads the table, taking over from `previous` what has not changed.
///
/// # Errors
/// When the state cannot be read. A manifest that cannot be served is no error: requests to its app are told why.
pub async fn load(
    state: &dyn StateStore,
    endpoints: &Endpoints,
    previous: &RoutingTable,
) -> StorageResult<RoutingTable> {
    // The revision is read first: if a change comes in between, the table only seems older than it is.
    let revision = state.revision().await?;
    let mut session = state.read().await?;
    let mut loader = Loader {
        endpoints,
        previous,
        loaded: HashMap::new(),
        table: RoutingTable::default(),
    };
    loader.table.revision = revision;
    loader.load_models(&mut *session).await?;
    loader.load_apps(&mut *session).await?;
    loader.load_experiments(&mut *session).await?;
    Ok(loader.table)
}

struct Loader<'a> {
    endpoints: &'a Endpoints,
    previous: &'a RoutingTable,
    loaded: HashMap<ManifestId, Route>,
    table: RoutingTable,
}

impl Loader<'_> {
    async fn load_models(&mut self, session: &mut dyn StateSession) -> StorageResult<()> {
        // Newest first within a name, so the first one seen is the one that the bare name means.
        for model in session.models().list().await? {
            let Some(route) = self.model_route(&model) else {
                continue;
            };
            let ModelVersion {
                model_id,
                model_version,
                ..
            } = model;
            self.table
                .newest
                .entry(model_id.clone())
                .or_insert_with(|| Arc::clone(&route));
            self.table.models.insert((model_id, model_version), route);
        }
        for alias in session.models().aliases().await? {
            let key = (alias.model_id.clone(), alias.model_version.clone());
            if let Some(route) = self.table.models.get(&key) {
                let route = Arc::clone(route);
                self.table
                    .aliases
                    .insert((alias.model_id, alias.alias), route);
            }
        }
        Ok(())
    }

    fn model_route(&self, model: &ModelVersion) -> Option<Arc<ModelRoute>> {
        let endpoint = self.endpoints.get(model.settings.provider.as_str())?;
        let key = (model.model_id.clone(), model.model_version.clone());
        if let Some(previous) = self.previous.models.get(&key)
            && previous.provider_model == model.settings.provider_model
            && previous.price == model.settings.price
            && previous.endpoint.name == endpoint.name
        {
            return Some(Arc::clone(previous));
        }
        Some(Arc::new(ModelRoute {
            model_id: model.model_id.clone(),
            model_version: model.model_version.clone(),
            provider_model: model.settings.provider_model.clone(),
            price: model.settings.price,
            endpoint: Arc::clone(endpoint),
        }))
    }

    async fn load_apps(&mut self, session: &mut dyn StateSession) -> StorageResult<()> {
        let apps = session.deployments().list_apps().await?;
        for app in apps {
            let fallback = match &app.settings.fallback_manifest {
                Some(manifest) => Some(self.route(session, manifest).await?),
                None => None,
            };
            let environments = app
                .settings
                .environments
                .iter()
                .map(|environment| (environment.clone(), EnvironmentRoutes::default()))
                .collect();
            let default_environment = app.settings.default_environment().cloned();
            let routes = AppRoutes {
                default_environment,
                environments,
                fallback,
            };
            self.table.apps.insert(app.name, routes);
        }
        let deployments = session.deployments().all_current().await?;
        for Deployment {
            app,
            environment,
            manifest,
            ..
        } in deployments
        {
            let route = self.route(session, &manifest).await?;
            if let Some(routes) = self.table.apps.get_mut(&app) {
                routes.environments.entry(environment).or_default().deployed = Some(route);
            }
        }
        Ok(())
    }

    async fn load_experiments(&mut self, session: &mut dyn StateSession) -> StorageResult<()> {
        let running = session.experiments().running().await?;
        for experiment in running {
            let mut arms = Vec::with_capacity(experiment.arms.len());
            for arm in &experiment.arms {
                arms.push(match &arm.manifest {
                    Some(manifest) => Some(self.route(session, manifest).await?),
                    None => None,
                });
            }
            if let Some(routes) = self.table.apps.get_mut(&experiment.app) {
                let environment = routes.environments.entry(experiment.environment.clone());
                environment
                    .or_default()
                    .experiments
                    .push(ExperimentRoutes { experiment, arms });
            }
        }
        Ok(())
    }

    async fn route(
        &mut self,
        session: &mut dyn StateSession,
        id: &ManifestId,
    ) -> StorageResult<Route> {
        if let Some(route) = self.loaded.get(id) {
            return Ok(route.clone());
        }
        let route = self.load_route(session, id).await?;
        if let Err(unservable) = &route {
            tracing::error!(manifest.id = %id, reason = %unservable.problem, "a deployed manifest cannot be served");
        }
        self.loaded.insert(*id, route.clone());
        Ok(route)
    }

    async fn load_route(
        &self,
        session: &mut dyn StateSession,
        id: &ManifestId,
    ) -> StorageResult<Route> {
        let unservable = |problem: String| {
            Ok(Err(Unservable {
                manifest: *id,
                problem,
            }))
        };
        let Some(manifest) = session.deployments().get_manifest(id).await? else {
            return unservable("it is not in the store".into());
        };
        let (prompt, version) = (&manifest.prompt_id, &manifest.prompt_version);
        let Some(prompt_version) = session.prompts().get(prompt, version).await? else {
            return unservable(format!(
                "prompt `{prompt}` has no version `{}`",
                version.short()
            ));
        };
        let (model_id, model_version) = (&manifest.model_id, &manifest.model_version);
        let key = (model_id.clone(), model_version.clone());
        let Some(model) = self.table.models.get(&key) else {
            return unservable(format!(
                "model `{model_id}:{model_version}` is not registered, or its provider is not configured"
            ));
        };
        Ok(
            ServedManifest::new(*id, manifest, &prompt_version.content, Arc::clone(model))
                .map(Arc::new)
                .map_err(|problem| Unservable {
                    manifest: *id,
                    problem,
                }),
        )
    }
}

impl ServedManifest {
    /// Compiles what a manifest names.
    ///
    /// # Errors
    /// When a template or a post-processing step does not compile.
    pub fn new(
        id: ManifestId,
        manifest: Manifest,
        content: &PromptContent,
        model: Arc<ModelRoute>,
    ) -> Result<Self, String> {
        let prompt = CompiledPrompt::compile(content).map_err(|error| error.to_string())?;
        let steps = content.postprocess.iter().flatten();
        let postprocess = steps
            .map(flywheel_core::postprocess::PostProcess::prepare)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let request_members = content.request_members();
        Ok(Self {
            id,
            manifest,
            prompt,
            request_members,
            postprocess,
            model,
        })
    }
}

/// The unit that an experiment randomises on, if the request has it.
#[must_use]
pub fn unit_of<'a>(
    kind: UnitKind,
    user: Option<&'a str>,
    session: Option<&'a str>,
    request: &'a str,
) -> Option<&'a str> {
    match kind {
        UnitKind::User => user,
        UnitKind::Session => session,
        UnitKind::Request => Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointOptions;
    use crate::provider::openai::{OpenAiFormat, OpenAiOptions};
    use crate::provider::simulated::Simulated;

    /// Versions of a model come newest first, as a store lists them.
    fn table(models: &[(&str, &str)], aliases: &[(&str, &str, usize)]) -> RoutingTable {
        let format = OpenAiFormat::new(OpenAiOptions::default()).unwrap();
        let options = EndpointOptions::default();
        let endpoint =
            Endpoint::simulated("simulated", Box::new(format), Simulated::default(), options);
        let endpoint = Arc::new(endpoint);
        let mut table = RoutingTable::default();
        let mut routes = Vec::new();
        for (model, version) in models {
            let (model_id, model_version): (ModelName, VersionName) =
                (model.parse().unwrap(), version.parse().unwrap());
            let route = Arc::new(ModelRoute {
                model_id: model_id.clone(),
                model_version: model_version.clone(),
                provider_model: format!("{model} in version {version}"),
                price: None,
                endpoint: Arc::clone(&endpoint),
            });
            let newest = table.newest.entry(model_id.clone());
            newest.or_insert_with(|| Arc::clone(&route));
            table
                .models
                .insert((model_id, model_version), Arc::clone(&route));
            routes.push(route);
        }
        for (model, alias, route) in aliases {
            let key = (model.parse().unwrap(), alias.parse().unwrap());
            table.aliases.insert(key, Arc::clone(&routes[*route]));
        }
        table
    }

    /// As Ollama and fine-tuned models of OpenAI are called.
    #[test]
    fn names_and_versions_may_hold_colons() {
        let models = [
            ("llama3.2", "1b"),
            ("llama3.2", "3b:q4"),
            ("llama3.2:3b", "q8"),
            ("llama3.2:3b", "q4"),
            ("ft:gpt-4o-mini:org::a1", "2024-07-18"),
        ];
        let table = table(&models, &[("llama3.2:3b", "best:one", 3)]);
        for (name, expected) in [
            ("llama3.2", Some("llama3.2 in version 1b")),
            ("llama3.2:1b", Some("llama3.2 in version 1b")),
            ("llama3.2:3b", Some("llama3.2:3b in version q8")),
            ("llama3.2:3b:q8", Some("llama3.2:3b in version q8")),
            // The longest name, whichever was registered first.
            ("llama3.2:3b:q4", Some("llama3.2:3b in version q4")),
            ("llama3.2:3b@best:one", Some("llama3.2:3b in version q4")),
            (
                "ft:gpt-4o-mini:org::a1",
                Some("ft:gpt-4o-mini:org::a1 in version 2024-07-18"),
            ),
            (
                "ft:gpt-4o-mini:org::a1:2024-07-18",
                Some("ft:gpt-4o-mini:org::a1 in version 2024-07-18"),
            ),
            ("llama3.2:2b", None),
            ("llama3.2:", None),
            (":1b", None),
            ("ft", None),
            ("llama3.2@best:one", None),
        ] {
            let found = table.model(name).map(|route| route.provider_model.as_str());
            assert_eq!(found, expected, "{name}");
        }
        // What the text cannot reach, the pair does.
        let pair = ("llama3.2".parse().unwrap(), "3b:q4".parse().unwrap());
        let route = table.model_version(&pair.0, &pair.1).unwrap();
        assert_eq!(route.provider_model, "llama3.2 in version 3b:q4");
        let names = table.callable_names();
        assert_eq!(
            names
                .iter()
                .filter(|name| *name == "llama3.2:3b:q4")
                .count(),
            1
        );
    }
}
