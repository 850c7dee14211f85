//! `flywheel doctor`: what is wrong, why, and what to do, looking at this machine's configuration and at the server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use super::{Context, Outcome};
use crate::client::{Client, ClientError, Target};
use crate::config::{Config, Kind, Provider};
use crate::failure::FAILED;
use crate::output::table::{Cell, Table};
use crate::printer::Style;

/// Find what is wrong: configuration, data folder, disk, providers, server, key, clock, version
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Configuration file [default: flywheel.toml, if there is one]
    #[arg(long, env = "FLYWHEEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server's data folder [default: as the configuration says, or flywheel-data]
    #[arg(long, env = "FLYWHEEL_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// With less room left than this, writing will soon fail.
const LITTLE_ROOM: u64 = 1 << 30;

/// How far two clocks may be apart before times in lists confuse.
const CLOCKS_APART_SECONDS: i64 = 5;

/// How long a provider may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Doubtful,
    Bad,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Doubtful => "look",
            Self::Bad => "FAILED",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => Style::Good,
            Self::Doubtful => Style::Warning,
            Self::Bad => Style::Bad,
        }
    }
}

/// What was looked at and what was seen.
#[derive(Debug)]
struct Finding {
    what: String,
    state: State,
    seen: String,
    cure: Option<String>,
}

fn good(what: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding {
        what: what.into(),
        state: State::Good,
        seen: seen.into(),
        cure: None,
    }
}

fn bad(what: impl Into<String>, seen: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding {
        state: State::Bad,
        cure: Some(cure.into()),
        ..good(what, seen)
    }
}

fn doubtful(what: impl Into<String>, seen: impl Into<String>, cure: impl Into<String>) -> Finding {
    Finding {
        state: State::Doubtful,
        ..bad(what, seen, cure)
    }
}

impl DoctorArgs {
    pub(super) async fn run(self, context: &Context<'_>) -> Outcome {
        let mut findings = Vec::new();
        let config = match Config::load(self.config.as_deref()) {
            Ok(config) => {
                findings.push(configuration(self.config.as_deref(), &config));
                Some(config)
            }
            Err(error) => {
                findings.push(bad(
                    "configuration",
                    format!("{error:#}"),
                    "correct the line; docs/configuration.md has every setting",
                ));
                None
            }
        };
        let configured = config.as_ref().and_then(|config| config.data.clone());
        let data = self
            .data
            .or(configured)
            .unwrap_or_else(|| "flywheel-data".into());
        findings.extend(data_folder(&data));
        for (name, provider) in config.iter().flat_map(|config| &config.providers) {
            findings.push(check_provider(name, provider).await);
        }
        findings.extend(server(context).await);
        let passed = findings.iter().all(|finding| finding.state != State::Bad);
        let answer = json!({
            "passed": passed,
            "items": findings.iter().map(|finding| json!({
                "check": finding.what,
                "state": finding.state.as_str().to_lowercase(),
                "seen": finding.seen,
                "cure": finding.cure,
            })).collect::<Vec<_>>(),
        });
        context.printer.show(&answer, |_| {
            let mut table = Table::new(&["check", "", "seen"]);
            for finding in &findings {
                table.row([
                    finding.what.as_str().into(),
                    Cell::styled(finding.state.as_str(), finding.state.style()),
                    finding.seen.as_str().into(),
                ]);
            }
            context.show_table(&table, "nothing to look at")?;
            for finding in &findings {
                if let Some(cure) = &finding.cure {
                    context.printer.hint(&format!("{}: {cure}", finding.what));
                }
            }
            Ok(())
        })?;
        Ok(match passed {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(FAILED),
        })
    }
}

fn configuration(path: Option<&Path>, config: &Config) -> Finding {
    let name = path.map_or_else(
        || "flywheel.toml".to_owned(),
        |path| path.display().to_string(),
    );
    if path.is_none() && !Path::new(&name).exists() {
        return doubtful(
            "configuration",
            "there is no flywheel.toml in this folder, so every setting has its default and there is no provider",
            "go to the folder it is in, name it with --config, or begin with `flywheel init`",
        );
    }
    if config.providers.is_empty() {
        return bad(
            "configuration",
            format!("{name} names no provider, so nothing can be called"),
            "add a section such as [providers.main] with kind = \"openai\"",
        );
    }
    let providers = config.providers.len();
    let plural = if providers == 1 { "" } else { "s" };
    good(
        "configuration",
        format!("{name}, {providers} provider{plural}"),
    )
}

fn data_folder(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![doubtful(
                "data folder",
                format!("{shown} is not there yet"),
                "`flywheel serve` makes it; if there is one elsewhere, name it with --data",
            )];
        }
        Err(error) => {
            return vec![bad(
                "data folder",
                format!("{shown} cannot be looked at: {error}"),
                "run this as the user that the server runs as",
            )];
        }
    };
    let mut findings = Vec::new();
    let mode = metadata.permissions().mode();
    findings.push(if !metadata.is_dir() {
        bad(
            "data folder",
            format!("{shown} is no folder"),
            "name the folder with --data",
        )
    } else if let Err(error) = tempfile::tempfile_in(path) {
        bad(
            "data folder",
            format!("{shown} cannot be written: {error}"),
            "give it to the user that the server runs as: chown, or a mount that is not read-only",
        )
    } else if mode & 0o077 != 0 {
        doubtful(
            "data folder",
            format!(
                "{shown} can be read by others on this machine (mode {:o})",
                mode & 0o777
            ),
            format!("chmod 700 {shown}: what people wrote is in there"),
        )
    } else {
        good("data folder", format!("{shown}, {}", store_size(path)))
    });
    if let Ok(room) = rustix::fs::statvfs(path) {
        let free = room.f_bavail * room.f_frsize;
        let seen = format!("{} free", in_words(free));
        findings.push(if free < LITTLE_ROOM {
            bad(
                "disk",
                seen,
                "make room, or keep less: `[retention] age = \"30d\"` or `bytes`",
            )
        } else {
            good("disk", seen)
        });
    }
    findings
}

fn store_size(folder: &Path) -> String {
    match fs::metadata(folder.join("flywheel.db")) {
        Ok(metadata) => format!("{} stored", in_words(metadata.len())),
        Err(_) => "empty".to_owned(),
    }
}

fn in_words(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes >= 1e9 => format!("{:.1} GB", bytes / 1e9),
        bytes => format!("{:.1} MB", bytes / 1e6),
    }
}

/// Whether a provider is there and knows the key. Its list of models costs nothing.
async fn check_provider(name: &str, provider: &Provider) -> Finding {
    let what = format!("provider {name}");
    let variable = |name: &str| std::env::var(name).ok();
    if let Err(error) = provider.endpoint(name, &variable) {
        return bad(
            what,
            format!("{error:#}"),
            "set it where the server is started, or correct the section",
        );
    }
    if provider.kind == Kind::Simulated {
        return good(what, "simulated: it answers by itself, without a model");
    }
    let Ok(base) = provider.base_url() else {
        return good(what, "configured");
    };
    // The others have ways of their own to send a key; that they answer at all is what can be asked for nothing.
    let key = match provider.kind {
        Kind::OpenAi => provider.api_key_env.as_deref().and_then(variable),
        _ => None,
    };
    let client = match Client::new(base, key.as_deref()) {
        Ok(client) => client,
        Err(error) => return bad(what, error.to_string(), "correct its base_url"),
    };
    let models = Target::outside("/models");
    match tokio::time::timeout(PATIENCE, client.head_of(&models)).await {
        Err(_) => bad(
            what,
            format!("{base} did not answer within {} s", PATIENCE.as_secs()),
            "look at its status page, and at proxies and firewalls between",
        ),
        Ok(Err(error)) => bad(
            what,
            format!("{base} cannot be reached: {}", source_of(&error)),
            "start it, correct base_url, or open the way there",
        ),
        Ok(Ok((StatusCode::UNAUTHORIZED, _))) if provider.kind == Kind::OpenAi => {
            let key = provider.api_key_env.as_deref();
            bad(
                what,
                match key {
                    Some(variable) => format!("{base} refuses the key in {variable}"),
                    None => format!("{base} wants a key, and api_key_env names none"),
                },
                "put the right key into the variable that api_key_env names",
            )
        }
        Ok(Ok((StatusCode::FORBIDDEN, _))) if provider.kind == Kind::OpenAi => doubtful(
            what,
            format!("{base} knows the key and does not let it list models"),
            "nothing to do if calls work: some keys may only call",
        ),
        Ok(Ok((StatusCode::NOT_FOUND, _))) if provider.kind == Kind::OpenAi => doubtful(
            what,
            format!("{base} answers, but has no list of models"),
            "base_url goes up to and with /v1, as in http://127.0.0.1:11434/v1",
        ),
        Ok(Ok((status, _))) if status.is_server_error() => doubtful(
            what,
            format!("{base} answers {status}"),
            "look at its status page or its log",
        ),
        Ok(Ok(_)) => good(what, format!("{base} answers")),
    }
}

/// The innermost cause, which is what a person can act on.
fn source_of(error: &ClientError) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    source.to_string()
}

async fn server(context: &Context<'_>) -> Vec<Finding> {
    let client = &context.client;
    let url = client.url();
    let headers = match client.head_of(&Target::outside("/readyz")).await {
        Ok((status, headers)) if status.is_success() => headers,
        Ok((status, _)) => {
            return vec![bad(
                "server",
                format!("{url} answers {status}"),
                "if it is a Flywheel server, its log says what the store lacks; if not, correct --url",
            )];
        }
        Err(error) => {
            return vec![bad(
                "server",
                format!("{url} cannot be reached: {}", source_of(&error)),
                "start it with `flywheel serve`, or name another with --url or FLYWHEEL_URL",
            )];
        }
    };
    let mut findings = vec![good("server", format!("{url} is ready"))];
    let date = headers
        .get(header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    if let Some(date) = date {
        let apart = context
            .sources
            .clock
            .now()
            .duration_since(Timestamp::from(&date))
            .as_secs();
        findings.push(if apart.abs() > CLOCKS_APART_SECONDS {
            doubtful(
                "clock",
                format!(
                    "the server's clock and this one are {} s apart",
                    apart.abs()
                ),
                "let both follow a time server",
            )
        } else {
            good("clock", "the same as the server's")
        });
    }
    let own = env!("CARGO_PKG_VERSION");
    if let Ok(document) = client.get(&Target::outside("/openapi.json")).await {
        let theirs = document["info"]["version"].as_str().unwrap_or("unknown");
        findings.push(if theirs == own {
            good("version", format!("{own}, as the server"))
        } else {
            doubtful(
                "version",
                format!("this is {own}, the server is {theirs}"),
                "use the server's version of the command line",
            )
        });
    }
    findings.push(match client.get(&Target::api("apps")).await {
        Ok(_) => good("key", "the server lets this command line in"),
        Err(ClientError::Refused(problem)) if problem.status == StatusCode::FORBIDDEN => good(
            "key",
            "the server knows it; it may call and send feedback, not read",
        ),
        Err(ClientError::Refused(problem)) => bad(
            "key",
            problem.to_string(),
            "set FLYWHEEL_KEY to a key that `flywheel key create` printed",
        ),
        Err(error) => bad("key", error.to_string(), "try again"),
    });
    findings
}
