//! Registered models.

use axum::Json;
use axum::extract::State;
use flywheel_core::ModelName;
use flywheel_core::model::{ModelAlias, ModelVersion, Price};
use flywheel_core::name::{ProviderName, VersionName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::operations::deploy::provider_problem;
use crate::operations::registry::{self, Push, PushedModel};
use crate::problem::{ApiResult, Problem};
use crate::respond::{List, list};

/// A model version in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DescribedModel {
    #[serde(flatten)]
    model: ModelVersion,
    /// The aliases that point at it.
    aliases: Vec<VersionName>,
    /// Why it cannot be served now.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// `GET /api/v1/models`
pub async fn list_models(State(context): State<Context>) -> ApiResult<Json<List<DescribedModel>>> {
    let mut session = context.state.read().await?;
    let models = session.models().list().await?;
    let aliases = session.models().aliases().await?;
    let items = models
        .into_iter()
        .map(|model| {
            let names = aliases.iter().filter(|alias| {
                alias.model_id == model.model_id && alias.model_version == model.model_version
            });
            DescribedModel {
                aliases: names.map(|alias| alias.alias.clone()).collect(),
                problem: provider_problem(&context, model.settings.provider.as_str()),
                model,
            }
        })
        .collect();
    Ok(list(items, None))
}

/// A model's settings as they are put.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelBody {
    /// The provider in the configuration.
    provider: ProviderName,
    /// The provider's own name for the model; the registered name if absent.
    #[serde(default)]
    provider_model: Option<String>,
    /// What its tokens cost.
    #[serde(default)]
    price: Option<Price>,
}

/// `PUT /api/v1/models/{model}/versions/{version}`
pub async fn put_model(
    State(context): State<Context>,
    caller: Caller,
    PathParams((model_id, model_version)): PathParams<(ModelName, VersionName)>,
    JsonBody(body): JsonBody<ModelBody>,
) -> ApiResult<Json<ModelVersion>> {
    let ModelBody {
        provider,
        provider_model,
        price,
    } = body;
    let aliases = Vec::new();
    let model = PushedModel {
        model_id,
        model_version,
        provider,
        provider_model,
        price,
        aliases,
    };
    let push = Push {
        models: vec![model],
        prompts: Vec::new(),
    };
    let mut pushed = registry::push(&context, &caller, push).await?;
    Ok(Json(pushed.models.remove(0).0))
}

/// Where an alias is pointed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasBody {
    /// The version it is to point at.
    model_version: VersionName,
}

/// `PUT /api/v1/models/{model}/aliases/{alias}`
pub async fn put_model_alias(
    State(context): State<Context>,
    caller: Caller,
    PathParams((model_id, alias)): PathParams<(ModelName, VersionName)>,
    JsonBody(body): JsonBody<AliasBody>,
) -> ApiResult<Json<ModelAlias>> {
    caller.must_cover_all()?;
    let model_version = body.model_version;
    let mut transaction = context.state.begin().await?;
    if transaction
        .models()
        .get(&model_id, &model_version)
        .await?
        .is_none()
    {
        let detail = format!("model `{model_id}:{model_version}` is not registered");
        return Err(Problem::not_found(detail));
    }
    let alias = ModelAlias {
        model_id,
        alias,
        model_version,
    };
    transaction.models().put_alias(&alias).await?;
    let subject = format!("{}@{}", alias.model_id, alias.alias);
    let detail = json!({"model_version": alias.model_version});
    context
        .commit(transaction, &caller, "model.alias", &subject, detail)
        .await?;
    Ok(Json(alias))
}
