//! The messages of a prompt file.
//!
//! The text of a message is what stands between its heading and the next one, without the newlines at its beginning
//! and its end, so that blank lines may be set where they read well. A line of the text that looks like a heading is
//! written with one more backslash in front (`\# user`), which reading takes away again. So is a line that looks like a
//! misspelt heading (`# User`, `# asistant`): without the backslash it is a mistake rather than text that nobody meant.
//! Options of a heading, in parentheses and separated by commas:
//!
//! | option | meaning |
//! | --- | --- |
//! | `literal` | braces in the text mean nothing; `literal=false` says the opposite explicitly |
//! | `name=Ada` | the name of the speaker, as a JSON string if it has unusual characters |
//! | `verbatim` | only the newline after the heading and the last one before the next heading or the file's end are structure; all else is text, leading and trailing newlines too |
//! | `json` | the text is one JSON string; written for texts with carriage returns, which Git and editors change |

use crate::prompt::{PromptMessage, Role};

use super::PromptFileError;
use super::yaml::{Mistakes, Place};

const ROLES: [Role; 4] = [Role::System, Role::Developer, Role::User, Role::Assistant];

/// A message with the place of its text in the file.
#[derive(Debug)]
pub(super) struct LocatedMessage {
    pub(super) message: PromptMessage,
    /// The line on which the text begins.
    first_line: usize,
    /// The lines of the text, from 0, whose leading backslash was taken away.
    escaped_lines: Vec<usize>,
    /// Whether the text was a JSON string, inside which lines cannot be told apart.
    is_json: bool,
}

impl LocatedMessage {
    /// Where in the file a line and a column of the text stand.
    pub(super) fn place(&self, line: usize, column: usize) -> Place {
        if self.is_json {
            return Place::new(self.first_line, 1);
        }
        let shift = usize::from(self.escaped_lines.binary_search(&(line - 1)).is_ok());
        Place::new(self.first_line + line - 1, column + shift)
    }
}

/// A line that is a heading, or would be one without its backslashes.
struct Heading<'a> {
    backslashes: usize,
    role: Role,
    /// The word in the role's place, if it is not quite the role's name.
    misspelt: Option<&'a str>,
    /// What stands between the parentheses, and the column of its beginning.
    options: Option<(&'a str, usize)>,
}

#[derive(Default)]
struct HeadingOptions {
    literal: Option<bool>,
    name: Option<String>,
    verbatim: bool,
    json: bool,
}

/// Reads the messages from what follows the front matter; `first_line` is its line in the file.
pub(super) fn parse(
    body: &str,
    first_line: usize,
) -> Result<Vec<LocatedMessage>, Vec<PromptFileError>> {
    let lines: Vec<&str> = body.split('\n').collect();
    let mut mistakes = Mistakes::default();
    let mut messages = Vec::new();
    let mut is_text_before = false;
    // The heading of the message that is being read, and the index of its line.
    let mut current: Option<(usize, Heading<'_>)> = None;
    for (index, line) in lines.iter().enumerate() {
        match heading(line).filter(|heading| heading.backslashes == 0) {
            Some(next) => {
                if let Some(word) = next.misspelt {
                    let message = format!(
                        "`# {word}` is no heading; write `# {}`, or `\\# {word}` where it is text",
                        next.role.as_str()
                    );
                    mistakes.take::<()>(Err(Place::new(first_line + index, 1).error(message)));
                }
                if let Some((start, heading)) = current.replace((index, next)) {
                    let mut text = lines[start + 1..index].to_vec();
                    text.push("");
                    messages.extend(mistakes.take(message(&heading, &text, first_line + start)));
                }
            }
            None if current.is_none() && !is_text_before && !line.trim().is_empty() => {
                is_text_before = true;
                let message = "text before the first message; begin one with a line `# system`, `# developer`, `# user` or `# assistant`";
                mistakes.take::<()>(Err(Place::new(first_line + index, 1).error(message)));
            }
            None => {}
        }
    }
    match current {
        Some((start, heading)) => {
            let last = message(&heading, &lines[start + 1..], first_line + start);
            messages.extend(mistakes.take(last));
        }
        None if is_text_before => {}
        None => {
            let message = "no messages; begin one with a line such as `# user`";
            mistakes.take::<()>(Err(Place::new(first_line - 1, 1).error(message)));
        }
    }
    mistakes.or(Some(messages))
}

/// Writes messages so that [`parse`] reads them back unchanged.
pub(super) fn format(messages: &[PromptMessage]) -> String {
    let mut text = String::new();
    for (index, message) in messages.iter().enumerate() {
        let content = &message.content;
        let json = content.contains('\r');
        let verbatim = !json && (content.starts_with('\n') || content.ends_with('\n'));
        let mut options = Vec::new();
        match message.literal {
            Some(true) => options.push("literal".to_owned()),
            Some(false) => options.push("literal=false".to_owned()),
            None => {}
        }
        if let Some(name) = &message.name {
            let is_plain = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
            let name = if is_plain {
                name.clone()
            } else {
                json_string(name)
            };
            options.push(format!("name={name}"));
        }
        if verbatim {
            options.push("verbatim".to_owned());
        }
        if json {
            options.push("json".to_owned());
        }
        text.push_str("# ");
        text.push_str(message.role.as_str());
        if !options.is_empty() {
            text.push_str(&format!(" ({})", options.join(", ")));
        }
        text.push('\n');
        if json {
            text.push_str(&json_string(content));
            text.push('\n');
        } else if verbatim || !content.is_empty() {
            for line in content.split('\n') {
                if heading(line).is_some() {
                    text.push('\\');
                }
                text.push_str(line);
                text.push('\n');
            }
        }
        if !verbatim && index + 1 < messages.len() {
            text.push('\n');
        }
    }
    text
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One message: its heading, the lines after it, and the line of the heading in the file.
fn message(
    heading: &Heading<'_>,
    lines: &[&str],
    heading_line: usize,
) -> Result<LocatedMessage, PromptFileError> {
    let options = match heading.options {
        Some((text, column)) => options(text, Place::new(heading_line, column))?,
        None => HeadingOptions::default(),
    };
    let mut first_line = heading_line + 1;
    let is_blank = |line: &&str| line.is_empty();
    let lines = if options.verbatim {
        // The last newline is structure; it shows as an empty last line.
        lines.strip_suffix(&[""]).unwrap_or(lines)
    } else {
        let leading = lines.iter().take_while(|line| is_blank(line)).count();
        let trailing = lines[leading..]
            .iter()
            .rev()
            .take_while(|line| is_blank(line))
            .count();
        first_line += leading;
        &lines[leading..lines.len() - trailing]
    };
    let mut escaped_lines = Vec::new();
    let mut content = String::new();
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            content.push('\n');
        }
        if line.starts_with('\\') && self::heading(line).is_some() {
            escaped_lines.push(index);
            content.push_str(&line[1..]);
        } else {
            content.push_str(line);
        }
    }
    if options.json {
        content = serde_json::from_str(&content).map_err(|error| {
            let place = Place::new(first_line + error.line().max(1) - 1, error.column().max(1));
            let problem = error.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default();
            place.error(format!("the text is not a JSON string: {problem}"))
        })?;
    }
    let message = PromptMessage {
        role: heading.role,
        content,
        name: options.name,
        literal: options.literal,
    };
    Ok(LocatedMessage {
        message,
        first_line,
        escaped_lines,
        is_json: options.json,
    })
}

fn heading(line: &str) -> Option<Heading<'_>> {
    let unescaped = line.trim_start_matches('\\');
    let after_hash = unescaped.strip_prefix("# ")?;
    let end = after_hash
        .find(|character: char| !character.is_ascii_alphabetic())
        .unwrap_or(after_hash.len());
    let (word, rest) = after_hash.split_at(end);
    let (role, is_exact) = role(word)?;
    let mut heading = Heading {
        backslashes: line.len() - unescaped.len(),
        role,
        misspelt: (!is_exact).then_some(word),
        options: None,
    };
    let rest = rest.trim_end();
    if !rest.is_empty() {
        let options = rest
            .trim_start_matches([' ', '\t'])
            .strip_prefix('(')?
            .strip_suffix(')')?;
        if !rest.starts_with([' ', '\t']) {
            return None;
        }
        // Everything before the options is one byte wide.
        let column = line.trim_end().len() - options.len();
        heading.options = Some((options, column));
    }
    Some(heading)
}

/// The role that a word names, and whether it is spelt exactly so.
fn role(word: &str) -> Option<(Role, bool)> {
    /// Two words with fewer letters in common, in order, are two words.
    const ALIKE: f32 = 0.8;
    // A longer word is no slip of the finger.
    if word.len() > 12 {
        return None;
    }
    let names = ROLES.map(Role::as_str);
    let lower = word.to_ascii_lowercase();
    let name = *similar::get_close_matches(lower.as_str(), &names, 1, ALIKE).first()?;
    let role = ROLES.into_iter().find(|role| role.as_str() == name)?;
    Some((role, name == word))
}

/// Reads the options of a heading; `start` is where they begin.
fn options(text: &str, start: Place) -> Result<HeadingOptions, PromptFileError> {
    let mut options = HeadingOptions::default();
    let fail = |message: String| {
        let hint = "in a line of text, write a backslash before the `#`";
        Err(start.error(format!("{message}; {hint}")))
    };
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(quoted) = rest
            .strip_prefix("name=")
            .filter(|value| value.starts_with('"'))
        {
            let mut values = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
            match values.next() {
                Some(Ok(name)) => options.name = Some(name),
                _ => return fail(format!("`name={quoted}` is not closed as a JSON string")),
            }
            rest = quoted[values.byte_offset()..].trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return fail(format!("expected a comma before `{rest}`"));
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            match rest[..end].trim() {
                "literal" | "literal=true" => options.literal = Some(true),
                "literal=false" => options.literal = Some(false),
                "verbatim" => options.verbatim = true,
                "json" => options.json = true,
                option => match option.strip_prefix("name=") {
                    Some(name) if !name.is_empty() => options.name = Some(name.to_owned()),
                    _ => {
                        return fail(format!(
                            "unknown option `{option}`; known are `literal`, `name=…`, `verbatim` and `json`"
                        ));
                    }
                },
            }
            rest = &rest[end..];
        }
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Ok(options)
}
