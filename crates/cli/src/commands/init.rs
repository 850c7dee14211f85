//! `flywheel init`: a project to begin with, which works as it is.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::Outcome;
use crate::printer::Printer;

/// Write a project to begin with: configuration, prompts, tests, a CI workflow
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder, which is made if it is not there
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

/// The project's files, by their paths in it.
const FILES: [(&str, &str); 11] = [
    ("README.md", include_str!("../../starter/README.md")),
    (".gitignore", include_str!("../../starter/gitignore")),
    ("flywheel.toml", include_str!("../../starter/flywheel.toml")),
    (
        "prompts/models.yaml",
        include_str!("../../starter/prompts/models.yaml"),
    ),
    (
        "prompts/assistant/answer.prompt.md",
        include_str!("../../starter/prompts/assistant/answer.prompt.md"),
    ),
    (
        "prompts/assistant/title.prompt.md",
        include_str!("../../starter/prompts/assistant/title.prompt.md"),
    ),
    (
        "tests/check.sh",
        include_str!("../../starter/tests/check.sh"),
    ),
    (
        "tests/flywheel.toml",
        include_str!("../../starter/tests/flywheel.toml"),
    ),
    (
        "tests/answer/question.txt",
        include_str!("../../starter/tests/answer/question.txt"),
    ),
    (
        "tests/title/text.txt",
        include_str!("../../starter/tests/title/text.txt"),
    ),
    (
        ".github/workflows/prompts.yml",
        include_str!("../../starter/ci/prompts.yml"),
    ),
];

impl InitArgs {
    /// Writes all of the files, or none if one of them is there.
    pub(crate) fn run(&self, printer: &Printer) -> Outcome {
        let there: Vec<&str> = FILES
            .iter()
            .map(|(path, _)| *path)
            .filter(|path| self.folder.join(path).exists())
            .collect();
        if !there.is_empty() {
            bail!(
                "`{}` has {} already; nothing was written. Name another folder, as in `flywheel init my-project`",
                self.folder.display(),
                there.join(", ")
            );
        }
        for (path, text) in FILES {
            write_new(&self.folder.join(path), text)?;
        }
        let names: Vec<_> = FILES.iter().map(|(path, _)| path).collect();
        if printer.is_json() {
            printer.json(&json!({"folder": self.folder, "files": names}))?;
            return Ok(ExitCode::SUCCESS);
        }
        for name in names {
            printer.raw(&format!("{}\n", self.folder.join(name).display()))?;
        }
        let enter = match self.folder.as_os_str() == "." {
            true => String::new(),
            false => format!("  cd {}\n", self.folder.display()),
        };
        printer.note(&format!(
            "\nnext, in one terminal\n\n{enter}  flywheel serve\n\nand in another\n\n{enter}  flywheel push prompts\n  \
             flywheel app create assistant\n  flywheel deploy assistant --prompt assistant/answer --reason \"first version\"\n  \
             flywheel call assistant -v question=\"How long does a refund take?\"\n\n\
             sh tests/check.sh tries every prompt on a server of its own; flywheel doctor says what is wrong, if something is."
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes a file that is not there, with the folders above it.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("`{}` cannot be written", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    let file = fs::File::options().write(true).create_new(true).open(path);
    match file {
        Ok(mut file) => std::io::Write::write_all(&mut file, text.as_bytes()).with_context(context),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("`{}` came into being meanwhile", path.display())
        }
        Err(error) => Err(error).with_context(context),
    }
}
