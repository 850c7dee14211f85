//! API keys: what a key may do, and where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::hash::ContentHash;
use crate::name::AppName;

/// What a key may do. Each role but `app` includes those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// Registers, deploys, rolls back and runs experiments.
    Editor,
    /// Calls apps, sends feedback and logs calls; reads nothing back.
    App,
    /// Reads.
    Viewer,
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read prompts, calls, feedback, experiments.
    Read,
    /// Call apps and models, send feedback, log calls.
    Call,
    /// Change prompts, models, apps, deployments, experiments.
    Change,
    /// Make and revoke keys.
    Administer,
}

impl Permission {
    /// The permission as it is spelled.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Call => "call",
            Self::Change => "change",
            Self::Administer => "administer",
        }
    }
}

impl Role {
    /// Whether the role allows something.
    #[must_use]
    pub fn allows(self, permission: Permission) -> bool {
        match self {
            Self::Admin => true,
            Self::Editor => permission != Permission::Administer,
            Self::App => permission == Permission::Call,
            Self::Viewer => permission == Permission::Read,
        }
    }

    /// The role as it is spelled.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Editor => "editor",
            Self::App => "app",
            Self::Viewer => "viewer",
        }
    }
}

/// A key as it is stored: its hash, never itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApiKey {
    /// Names the key in lists and in the audit log; not secret.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The apps it is limited to; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<AppName>,
    /// SHA-256 of the secret. Keys are random and long, so a plain hash cannot be searched.
    #[serde(skip_serializing, default = "no_hash")]
    pub secret_hash: ContentHash,
    /// When it was made.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<crate::schema::DateTime>"))]
    pub revoked_at: Option<Timestamp>,
}

fn no_hash() -> ContentHash {
    ContentHash::of_bytes(b"")
}

impl ApiKey {
    /// Whether the key may act on an app, or on none in particular.
    #[must_use]
    pub fn covers(&self, app: Option<&AppName>) -> bool {
        self.apps.is_empty() || app.is_some_and(|app| self.apps.contains(app))
    }
}
