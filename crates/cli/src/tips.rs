//! Tips that a person needs once, not each time: which of them were shown is kept in the user's state folder.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

/// Whether a tip is shown for the first time. Where that cannot be kept, every time is the first.
pub(crate) fn is_first(tip: &str) -> bool {
    let Some(path) = file() else { return true };
    let shown = fs::read_to_string(&path).unwrap_or_default();
    if shown.lines().any(|line| line == tip) {
        return false;
    }
    if let Some(folder) = path.parent() {
        // A tip that is shown once more harms nobody.
        let _ = fs::create_dir_all(folder);
    }
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(&path) {
        let _ = writeln!(file, "{tip}");
    }
    true
}

fn file() -> Option<PathBuf> {
    let folder = match env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env::var_os("HOME")?).join(".local/state"),
    };
    Some(folder.join("flywheel/tips"))
}
