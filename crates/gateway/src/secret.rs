//! A provider key, kept where neither a log nor an error can print it.

use std::fmt;

/// A string that is shown nowhere: its `Debug` and `Display` print a placeholder, and it cannot be serialised.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`, without the white space around it: keys read from files and variables often end in a newline.
    pub fn new(value: impl Into<String>) -> Self {
        let value = value.into();
        let trimmed = value.trim();
        if trimmed.len() == value.len() {
            Self(value)
        } else {
            Self(trimmed.to_owned())
        }
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to keep secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret([redacted])")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_it_is_printed() {
        let secret = Secret::new("sk-live-abcdef\n");
        assert_eq!(format!("{secret}"), "[redacted]");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(Secret([redacted]))");
        assert_eq!(format!("{secret:#?}"), "Secret([redacted])");
        assert_eq!(secret.expose(), "sk-live-abcdef");
        assert!(Secret::new(" \n").is_empty());
    }
}
