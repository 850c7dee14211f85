//! `[providers.NAME]`: who answers calls, and how they are reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use flywheel_gateway::endpoint::{self, BaseUrl, Endpoint, EndpointOptions};
use flywheel_gateway::provider::anthropic::{AnthropicFormat, AnthropicOptions};
use flywheel_gateway::provider::azure::{AzureFormat, AzureOptions};
use flywheel_gateway::provider::format::ProviderFormat;
use flywheel_gateway::provider::openai::{OpenAiFormat, OpenAiOptions};
use flywheel_gateway::provider::simulated::Simulated;
use flywheel_gateway::routing::Endpoints;
use flywheel_gateway::secret::Secret;
use serde::Deserialize;

use super::ConfigDuration;

/// One provider. Keys never stand in the file, only the names of the variables that hold them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    /// Which wire format it speaks.
    pub(crate) kind: Kind,
    /// Where it is; each kind but `azure` and `simulated` has a default.
    #[serde(default)]
    pub(crate) base_url: Option<String>,
    /// The environment variable with its key.
    #[serde(default)]
    pub(crate) api_key_env: Option<String>,
    /// `openai`: the organization to bill.
    #[serde(default)]
    pub(crate) organization: Option<String>,
    /// `openai`, `azure`: whether streams are asked for their usage; off for servers that refuse the member.
    #[serde(default = "yes")]
    pub(crate) stream_usage: bool,
    /// `azure`: the API version.
    #[serde(default)]
    pub(crate) api_version: Option<String>,
    /// `anthropic`: the `max_tokens` of calls whose prompt sets none.
    #[serde(default)]
    pub(crate) default_max_tokens: Option<u64>,
    /// `simulated`: how long each word of an answer takes.
    #[serde(default)]
    pub(crate) pace: Option<ConfigDuration>,
    /// Further headers, by name; the values are names of environment variables.
    #[serde(default)]
    pub(crate) headers_env: BTreeMap<String, String>,
    /// Timeouts.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// Retries.
    #[serde(default)]
    pub(crate) retries: Retries,
    /// The circuit breaker.
    #[serde(default)]
    pub(crate) breaker: Breaker,
}

fn yes() -> bool {
    true
}

/// See [`Provider::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// OpenAI and every server that speaks its API.
    OpenAi,
    /// Azure OpenAI.
    Azure,
    /// Anthropic Messages.
    Anthropic,
    /// Answers without any model, for demo and tests.
    Simulated,
}

/// `timeouts`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    /// Until the connection stands; 5 s.
    connect: Option<ConfigDuration>,
    /// Until a stream's first byte; 60 s.
    first_byte: Option<ConfigDuration>,
    /// Until the answer's last byte, retries included; 5 min.
    total: Option<ConfigDuration>,
}

/// `retries`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retries {
    /// Attempts in all; 3.
    attempts: Option<u32>,
    /// The longest wait before the first retry; 200 ms.
    base_delay: Option<ConfigDuration>,
    /// The longest wait at all, a provider's Retry-After included; 5 s.
    longest_delay: Option<ConfigDuration>,
    /// Retries for each hundred calls; 20.
    budget_percent: Option<u32>,
}

/// `breaker`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    /// Failures in a row that open it; 5. 0 never does.
    failures: Option<u32>,
    /// How long it stays open; 10 s.
    open_for: Option<ConfigDuration>,
}

/// Whether a text can name an environment variable. One that cannot may be the key itself, put in the wrong place, and
/// must not be repeated.
fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Prepares the providers. Those that cannot be used are told with the reason.
pub(crate) fn connect(
    providers: &BTreeMap<String, Provider>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(Endpoints, BTreeMap<String, String>)> {
    let mut endpoints = Endpoints::new();
    let mut problems = BTreeMap::new();
    for (name, provider) in providers {
        match provider.endpoint(name, &variable) {
            Ok(endpoint) => {
                endpoints.insert(name.clone(), Arc::new(endpoint));
            }
            Err(error) => {
                problems.insert(name.clone(), format!("provider `{name}`: {error:#}"));
            }
        }
    }
    Ok((endpoints, problems))
}

impl Provider {
    /// A provider with every setting at its default.
    pub(crate) fn of_kind(kind: Kind) -> Self {
        Self {
            kind,
            base_url: None,
            api_key_env: None,
            organization: None,
            stream_usage: yes(),
            api_version: None,
            default_max_tokens: None,
            pace: None,
            headers_env: BTreeMap::new(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            breaker: Breaker::default(),
        }
    }

    /// What calls go to, with the keys from the environment.
    pub(crate) fn endpoint(
        &self,
        name: &str,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Endpoint> {
        let secret = |name: &str| {
            if !is_variable_name(name) {
                bail!(
                    "`api_key_env` and `headers_env` name environment variables; this is no such name"
                );
            }
            let value = variable(name).filter(|value| !value.is_empty());
            value
                .map(Secret::new)
                .ok_or_else(|| anyhow!("environment variable `{name}` is not set"))
        };
        let api_key = self.api_key_env.as_deref().map(secret).transpose()?;
        let extra_headers = self
            .headers_env
            .iter()
            .map(|(header, variable)| Ok((header.clone(), secret(variable)?)))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let stream_usage = self.stream_usage;
        let format: Box<dyn ProviderFormat> = match self.kind {
            Kind::OpenAi => {
                let organization = self.organization.clone();
                let options = OpenAiOptions {
                    api_key,
                    organization,
                    stream_usage,
                    extra_headers,
                };
                Box::new(OpenAiFormat::new(options)?)
            }
            Kind::Azure => {
                let defaults = AzureOptions::default();
                let api_version = self.api_version.clone().unwrap_or(defaults.api_version);
                let options = AzureOptions {
                    api_key,
                    api_version,
                    stream_usage,
                    extra_headers,
                };
                Box::new(AzureFormat::new(options)?)
            }
            Kind::Anthropic => {
                let defaults = AnthropicOptions::default();
                let default_max_tokens = self
                    .default_max_tokens
                    .unwrap_or(defaults.default_max_tokens);
                let options = AnthropicOptions {
                    api_key,
                    default_max_tokens,
                    extra_headers,
                };
                Box::new(AnthropicFormat::new(options)?)
            }
            Kind::Simulated => Box::new(OpenAiFormat::new(OpenAiOptions::default())?),
        };
        let options = self.options();
        if self.kind == Kind::Simulated {
            let pace = self.pace.map_or(Duration::ZERO, |pace| pace.0);
            return Ok(Endpoint::simulated(
                name,
                format,
                Simulated { pace },
                options,
            ));
        }
        let base: BaseUrl = self.base_url()?.parse()?;
        let client = endpoint::http_client(options.timeouts.connect)
            .context("the system's certificates cannot be read")?;
        Ok(Endpoint::http(name, format, base, client, options))
    }

    /// Where it is.
    pub(crate) fn base_url(&self) -> Result<&str> {
        match (&self.base_url, self.kind) {
            (Some(url), _) => Ok(url),
            (None, Kind::OpenAi) => Ok("https://api.openai.com/v1"),
            (None, Kind::Anthropic) => Ok("https://api.anthropic.com/v1"),
            (None, Kind::Azure | Kind::Simulated) => {
                bail!("`base_url` is missing, such as `https://RESOURCE.openai.azure.com`")
            }
        }
    }

    fn options(&self) -> EndpointOptions {
        let mut options = EndpointOptions::default();
        let set = |target: &mut Duration, value: Option<ConfigDuration>| {
            if let Some(ConfigDuration(value)) = value {
                *target = value;
            }
        };
        set(&mut options.timeouts.connect, self.timeouts.connect);
        set(&mut options.timeouts.first_byte, self.timeouts.first_byte);
        set(&mut options.timeouts.total, self.timeouts.total);
        set(&mut options.retry.base_delay, self.retries.base_delay);
        set(&mut options.retry.longest_delay, self.retries.longest_delay);
        set(&mut options.breaker.open_for, self.breaker.open_for);
        options.retry.attempts = self
            .retries
            .attempts
            .unwrap_or(options.retry.attempts)
            .max(1);
        options.retry.budget_percent = self
            .retries
            .budget_percent
            .unwrap_or(options.retry.budget_percent);
        options.breaker.failures = self.breaker.failures.unwrap_or(options.breaker.failures);
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<(), String> {
        let provider: Provider = toml::from_str(text).unwrap();
        let variable = |name: &str| (name == "KEY").then(|| "secret".to_owned());
        provider
            .endpoint("p", &variable)
            .map(|_| ())
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_is_wrong_with_a_provider_is_told() {
        for (text, expected) in [
            ("kind = \"openai\"\napi_key_env = \"KEY\"", None),
            (
                "kind = \"openai\"\napi_key_env = \"OTHER\"",
                Some("environment variable `OTHER` is not set"),
            ),
            (
                "kind = \"openai\"\napi_key_env = \"sk-secret\"",
                Some("`api_key_env` and `headers_env` name environment variables"),
            ),
            (
                "kind = \"openai\"\nbase_url = \"localhost\"",
                Some("base URL `localhost` must begin"),
            ),
            ("kind = \"azure\"", Some("`base_url` is missing")),
            ("kind = \"simulated\"", None),
            (
                "kind = \"anthropic\"\nheaders_env = { \"anthropic-beta\" = \"KEY\" }",
                None,
            ),
        ] {
            match (endpoint(text), expected) {
                (Ok(()), None) => {}
                (Err(error), Some(start)) if error.starts_with(start) => {}
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
