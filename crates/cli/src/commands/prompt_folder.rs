//! A folder of prompt files: finding, reading and writing them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use flywheel_core::name::PromptName;
use flywheel_core::prompt_file::models::{self, ModelDeclaration};
use flywheel_core::prompt_file::{self, PromptFile, PromptFileError};

use crate::failure::{Findings, Refusal};

const EXTENSION: &str = ".prompt.md";
/// The file at the folder's root that declares the models.
pub(super) const MODELS_FILE: &str = "models.yaml";
/// Folders that hold other people's files.
const SKIPPED_FOLDERS: [&str; 2] = ["node_modules", "target"];

/// What a folder declares.
pub(super) struct Folder {
    /// The prompt files, by path.
    pub(super) prompts: Vec<(PathBuf, PromptFile)>,
    /// The models, if there is a file for them.
    pub(super) models: Vec<ModelDeclaration>,
}

/// Reads a whole folder. The error holds every mistake in it.
pub(super) fn read(folder: &Path) -> anyhow::Result<Folder> {
    let mut paths = Vec::new();
    if folder.is_file() {
        paths.push(folder.to_owned());
    } else {
        find(folder, &mut paths)?;
        paths.sort();
    }
    let mut mistakes = Vec::new();
    let mut prompts = Vec::new();
    for path in paths {
        match prompt_file::parse_all(&read_text(&path)?) {
            Ok(file) => prompts.push((path, file)),
            Err(found) => mistakes.extend(found.iter().map(|error| located(&path, error))),
        }
    }
    let models_path = folder.join(MODELS_FILE);
    let mut models = Vec::new();
    if models_path.is_file() {
        match models::parse_all_models(&read_text(&models_path)?) {
            Ok(declared) => models = declared,
            Err(found) => mistakes.extend(found.iter().map(|error| located(&models_path, error))),
        }
    }
    if !mistakes.is_empty() {
        return Err(Findings { findings: mistakes }.into());
    }
    if prompts.is_empty() && models.is_empty() {
        let message = format!(
            "`{}` has no files named *{EXTENSION}, and no {MODELS_FILE}",
            folder.display()
        );
        return Err(Refusal::with_hint(message, "a prompt file is called NAME.prompt.md").into());
    }
    Ok(Folder { prompts, models })
}

fn located(path: &Path, error: &PromptFileError) -> String {
    format!(
        "{}:{}:{}: {}",
        path.display(),
        error.line,
        error.column,
        error.message
    )
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Links to folders are not followed: they can lead in circles.
fn find(folder: &Path, paths: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot_read = || format!("cannot read `{}`", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot_read)? {
        let entry = entry.with_context(cannot_read)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().with_context(cannot_read)?.is_dir() {
            if !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&&*name) {
                find(&entry.path(), paths)?;
            }
        } else if name.ends_with(EXTENSION) && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    Ok(())
}

/// Which file holds which prompt: people call files as they like. Of several for one prompt, it is the one whose version
/// a push makes the latest.
pub(super) fn places(folder: &Path) -> anyhow::Result<BTreeMap<PromptName, PathBuf>> {
    let mut paths = Vec::new();
    if folder.is_dir() {
        find(folder, &mut paths)?;
    }
    paths.sort();
    let name_in = |path: &Path| {
        let text = fs::read_to_string(path).ok()?;
        Some(prompt_file::parse(&text).ok()?.name)
    };
    let held = paths
        .into_iter()
        .filter_map(|path| Some((name_in(&path)?, path)));
    Ok(held.collect())
}

/// Where a prompt's file belongs: slashes in its name are folders. A name that would lead out of the folder is refused.
pub(super) fn path_of(folder: &Path, name: &PromptName) -> anyhow::Result<PathBuf> {
    let relative = PathBuf::from(format!("{name}{EXTENSION}"));
    let only_names = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // `a//b` and `a/./b` have nothing but names in them and are still not the path that the name spells.
    let is_plain = name
        .as_str()
        .split('/')
        .all(|part| !matches!(part, "" | "." | ".."));
    if !only_names || !is_plain {
        return Err(Refusal::new(format!(
            "prompt `{name}` cannot be written to a file of its name"
        ))
        .into());
    }
    Ok(folder.join(relative))
}

/// Writes a file as a whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let cannot_write = || format!("cannot write `{}`", path.display());
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(cannot_write)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let result = fs::File::create(&unfinished)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| fs::rename(&unfinished, path));
    if result.is_err() {
        // What is left of it is of no use, and failing to remove it changes nothing.
        let _ = fs::remove_file(&unfinished);
    }
    result.with_context(cannot_write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_inside_the_folder() {
        let folder = Path::new("prompts");
        let path = |name: &str| path_of(folder, &name.parse().unwrap()).ok();
        assert_eq!(
            path("team/summary:v2"),
            Some(folder.join("team").join("summary:v2.prompt.md"))
        );
        assert_eq!(path("a.b"), Some(folder.join("a.b.prompt.md")));
        for hostile in ["a/../../b", "a//b", "a/./b", "a/..", "a/"] {
            assert_eq!(path(hostile), None, "{hostile}");
        }
    }

    #[test]
    fn writing_replaces_the_whole_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.prompt.md");
        write(&path, "one").unwrap();
        write(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }
}
