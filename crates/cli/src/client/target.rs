//! Paths and queries of requests, percent-encoded as they are put together.

use std::fmt::Write as _;

/// The path and the query of a request.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    path: String,
    has_query: bool,
}

impl Target {
    /// A resource of our own API.
    pub(crate) fn api(path: &str) -> Self {
        Self {
            path: format!("/api/v1/{path}"),
            has_query: false,
        }
    }

    /// Whether it is one.
    pub(crate) fn is_api(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    /// A path outside our own API.
    pub(crate) fn outside(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            has_query: false,
        }
    }

    /// Goes down to a path segment, which may hold any characters.
    #[must_use]
    pub(crate) fn at(mut self, segment: &str) -> Self {
        self.path.push('/');
        // Encoded dots would be taken for the folder itself or its parent all the same, so no name can be one.
        encode(&mut self.path, segment);
        self
    }

    /// Adds a member to the query.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.path.push_str(name);
        self.path.push('=');
        encode(&mut self.path, value);
        self
    }

    /// Adds a member to the query, if it has a value.
    #[must_use]
    pub(crate) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The path and the query as they are sent.
    pub(crate) fn as_str(&self) -> &str {
        &self.path
    }
}

/// Leaves what RFC 3986 calls unreserved, and encodes the rest.
fn encode(path: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_outside_the_unreserved_is_encoded() {
        let target = Target::api("prompts")
            .at("team/summary:v2")
            .at("versions")
            .with("text", "a&b=c d")
            .with_some("cursor", None)
            .with_some("limit", Some("50"));
        assert_eq!(
            target.as_str(),
            "/api/v1/prompts/team%2Fsummary%3Av2/versions?text=a%26b%3Dc%20d&limit=50"
        );
        assert_eq!(
            Target::outside("/healthz").at("ü").as_str(),
            "/healthz/%C3%BC"
        );
    }
}
