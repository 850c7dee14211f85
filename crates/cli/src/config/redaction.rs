//! `[redaction]`: what is taken out of calls and feedback before they are stored.

use std::collections::BTreeMap;

use anyhow::Result;
use flywheel_core::redaction::{BuiltinPattern, Redactor};
use serde::Deserialize;

/// Redaction. Nothing is redacted unless it is named here.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redaction {
    /// Built-in patterns: `email`, `phone`, `card`.
    pub(crate) builtin: Vec<Builtin>,
    /// Regular expressions by name; what they match becomes `[name]`.
    pub(crate) patterns: BTreeMap<String, String>,
}

/// See [`Redaction::builtin`].
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Builtin {
    Email,
    Phone,
    Card,
}

impl Redaction {
    /// What is taken out, by name.
    pub(crate) fn names(&self) -> String {
        let builtin = self.builtin.iter().map(|pattern| match pattern {
            Builtin::Email => "email",
            Builtin::Phone => "phone",
            Builtin::Card => "card",
        });
        let names: Vec<_> = builtin
            .chain(self.patterns.keys().map(String::as_str))
            .collect();
        match names.as_slice() {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        }
    }

    /// The redactor for these settings.
    pub(crate) fn redactor(&self) -> Result<Redactor> {
        let builtin: Vec<_> = self
            .builtin
            .iter()
            .map(|pattern| match pattern {
                Builtin::Email => BuiltinPattern::Email,
                Builtin::Phone => BuiltinPattern::Phone,
                Builtin::Card => BuiltinPattern::Card,
            })
            .collect();
        let custom: Vec<_> = self
            .patterns
            .iter()
            .map(|(name, pattern)| (name.clone(), pattern.clone()))
            .collect();
        Ok(Redactor::new(&builtin, &custom)?)
    }
}
