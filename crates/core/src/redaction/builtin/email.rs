//! Mail addresses.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::Expression;

// Scripts that set no spaces between words have alternatives of their own, or the words around an address would be
// taken for a part of it.
static EMAIL: Expression = LazyLock::new(|| {
    let spaceless = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}";
    let letters = format!(r"[[\p{{L}}\p{{M}}]--[{spaceless}]]");
    let local = format!(r"(?:[{letters}\p{{N}}._%+'-]+|[{spaceless}\p{{N}}]+)");
    let label = r"[\p{L}\p{M}\p{N}-]+\.";
    let top = format!(r"(?:xn--[A-Za-z0-9-]+|{letters}{{2,}}|[{spaceless}]{{2,}})");
    Regex::new(&format!("{local}@(?:{label})+{top}")).ok()
});

pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    match &*EMAIL {
        Some(email) if text.contains('@') => {
            email.find_iter(text).map(|found| found.range()).collect()
        }
        _ => Vec::new(),
    }
}
