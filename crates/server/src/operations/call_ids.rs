//! The ids of calls that apps log themselves, kept apart from each other's.
//!
//! An app may choose the ids of its calls without knowing of other apps. A UUID is taken as it is; any other id gets its
//! app's name before it, `support:42`, so that two apps never mean the same call. Feedback may name a call either way.

use std::collections::{BTreeSet, HashMap};

use flywheel_core::AppName;
use flywheel_core::call::Call;
use flywheel_storage::events::CallFilter;
use flywheel_storage::page::PageRequest;
use serde_json::json;

use crate::auth::Caller;
use crate::context::Context;
use crate::problem::{ApiResult, Problem};

const UUID_LENGTH: usize = 36;

/// Pieces of feedback of which each is looked at for being about a part of an id.
const FEW: usize = 20;

/// A call as feedback names it.
pub struct NamedCall<'a> {
    /// Its id, as the answer had it or as the app chose it.
    pub id: &'a str,
    /// The app that logged it, if the sender tells.
    pub app: Option<&'a AppName>,
}

/// The id under which a call is kept whose app chose it.
#[must_use]
pub fn logged(app: &AppName, id: &str) -> String {
    let begins_with_app = id
        .strip_prefix(app.as_str())
        .is_some_and(|rest| rest.starts_with(':'));
    if is_uuid(id) || begins_with_app {
        id.to_owned()
    } else {
        format!("{app}:{id}")
    }
}

fn is_uuid(id: &str) -> bool {
    id.len() == UUID_LENGTH && stands_in_uuid(id, 0)
}

/// Whether an id may be what somebody copied of a UUID's beginning or end.
fn may_be_part(id: &str) -> bool {
    const SHORTEST: usize = 8;
    (SHORTEST..UUID_LENGTH).contains(&id.len())
        && (stands_in_uuid(id, 0) || stands_in_uuid(id, UUID_LENGTH - id.len()))
}

/// Whether a text has the form that a UUID has from a place on.
fn stands_in_uuid(text: &str, from: usize) -> bool {
    text.bytes()
        .enumerate()
        .all(|(place, byte)| match from + place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The whole id of a call whose id, one of our own, begins or ends so. If it cannot be looked for, there is none: feedback is
/// not to be lost for it.
async fn whole_id(context: &Context, apps: &[AppName], part: &str) -> Option<String> {
    let filter = CallFilter {
        id: Some(part.to_owned()),
        apps: apps.to_vec(),
        ..CallFilter::default()
    };
    let page = PageRequest::first(1);
    let found = context.events.list_calls(&filter, page).await.ok()?;
    let call = found.items.into_iter().next()?;
    is_uuid(&call.id).then_some(call.id)
}

/// The ids under which the calls are kept that feedback is about.
///
/// # Errors
/// When the caller's key does not cover the app of one, or it is not clear which call is meant.
pub async fn resolve(
    context: &Context,
    caller: &Caller,
    calls: &[NamedCall<'_>],
) -> ApiResult<Vec<String>> {
    let mut resolved = Vec::with_capacity(calls.len());
    for call in calls {
        resolved.push(by_name(context, caller, call)?);
    }
    let apps = covered(context, caller);
    let mut asked = BTreeSet::new();
    for (call, known) in calls.iter().zip(&resolved) {
        match known {
            None => {
                asked.insert(call.id.to_owned());
                asked.extend(apps.iter().map(|app| logged(app, call.id)));
            }
            // Whose it is can only be told by looking, and only those who are limited to some apps have to care.
            Some(id) if is_uuid(id) && !caller.apps().is_empty() => {
                asked.insert(id.clone());
            }
            Some(id) if may_be_part(call.id) => {
                asked.insert(id.clone());
            }
            Some(_) => {}
        }
    }
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let found = match asked.as_slice() {
        [] => HashMap::new(),
        asked => context.events.apps_of_calls(asked).await?,
    };
    // People copy parts of ids, and send a few pieces at a time.
    let is_small = calls.len() <= FEW;
    let mut ids = Vec::with_capacity(calls.len());
    let mut errors = Vec::new();
    for (index, (call, known)) in calls.iter().zip(resolved).enumerate() {
        let id = match known {
            Some(id) if is_small && may_be_part(call.id) && !found.contains_key(&id) => {
                let of: Vec<AppName> = match call.app {
                    Some(app) => vec![app.clone()],
                    None => apps.clone(),
                };
                if let Some(whole) = whole_id(context, &of, call.id).await {
                    let detail = format!(
                        "`call_id` is `{}`, which is only a part of the call's id, `{whole}`; send the whole id",
                        call.id
                    );
                    errors.push(json!({"index": index, "detail": detail}));
                    continue;
                }
                id
            }
            Some(id) => id,
            None => match the_one(call.id, &apps, &found) {
                Ok(id) => id,
                Err(detail) => {
                    errors.push(json!({"index": index, "detail": detail}));
                    continue;
                }
            },
        };
        if let Some(app) = found.get(&id) {
            must_cover(caller, app.as_ref(), &id)?;
        }
        ids.push(id);
    }
    let Some(first) = errors.first() else {
        return Ok(ids);
    };
    let detail = first["detail"].as_str().unwrap_or_default().to_owned();
    Err(Problem::invalid(detail)
        .hint(
            "`call_id` is the whole id that the answer had; of a call that an app logs under an id of its own, name the \
             app too, in `app` or before the id as in `support:42`",
        )
        .with("errors", errors.into()))
}

/// The call with this id, or that an app logged under it if there is one such call only; nothing where the caller's key
/// does not cover its app.
///
/// # Errors
/// When the store fails.
pub async fn get_visible(context: &Context, caller: &Caller, id: &str) -> ApiResult<Option<Call>> {
    let mut call = context.events.get_call(id).await?;
    if call.is_none() {
        let apps = covered(context, caller);
        let candidates: Vec<String> = apps.iter().map(|app| logged(app, id)).collect();
        let candidates: Vec<&str> = candidates.iter().map(String::as_str).collect();
        let found = context.events.apps_of_calls(&candidates).await?;
        if let Ok(whole) = the_one(id, &apps, &found) {
            call = context.events.get_call(&whole).await?;
        }
    }
    Ok(call.filter(|call| match &call.facts.app {
        Some(app) => caller.must_cover(app).is_ok(),
        None => caller.must_cover_all().is_ok(),
    }))
}

fn covered(context: &Context, caller: &Caller) -> Vec<AppName> {
    match caller.apps() {
        [] => context.table.load().apps().cloned().collect(),
        apps => apps.to_vec(),
    }
}

/// The id, if it needs no look at what is stored.
fn by_name(
    context: &Context,
    caller: &Caller,
    NamedCall { id, app }: &NamedCall<'_>,
) -> ApiResult<Option<String>> {
    if let Some(app) = app {
        caller.must_cover(app)?;
        return Ok(Some(logged(app, id)));
    }
    if is_uuid(id) {
        return Ok(Some((*id).to_owned()));
    }
    let named = id
        .split_once(':')
        .and_then(|(app, _)| app.parse::<AppName>().ok());
    if let Some(app) = named
        && context.table.load().app(&app).is_some()
    {
        caller.must_cover(&app)?;
        return Ok(Some((*id).to_owned()));
    }
    Ok(match caller.apps() {
        [app] => Some(logged(app, id)),
        _ => None,
    })
}

fn the_one(
    id: &str,
    apps: &[AppName],
    found: &HashMap<String, Option<AppName>>,
) -> Result<String, String> {
    let candidates: BTreeSet<String> = apps.iter().map(|app| logged(app, id)).collect();
    let mut names = candidates
        .into_iter()
        .chain([id.to_owned()])
        .filter(|candidate| found.contains_key(candidate));
    match (names.next(), names.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!(
            "`call_id` is `{id}`, which is no call that is known, and feedback that comes before its call must say of \
             which app it is"
        )),
        (Some(one), Some(other)) => Err(format!(
            "`call_id` is `{id}`, which may be `{one}` or `{other}`"
        )),
    }
}

fn must_cover(caller: &Caller, app: Option<&AppName>, id: &str) -> ApiResult<()> {
    let covered = match app {
        Some(app) => caller.must_cover(app),
        None => caller.must_cover_all(),
    };
    covered
        .map_err(|_| Problem::forbidden(format!("this key does not cover the app of call `{id}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_apps_choose_are_kept_apart() {
        let app: AppName = "support".parse().unwrap();
        for (id, expected) in [
            ("42", "support:42"),
            ("support:42", "support:42"),
            ("other:42", "support:other:42"),
            ("supporter:42", "support:supporter:42"),
            (
                "01980000-0000-7abc-9def-0000000000aF",
                "01980000-0000-7abc-9def-0000000000aF",
            ),
            (
                "01980000-0000-7abc-9def-0000000000ag",
                "support:01980000-0000-7abc-9def-0000000000ag",
            ),
            ("é", "support:é"),
        ] {
            assert_eq!(logged(&app, id), expected);
        }
    }
}
