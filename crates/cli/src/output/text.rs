//! Text of unknown origin, made safe for a terminal, and how wide it is there.

/// One line: line ends and tabs become blanks, everything else a terminal would act on is made visible.
pub(crate) fn visible_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' | '\t' => line.push(' '),
            '\r' => {}
            other => push_visible(&mut line, other),
        }
    }
    line
}

/// Several lines: line ends and tabs stay, everything else a terminal would act on is made visible.
pub(crate) fn visible_lines(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => lines.push(character),
            // Half of a Windows line end, the other half of which may be in the next piece of a stream.
            '\r' if matches!(characters.peek(), None | Some('\n')) => {}
            other => push_visible(&mut lines, other),
        }
    }
    lines
}

/// JSON text in which no character acts on a terminal. Such characters occur only inside strings, where an escape
/// means the same.
pub(crate) fn visible_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\n' || !acts_on_terminal(character) {
            text.push(character);
        } else {
            let mut units = [0_u16; 2];
            for unit in character.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

fn push_visible(text: &mut String, character: char) {
    let code = u32::from(character);
    match character {
        // Unicode has a picture of each of these.
        '\0'..='\u{1f}' => text.extend(char::from_u32(0x2400 + code)),
        '\u{7f}' => text.push('\u{2421}'),
        _ if acts_on_terminal(character) => text.push_str(&format!("<U+{code:04X}>")),
        _ => text.push(character),
    }
}

/// Control characters, and those that reorder or hide the text around them.
fn acts_on_terminal(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The columns that a text takes. Exact for Latin text, close enough for the rest.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(character_width).sum()
}

fn character_width(character: char) -> usize {
    match character {
        '\u{300}'..='\u{36f}'
        | '\u{200c}'..='\u{200d}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The text cut to a number of columns, with `…` where something is missing.
pub(crate) fn truncate(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for character in text.chars() {
        used += character_width(character);
        if used > columns {
            break;
        }
        cut.push(character);
    }
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_made_visible() {
        for (text, expected) in [
            ("plain ünïcode 漢字", "plain ünïcode 漢字"),
            ("a\nb\tc\r\n", "a b c"),
            ("\u{1b}[31mred\u{7}", "␛[31mred␇"),
            ("\u{9b}2J\u{7f}", "<U+009B>2J␡"),
            ("user\u{202e}nimda", "user<U+202E>nimda"),
        ] {
            assert_eq!(visible_line(text), expected);
        }
        for (text, expected) in [
            ("a\r\nb\tc\n", "a\nb\tc\n"),
            ("ends in half\r", "ends in half"),
            ("over\rwritten", "over␍written"),
        ] {
            assert_eq!(visible_lines(text), expected);
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"text": "\u{1b}[2J \u{9b}2J \u{202e} \u{e0041} ü \n"});
        let json = visible_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(
            json.chars()
                .all(|character| character == '\n' || !acts_on_terminal(character))
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap(),
            value
        );
    }

    #[test]
    fn long_text_is_cut_to_its_columns() {
        for (text, columns, expected) in [
            ("short", 5, "short"),
            ("longer", 5, "long…"),
            ("two words", 5, "two…"),
            ("漢字漢字", 5, "漢字…"),
            ("漢字漢字", 4, "漢…"),
            ("abc", 1, "…"),
        ] {
            assert_eq!(truncate(text, columns), expected);
        }
    }
}
