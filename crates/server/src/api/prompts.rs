//! Prompts and their versions.

mod answers;

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::response::NoContent;
use flywheel_core::diff::diff_prompts;
use flywheel_core::name::Label;
use flywheel_core::prompt::{EvaluationScore, PromptVersion};
use flywheel_core::{PromptContent, PromptName, PromptVersionId};
use flywheel_storage::StateSession;
use flywheel_storage::deployments::PromptUse;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use self::answers::{
    DescribedPrompt, DescribedPush, DescribedUse, DescribedVersion, ListedVersion, PlacedLabel,
    RegisteredVersion, VersionDiff,
};
use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PageQuery, PathParams, QueryParams};
use crate::operations::registry::{self, Push, PushedPrompt, find_version};
use crate::problem::{ApiResult, Problem};
use crate::respond::{Created, CreatedOrThere, List, list};

/// `POST /api/v1/push`
pub async fn push_registry(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(push): JsonBody<Push>,
) -> ApiResult<Json<DescribedPush>> {
    let pushed = registry::push(&context, &caller, push).await?;
    Ok(Json(pushed.into()))
}

/// The query of a list of prompts.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct ListQuery {
    /// Found in the name, or in the content, description or a label of any version.
    #[serde(default)]
    text: String,
}

/// `GET /api/v1/prompts`
pub async fn list_prompts(
    State(context): State<Context>,
    QueryParams(query): QueryParams<ListQuery>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<DescribedPrompt>>> {
    let request = page.request(|cursor| cursor.parse::<PromptName>().ok())?;
    let (after, limit) = (request.before, request.limit);
    let mut session = context.state.browse().await?;
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
    let items = prompts.into_iter().map(DescribedPrompt::from).collect();
    Ok(list(items, next))
}

/// A version as it is registered under its prompt's own path.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// The content, checked on arrival.
    #[schemars(with = "PromptContent")]
    content: Value,
    /// What changed and why.
    #[serde(default)]
    description: String,
    /// Labels to put on the version.
    #[serde(default)]
    labels: Vec<Label>,
}

/// `POST /api/v1/prompts/{name}/versions`
pub async fn register_prompt_version(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    JsonBody(new): JsonBody<NewVersion>,
) -> ApiResult<CreatedOrThere<RegisteredVersion>> {
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
    let created = registered.created;
    let version = describe(&mut *session, &caller, registered.version).await?;
    let answer = RegisteredVersion { version, created };
    Ok(if created {
        CreatedOrThere::Created(answer)
    } else {
        CreatedOrThere::There(answer)
    })
}

/// `GET /api/v1/prompts/{name}/versions`
pub async fn list_prompt_versions(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(page): QueryParams<PageQuery>,
) -> ApiResult<Json<List<ListedVersion>>> {
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
    let items = versions
        .into_iter()
        .map(|version| {
            let uses = uses.get(&version.version).map_or(&[][..], Vec::as_slice);
            ListedVersion::new(version, uses)
        })
        .collect();
    Ok(list(items, next))
}

/// `GET /api/v1/prompts/{name}/versions/{reference}`
pub async fn get_prompt_version(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, reference)): PathParams<(PromptName, String)>,
) -> ApiResult<Json<DescribedVersion>> {
    let mut session = context.state.read().await?;
    let version = find_version(&mut *session, &prompt, &reference).await?;
    Ok(Json(describe(&mut *session, &caller, version).await?))
}

/// Two versions to be compared.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct DiffQuery {
    /// The older one: at least 12 digits of its id, its number, a label, or `latest`.
    from: String,
    /// The newer one; the latest if absent.
    #[serde(default)]
    to: Option<String>,
}

/// `GET /api/v1/prompts/{name}/diff`
pub async fn diff_prompt_versions(
    State(context): State<Context>,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(query): QueryParams<DiffQuery>,
) -> ApiResult<Json<VersionDiff>> {
    let mut session = context.state.read().await?;
    let from = find_version(&mut *session, &prompt, &query.from).await?;
    let to = query.to.as_deref().unwrap_or("latest");
    let to = find_version(&mut *session, &prompt, to).await?;
    Ok(Json(VersionDiff {
        diff: diff_prompts(&from.content, &to.content),
        from: (&from).into(),
        to: (&to).into(),
    }))
}

/// Which version.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct VersionQuery {
    /// Its uses only: at least 12 digits of its id, its number, a label, or `latest`.
    version: Option<String>,
}

/// `GET /api/v1/prompts/{name}/uses`
pub async fn list_prompt_uses(
    State(context): State<Context>,
    caller: Caller,
    PathParams(prompt): PathParams<PromptName>,
    QueryParams(query): QueryParams<VersionQuery>,
) -> ApiResult<Json<List<DescribedUse>>> {
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
    Ok(list(uses.iter().map(DescribedUse::from).collect(), None))
}

/// The version a label is put on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelBody {
    /// At least 12 digits of its id, its number, a label, or `latest`.
    version: String,
}

/// `PUT /api/v1/prompts/{name}/labels/{label}`
pub async fn put_prompt_label(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, label)): PathParams<(PromptName, Label)>,
    JsonBody(body): JsonBody<LabelBody>,
) -> ApiResult<Json<PlacedLabel>> {
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
    Ok(Json(PlacedLabel {
        prompt,
        label,
        version,
    }))
}

/// `DELETE /api/v1/prompts/{name}/labels/{label}`
pub async fn remove_prompt_label(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, label)): PathParams<(PromptName, Label)>,
) -> ApiResult<NoContent> {
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
    Ok(NoContent)
}

/// A score as it is added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewScore {
    /// What was measured, such as `exact_match`.
    metric: String,
    value: f64,
    /// Over how many examples.
    n: u64,
    /// What it was measured on.
    #[serde(default)]
    dataset: Option<String>,
}

/// `POST /api/v1/prompts/{name}/versions/{reference}/scores`
pub async fn add_prompt_score(
    State(context): State<Context>,
    caller: Caller,
    PathParams((prompt, reference)): PathParams<(PromptName, String)>,
    JsonBody(new): JsonBody<NewScore>,
) -> ApiResult<Created<EvaluationScore>> {
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
    Ok(Created(score))
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
    version: PromptVersion,
) -> ApiResult<DescribedVersion> {
    let id = &version.version;
    let uses = uses_for(session, caller, &version.prompt, Some(id)).await?;
    let scores = session.prompts().scores(&version.prompt, id).await?;
    Ok(DescribedVersion::new(version, &uses, scores))
}
