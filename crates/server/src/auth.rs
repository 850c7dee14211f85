//! Who calls, and what they may do.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use flywheel_core::key::{ApiKey, Permission, Role};
use flywheel_core::{AppName, ContentHash};
use http::{HeaderMap, StatusCode, header};

use crate::context::Context;
use crate::openai;
use crate::problem::Problem;

/// The keys that are in force, by the hash of their secrets.
#[derive(Debug, Default)]
pub struct KeyTable {
    by_secret: HashMap<ContentHash, Arc<ApiKey>>,
    by_id: HashMap<String, Arc<ApiKey>>,
    any_made: bool,
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The key's name, or `local` while no key was made.
    pub name: String,
    key: Option<Arc<ApiKey>>,
}

impl KeyTable {
    /// The table of all keys ever made.
    #[must_use]
    pub fn new(keys: Vec<ApiKey>) -> Self {
        let any_made = !keys.is_empty();
        let in_force = keys.into_iter().filter(|key| key.revoked_at.is_none());
        let in_force: Vec<_> = in_force.map(Arc::new).collect();
        let by_secret = in_force
            .iter()
            .map(|key| (key.secret_hash, Arc::clone(key)));
        let by_id = in_force.iter().map(|key| (key.id.clone(), Arc::clone(key)));
        Self {
            by_secret: by_secret.collect(),
            by_id: by_id.collect(),
            any_made,
        }
    }

    /// Whoever holds this secret.
    #[must_use]
    pub fn holder(&self, secret: &str) -> Option<Caller> {
        let key = self
            .by_secret
            .get(&ContentHash::of_bytes(secret.as_bytes()))?;
        Some(Caller::of(key))
    }

    /// Whoever signed in with the key of this id, while it is in force.
    #[must_use]
    pub fn signed_in(&self, id: &str) -> Option<Caller> {
        self.by_id.get(id).map(Caller::of)
    }

    /// Whether a key was ever made. From then on every request needs one.
    #[must_use]
    pub fn any_made(&self) -> bool {
        self.any_made
    }
}

impl Caller {
    /// The server itself, for jobs.
    #[must_use]
    pub fn server() -> Self {
        Self {
            name: "flywheel".into(),
            key: None,
        }
    }

    /// Whoever is on this machine, while no key was made.
    #[must_use]
    pub fn local() -> Self {
        Self {
            name: "local".into(),
            key: None,
        }
    }

    fn of(key: &Arc<ApiKey>) -> Self {
        Self {
            name: key.name.clone(),
            key: Some(Arc::clone(key)),
        }
    }

    /// The role of the caller's key; everything is allowed without one.
    #[must_use]
    pub fn role(&self) -> Role {
        self.key.as_ref().map_or(Role::Admin, |key| key.role)
    }

    /// Demands that the caller may do something.
    ///
    /// # Errors
    /// When the key's role does not allow it.
    pub fn must_be_allowed(&self, permission: Permission) -> Result<(), Problem> {
        let role = self.role();
        if role.allows(permission) {
            return Ok(());
        }
        let needed = match permission {
            Permission::Read => "viewer",
            Permission::Call => "app",
            Permission::Change => "editor",
            Permission::Administer => "admin",
        };
        let role = role.as_str();
        let detail = format!("this key has the role `{role}`; this takes the role `{needed}`");
        Err(Problem::forbidden(detail))
    }

    /// What tells the caller from others, whatever their keys are called.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.key.as_ref().map_or("local", |key| &key.id)
    }

    /// The apps the caller is limited to; none means all.
    #[must_use]
    pub fn apps(&self) -> &[AppName] {
        self.key.as_ref().map_or(&[], |key| &key.apps)
    }

    /// Demands that the caller may act on this app.
    ///
    /// # Errors
    /// When the key is limited to other apps.
    pub fn must_cover(&self, app: &AppName) -> Result<(), Problem> {
        match &self.key {
            Some(key) if !key.covers(Some(app)) => Err(Problem::forbidden(format!(
                "this key does not cover app `{app}`"
            ))),
            _ => Ok(()),
        }
    }

    /// Demands that the caller is not limited to some apps, for what concerns all of them.
    ///
    /// # Errors
    /// When it is.
    pub fn must_cover_all(&self) -> Result<(), Problem> {
        if self.apps().is_empty() {
            Ok(())
        } else {
            Err(Problem::forbidden(
                "this key is limited to some apps, and this concerns all of them",
            ))
        }
    }
}

/// Finds out who calls and whether they may, and leaves the [`Caller`] for the handler.
pub async fn authorise(
    State((context, permission)): State<(Context, Permission)>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match identify(&context, request.headers(), permission) {
        Ok(caller) => caller,
        Err(problem) => return refuse(&request, problem),
    };
    if let Err(wait) = context.rate_limiter.check(caller.identity()) {
        let problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!(
                "this key has used up its requests; the next is due in {} ms",
                wait.as_millis()
            ),
        );
        return refuse(&request, problem);
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn refuse(request: &Request, problem: Problem) -> Response {
    if request.uri().path().starts_with("/v1/") {
        openai::refuse(&problem)
    } else {
        problem.into_response()
    }
}

fn identify(
    context: &Context,
    headers: &HeaderMap,
    permission: Permission,
) -> Result<Caller, Problem> {
    let keys = context.keys.load();
    if !keys.any_made() {
        return if context.options.loopback_only && is_local(headers) {
            Ok(Caller::local())
        } else {
            Err(unauthenticated(
                "this request does not come from this machine, and no key was made yet",
            ))
        };
    }
    let secret = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim())
        .ok_or_else(|| unauthenticated("a key is needed"))?;
    let caller = keys
        .holder(secret)
        .ok_or_else(|| unauthenticated("this key is not known, or was revoked"))?;
    caller.must_be_allowed(permission)?;
    Ok(caller)
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
        .hint("send `Authorization: Bearer <key>`; `flywheel key create` makes one")
}

/// Whether a request was meant for this machine: a page on another site must not be able to send it with a name that
/// resolves to the loopback address, nor from its own origin.
pub(crate) fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_loopback = |authority: &str| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        ["localhost", "127.0.0.1", "[::1]"].contains(&host)
    };
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    text(header::HOST).is_none_or(is_loopback)
        && (headers.get(header::ORIGIN).is_none()
            || origin.is_some_and(|(_, host)| is_loopback(host)))
}

/// The roles that may do something, lowest first.
#[must_use]
pub fn roles_with(permission: Permission) -> Vec<Role> {
    [Role::Viewer, Role::App, Role::Editor, Role::Admin]
        .into_iter()
        .filter(|role| role.allows(permission))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_meant_for_this_machine_are_local() {
        for (host, origin, expected) in [
            (Some("127.0.0.1:7700"), None, true),
            (Some("localhost"), Some("http://localhost:7700"), true),
            (Some("[::1]:7700"), None, true),
            (None, None, true),
            (Some("evil.example"), None, false),
            (Some("127.0.0.1:7700"), Some("https://evil.example"), false),
            (Some("127.0.0.1:7700"), Some("null"), false),
            (Some("127.0.0.1.evil.example"), None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(header::HOST, host.parse().unwrap());
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_local(&headers), expected, "{host:?} {origin:?}");
        }
    }
}
