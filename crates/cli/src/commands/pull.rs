//! `flywheel pull`: writes the latest version of each prompt to a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use flywheel_core::name::PromptName;
use flywheel_core::prompt_file::models;
use flywheel_core::prompt_file::{self, PromptFile};
use flywheel_core::{ContentHash, PromptContent};
use serde_json::{Value, json};

use super::prompt_folder::{self, MODELS_FILE};
use super::{Context, Outcome, prompt};
use crate::client::Target;
use crate::failure::Refusal;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::Style;

/// Write the latest version of each prompt, and the registered models, to a folder
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// The folder, which need not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only this prompt
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Overwrite files that were changed here and not pushed
    #[arg(long)]
    force: bool,
}

/// What is to become of one file.
struct Plan {
    path: PathBuf,
    text: String,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no such file yet.
    New,
    /// The file says something older, which the server knows.
    Older,
    /// The file says the same.
    Unchanged,
    /// The file says something that is nowhere else.
    Changed,
}

impl PullArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let names = match self.prompt {
            Some(name) => vec![name],
            None => {
                let prompts = context.client.all_items(&Target::api("prompts")).await?;
                prompts
                    .iter()
                    .map(|prompt| Record(prompt).text("name").to_owned())
                    .collect()
            }
        };
        let is_whole = names.len() != 1;
        let mut progress = context.printer.progress(names.len() as u64);
        let places = prompt_folder::places(&self.folder)?;
        let mut plans = Vec::new();
        for name in &names {
            let name: PromptName = name.parse()?;
            let path = match places.get(&name) {
                Some(path) => path.clone(),
                None => prompt_folder::path_of(&self.folder, &name)?,
            };
            plans.push(plan_prompt(path, &name, context).await?);
            progress.advance(1);
        }
        drop(progress);
        if is_whole || plans.is_empty() {
            plans.extend(plan_models(&self.folder, context).await?);
        }
        let changed: Vec<String> = plans
            .iter()
            .filter(|plan| plan.state == State::Changed && !self.force)
            .map(|plan| format!("`{}`", plan.path.display()))
            .collect();
        if !changed.is_empty() {
            let message = format!(
                "{} would be overwritten, with changes that are nowhere else",
                changed.join(", ")
            );
            let hint = "push them first, or overwrite them with --force; nothing was written";
            return Err(Refusal::with_hint(message, hint).into());
        }
        for plan in plans.iter().filter(|plan| plan.state != State::Unchanged) {
            prompt_folder::write(&plan.path, &plan.text)?;
        }
        show(&plans, &self.folder, context)
    }
}

async fn plan_prompt(
    path: PathBuf,
    name: &PromptName,
    context: &Context<'_>,
) -> anyhow::Result<Plan> {
    let answer = context
        .client
        .get(&prompt::version(name.as_str(), "latest"))
        .await?;
    let latest = Record(&answer);
    let content = PromptContent::from_json(answer.get("content").cloned().unwrap_or_default())
        .with_context(|| {
            format!("this program does not understand the latest version of `{name}`")
        })?;
    let id = content.id();
    let description = latest
        .optional("description")
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let labels = latest
        .items("labels")
        .filter_map(|label| label.0.as_str()?.parse().ok())
        .collect();
    let text = prompt_file::format(&PromptFile {
        name: name.clone(),
        description,
        labels,
        content,
    });
    let state = match read_existing(&path)? {
        None => State::New,
        Some(existing) => match prompt_file::parse(&existing) {
            Ok(local) if local.name == *name && local.content.id() == id => State::Unchanged,
            Ok(local) if is_registered(&local.name, &local.content.id(), context).await? => {
                State::Older
            }
            _ => State::Changed,
        },
    };
    Ok(Plan { path, text, state })
}

async fn is_registered(
    name: &PromptName,
    id: &ContentHash,
    context: &Context<'_>,
) -> anyhow::Result<bool> {
    Ok(context
        .find(&prompt::version(name.as_str(), &id.to_string()))
        .await?
        .is_some())
}

fn read_existing(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

async fn plan_models(folder: &Path, context: &Context<'_>) -> anyhow::Result<Option<Plan>> {
    let known = context.client.all_items(&Target::api("models")).await?;
    if known.is_empty() {
        return Ok(None);
    }
    let text = models_text(&known);
    let path = folder.join(MODELS_FILE);
    let state = match read_existing(&path)? {
        None => State::New,
        Some(existing) if says_the_same(&existing, &text) => State::Unchanged,
        Some(_) => State::Changed,
    };
    Ok(Some(Plan { path, text, state }))
}

fn says_the_same(existing: &str, text: &str) -> bool {
    let declared = |text: &str| {
        let mut models = models::parse_models(text).ok()?;
        for model in &mut models {
            model.line = 0;
            model.aliases.sort();
        }
        models
            .sort_by(|a, b| (&a.model_id, &a.model_version).cmp(&(&b.model_id, &b.model_version)));
        Some(models)
    };
    let existing = declared(existing);
    existing.is_some() && existing == declared(text)
}

/// The models as the file that declares them. Values are written as JSON, which YAML contains.
fn models_text(known: &[Value]) -> String {
    let mut text = "models:\n".to_owned();
    for model in known.iter().map(Record) {
        let (id, version) = (model.text("model_id"), model.text("model_version"));
        // The version is what follows the last colon, so one with a colon has to stand apart.
        let reference = if version.contains(':') {
            json!({"id": id, "version": version})
        } else {
            json!(format!("{id}:{version}"))
        };
        text.push_str(&format!("  - model: {reference}\n"));
        for name in ["provider", "provider_model", "price", "aliases"] {
            let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
            if let Some(value) = model.member(name).filter(|value| !is_empty(value)) {
                text.push_str(&format!("    {name}: {value}\n"));
            }
        }
    }
    text
}

fn show(plans: &[Plan], folder: &Path, context: &Context<'_>) -> Outcome {
    if context.printer.is_json() {
        let paths = |unchanged: bool| -> Vec<String> {
            let chosen = plans
                .iter()
                .filter(|plan| (plan.state == State::Unchanged) == unchanged);
            chosen.map(|plan| plan.path.display().to_string()).collect()
        };
        context
            .printer
            .json(&json!({"written": paths(false), "unchanged": paths(true)}))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["file", "result"]);
    for plan in plans {
        let result = match plan.state {
            State::New => Cell::styled("new", Style::Good),
            State::Older => Cell::styled("updated", Style::Warning),
            State::Changed => Cell::styled("overwritten", Style::Bad),
            State::Unchanged => Cell::styled("unchanged", Style::Dim),
        };
        let path = plan.path.strip_prefix(folder).unwrap_or(&plan.path);
        table.row([path.display().to_string().into(), result]);
    }
    context.show_table(&table, "the server has no prompts")?;
    if !table.is_empty() {
        context.printer.hint(&format!(
            "change a file, then `flywheel push {}` registers what changed",
            folder.display()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_as_they_were_written() {
        let known = [
            json!({"model_id": "smollm2", "model_version": "135m", "provider": "local",
                   "provider_model": "SmolLM2: the \"small\" one", "aliases": ["stable"],
                   "price": {"input": 0.15, "output": 0.6}}),
            json!({"model_id": "gpt", "model_version": "2024:07", "provider": "azure",
                   "provider_model": "deployment", "aliases": []}),
        ];
        let text = models_text(&known);
        let declared = models::parse_models(&text).unwrap();
        assert_eq!(declared.len(), 2);
        assert_eq!(
            declared[0].settings.provider_model,
            "SmolLM2: the \"small\" one"
        );
        assert_eq!(declared[1].model_version.as_str(), "2024:07");
        assert!(says_the_same(&format!("# ours\n{text}"), &text));
        assert!(!says_the_same("models: []", &text));
        assert!(!says_the_same("models: [", &text));
    }
}
