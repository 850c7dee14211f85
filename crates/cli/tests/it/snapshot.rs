//! Comparing output with committed files.

use std::fs;
use std::path::Path;

/// Compares with `tests/snapshots/<name>.txt`; writes that file if `UPDATE_SNAPSHOTS` is set.
#[track_caller]
pub(crate) fn assert_snapshot(name: &str, actual: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} has changed; if that is right, run the tests with UPDATE_SNAPSHOTS=1\n--- expected\n{expected}\n--- actual\n{actual}",
        path.display()
    );
}
