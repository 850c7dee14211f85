//! Apps and their deployments: append-only records of which manifest an environment serves.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::manifest::{ManifestId, RequiredMember};
use crate::metric::{self, Metric};
use crate::name::{AppName, EnvironmentName};

/// An app: a named LLM feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct App {
    /// Its name.
    pub name: AppName,
    /// What can be changed about it.
    #[serde(flatten)]
    pub settings: AppSettings,
    /// When it was made.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
}

/// What can be changed about an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// What the feature does.
    #[serde(default)]
    pub description: String,
    /// Its environments, the one that a request without a choice gets last.
    #[serde(default = "default_environments")]
    pub environments: Vec<EnvironmentName>,
    /// Members that every manifest of this app must have.
    #[serde(default)]
    pub required_members: Vec<RequiredMember>,
    /// The manifest that answers when the deployed one's provider fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_manifest: Option<ManifestId>,
    /// Its metrics, where it has others than every app begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<Metric>>,
}

fn default_environments() -> Vec<EnvironmentName> {
    ["staging", "production"]
        .into_iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            description: String::new(),
            environments: default_environments(),
            required_members: Vec::new(),
            fallback_manifest: None,
            metrics: None,
        }
    }
}

impl AppSettings {
    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> Vec<Metric> {
        self.metrics.clone().unwrap_or_else(metric::starter_set)
    }

    /// The environment that serves a request which names none: the last one declared.
    #[must_use]
    pub fn default_environment(&self) -> Option<&EnvironmentName> {
        self.environments.last()
    }
}

/// What kind of move a deployment was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeploymentKind {
    /// A person or a pipeline chose the manifest.
    Deploy,
    /// Back to a manifest that was deployed before.
    Rollback,
    /// A rollout or an experiment moved its candidate up.
    Promote,
    /// An incident response put a safe manifest in place.
    Contain,
}

impl DeploymentKind {
    /// The kind as records and commands spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::Contain => "contain",
        }
    }

    /// Whether it takes back what was deployed.
    #[must_use]
    pub fn takes_back(self) -> bool {
        matches!(self, Self::Rollback | Self::Contain)
    }

    /// What such a move did, in words.
    #[must_use]
    pub fn past(self) -> &'static str {
        match self {
            Self::Deploy => "deployed",
            Self::Rollback => "rolled back",
            Self::Promote => "promoted",
            Self::Contain => "contained",
        }
    }
}

/// One move of an environment's pointer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deployment {
    /// Counts all deployments of the installation, from 1.
    pub number: u64,
    /// The app.
    pub app: AppName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What is served from now on.
    pub manifest: ManifestId,
    /// What was served before, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_manifest: Option<ManifestId>,
    /// What kind of move it was.
    pub kind: DeploymentKind,
    /// Who moved it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
    /// What the preflight objected to when it was overruled.
    #[serde(default)]
    pub forced_over: Vec<String>,
}

/// Which earlier manifest a rollback goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTarget {
    /// So many distinct manifests back in the line of what was served; 1 is the previous one.
    Steps(usize),
    /// This one, which must have been deployed here before.
    Manifest(ManifestId),
}

/// Why there is nothing to roll back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRollbackTarget {
    /// Nothing was ever deployed.
    #[error("nothing is deployed")]
    NothingDeployed,
    /// What is served is the first that ever was.
    #[error(
        "there is nothing before the manifest that is served now: it is the first that was deployed here"
    )]
    NothingBefore,
    /// The line is not that long.
    #[error("{}", too_far(*.asked, *.available))]
    TooFar {
        /// How many steps were asked for.
        asked: usize,
        /// How many there are.
        available: usize,
    },
    /// The manifest was never deployed in this environment.
    #[error("manifest `{0}` was never deployed here")]
    NeverDeployed(ManifestId),
    /// The manifest is the one that is served now.
    #[error("manifest `{0}` is the one that is deployed now")]
    AlreadyCurrent(ManifestId),
}

fn too_far(asked: usize, available: usize) -> String {
    match available {
        0 => "no earlier manifest is left on the way back, which each rollback shortens".to_owned(),
        1 => format!("only 1 earlier manifest is left on the way back, not {asked}"),
        _ => format!("only {available} earlier manifests are left on the way back, not {asked}"),
    }
}

/// The newest deployment of every manifest but the one that is served now: what a rollback can be told to go to.
#[must_use]
pub fn rollback_candidates(newest_first: &[Deployment]) -> Vec<&Deployment> {
    let mut candidates: Vec<&Deployment> = Vec::new();
    let current = newest_first.first().map(|deployment| deployment.manifest);
    for deployment in newest_first {
        let is_known = |other: &&Deployment| other.manifest == deployment.manifest;
        if Some(deployment.manifest) != current && !candidates.iter().any(is_known) {
            candidates.push(deployment);
        }
    }
    candidates
}

/// The rollback that ended a manifest's time when it was in force here last, if one did. The history is newest first.
#[must_use]
pub fn taken_back<'a>(
    newest_first: &'a [Deployment],
    manifest: &ManifestId,
) -> Option<&'a Deployment> {
    let is_it = |made: &Deployment| made.manifest == *manifest;
    let last = newest_first.iter().position(is_it)?;
    let next = &newest_first[last.checked_sub(1)?];
    (next.kind == DeploymentKind::Rollback).then_some(next)
}

/// The manifest a rollback leads to, given the environment's deployments, newest first.
///
/// The way back is a stack: a deployment pushes its manifest, a rollback pops down to the one it chose. So two
/// rollbacks in a row go two steps back instead of swinging between the last two manifests.
///
/// # Errors
/// When the history holds no such manifest.
pub fn rollback_target(
    newest_first: &[Deployment],
    target: &RollbackTarget,
) -> Result<ManifestId, NoRollbackTarget> {
    let mut served: Vec<ManifestId> = Vec::new();
    for deployment in newest_first.iter().rev() {
        if deployment.kind == DeploymentKind::Rollback
            && let Some(position) = served
                .iter()
                .rposition(|manifest| *manifest == deployment.manifest)
        {
            served.truncate(position + 1);
        } else if served.last() != Some(&deployment.manifest) {
            served.push(deployment.manifest);
        }
    }
    let Some(current) = served.pop() else {
        return Err(NoRollbackTarget::NothingDeployed);
    };
    let is_first = newest_first
        .iter()
        .all(|deployment| deployment.manifest == current);
    match target {
        RollbackTarget::Steps(_) if is_first => Err(NoRollbackTarget::NothingBefore),
        RollbackTarget::Steps(steps) => served
            .len()
            .checked_sub((*steps).max(1))
            .map(|position| served[position])
            .ok_or(NoRollbackTarget::TooFar {
                asked: *steps,
                available: served.len(),
            }),
        RollbackTarget::Manifest(manifest) if *manifest == current => {
            Err(NoRollbackTarget::AlreadyCurrent(current))
        }
        RollbackTarget::Manifest(manifest) => newest_first
            .iter()
            .find(|deployment| deployment.manifest == *manifest)
            .map(|deployment| deployment.manifest)
            .ok_or(NoRollbackTarget::NeverDeployed(*manifest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ContentHash;

    fn manifest(letter: char) -> ManifestId {
        ContentHash::of_bytes(letter.to_string().as_bytes())
    }

    /// `"ab<a"` means: deploy a, deploy b, roll back to a.
    fn history(text: &str) -> Vec<Deployment> {
        let mut kind = DeploymentKind::Deploy;
        let mut deployments = Vec::new();
        for letter in text.chars() {
            if letter == '<' {
                kind = DeploymentKind::Rollback;
                continue;
            }
            deployments.push(Deployment {
                number: deployments.len() as u64 + 1,
                app: "a".parse().unwrap(),
                environment: "production".parse().unwrap(),
                manifest: manifest(letter),
                previous_manifest: None,
                kind,
                actor: String::new(),
                reason: String::new(),
                created_at: Timestamp::UNIX_EPOCH,
                forced_over: Vec::new(),
            });
            kind = DeploymentKind::Deploy;
        }
        deployments.reverse();
        deployments
    }

    #[test]
    fn steps_walk_back_along_what_was_served() {
        for (text, steps, expected) in [
            ("ab", 1, Ok('a')),
            ("abc", 2, Ok('a')),
            ("abc<b", 1, Ok('a')),
            ("abc<bd", 1, Ok('b')),
            ("abb", 1, Ok('a')),
            ("aba", 1, Ok('b')),
            ("a", 1, Err(NoRollbackTarget::NothingBefore)),
            (
                "ab<a",
                1,
                Err(NoRollbackTarget::TooFar {
                    asked: 1,
                    available: 0,
                }),
            ),
            ("", 1, Err(NoRollbackTarget::NothingDeployed)),
        ] {
            let found = rollback_target(&history(text), &RollbackTarget::Steps(steps));
            assert_eq!(found, expected.map(manifest), "{text} by {steps}");
        }
    }

    #[test]
    fn everything_that_was_served_before_is_a_candidate() {
        for (text, expected) in [
            ("", ""),
            ("a", ""),
            ("aba", "b"),
            ("abcb<b", "ca"),
            ("ab<a", "b"),
        ] {
            let history = history(text);
            let found = rollback_candidates(&history).into_iter();
            let found: Vec<_> = found.map(|deployment| deployment.manifest).collect();
            let expected: Vec<_> = expected.chars().map(manifest).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_named_manifest_must_have_been_deployed_here() {
        let to = |letter| RollbackTarget::Manifest(manifest(letter));
        assert_eq!(
            rollback_target(&history("ab<a"), &to('b')),
            Ok(manifest('b'))
        );
        assert_eq!(
            rollback_target(&history("ab"), &to('z')),
            Err(NoRollbackTarget::NeverDeployed(manifest('z')))
        );
        assert_eq!(
            rollback_target(&history("ab"), &to('b')),
            Err(NoRollbackTarget::AlreadyCurrent(manifest('b')))
        );
    }
}
