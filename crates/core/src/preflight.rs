//! The preflight: what must hold before an environment's pointer may move to a manifest.

use serde::{Deserialize, Serialize};

use crate::deployment::AppSettings;
use crate::manifest::Manifest;
use crate::prompt::PromptContent;
use crate::retriever::{IndexState, RetrieverIndex};

/// What was found when a manifest's references were looked up.
#[derive(Debug, Clone)]
pub struct ManifestFacts {
    /// The prompt version's content, if it exists.
    pub prompt: Option<PromptContent>,
    /// Whether the model version is registered, and with which provider.
    pub provider: Option<String>,
    /// Whether that provider is configured, and its key present.
    pub provider_problem: Option<String>,
    /// The index that the manifest names, if it is registered.
    pub index: Option<RetrieverIndex>,
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Check {
    /// What was checked, such as `prompt exists`.
    pub name: String,
    /// What is wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The result of a preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preflight {
    /// Everything that was checked, in order.
    pub checks: Vec<Check>,
}

impl Preflight {
    /// Whether nothing stands against the move.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.problem.is_none())
    }

    /// What stands against it.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.checks
            .iter()
            .filter_map(|check| check.problem.clone())
            .collect()
    }

    fn add(&mut self, name: &str, problem: Option<(String, String)>) {
        let (problem, hint) = problem.unzip();
        self.checks.push(Check {
            name: name.to_owned(),
            problem,
            hint,
        });
    }
}

/// Checks a manifest against what an app demands and what exists.
#[must_use]
pub fn preflight(manifest: &Manifest, app: &AppSettings, facts: &ManifestFacts) -> Preflight {
    let mut result = Preflight { checks: Vec::new() };
    check_prompt(&mut result, manifest, facts);
    check_model(&mut result, manifest, facts);
    for member in &app.required_members {
        let name = format!("`{}` is given", member.as_str());
        let problem = (!member.is_present(manifest)).then(|| {
            (
                format!(
                    "the app requires `{}`, and the manifest has none",
                    member.as_str()
                ),
                format!(
                    "deploy a manifest with `--{}`",
                    member.as_str().replace('_', "-")
                ),
            )
        });
        result.add(&name, problem);
    }
    check_index(&mut result, manifest, facts);
    result
}

fn check_prompt(result: &mut Preflight, manifest: &Manifest, facts: &ManifestFacts) {
    let Some(prompt) = &facts.prompt else {
        let problem = format!(
            "prompt `{}` has no version `{}`",
            manifest.prompt_id,
            manifest.prompt_version.short()
        );
        result.add(
            "the prompt version exists",
            Some((problem, "register it with `flywheel push`".into())),
        );
        return;
    };
    result.add("the prompt version exists", None);
    let compiles = prompt.check().err().map(|error| {
        (
            format!("the prompt does not compile: {error}"),
            "deploy a corrected version".to_owned(),
        )
    });
    result.add("the templates compile", compiles);
    let differs = (prompt.model_id != manifest.model_id
        || prompt.model_version != manifest.model_version)
        .then(|| {
            (
                format!(
                    "the manifest names model `{}:{}`, its prompt version names `{}:{}`",
                    manifest.model_id,
                    manifest.model_version,
                    prompt.model_id,
                    prompt.model_version
                ),
                "a prompt on another model is another prompt version: register that one".to_owned(),
            )
        });
    result.add("the model is the prompt version's", differs);
}

fn check_model(result: &mut Preflight, manifest: &Manifest, facts: &ManifestFacts) {
    let (id, version) = (&manifest.model_id, &manifest.model_version);
    if facts.provider.is_none() {
        let problem = format!("model `{id}:{version}` is not registered");
        let hint =
            format!("register it with `flywheel model register {id} {version} --provider …`");
        result.add("the model is registered", Some((problem, hint)));
        return;
    }
    result.add("the model is registered", None);
    let problem = facts.provider_problem.clone().map(|problem| {
        (
            problem,
            "correct the provider's section in the configuration, then restart".to_owned(),
        )
    });
    result.add("the provider is configured", problem);
}

fn check_index(result: &mut Preflight, manifest: &Manifest, facts: &ManifestFacts) {
    let Some(version) = &manifest.retriever_index_version else {
        return;
    };
    let problem = match facts.index.as_ref().map(|index| &index.state) {
        None => Some((
            format!("retriever index version `{version}` is not registered"),
            format!("register it with `flywheel index register {version} --index NAME`"),
        )),
        Some(IndexState::Available) => None,
        Some(IndexState::MigratedForward { to }) => Some((
            format!(
                "retriever index version `{version}` was migrated forward to `{to}` and can no longer be read"
            ),
            format!("deploy the same prompt with `--retriever-index-version {to}`"),
        )),
        Some(IndexState::Dropped) => Some((
            format!("retriever index version `{version}` was dropped"),
            "rebuild the index and mark it available, or choose a manifest with another index"
                .to_owned(),
        )),
    };
    result.add("the retriever index is available", problem);
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::manifest::RequiredMember;

    #[test]
    fn each_obstacle_is_reported() {
        let content = PromptContent::from_json(json!({
            "template_format": "fstring", "messages": [{"role": "user", "content": "{x}"}],
            "model_id": "m", "model_version": "1",
        }))
        .unwrap();
        let manifest = Manifest {
            model_id: "m".parse().unwrap(),
            model_version: "1".parse().unwrap(),
            prompt_id: "p".parse().unwrap(),
            prompt_version: content.id(),
            retriever_index_version: Some("kb-7".parse().unwrap()),
            guards_version: None,
        };
        let index = |state| {
            Some(RetrieverIndex {
                version: "kb-7".parse().unwrap(),
                index: "kb".parse().unwrap(),
                state,
                created_at: Timestamp::UNIX_EPOCH,
            })
        };
        let sound = ManifestFacts {
            prompt: Some(content),
            provider: Some("local".into()),
            provider_problem: None,
            index: index(IndexState::Available),
        };
        let demanding = AppSettings {
            required_members: vec![RequiredMember::GuardsVersion],
            ..AppSettings::default()
        };
        let app = AppSettings::default();
        assert!(preflight(&manifest, &app, &sound).passed());
        for (app, facts, expected) in [
            (
                &demanding,
                sound.clone(),
                "the app requires `guards_version`",
            ),
            (
                &app,
                ManifestFacts {
                    prompt: None,
                    ..sound.clone()
                },
                "prompt `p` has no version",
            ),
            (
                &app,
                ManifestFacts {
                    provider: None,
                    ..sound.clone()
                },
                "model `m:1` is not registered",
            ),
            (
                &app,
                ManifestFacts {
                    provider_problem: Some("no key".into()),
                    ..sound.clone()
                },
                "no key",
            ),
            (
                &app,
                ManifestFacts {
                    index: None,
                    ..sound.clone()
                },
                "retriever index version `kb-7` is not registered",
            ),
            (
                &app,
                ManifestFacts {
                    index: index(IndexState::Dropped),
                    ..sound.clone()
                },
                "retriever index version `kb-7` was dropped",
            ),
            (
                &app,
                ManifestFacts {
                    index: index(IndexState::MigratedForward {
                        to: "kb-8".parse().unwrap(),
                    }),
                    ..sound.clone()
                },
                "retriever index version `kb-7` was migrated forward to `kb-8`",
            ),
        ] {
            let problems = preflight(&manifest, app, &facts).problems();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
    }
}
