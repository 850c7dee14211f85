//! API keys.

use axum::Json;
use axum::extract::State;
use axum::response::NoContent;
use flywheel_core::key::{ApiKey, Role};
use flywheel_core::{AppName, ContentHash};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::Caller;
use crate::context::Context;
use crate::extract::{JsonBody, PathParams};
use crate::problem::{ApiResult, Problem};
use crate::respond::{Created, List, list};

/// `GET /api/v1/keys`
pub async fn list_keys(
    State(context): State<Context>,
    caller: Caller,
) -> ApiResult<Json<List<ApiKey>>> {
    caller.must_cover_all()?;
    Ok(list(context.state.read().await?.keys().list().await?, None))
}

/// A key as it is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What people call it.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: Role,
    /// The apps it is limited to; none means all.
    #[serde(default)]
    pub(crate) apps: Vec<AppName>,
}

/// A key that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CreatedKey {
    #[serde(flatten)]
    pub(crate) made: ApiKey,
    /// The secret, shown this once.
    pub(crate) key: String,
}

/// `POST /api/v1/keys`
pub async fn create_key(
    State(context): State<Context>,
    caller: Caller,
    JsonBody(new): JsonBody<NewKey>,
) -> ApiResult<Created<CreatedKey>> {
    caller.must_cover_all()?;
    let NewKey { name, role, apps } = new;
    if name.trim().is_empty() || name.len() > 200 {
        return Err(Problem::invalid("`name` must have 1 to 200 bytes"));
    }
    let mut transaction = context.state.begin().await?;
    let made = transaction.keys().list().await?;
    let in_force = |key: &&ApiKey| key.revoked_at.is_none();
    if made.iter().filter(in_force).any(|key| key.name == name) {
        return Err(Problem::conflict(
            "name_taken",
            format!("a key named `{name}` exists"),
        ));
    }
    if made.is_empty() && (role != Role::Admin || !apps.is_empty()) {
        return Err(Problem::invalid(
            "the first key must be an admin's for all apps, or nobody could make another",
        )
        .hint("`flywheel key create NAME --role admin`"));
    }
    let mut random = [0_u8; 32];
    context.sources.entropy.fill(&mut random);
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = format!("fw_{hex}");
    let key = ApiKey {
        id: context.sources.new_id(),
        name,
        role,
        apps,
        secret_hash: ContentHash::of_bytes(secret.as_bytes()),
        created_at: context.sources.clock.now(),
        revoked_at: None,
    };
    transaction.keys().add(&key).await?;
    context
        .commit(transaction, &caller, "key.create", &key.name, json!(key))
        .await?;
    Ok(Created(CreatedKey {
        made: key,
        key: secret,
    }))
}

/// `DELETE /api/v1/keys/{key}`
pub async fn revoke_key(
    State(context): State<Context>,
    caller: Caller,
    PathParams(id): PathParams<String>,
) -> ApiResult<NoContent> {
    caller.must_cover_all()?;
    let mut transaction = context.state.begin().await?;
    let keys = transaction.keys().list().await?;
    let in_force = |key: &&ApiKey| key.revoked_at.is_none();
    let in_force_with = |is_meant: fn(&ApiKey, &str) -> bool| {
        keys.iter().filter(in_force).find(|key| is_meant(key, &id))
    };
    // An id goes before a name that looks like it. Of keys in force, no two have one name.
    let found = in_force_with(|key, id| key.id == id)
        .or_else(|| in_force_with(|key, name| key.name == name));
    let Some(key) = found else {
        return Err(
            Problem::not_found(format!("there is no key `{id}` in force"))
                .hint("`flywheel key list` shows names and ids"),
        );
    };
    let is_admin = |key: &&ApiKey| key.role == Role::Admin && key.apps.is_empty();
    let admins = keys.iter().filter(in_force).filter(is_admin).count();
    if is_admin(&key) && admins == 1 {
        return Err(Problem::conflict(
            "last_admin",
            "this is the last admin key; nobody could make another",
        )
        .hint("make another admin key first"));
    }
    transaction
        .keys()
        .revoke(&key.id, context.sources.clock.now())
        .await?;
    let (subject, detail) = (key.name.clone(), json!({"id": key.id}));
    context
        .commit(transaction, &caller, "key.revoke", &subject, detail)
        .await?;
    Ok(NoContent)
}
