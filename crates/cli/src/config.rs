//! The configuration file, read once at the start and passed on explicitly.

mod duration;
mod limits;
mod logs;
mod provider;
mod redaction;
mod rehearsal;
mod retention;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use flywheel_gateway::chat::OnStoreFailure;
use flywheel_storage_sql::Durability;
use serde::Deserialize;

pub(crate) use duration::ConfigDuration;
pub(crate) use limits::Limits;
pub(crate) use logs::{LogFormat, Logs};
pub(crate) use provider::{Kind, Provider, connect};
pub(crate) use redaction::Redaction;
pub(crate) use rehearsal::Rehearsal;
pub(crate) use retention::Retention;

/// The whole file. Every section may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The data folder; `--data` goes before it.
    pub(crate) data: Option<PathBuf>,
    /// The address to listen on; `--listen` goes before it.
    pub(crate) listen: Option<String>,
    /// What a commit survives: `process` (any end of the process) or `disk` (a power cut too).
    pub(crate) durability: DurabilitySetting,
    /// What happens to a call that cannot be recorded: `serve` or `refuse`.
    pub(crate) on_store_failure: StoreFailureSetting,
    /// How long requests under way may take when the server is told to stop.
    pub(crate) drain: Option<ConfigDuration>,
    /// The providers, by name.
    pub(crate) providers: BTreeMap<String, Provider>,
    /// Limits on bodies, concurrency and rate.
    pub(crate) limits: Limits,
    /// How long calls and feedback are kept.
    pub(crate) retention: Retention,
    /// What is redacted before it is stored.
    pub(crate) redaction: Redaction,
    /// How often the way back is rehearsed.
    pub(crate) rehearsal: Rehearsal,
    /// The log.
    pub(crate) log: Logs,
}

/// See [`Config::durability`].
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DurabilitySetting {
    #[default]
    Process,
    Disk,
}

impl From<DurabilitySetting> for Durability {
    fn from(setting: DurabilitySetting) -> Self {
        match setting {
            DurabilitySetting::Process => Self::Process,
            DurabilitySetting::Disk => Self::Disk,
        }
    }
}

/// See [`Config::on_store_failure`].
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreFailureSetting {
    #[default]
    Serve,
    Refuse,
}

impl From<StoreFailureSetting> for OnStoreFailure {
    fn from(setting: StoreFailureSetting) -> Self {
        match setting {
            StoreFailureSetting::Serve => Self::Serve,
            StoreFailureSetting::Refuse => Self::Refuse,
        }
    }
}

/// As long as most supervisors wait before they kill.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
/// The file that is read when none is named, if it is there.
const DEFAULT_FILE: &str = "flywheel.toml";

impl Config {
    /// Reads a file, or `flywheel.toml` in the working folder if there is one.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self> {
        let path = match path {
            Some(path) => path,
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration `{}` cannot be read", path.display()))?;
        Self::parse(&text)
            .and_then(Self::checked)
            .with_context(|| format!("the configuration `{}` is not valid", path.display()))
    }

    /// How long requests under way may take when the server is told to stop.
    pub(crate) fn drain(&self) -> Duration {
        self.drain.map_or(DEFAULT_DRAIN, |drain| drain.0)
    }

    /// What people ask of a running server: what is kept, what is taken out, what survives.
    pub(crate) fn in_words(&self) -> Vec<(&'static str, String)> {
        let age = self
            .retention
            .age
            .map(|age| format!("for {}", in_words(age.0)));
        let bytes = self
            .retention
            .bytes
            .map(|bytes| format!("up to {bytes} bytes"));
        let kept: Vec<_> = age.into_iter().chain(bytes).collect();
        let kept = match kept.as_slice() {
            [] => "for ever".to_owned(),
            bounds => bounds.join(", "),
        };
        let durability = match self.durability {
            DurabilitySetting::Process => "any end of the process",
            DurabilitySetting::Disk => "a power cut too",
        };
        let unrecorded = match self.on_store_failure {
            StoreFailureSetting::Serve => "is served, and says so",
            StoreFailureSetting::Refuse => "is refused",
        };
        let rehearsed = match self.rehearsal.every {
            None => "on request only".to_owned(),
            Some(every) => format!("every {}", in_words(every.0)),
        };
        vec![
            ("calls and feedback are kept", kept),
            ("personal data taken out of them", self.redaction.names()),
            ("a commit survives", durability.to_owned()),
            ("a call that cannot be recorded", unrecorded.to_owned()),
            ("the way back is rehearsed", rehearsed),
        ]
    }

    fn checked(self) -> Result<Self> {
        if self.retention.age.is_some_and(|age| age.0.is_zero()) || self.retention.bytes == Some(0)
        {
            bail!(
                "`retention` of nothing would remove every call at once; leave it out to keep calls"
            );
        }
        Ok(self)
    }

    /// The error names the place without repeating the line, which may hold a key that should not be there.
    fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let offset = error.span().map_or(0, |span| span.start);
            let (line, column) = flywheel_core::template::line_and_column(text, offset);
            anyhow!("line {line}, column {column}: {}", error.message())
        })
    }
}

fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        _ if seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_told_in_words() {
        let told = |text: &str| Config::parse(text).unwrap().in_words();
        assert_eq!(told("")[0].1, "for ever");
        assert_eq!(told("")[1].1, "nothing");
        let kept = told(
            "[retention]\nage = \"90d\"\nbytes = 1000\n[redaction]\nbuiltin = [\"email\"]\npatterns = { ticket = \"T-[0-9]+\" }",
        );
        assert_eq!(kept[0].1, "for 90 d, up to 1000 bytes");
        assert_eq!(kept[1].1, "email, ticket");
        assert_eq!(in_words(Duration::from_secs(5400)), "90 min");
    }

    #[test]
    fn a_whole_file() {
        let config = Config::parse(
            r#"
            data = "/var/lib/flywheel"
            listen = "127.0.0.1:7701"
            durability = "disk"
            on_store_failure = "refuse"
            drain = "2m"

            [providers.local]
            kind = "openai"
            base_url = "http://127.0.0.1:8080/v1"
            timeouts = { connect = "1s", first_byte = "20s", total = "2m" }

            [providers.claude]
            kind = "anthropic"
            api_key_env = "ANTHROPIC_API_KEY"

            [limits]
            body_bytes = 1000
            requests_per_second = 50

            [retention]
            age = "90d"
            bytes = 1000000000

            [redaction]
            builtin = ["email", "card"]
            patterns = { ticket = "TCK-[0-9]+" }

            [rehearsal]
            every = "1h"

            [log]
            format = "json"
            "#,
        )
        .unwrap();
        assert_eq!(config.providers.len(), 2);
        assert_eq!(config.drain(), std::time::Duration::from_secs(120));
        assert_eq!(Config::default().drain(), DEFAULT_DRAIN);
        let day = std::time::Duration::from_secs(24 * 60 * 60);
        assert_eq!(config.retention.age.map(|age| age.0), Some(90 * day));
    }

    /// What may stand in a part of the file, by the reader's own word.
    fn members_of(part: &str) -> Vec<String> {
        let error = Config::parse(&part.replace("NEW", "no_such_member = 1"));
        let error = error.unwrap_err().to_string();
        let (_, expected) = error.split_once("expected ").unwrap_or_default();
        let names = expected.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_reference_has_every_member_and_no_other() {
        let reference = include_str!("../../../docs/configuration.md");
        for (heading, part, elsewhere) in [
            (
                "## `[providers.NAME]`",
                "[providers.x]\nkind = \"openai\"\nNEW",
                &[][..],
            ),
            ("## `[limits]`", "[limits]\nNEW", &[]),
            ("## `[retention]`", "[retention]\nNEW", &[]),
            ("## `[redaction]`", "[redaction]\nNEW", &[]),
            ("## `[rehearsal]`", "[rehearsal]\nNEW", &[]),
            ("## `[log]`", "[log]\nNEW", &[]),
            (
                "## Top level",
                "NEW",
                &[
                    "data",
                    "listen",
                    "providers",
                    "limits",
                    "retention",
                    "redaction",
                    "rehearsal",
                    "log",
                ],
            ),
        ] {
            let (_, section) = reference.split_once(heading).unwrap();
            let section = section.split("\n## ").next().unwrap_or_default();
            let documented = section
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
            let mut documented: Vec<_> = documented.map(str::to_owned).collect();
            documented.extend(elsewhere.iter().map(ToString::to_string));
            documented.sort();
            let mut members = members_of(part);
            members.sort();
            assert_eq!(documented, members, "{heading}");
        }
        for table in ["timeouts", "retries", "breaker"] {
            let part = format!("[providers.x]\nkind = \"openai\"\n{table} = {{ NEW }}");
            let line = reference
                .lines()
                .find(|line| line.starts_with(&format!("| `{table}`")))
                .unwrap();
            for member in members_of(&part) {
                assert!(line.contains(&format!("{member} = ")), "{table}.{member}");
            }
        }
    }

    #[test]
    fn faults_are_named_with_their_place() {
        for (text, expected) in [
            ("listn = 1", "unknown field `listn`"),
            ("[providers.x]\nkind = \"opnai\"", "unknown variant `opnai`"),
            (
                "[retention]\nage = \"90 moons\"",
                "`90 moons` is not a duration",
            ),
            ("durability = \"tape\"", "unknown variant `tape`"),
            ("[limits]\nbody_bytes = -1", "line 2"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("line"), "{error}");
        }
    }
}
