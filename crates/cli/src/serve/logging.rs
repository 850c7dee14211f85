//! The server's log: structured, on standard error.

use anyhow::{Context as _, Result};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Logs};

/// Starts logging for the whole process.
pub(crate) fn start(settings: &Logs) -> Result<()> {
    let filter = std::env::var("FLYWHEEL_LOG")
        .ok()
        .or_else(|| settings.filter.clone());
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).with_context(|| {
        format!("log filter `{filter}` is not valid; write `info` or `warn,flywheel_gateway=debug`")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr);
    match settings.format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
