//! Running the binary in an environment that is the same everywhere.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run of the binary came to.
pub(crate) struct Run {
    pub(crate) line: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `flywheel` with arguments.
pub(crate) fn flywheel(arguments: &[&str]) -> Run {
    flywheel_with(arguments, &[], "")
}

/// Runs `flywheel` with arguments, further variables, and a text on stdin.
pub(crate) fn flywheel_with(arguments: &[&str], variables: &[(&str, &str)], stdin: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flywheel"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLYWHEEL_") {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .env("COLUMNS", "100")
        // Where nothing can be kept, every tip is shown for the first time.
        .env("XDG_STATE_HOME", "/dev/null")
        .env_remove("NO_COLOR")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The command may end without reading it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        line: format!("$ flywheel {}", arguments.join(" ")),
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// The run as a person would have seen it.
    pub(crate) fn transcript(&self) -> String {
        let Self {
            line,
            code,
            stdout,
            stderr,
        } = self;
        let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        format!("{line}\n--- stdout\n{stdout}--- stderr\n{stderr}--- exit code {code}\n")
    }

    /// The transcript with a folder and a server's URL replaced, which are new in each run.
    pub(crate) fn portable(&self, folder: &Path, url: &str) -> String {
        self.transcript()
            .replace(&folder.display().to_string(), "FOLDER")
            .replace(url, "http://SERVER")
    }

    /// What was printed on stdout, as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{}", self.transcript()))
    }
}
