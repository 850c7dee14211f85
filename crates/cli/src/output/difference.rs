//! Differences between prompt versions, line by line, with changed words emphasised.

use serde_json::Value;

use super::record::{Record, plain};
use super::text;
use crate::printer::Style;

/// The changes as lines. Each begins with `+`, `-` or a blank, so that it is understood without colour.
pub(crate) fn lines<'a>(
    changes: impl Iterator<Item = Record<'a>>,
    paint: impl Fn(Style, &str) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes {
        lines.push(paint(
            Style::Strong,
            &text::visible_line(change.text("field")),
        ));
        if change.member("text").is_some() {
            lines.extend(change.items("text").map(|line| text_line(line, &paint)));
            continue;
        }
        for (name, mark, style) in [("before", "-", Style::Bad), ("after", "+", Style::Good)] {
            // Null is a value here; only what is absent is left out.
            if let Some(value) = change.0.get(name) {
                let value = if value.is_null() {
                    "null".to_owned()
                } else {
                    shown(value)
                };
                let visible = text::visible_lines(&value);
                lines.extend(
                    visible
                        .lines()
                        .map(|line| paint(style, &format!("{mark} {line}"))),
                );
            }
        }
    }
    lines
}

fn shown(value: &Value) -> String {
    if value.is_object() || value.is_array() {
        serde_json::to_string_pretty(value).unwrap_or_default()
    } else {
        plain(value)
    }
}

fn text_line(line: Record<'_>, paint: &impl Fn(Style, &str) -> String) -> String {
    let (mark, style, emphasis) = match line.text("kind") {
        "skipped" => {
            return paint(
                Style::Dim,
                &format!("  … {} unchanged lines", line.shown("count")),
            );
        }
        "removed" => ("- ", Style::Bad, Style::BadStrong),
        "added" => ("+ ", Style::Good, Style::GoodStrong),
        _ => ("  ", Style::Plain, Style::Plain),
    };
    let mut shown = paint(style, mark);
    for span in line.items("spans") {
        let part = text::visible_lines(span.text("text"));
        let style = if span.flag("changed") {
            emphasis
        } else {
            style
        };
        shown.push_str(&paint(style, part.trim_end_matches('\n')));
    }
    shown
}

#[cfg(test)]
mod tests {
    use flywheel_core::diff::diff_prompts;
    use flywheel_core::prompt::PromptContent;
    use serde_json::json;

    use super::*;

    fn content(user: &str, temperature: f64) -> PromptContent {
        PromptContent::from_json(json!({
            "template_format": "fstring", "model_id": "m", "model_version": "1",
            "params": {"temperature": temperature},
            "messages": [{"role": "user", "content": user}],
        }))
        .unwrap()
    }

    #[test]
    fn lines_are_marked_and_words_emphasised() {
        let older = content("Be brief.\nSummarize: {text}", 0.7);
        let newer = content("Be brief.\nTranslate: {text}\u{1b}", 0.5);
        let value = serde_json::to_value(diff_prompts(&older, &newer)).unwrap();
        let paint = |style: Style, text: &str| match style {
            Style::BadStrong | Style::GoodStrong => format!("[{text}]"),
            _ => text.to_owned(),
        };
        let shown = lines(Record(&value).items("changes"), paint).join("\n");
        for expected in [
            "messages[0].content",
            "  Be brief.",
            "- [Summarize]: ",
            "+ [Translate]: ",
            "␛",
            "- 0.7",
            "+ 0.5",
        ] {
            assert!(shown.contains(expected), "{expected} in:\n{shown}");
        }
    }
}
