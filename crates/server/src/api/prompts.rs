//! Prompts and their versions.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use flywheel_core::diff::diff_prompts;
use flywheel_core::name::Label;
use flywheel_core::prompt::{EvaluationScore, PromptVersion};
use flywheel_core::{PromptName, PromptVersionId};
use flywheel_storage::StateSession;
use flywheel_storage::deployments::PromptUse;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{list, to_json};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PageQuery, PathParams, QueryParams};
use crate::operations::registry::{self, ModelChange, Push, PushedPrompt, find_version};
use crate::problem::{ApiResult, Problem};

/// `POST /api/v1/push`
pub async fn push_registry(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(push): JsonBody<Push>,
) -> ApiResult<Response> {
    let pushed = registry::push(&context, &caller, push).await?;
    let models: Vec<_> = pushed
        .models
        .iter()
        .map(|(model, change)| {
            json!({
                "model_id": model.model_id,
                "model_version": model.model_version,
                "created": *change == ModelChange::Created,
                "changed": *change == ModelChange::Changed,
            })
        })
        .collect();
    let prompts: Vec<_> = pushed
        .prompts
        .iter()
        .map(|registered| {
            let PromptVersion { prompt, version, ordinal, .. } = &registered.version;
            json!({"prompt": prompt, "version": version, "ordinal": ordinal, "created": registered.created})
        })
        .collect();
    Ok(Json(json!({"models": models, "prompts": prompts})).into_response())
}

/// The query of a list of prompts.
#[derive(Debug, Default, Deserialize)]
pub struct ListQuery {
    #[serde(default)]
    text: String,
}

/// `GET /api/v1/prompts`
pub async fn list_prompts(
    State(context): State<Context>,
    QueryParams(query): QueryParams<ListQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Response> {
    let after = page
        .request(|cursor| cursor.parse::<PromptName>().ok())?
        .before;
    let limit = page.limit();
    let mut session = context.state.read().await?;
    let mut prompts = session
        .prompts()
        .list(&query.text, after.as_ref(), limit + 1)
        .await?;
    let has_more = prompts.len() > limit as usize;
    prompts.truncate(limit as usize);
    let next = if has_more {
        prompts.last().map(|prompt| prompt.name.to_string())
    } else {
        None
    };
    let items = prompts
        .into_iter()
        .map(|prompt| {
            let mut item = json!({
                "name": prompt.name,
                "versions": prompt.versions,
                "latest": prompt.latest,
                "updated_at": prompt.updated_at,
            });
            if let Some(matched) = prompt.matched {
                item["matched"] = to_json(&matched);
            }
            item
        })
        .collect();
    Ok(list(items, next))
}

/// A version as it is registered under its prompt's own path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    content: Value,
    #[serde(default)]
    description: String,
    #[serde(default)]
    labels: Vec<Label>,
}

/// `POST /api/v1/prompts/{name}/versions`
pub async fn register_prompt_version(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    JsonBody(new): JsonBody<NewVersion>,
) -> ApiResult<Response> {
    let NewVersion {
        content,
        description,
        labels,
    } = new;
    let prompts = vec![PushedPrompt {
        prompt,
        content,
        description,
        labels,
    }];
    let push = Push {
        models: Vec::new(),
        prompts,
    };
    let mut pushed = registry::push(&context, &caller, push).await?;
    let registered = pushed.prompts.remove(0);
    let mut session = context.state.read().await?;
    let mut body = describe(&mut *session, &caller, &registered.version).await?;
    body.insert("created".into(), registered.created.into());
    let status = if registered.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(body)).into_response())
}

/// `GET /api/v1/prompts/{name}/versions`
pub async fn list_prompt_versions(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Response> {
    let request = page.request(|cursor| cursor.parse::<u64>().ok())?;
    let limit = request.limit;
    let mut session = context.state.read().await?;
    // A prompt without versions does not exist.
    find_version(&mut *session, &prompt, "latest").await?;
    let mut versions = session
        .prompts()
        .history(&prompt, request.before, limit + 1)
        .await?;
    let has_more = versions.len() > limit as usize;
    versions.truncate(limit as usize);
    let next = if has_more {
        versions.last().map(|version| version.ordinal.to_string())
    } else {
        None
    };
    let mut uses: HashMap<PromptVersionId, Vec<PromptUse>> = HashMap::new();
    for item in uses_for(&mut *session, &caller, &prompt, None).await? {
        uses.entry(item.prompt_version).or_default().push(item);
    }
    let none = Vec::new();
    let items = versions
        .iter()
        .map(|version| {
            let mut item = members(version, uses.get(&version.version).unwrap_or(&none));
            item.remove("content");
            item
        })
        .collect();
    Ok(list(items, next))
}

/// `GET /api/v1/prompts/{name}/versions/{reference}`
pub async fn get_prompt_version(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, reference)): PathParams<(PromptName, String)>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let version = find_version(&mut *session, &prompt, &reference).await?;
    Ok(Json(describe(&mut *session, &caller, &version).await?).into_response())
}

/// Two versions to be compared.
#[derive(Debug, Deserialize)]
pub struct DiffQuery {
    from: String,
    #[serde(default)]
    to: Option<String>,
}

/// `GET /api/v1/prompts/{name}/diff`
pub async fn diff_prompt_versions(
    State(context): State<Context>,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(query): QueryParams<DiffQuery>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let from = find_version(&mut *session, &prompt, &query.from).await?;
    let to = query.to.as_deref().unwrap_or("latest");
    let to = find_version(&mut *session, &prompt, to).await?;
    let mut body = to_json(&diff_prompts(&from.content, &to.content));
    body["from"] = json!({"version": from.version, "ordinal": from.ordinal});
    body["to"] = json!({"version": to.version, "ordinal": to.ordinal});
    Ok(Json(body).into_response())
}

/// Which version.
#[derive(Debug, Deserialize)]
pub struct VersionQuery {
    version: Option<String>,
}

/// `GET /api/v1/prompts/{name}/uses`
pub async fn list_prompt_uses(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(query): QueryParams<VersionQuery>,
) -> ApiResult<Response> {
    let mut session = context.state.read().await?;
    let version = match &query.version {
        Some(reference) => Some(
            find_version(&mut *session, &prompt, reference)
                .await?
                .version,
        ),
        None => None,
    };
    let uses = uses_for(&mut *session, &caller, &prompt, version.as_ref()).await?;
    Ok(list(uses.iter().map(describe_use).collect(), None))
}

/// The version a label is put on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    version: String,
}

/// `PUT /api/v1/prompts/{name}/labels/{label}`
pub async fn put_prompt_label(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, label)): PathParams<(PromptName, Label)>,
    JsonBody(body): JsonBody<LabelBody>,
) -> ApiResult<Response> {
    caller.must_cover_all()?;
    registry::check_label(&label)?;
    let mut transaction = context.state.begin().await?;
    let version = find_version(&mut *transaction, &prompt, &body.version)
        .await?
        .version;
    transaction
        .prompts()
        .set_label(&prompt, &version, &label)
        .await?;
    let detail = json!({"label": label, "version": version});
    context
        .commit(
            transaction,
            &caller,
            "prompt.label",
            prompt.as_str(),
            detail,
        )
        .await?;
    Ok(Json(json!({"prompt": prompt, "label": label, "version": version})).into_response())
}

/// `DELETE /api/v1/prompts/{name}/labels/{label}`
pub async fn remove_prompt_label(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, label)): PathParams<(PromptName, Label)>,
) -> ApiResult<StatusCode> {
    caller.must_cover_all()?;
    let mut transaction = context.state.begin().await?;
    if !transaction.prompts().remove_label(&prompt, &label).await? {
        return Err(Problem::not_found(format!(
            "no version of `{prompt}` has the label `{label}`"
        )));
    }
    let detail = json!({"label": label});
    context
        .commit(
            transaction,
            &caller,
            "prompt.unlabel",
            prompt.as_str(),
            detail,
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A score as it is added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewScore {
    metric: String,
    value: f64,
    n: u64,
    #[serde(default)]
    dataset: Option<String>,
}

/// `POST /api/v1/prompts/{name}/versions/{reference}/scores`
pub async fn add_prompt_score(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, reference)): PathParams<(PromptName, String)>,
    JsonBody(new): JsonBody<NewScore>,
) -> ApiResult<Response> {
    caller.must_cover_all()?;
    let mut transaction = context.state.begin().await?;
    let version = find_version(&mut *transaction, &prompt, &reference)
        .await?
        .version;
    let NewScore {
        metric,
        value,
        n,
        dataset,
    } = new;
    let recorded_at = context.sources.clock.now();
    let score = EvaluationScore {
        metric,
        value,
        n,
        dataset,
        recorded_at,
    };
    transaction
        .prompts()
        .add_score(&prompt, &version, &score)
        .await?;
    let detail = json!({"version": version, "score": score});
    context
        .commit(
            transaction,
            &caller,
            "prompt.score",
            prompt.as_str(),
            detail,
        )
        .await?;
    Ok((StatusCode::CREATED, Json(score)).into_response())
}

/// Where a prompt is or was deployed, among the apps that the caller may know of.
async fn uses_for(
    session: &mut dyn StateSession,
    caller: &Caller,
    prompt: &PromptName,
    version: Option<&PromptVersionId>,
) -> ApiResult<Vec<PromptUse>> {
    let mut uses = session
        .deployments()
        .uses_of_prompt(prompt, version)
        .await?;
    uses.retain(|item| caller.must_cover(&item.app).is_ok());
    Ok(uses)
}

async fn describe(
    session: &mut dyn StateSession,
    caller: &Caller,
    version: &PromptVersion,
) -> ApiResult<Map<String, Value>> {
    let id = &version.version;
    let uses = uses_for(session, caller, &version.prompt, Some(id)).await?;
    let scores = session.prompts().scores(&version.prompt, id).await?;
    let mut body = members(version, &uses);
    body.insert("scores".into(), to_json(&scores));
    Ok(body)
}

fn members(version: &PromptVersion, uses: &[PromptUse]) -> Map<String, Value> {
    let mut body = match to_json(version) {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    body.insert("content".into(), version.content.to_json());
    // Where it is served now decides its status; an environment later in the app's list is nearer to users.
    let serving = uses
        .iter()
        .filter(|item| item.current)
        .map(|item| item.environment.as_str());
    let status = serving
        .max_by_key(|name| *name == "production")
        .unwrap_or("draft");
    body.insert("status".into(), status.into());
    body.insert(
        "uses".into(),
        uses.iter().map(describe_use).collect::<Vec<_>>().into(),
    );
    body
}

fn describe_use(item: &PromptUse) -> Value {
    json!({
        "app": item.app,
        "environment": item.environment,
        "manifest": item.manifest,
        "prompt_version": item.prompt_version,
        "current": item.current,
        "deployed_at": item.deployed_at,
    })
}
