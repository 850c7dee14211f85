//! Registering prompt versions and models, and finding versions by what people type.

use flywheel_core::model::{ModelAlias, ModelSettings, ModelVersion, Price};
use flywheel_core::name::{Label, ProviderName, VersionName};
use flywheel_core::prompt::PromptVersion;
use flywheel_core::{AppName, ModelName, PromptContent, PromptName, hash};
use flywheel_gateway::routing::Route;
use flywheel_storage::prompts::{NewPromptVersion, Registered};
use flywheel_storage::{StateSession, StateTransaction};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::context::Context;
use crate::operations::deploy::provider_problem;
use crate::problem::{ApiResult, Problem};

/// A prompt as it is pushed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushedPrompt {
    /// Its name.
    pub prompt: PromptName,
    /// The content, checked on arrival.
    #[schemars(with = "PromptContent")]
    pub content: Value,
    /// What changed and why.
    #[serde(default)]
    pub description: String,
    /// Labels to put on the version.
    #[serde(default)]
    pub labels: Vec<Label>,
}

/// A model as it is pushed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushedModel {
    /// Its name.
    pub model_id: ModelName,
    /// Its version.
    pub model_version: VersionName,
    /// The provider in the configuration.
    pub provider: ProviderName,
    /// The provider's own name for the model; the registered name if absent.
    #[serde(default)]
    pub provider_model: Option<String>,
    /// What its tokens cost.
    #[serde(default)]
    pub price: Option<Price>,
    /// Aliases to point at the version.
    #[serde(default)]
    pub aliases: Vec<VersionName>,
}

/// Prompts and models that are registered together or not at all.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Push {
    /// Models first: prompts refer to them.
    pub models: Vec<PushedModel>,
    /// Prompts.
    pub prompts: Vec<PushedPrompt>,
}

/// What a push led to.
#[derive(Debug)]
pub struct Pushed {
    /// The models, and whether each is new or changed.
    pub models: Vec<(ModelVersion, ModelChange)>,
    /// The prompt versions.
    pub prompts: Vec<Registered>,
    /// For each of them, the number of its prompt's newest version: content that was there before may be an older one.
    pub newest: Vec<u64>,
}

/// What registering a model changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// It is new.
    Created,
    /// Its settings are others now.
    Changed,
    /// Nothing.
    Unchanged,
}

/// Registers everything in a push, or nothing if anything in it is wrong.
///
/// # Errors
/// With one entry for each item that is wrong.
pub async fn push(context: &Context, caller: &Caller, push: Push) -> ApiResult<Pushed> {
    caller.must_cover_all()?;
    let mut errors = Vec::new();
    let mut contents = Vec::new();
    for (index, model) in push.models.iter().enumerate() {
        if let Some(Err(error)) = model.price.map(|price| price.check()) {
            errors.push(json!({"kind": "model", "index": index, "detail": error.to_string()}));
        }
    }
    for (index, prompt) in push.prompts.iter().enumerate() {
        if let Some(problem) = prompt
            .labels
            .iter()
            .find_map(|label| check_label(label).err())
        {
            errors.push(json!({"kind": "prompt", "index": index, "prompt": prompt.prompt, "detail": problem.detail()}));
        }
        match PromptContent::from_json(prompt.content.clone()) {
            Ok(content) => contents.push(content),
            Err(error) => {
                errors.push(json!({"kind": "prompt", "index": index, "prompt": prompt.prompt, "detail": error.to_string()}));
            }
        }
    }
    if let [first, further @ ..] = errors.as_slice() {
        let detail = first["detail"].as_str().unwrap_or_default();
        let more = match further.len() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        return Err(Problem::invalid(format!("{detail}{more}")).with("errors", errors.into()));
    }

    let now = context.sources.clock.now();
    let mut transaction = context.state.begin().await?;
    let mut pushed = Pushed {
        models: Vec::new(),
        prompts: Vec::new(),
        newest: Vec::new(),
    };
    let mut changed_models = Vec::new();
    for model in push.models {
        let aliases = model.aliases.clone();
        must_go_on_serving(context, &model)?;
        let before = transaction
            .models()
            .get(&model.model_id, &model.model_version)
            .await?;
        let registered = put_model(&mut *transaction, model, now).await?;
        if registered.1 != ModelChange::Unchanged {
            changed_models.push(json!({
                "model_id": registered.0.model_id,
                "model_version": registered.0.model_version,
                "before": before.map(|model| model.settings),
                "after": registered.0.settings,
            }));
        }
        for alias in aliases {
            let (model_id, model_version) = (
                registered.0.model_id.clone(),
                registered.0.model_version.clone(),
            );
            transaction
                .models()
                .put_alias(&ModelAlias {
                    model_id,
                    alias,
                    model_version,
                })
                .await?;
        }
        pushed.models.push(registered);
    }
    for (prompt, content) in push.prompts.into_iter().zip(contents) {
        pushed
            .prompts
            .push(register(&mut *transaction, caller, prompt, content, now).await?);
    }
    for registered in &pushed.prompts {
        let version = &registered.version;
        let newest = transaction.prompts().latest(&version.prompt).await?;
        let newest = newest.map_or(version.ordinal, |newest| newest.ordinal);
        pushed.newest.push(newest);
    }
    let detail = json!({
        "prompts": pushed.prompts.iter().filter(|registered| registered.created).map(|registered| {
            json!({"prompt": registered.version.prompt, "version": registered.version.version})
        }).collect::<Vec<_>>(),
        "models": changed_models,
    });
    let subject = format!(
        "{} prompts, {} models",
        pushed.prompts.len(),
        pushed.models.len()
    );
    context
        .commit(transaction, caller, "registry.push", &subject, detail)
        .await?;
    Ok(pushed)
}

/// Refuses to take a model away from what is deployed. Registering changes what is served in no other way: another name or
/// price at the provider is in force at once, and is meant to be.
fn must_go_on_serving(context: &Context, model: &PushedModel) -> ApiResult<()> {
    let provider = model.provider.as_str();
    let Some(problem) = provider_problem(context, provider) else {
        return Ok(());
    };
    let table = context.table.load();
    let is_of = |route: &Route| {
        route.as_ref().is_ok_and(|served| {
            served.manifest.model_id == model.model_id
                && served.manifest.model_version == model.model_version
        })
    };
    let is_used = |app: &AppName| {
        let routes = table.app(app)?;
        if routes.fallback.as_ref().is_some_and(is_of) {
            return Some(format!("`{app}` when its provider fails"));
        }
        let (environment, _) = routes.environments.iter().find(|(_, routes)| {
            let arms = routes.experiments.iter().flat_map(|routes| &routes.arms);
            routes.deployed.iter().chain(arms.flatten()).any(is_of)
        })?;
        Some(format!("`{app}` in {environment}"))
    };
    let Some(place) = table.apps().find_map(is_used) else {
        return Ok(());
    };
    let detail = format!(
        "model `{}:{}` answers for {place}, and could not any more: {problem}",
        model.model_id, model.model_version
    );
    Err(Problem::conflict("model_in_use", detail).hint(
        "configure the provider and restart the server first, or register the model under another version",
    ))
}

async fn register(
    transaction: &mut dyn StateTransaction,
    caller: &Caller,
    prompt: PushedPrompt,
    content: PromptContent,
    now: Timestamp,
) -> ApiResult<Registered> {
    let version = NewPromptVersion {
        prompt: prompt.prompt,
        content,
        author: caller.name.clone(),
        description: prompt.description,
        created_at: now,
    };
    let mut registered = transaction.prompts().register(version).await?;
    let PromptVersion {
        prompt: name,
        version,
        labels,
        ..
    } = &mut registered.version;
    for label in prompt.labels {
        transaction
            .prompts()
            .set_label(name, version, &label)
            .await?;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(registered)
}

async fn put_model(
    transaction: &mut dyn StateTransaction,
    model: PushedModel,
    now: Timestamp,
) -> ApiResult<(ModelVersion, ModelChange)> {
    let settings = ModelSettings {
        provider: model.provider,
        provider_model: model
            .provider_model
            .unwrap_or_else(|| model.model_id.to_string()),
        price: model.price,
    };
    let there = transaction
        .models()
        .get(&model.model_id, &model.model_version)
        .await?;
    let (created_at, change) = match &there {
        None => (now, ModelChange::Created),
        Some(there) if there.settings == settings => (there.created_at, ModelChange::Unchanged),
        Some(there) => (there.created_at, ModelChange::Changed),
    };
    let model_version = ModelVersion {
        model_id: model.model_id,
        model_version: model.model_version,
        settings,
        created_at,
    };
    if change != ModelChange::Unchanged {
        transaction.models().put(&model_version).await?;
    }
    Ok((model_version, change))
}

/// Demands that a label can be told from a version's other names.
///
/// # Errors
/// When it would be read as `latest`, as an ordinal or as the beginning of an id.
pub fn check_label(label: &Label) -> ApiResult<()> {
    let text = label.as_str();
    let is_ordinal = text.len() < hash::SHORTEST_PREFIX && text.parse::<u64>().is_ok();
    if text == "latest" || is_ordinal || hash::is_hash_prefix(text) {
        let detail = format!("`{text}` cannot be a label: it names a version already");
        return Err(Problem::invalid(detail)
            .hint("choose one that is not `latest`, a number or the digits of an id"));
    }
    Ok(())
}

/// Finds the version that `reference` means: `latest`, an ordinal, a label, or the first 12 or more digits of its id.
///
/// # Errors
/// When there is none, or a prefix fits several.
pub async fn find_version(
    session: &mut dyn StateSession,
    prompt: &PromptName,
    reference: &str,
) -> ApiResult<PromptVersion> {
    let latest = session.prompts().latest(prompt).await?;
    let Some(latest) = latest else {
        return Err(
            Problem::not_found(format!("prompt `{prompt}` does not exist"))
                .hint("`flywheel prompt list` shows the prompts there are"),
        );
    };
    if reference == "latest" {
        return Ok(latest);
    }
    if reference.len() < hash::SHORTEST_PREFIX
        && let Ok(ordinal) = reference.parse()
    {
        return session
            .prompts()
            .get_by_ordinal(prompt, ordinal)
            .await?
            .ok_or_else(|| {
                Problem::not_found(format!(
                    "prompt `{prompt}` has no version {ordinal}; its newest is {}",
                    latest.ordinal
                ))
            });
    }
    if hash::is_hash_prefix(reference) {
        let mut found = session.prompts().find_by_prefix(prompt, reference).await?;
        return match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Problem::not_found(format!(
                "prompt `{prompt}` has no version `{reference}`"
            ))),
            _ => {
                let ids: Vec<_> = found
                    .iter()
                    .map(|version| format!("`{}`", version.version))
                    .collect();
                let detail = format!("`{reference}` fits several versions: {}", ids.join(", "));
                Err(Problem::conflict("ambiguous_version", detail).hint("type more digits"))
            }
        };
    }
    let mut before = None;
    loop {
        let versions = session.prompts().history(prompt, before, 500).await?;
        let Some(oldest) = versions.last().map(|version| version.ordinal) else {
            break;
        };
        let labelled = |version: &PromptVersion| {
            version
                .labels
                .iter()
                .any(|label| label.as_str() == reference)
        };
        if let Some(found) = versions.into_iter().find(labelled) {
            return Ok(found);
        }
        before = Some(oldest);
    }
    Err(
        Problem::not_found(format!("prompt `{prompt}` has no version `{reference}`")).hint(
            "name a version by at least 12 digits of its id, its number, a label, or `latest`",
        ),
    )
}
