//! What becomes of an error: the text a person reads, the document a program reads, and the exit code.

use std::process::ExitCode;

use http::StatusCode;
use serde_json::json;

use crate::client::{ClientError, local_document};
use crate::printer::{OutputError, Printer};

/// Refused or failed: the answer is no, or something here went wrong.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const WRONG_USAGE: u8 = 2;
/// The server could not be reached, or failed itself.
pub(crate) const SERVER_FAILED: u8 = 3;

/// Further mistakes in files are counted, not listed.
const MOST_FINDINGS: usize = 50;

/// The exit codes as `--help` tells them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  refused or failed: a failed check, a conflict, something that does not exist
  2  wrong usage
  3  the server cannot be reached, or failed itself";

/// The command cannot or will not do what it was asked, and says what would help.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    message: String,
    hint: Option<String>,
    further: Vec<String>,
    is_misuse: bool,
}

impl Refusal {
    /// A refusal without advice.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            further: Vec::new(),
            is_misuse: false,
        }
    }

    /// A refusal that says what to do.
    pub(crate) fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..Self::new(message)
        }
    }

    /// A mistake in the command line that shows only where its parts are seen together.
    pub(crate) fn misuse(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            is_misuse: true,
            ..Self::with_hint(message, hint)
        }
    }

    /// The same with further lines below the message.
    pub(crate) fn listing(mut self, further: Vec<String>) -> Self {
        self.further = further;
        self
    }
}

/// Mistakes in files, each with its place.
#[derive(Debug, thiserror::Error)]
#[error("{} found; nothing was sent", count(.findings.len()))]
pub(crate) struct Findings {
    /// `path:line:column: message`, as editors and compilers have it.
    pub(crate) findings: Vec<String>,
}

fn count(mistakes: usize) -> String {
    if mistakes == 1 {
        "1 mistake".to_owned()
    } else {
        format!("{mistakes} mistakes")
    }
}

/// Whether the server said that this key may not do what was asked.
pub(crate) fn is_forbidden(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Refused(problem)) if problem.status == StatusCode::FORBIDDEN)
}

/// Tells an error on stderr and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error, printer: &Printer) -> ExitCode {
    if error
        .chain()
        .any(|cause| matches!(cause.downcast_ref(), Some(OutputError::Closed)))
    {
        return ExitCode::SUCCESS;
    }
    if let Some(Findings { findings }) = error.downcast_ref() {
        report_findings(&error.to_string(), findings, printer);
        return ExitCode::from(FAILED);
    }
    let client_error = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>());
    if let Some(ClientError::Refused(problem)) = client_error {
        if printer.is_json() {
            printer.problem(&problem.body);
        } else {
            printer.error(&format!("{error:#}"), &problem.further());
            if let Some(hint) = problem.advice() {
                printer.hint(&hint);
            }
        }
        return ExitCode::from(if problem.status.is_server_error() {
            SERVER_FAILED
        } else {
            FAILED
        });
    }
    let refusal = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Refusal>());
    let (code, exit) = match client_error {
        Some(ClientError::InvalidUrl { .. } | ClientError::InvalidKey) => ("usage", WRONG_USAGE),
        Some(ClientError::Unreachable { .. }) => ("unreachable", SERVER_FAILED),
        Some(ClientError::Interrupted { .. }) => ("interrupted", SERVER_FAILED),
        Some(ClientError::TooLate { .. }) => ("too_late", SERVER_FAILED),
        Some(ClientError::Foreign { .. }) => ("not_flywheel", SERVER_FAILED),
        _ if refusal.is_some_and(|refusal| refusal.is_misuse) => ("usage", WRONG_USAGE),
        _ => ("failed", FAILED),
    };
    // What lies below "no server answers" is for debugging connections, not for this line.
    let message = client_error.map_or_else(|| format!("{error:#}"), ToString::to_string);
    let hint = hint(refusal, client_error);
    let listed = refusal.map_or(&[][..], |refusal| &refusal.further);
    if printer.is_json() {
        let mut document = local_document(code, &message, hint.as_deref());
        if !listed.is_empty() {
            document["errors"] = listed.iter().map(|line| json!({"detail": line})).collect();
        }
        printer.problem(&document);
    } else {
        let mut further = client_error.map(causes).unwrap_or_default();
        further.extend_from_slice(listed);
        printer.error(&message, &further);
        if let Some(hint) = hint {
            printer.hint(&hint);
        }
    }
    ExitCode::from(exit)
}

fn report_findings(message: &str, findings: &[String], printer: &Printer) {
    if printer.is_json() {
        let mut document = local_document("invalid_files", message, None);
        document["errors"] = findings
            .iter()
            .map(|finding| json!({"detail": finding}))
            .collect();
        printer.problem(&document);
        return;
    }
    for finding in findings.iter().take(MOST_FINDINGS) {
        printer.finding(finding);
    }
    let further = findings.len().saturating_sub(MOST_FINDINGS);
    if further > 0 {
        printer.note(&format!("… and {further} more"));
    }
    printer.error(message, &[]);
}

fn hint(refusal: Option<&Refusal>, client_error: Option<&ClientError>) -> Option<String> {
    if let Some(refusal) = refusal {
        return refusal.hint.clone();
    }
    let hint = match client_error? {
        ClientError::Unreachable { .. } => {
            "start one with `flywheel serve`, or name another with --url or FLYWHEEL_URL"
        }
        ClientError::Interrupted { .. } | ClientError::TooLate { .. } => {
            "it is not known whether the server did it; look before you repeat it"
        }
        ClientError::Foreign { .. } => "check --url and FLYWHEEL_URL",
        ClientError::InvalidUrl { .. } => {
            "expected a URL such as http://127.0.0.1:7700 in --url or FLYWHEEL_URL"
        }
        ClientError::InvalidKey => "expected a key as `flywheel key create` printed it",
        ClientError::Certificates(_) | ClientError::Refused(_) => {
            return None;
        }
    };
    Some(hint.to_owned())
}

/// The innermost cause, if it says more than the message.
fn causes(error: &ClientError) -> Vec<String> {
    let first = std::error::Error::source(error);
    let innermost = std::iter::successors(first, |cause| cause.source()).last();
    innermost.map(ToString::to_string).into_iter().collect()
}
