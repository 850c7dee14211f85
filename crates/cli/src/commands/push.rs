//! `flywheel push`: registers a folder of prompt files, all of them or none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use flywheel_core::model::ModelSettings;
use flywheel_core::prompt_file::PromptFile;
use flywheel_core::prompt_file::models::ModelDeclaration;
use serde_json::{Value, json};

use super::prompt_folder::{self, Folder, MODELS_FILE};
use super::{Context, Outcome, id_cell, prompt};
use crate::arguments::parse_text;
use crate::client::{ClientError, Target};
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::{Cell, Table};
use crate::printer::{Printed, Style};

/// Register the prompt files of a folder, and the models its models.yaml declares
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// The folder with *.prompt.md files, or one such file
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What changed and why, instead of the files' own descriptions
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    message: Option<String>,
    /// Check the files and tell what is new, and register nothing
    #[arg(long)]
    dry_run: bool,
}

impl PushArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let folder = prompt_folder::read(&self.folder)?;
        warn_of_repeated_names(&folder, context);
        warn_of_params(&folder, context);
        if self.dry_run {
            let answer = compare(&folder, context).await?;
            let shown = context.printer.show(&answer, |answer| {
                show(context, answer)?;
                context.printer.note("dry run: nothing was registered");
                Ok(())
            });
            warn_of_models(&folder, context).await;
            return shown;
        }
        let body = json!({
            "models": folder.models.iter().map(model_json).collect::<Vec<_>>(),
            "prompts": folder.prompts.iter()
                .map(|(_, file)| prompt_json(file, self.message.as_deref()))
                .collect::<Vec<_>>(),
        });
        let target = Target::api("push");
        let work = context.client.post(&target, &body);
        let waiting = format!("registering {} prompts", folder.prompts.len());
        let answer = context.printer.waiting(&waiting, work).await;
        let answer = answer.map_err(|error| explain(error, &self.folder, &folder, context))?;
        context
            .printer
            .show(&answer, |answer| show(context, answer))?;
        if context.printer.is_json() {
            return Ok(ExitCode::SUCCESS);
        }
        if warn_of_models(&folder, context).await == 0 {
            suggest(context, Record(&answer));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says which of the models that the folder names cannot serve: a deployment would be refused, which a person learns
/// better here. Returns how many they are.
async fn warn_of_models(folder: &Folder, context: &Context<'_>) -> usize {
    // What was pushed is pushed, whether or not this can be told.
    let Ok(known) = context.client.all_items(&Target::api("models")).await else {
        return 0;
    };
    let declared = folder.models.iter();
    let declared: BTreeSet<String> = declared
        .map(|model| format!("{}:{}", model.model_id, model.model_version))
        .collect();
    let used = folder.prompts.iter().map(|(_, file)| {
        let content = &file.content;
        format!("{}:{}", content.model_id, content.model_version)
    });
    let names: BTreeSet<String> = used.chain(declared.iter().cloned()).collect();
    let mut warnings = 0;
    for name in names {
        let found = known.iter().map(Record).find(|model| {
            format!("{}:{}", model.text("model_id"), model.text("model_version")) == name
        });
        let problem = match found {
            Some(model) => match model.optional("problem") {
                Some(problem) => problem.to_owned(),
                None => continue,
            },
            // A dry run registers no models, so those of the folder are not known yet.
            None if declared.contains(&name) => continue,
            None => "it is not registered; declare it in models.yaml".to_owned(),
        };
        warnings += 1;
        context
            .printer
            .warning(&format!("model `{name}` cannot serve: {problem}"));
    }
    warnings
}

/// A parameter of a name that nobody knows goes to the provider as it is, which may pass over it without a word.
fn warn_of_params(folder: &Folder, context: &Context<'_>) {
    for (path, file) in &folder.prompts {
        for (name, meant) in file.content.params.probably_misspelt() {
            context.printer.warning(&format!(
                "{}: the parameter `{name}` goes to the provider as it is; was `{meant}` meant?",
                path.display()
            ));
        }
    }
}

/// Several files may hold versions of one prompt; which one becomes the latest should surprise nobody.
fn warn_of_repeated_names(folder: &Folder, context: &Context<'_>) {
    let mut paths: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for (path, file) in &folder.prompts {
        paths.entry(file.name.as_str()).or_default().push(path);
    }
    for (name, paths) in paths {
        if let [_, .., last] = paths.as_slice() {
            context.printer.warning(&format!(
                "{} files hold prompt `{name}`; new versions are registered in the order of their paths, `{}` last",
                paths.len(),
                last.display()
            ));
        }
    }
}

fn model_json(model: &ModelDeclaration) -> Value {
    let ModelSettings {
        provider,
        provider_model,
        price,
    } = &model.settings;
    let mut value = json!({
        "model_id": model.model_id, "model_version": model.model_version,
        "provider": provider, "provider_model": provider_model, "aliases": model.aliases,
    });
    if let Some(price) = price {
        value["price"] = json!(price);
    }
    value
}

fn prompt_json(file: &PromptFile, message: Option<&str>) -> Value {
    let description = message.or(file.description.as_deref()).unwrap_or_default();
    json!({
        "prompt": file.name, "content": file.content.to_json(),
        "description": description, "labels": file.labels,
    })
}

/// What a push would do, in the shape of its answer.
async fn compare(folder: &Folder, context: &Context<'_>) -> Result<Value, ClientError> {
    let mut prompts = Vec::new();
    for (_, file) in &folder.prompts {
        let id = file.content.id().to_string();
        let found = context
            .find(&prompt::version(file.name.as_str(), &id))
            .await?;
        let mut entry = json!({"prompt": file.name, "version": id, "created": found.is_none()});
        if let Some(found) = found {
            entry["ordinal"] = found["ordinal"].clone();
        }
        prompts.push(entry);
    }
    let mut models = Vec::new();
    if !folder.models.is_empty() {
        let known = context.client.all_items(&Target::api("models")).await?;
        for declared in folder.models.iter().map(model_json) {
            let is_same = |name: &str, known: &Value| known.get(name) == declared.get(name);
            let found = known
                .iter()
                .find(|known| is_same("model_id", known) && is_same("model_version", known));
            let changed = found.is_some_and(|known| {
                ["provider", "provider_model", "price"]
                    .iter()
                    .any(|name| !is_same(name, known))
            });
            models.push(json!({
                "model_id": declared["model_id"], "model_version": declared["model_version"],
                "created": found.is_none(), "changed": changed,
            }));
        }
    }
    Ok(json!({"dry_run": true, "models": models, "prompts": prompts}))
}

fn show(context: &Context<'_>, answer: Record<'_>) -> Printed {
    let mut models = Table::new(&["model", "result"]);
    for model in answer.items("models") {
        let name = format!("{}:{}", model.text("model_id"), model.text("model_version"));
        models.row([id_cell(name), result(model)]);
    }
    let mut prompts = Table::new(&["prompt", "version", ">#", "result"]);
    for prompt in answer.items("prompts") {
        prompts.row([
            id_cell(prompt.text("prompt")),
            prompt.short("version").into(),
            prompt.shown("ordinal").into(),
            result(prompt),
        ]);
    }
    let parted = !models.is_empty() && !prompts.is_empty();
    if !models.is_empty() {
        context.printer.table(&models)?;
    }
    if parted {
        context.printer.line(Style::Plain, "")?;
    }
    if prompts.is_empty() {
        Ok(())
    } else {
        context.printer.table(&prompts)
    }
}

fn result(entry: Record<'_>) -> Cell {
    if entry.flag("created") {
        Cell::styled("new", Style::Good)
    } else if entry.flag("changed") {
        Cell::styled("changed", Style::Warning)
    } else {
        Cell::styled("unchanged", Style::Dim)
    }
}

/// What one usually does after a push.
fn suggest(context: &Context<'_>, answer: Record<'_>) {
    for prompt in answer.items("prompts") {
        let (ordinal, newest) = (prompt.shown("ordinal"), prompt.shown("newest"));
        if ordinal != newest && !newest.is_empty() {
            let name = prompt.text("prompt");
            context.printer.warning(&format!(
                "the file of `{name}` is version {ordinal} again, and the newest is {newest}; name the version to deploy it: --prompt {name}@{ordinal}"
            ));
        }
    }
    match answer
        .items("prompts")
        .find(|prompt| prompt.flag("created"))
    {
        Some(prompt) => context.printer.hint(&format!(
            "`flywheel deploy APP --prompt {}@{} --reason TEXT` puts it to work",
            prompt.text("prompt"),
            amounts::short_id(prompt.text("version")),
        )),
        None => context
            .printer
            .hint("no prompt changed; `flywheel app list` shows what is deployed"),
    }
}

/// Says which files the server refuses.
fn explain(error: ClientError, root: &Path, folder: &Folder, context: &Context<'_>) -> ClientError {
    let ClientError::Refused(mut problem) = error else {
        return error;
    };
    if context.printer.is_json() {
        return ClientError::Refused(problem);
    }
    problem.errors.retain(|item| {
        let index = item.index.unwrap_or(usize::MAX);
        let place = match item.kind.as_deref() {
            Some("model") => folder
                .models
                .get(index)
                .map(|model| format!("{}:{}:1", root.join(MODELS_FILE).display(), model.line)),
            _ => folder
                .prompts
                .get(index)
                .map(|(path, _)| format!("{}:1:1", path.display())),
        };
        let Some(place) = place else { return true };
        context
            .printer
            .finding(&format!("{place}: {}", item.detail));
        false
    });
    ClientError::Refused(problem)
}
