//! The one place that writes to the terminal: data to stdout, everything else to stderr.

use std::env;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use crate::client::local_document;
use crate::output::amounts;
use crate::output::record::Record;
use crate::output::table::{Block, Table};
use crate::output::text;
use crate::tips;

/// Shorter waits are not worth a word.
const QUIET_WAIT: Duration = Duration::from_secs(1);
const SPINNER_STEP: Duration = Duration::from_millis(100);

/// When output is coloured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    // Explained here, because an explanation for users would make every command's help twice as long.
    #[default]
    Auto,
    Always,
    Never,
}

/// How a piece of text looks. It must be understood without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Dim,
    Good,
    Bad,
    Warning,
    /// What was removed inside a changed line.
    BadStrong,
    /// What was added inside a changed line.
    GoodStrong,
}

/// Output could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// The reader has gone, as `head` does: nothing is wrong.
    #[error("the reader of the output has gone")]
    Closed,
    /// The disk is full, for example.
    #[error("cannot write the output")]
    Failed(#[source] io::Error),
}

/// What printing comes to.
pub(crate) type Printed = Result<(), OutputError>;

/// Writes data and messages.
pub(crate) struct Printer {
    json: bool,
    color_out: bool,
    color_err: bool,
    stdout_is_terminal: bool,
    width: Option<usize>,
    now: Timestamp,
}

impl Printer {
    /// A printer for this process' stdout and stderr.
    pub(crate) fn new(color: ColorChoice, json: bool, now: Timestamp) -> Self {
        let wanted = |is_terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
                    || env::var_os("TERM").is_some_and(|value| value == "dumb");
                is_terminal && !refused
            }
        };
        let stdout_is_terminal = io::stdout().is_terminal();
        let size = terminal_size::terminal_size_of(io::stdout());
        Self {
            json,
            color_out: wanted(stdout_is_terminal),
            color_err: wanted(io::stderr().is_terminal()),
            stdout_is_terminal,
            // A file or a pipe has no width, and gets everything.
            width: size.map(|(width, _)| usize::from(width.0)),
            now,
        }
    }

    /// Whether the output is the server's JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// When something was, relative to when the command began.
    pub(crate) fn ago(&self, then: Option<Timestamp>) -> String {
        then.map_or_else(String::new, |then| amounts::ago(then, self.now))
    }

    /// The text in a style, for stdout.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        paint(self.color_out, style, text)
    }

    /// Shows what the server answered: as it is with `--json`, otherwise as `human` prints it.
    pub(crate) fn show(
        &self,
        answer: &Value,
        human: impl FnOnce(Record<'_>) -> Printed,
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            self.json(answer)?;
        } else {
            human(Record(answer))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes a JSON document to stdout.
    pub(crate) fn json(&self, value: &Value) -> Printed {
        let json = serde_json::to_string_pretty(value).unwrap_or_default();
        self.write_out(&format!("{}\n", text::visible_json(&json)))
    }

    /// Writes a JSON document to stdout on one line, for a stream of them.
    pub(crate) fn json_line(&self, value: &Value) -> Printed {
        self.write_out(&format!("{}\n", text::visible_json(&value.to_string())))
    }

    /// Writes a table to stdout.
    pub(crate) fn table(&self, table: &Table) -> Printed {
        let lines = table.lines(self.width, |style, text| self.paint(style, text));
        self.write_lines(&lines)
    }

    /// Writes names and values to stdout.
    pub(crate) fn block(&self, block: &Block) -> Printed {
        self.write_lines(&block.lines(|style, text| self.paint(style, text)))
    }

    /// Writes one line to stdout, in which nothing acts on the terminal but its own style.
    pub(crate) fn line(&self, style: Style, line: &str) -> Printed {
        self.write_out(&format!(
            "{}\n",
            self.paint(style, &text::visible_line(line))
        ))
    }

    /// Writes lines to stdout that were made visible and painted before.
    pub(crate) fn write_lines(&self, lines: &[String]) -> Printed {
        if lines.is_empty() {
            return Ok(());
        }
        self.write_out(&format!("{}\n", lines.join("\n")))
    }

    /// Writes a heading to stdout, with an empty line before it.
    pub(crate) fn heading(&self, heading: &str) -> Printed {
        self.write_out(&format!("\n{}\n", self.paint(Style::Strong, heading)))
    }

    /// Writes text of a model or a user to stdout: exactly as it is into a file or a pipe, visibly on a terminal.
    pub(crate) fn raw(&self, text: &str) -> Printed {
        if self.stdout_is_terminal {
            self.write_out(&text::visible_lines(text))
        } else {
            self.write_out(text)
        }
    }

    /// Writes text of our own making to stdout.
    pub(crate) fn generated(&self, bytes: &[u8]) -> Printed {
        written(io::stdout().lock().write_all(bytes))
    }

    /// Tells something on stderr.
    pub(crate) fn note(&self, message: &str) {
        if !self.json {
            self.write_err(&format!("{}\n", text::visible_lines(message)));
        }
    }

    /// Says on stderr what to do next.
    pub(crate) fn hint(&self, hint: &str) {
        if !self.json {
            let name = paint(self.color_err, Style::Good, "hint:");
            self.write_err(&format!("{name} {}\n", text::visible_line(hint)));
        }
    }

    /// Says on stderr what to do next, the first time that there is an occasion.
    pub(crate) fn tip(&self, name: &str, hint: &str) {
        if !self.json && tips::is_first(name) {
            self.hint(hint);
        }
    }

    /// Says on stderr what deserves attention.
    pub(crate) fn warning(&self, warning: &str) {
        if !self.json {
            let name = paint(self.color_err, Style::Warning, "warning:");
            self.write_err(&format!("{name} {}\n", text::visible_line(warning)));
        }
    }

    /// Says on stderr what went wrong, in one line and further ones.
    pub(crate) fn error(&self, message: &str, further: &[String]) {
        let name = paint(self.color_err, Style::Bad, "error:");
        let mut lines = format!("{name} {}\n", text::visible_line(message));
        for line in further {
            lines.push_str(&format!("  {}\n", text::visible_line(line)));
        }
        self.write_err(&lines);
    }

    /// Says on stderr what went wrong in a file, so that editors find the place.
    pub(crate) fn finding(&self, finding: &str) {
        self.write_err(&format!("{}\n", text::visible_line(finding)));
    }

    /// Writes a problem document to stderr.
    pub(crate) fn problem(&self, problem: &Value) {
        let json = serde_json::to_string_pretty(problem).unwrap_or_default();
        self.write_err(&format!("{}\n", text::visible_json(&json)));
    }

    /// What clap has to say: help goes to stdout, mistakes to stderr.
    pub(crate) fn usage(error: &clap::Error, json: bool) -> ExitCode {
        if json && error.use_stderr() {
            let document = usage_document(&error.render().to_string());
            let json = serde_json::to_string_pretty(&document).unwrap_or_default();
            let _ = io::stderr()
                .lock()
                .write_all(format!("{}\n", text::visible_json(&json)).as_bytes());
        } else {
            // The reader may have gone, which is no failure.
            let _ = error.print();
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }

    /// Waits for something, and says so on stderr if it takes longer than a second.
    pub(crate) async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(QUIET_WAIT) => {}
        }
        let spinner = ProgressBar::with_draw_target(None, self.progress_target());
        spinner.set_message(text::visible_line(what));
        loop {
            tokio::select! {
                done = &mut work => {
                    spinner.finish_and_clear();
                    return done;
                }
                () = tokio::time::sleep(SPINNER_STEP) => spinner.tick(),
            }
        }
    }

    /// A progress bar on stderr that appears after a second.
    pub(crate) fn progress(&self, length: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}, {eta} left") {
            bar.set_style(style);
        }
        Progress {
            bar,
            target: Some(self.progress_target()),
        }
    }

    /// indicatif draws nothing where stderr is no terminal.
    fn progress_target(&self) -> ProgressDrawTarget {
        if self.json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        }
    }

    fn write_out(&self, text: &str) -> Printed {
        let mut stdout = io::stdout().lock();
        written(
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush()),
        )
    }

    fn write_err(&self, text: &str) {
        // Without stderr there is nobody left to tell.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// A bar that is drawn once its work has taken a second.
pub(crate) struct Progress {
    bar: ProgressBar,
    target: Option<ProgressDrawTarget>,
}

impl Progress {
    /// Some more is done.
    pub(crate) fn advance(&mut self, amount: u64) {
        if self.bar.elapsed() >= QUIET_WAIT
            && let Some(target) = self.target.take()
        {
            self.bar.set_draw_target(target);
        }
        self.bar.inc(amount);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn paint(color: bool, style: Style, text: &str) -> String {
    let code = match style {
        Style::Plain => return text.to_owned(),
        _ if !color || text.is_empty() => return text.to_owned(),
        Style::Strong => "1",
        Style::Dim => "2",
        Style::Good => "32",
        Style::Bad => "31",
        Style::Warning => "33",
        Style::BadStrong => "1;4;31",
        Style::GoodStrong => "1;4;32",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// A problem document for a mistake in the command line. The first paragraph says what it is, the others help.
fn usage_document(rendered: &str) -> Value {
    let mut paragraphs = rendered.trim_end().split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let lines: Vec<&str> = first.lines().map(str::trim).collect();
    let message = lines.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let further: Vec<&str> = paragraphs.map(str::trim).collect();
    let hint = (!further.is_empty()).then(|| further.join("; "));
    local_document("usage", message, hint.as_deref())
}

fn written(result: io::Result<()>) -> Printed {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => OutputError::Closed,
        _ => OutputError::Failed(error),
    })
}
