//! Registered models: what serves a model version, and what its tokens cost.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::{ModelName, ProviderName, VersionName};

/// One billionth of a US dollar, the unit in which costs are kept.
pub type NanoUsd = i64;

/// A model version and what serves it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelVersion {
    /// The registered name, which prompts refer to.
    pub model_id: ModelName,
    /// The version.
    pub model_version: VersionName,
    /// The settings, which may be corrected later.
    #[serde(flatten)]
    pub settings: ModelSettings,
    /// When it was registered first.
    #[cfg_attr(feature = "schema", schemars(with = "crate::schema::DateTime"))]
    pub created_at: Timestamp,
}

/// What serves a model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelSettings {
    /// The provider in the configuration.
    pub provider: ProviderName,
    /// The provider's own name for the model (for Azure, the deployment).
    pub provider_model: String,
    /// What tokens cost. Without it, calls have no cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// Prices in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For tokens sent.
    pub input: f64,
    /// For tokens received.
    pub output: f64,
    /// For tokens sent that the provider had cached; the input price if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
}

/// A price that cannot be one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("price `{0}` must be a number of US dollars per million tokens, from 0 to 1000000")]
pub struct InvalidPrice(f64);

impl Price {
    /// Checks that every price is finite and not negative.
    ///
    /// # Errors
    /// The first price that is neither.
    pub fn check(&self) -> Result<(), InvalidPrice> {
        for price in [Some(self.input), Some(self.output), self.cached_input]
            .into_iter()
            .flatten()
        {
            if !(0.0..=1e6).contains(&price) {
                return Err(InvalidPrice(price));
            }
        }
        Ok(())
    }

    /// What a call cost, rounded to the nearest billionth of a dollar.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> NanoUsd {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        // One dollar per million tokens is a thousand nano-dollars per token.
        let part = |tokens: u64, price: f64| tokens as f64 * price * 1000.0;
        let total = part(usage.input_tokens - cached, self.input)
            + part(cached, self.cached_input.unwrap_or(self.input))
            + part(usage.output_tokens, self.output);
        total.round() as NanoUsd
    }
}

/// The tokens a call used, as the provider counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Tokens sent, the cached ones among them.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Tokens sent that the provider had cached.
    #[serde(default)]
    pub cached_input_tokens: u64,
}

/// A name that points at a version of a model, such as `stable`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModelAlias {
    /// The model.
    pub model_id: ModelName,
    /// The alias.
    pub alias: VersionName,
    /// The version it points at.
    pub model_version: VersionName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs() {
        let price = Price {
            input: 0.15,
            output: 0.60,
            cached_input: Some(0.075),
        };
        for (input, output, cached, nano_usd) in [
            (0, 0, 0, 0),
            (1_000_000, 0, 0, 150_000_000),
            (1000, 100, 0, 150_000 + 60_000),
            (1000, 100, 400, 90_000 + 30_000 + 60_000),
            (10, 0, 50, 750),
        ] {
            let usage = Usage {
                input_tokens: input,
                output_tokens: output,
                cached_input_tokens: cached,
            };
            assert_eq!(price.cost(&usage), nano_usd, "{usage:?}");
        }
    }

    #[test]
    fn prices_are_checked() {
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(
                Price {
                    input: wrong,
                    output: 0.0,
                    cached_input: None
                }
                .check()
                .is_err()
            );
        }
    }
}
