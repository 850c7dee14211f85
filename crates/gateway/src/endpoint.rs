//! Endpoints: how a provider is reached, with its timeouts, its circuit breaker and its retry budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::breaker::{Breaker, BreakerOptions};
use crate::connect::Connector;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::provider::format::{ProviderFormat, WireRequest};
use crate::provider::simulated::Simulated;
use crate::retry::{RetryBudget, RetryOptions};

/// The largest answer that is read whole.
pub const LARGEST_ANSWER: usize = 32 << 20;

/// A connection pool that all endpoints share.
pub type HttpClient = Client<Connector, Full<Bytes>>;

/// A provider's answer as it arrives.
pub type AnswerBody = UnsyncBoxBody<Bytes, ProviderError>;

/// How long each part of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands: name, TCP and TLS.
    pub connect: Duration,
    /// Until the answer's first byte.
    pub first_byte: Duration,
    /// Until the answer's last byte, retries included.
    pub total: Duration,
}

/// When an answer must be complete, and how long that was when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// How long, for those who have to be told.
    pub given: Duration,
}

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn within(given: Duration) -> Self {
        Self::after(Instant::now(), given)
    }

    /// So long from some moment.
    #[must_use]
    pub fn after(begun: Instant, given: Duration) -> Self {
        let at = begun + given;
        Self { at, given }
    }

    /// The one that comes first.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        if other.at < self.at { other } else { self }
    }
}

/// What an endpoint needs beside its format.
#[derive(Debug, Clone, Copy)]
pub struct EndpointOptions {
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: RetryOptions,
    /// The circuit breaker.
    pub breaker: BreakerOptions,
}

impl Default for EndpointOptions {
    fn default() -> Self {
        Self {
            timeouts: Timeouts {
                connect: Duration::from_secs(5),
                first_byte: Duration::from_secs(60),
                total: Duration::from_secs(300),
            },
            retry: RetryOptions {
                attempts: 3,
                base_delay: Duration::from_millis(200),
                longest_delay: Duration::from_secs(5),
                budget_percent: 20,
            },
            breaker: BreakerOptions {
                failures: 5,
                open_for: Duration::from_secs(10),
            },
        }
    }
}

/// A configured provider.
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    /// Its wire format.
    pub format: Box<dyn ProviderFormat>,
    /// Its timeouts.
    pub timeouts: Timeouts,
    /// Its circuit breaker.
    pub breaker: Breaker,
    /// Its retry budget.
    pub retries: RetryBudget,
    transport: Transport,
}

enum Transport {
    Http(Box<Http>),
    Simulated(Simulated),
}

struct Http {
    client: HttpClient,
    base: BaseUrl,
}

/// A base URL that is known to have a scheme and an authority.
#[derive(Debug, Clone)]
pub struct BaseUrl {
    scheme: http::uri::Scheme,
    authority: http::uri::Authority,
    path: String,
}

/// A base URL that requests cannot be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("base URL `{url}` {problem}")]
pub struct InvalidBaseUrl {
    url: String,
    problem: &'static str,
}

impl std::str::FromStr for BaseUrl {
    type Err = InvalidBaseUrl;

    fn from_str(url: &str) -> Result<Self, InvalidBaseUrl> {
        let invalid = |problem| InvalidBaseUrl {
            url: url.to_owned(),
            problem,
        };
        let uri: Uri = url.parse().map_err(|_| invalid("is not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| ["http", "https"].contains(&scheme.as_str()));
        let authority = parts.authority.ok_or_else(|| invalid("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(InvalidBaseUrl {
                url: authority.host().to_owned(),
                problem: "must not hold credentials; name a key with `api_key_env`",
            });
        }
        let path = parts
            .path_and_query
            .map_or_else(String::new, |path| path.path().to_owned());
        Ok(Self {
            scheme: scheme.ok_or_else(|| invalid("must begin with http:// or https://"))?,
            authority,
            path: path.trim_end_matches('/').to_owned(),
        })
    }
}

impl BaseUrl {
    fn join(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(format!("{}{path_and_query}", self.path))
            .build()
    }
}

/// The connection pool for all providers.
///
/// # Errors
/// When the system's certificates cannot be read.
pub fn http_client(connect_timeout: Duration) -> std::io::Result<HttpClient> {
    Ok(client_over(Connector::new(connect_timeout)?))
}

/// A pool of the connections that `connector` opens.
pub(crate) fn client_over(connector: Connector) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build(connector)
}

impl Endpoint {
    /// An endpoint reached over HTTP.
    #[must_use]
    pub fn http(
        name: &str,
        format: Box<dyn ProviderFormat>,
        base: BaseUrl,
        client: HttpClient,
        options: EndpointOptions,
    ) -> Self {
        Self::new(
            name,
            format,
            Transport::Http(Box::new(Http { client, base })),
            options,
        )
    }

    /// The simulated provider, which answers inside this process.
    #[must_use]
    pub fn simulated(
        name: &str,
        format: Box<dyn ProviderFormat>,
        simulated: Simulated,
        options: EndpointOptions,
    ) -> Self {
        Self::new(name, format, Transport::Simulated(simulated), options)
    }

    fn new(
        name: &str,
        format: Box<dyn ProviderFormat>,
        transport: Transport,
        options: EndpointOptions,
    ) -> Self {
        Self {
            name: name.to_owned(),
            format,
            timeouts: options.timeouts,
            breaker: Breaker::new(options.breaker),
            retries: RetryBudget::new(options.retry),
            transport,
        }
    }

    /// Sends a request and waits for a successful answer's head until `first_byte`.
    ///
    /// # Errors
    /// When no connection could be made, nothing came in time, or the provider answered with an error.
    pub async fn send(
        &self,
        request: WireRequest,
        first_byte: Deadline,
        deadline: Deadline,
    ) -> Result<AnswerBody, ProviderError> {
        let head = tokio::time::timeout_at(first_byte.at, self.dispatch(request));
        let answer = head
            .await
            .map_err(|_| self.too_late(first_byte, deadline))??;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        // An error's text is welcome, but not worth waiting long for.
        let text = tokio::time::timeout_at(first_byte.at, read_whole(body, 64 << 10)).await;
        let text = text.ok().and_then(Result::ok).unwrap_or_default();
        Err(self.format.failure(head.status, &head.headers, &text))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Endpoint::send`], and when the answer breaks off, is too large, or does not end in time.
    pub async fn send_and_read(
        &self,
        request: WireRequest,
        deadline: Deadline,
    ) -> Result<Bytes, ProviderError> {
        // Nothing of such an answer comes before all of it is there, so its first byte may take as long as its last.
        let body = self.send(request, deadline, deadline).await?;
        tokio::time::timeout_at(deadline.at, read_whole(body, LARGEST_ANSWER))
            .await
            .map_err(|_| self.too_late(deadline, deadline))?
    }

    /// Whether the circuit breaker lets a request out.
    ///
    /// # Errors
    /// When it does not, with the time to wait.
    pub fn check_breaker(&self) -> Result<(), ProviderError> {
        self.breaker.check().map_err(|wait| ProviderError {
            retry_after: Some(wait),
            ..ProviderError::new(
                ProviderErrorKind::CircuitOpen,
                format!(
                    "provider `{}` failed repeatedly and is left alone for a while",
                    self.name
                ),
            )
        })
    }

    /// The error for an answer that did not come, or end, in time.
    #[must_use]
    pub fn too_late(&self, passed: Deadline, deadline: Deadline) -> ProviderError {
        let limit = passed.given;
        if passed.at < deadline.at {
            ProviderError::new(
                ProviderErrorKind::FirstByteTimeout,
                format!("provider `{}` sent nothing within {limit:?}", self.name),
            )
        } else {
            ProviderError::new(
                ProviderErrorKind::TotalTimeout,
                format!("provider `{}` did not finish within {limit:?}", self.name),
            )
        }
    }

    async fn dispatch(
        &self,
        request: WireRequest,
    ) -> Result<http::Response<AnswerBody>, ProviderError> {
        match &self.transport {
            Transport::Simulated(simulated) => Ok(simulated.answer(&request).await),
            Transport::Http(http) => {
                let Http { client, base } = &**http;
                let invalid = |error: http::Error| {
                    let problem =
                        format!("the request to `{}` cannot be formed: {error}", self.name);
                    ProviderError::new(ProviderErrorKind::Unsupported, problem)
                };
                let uri = base.join(&request.path_and_query).map_err(invalid)?;
                let mut wire = Request::builder()
                    .method(Method::POST)
                    .uri(uri)
                    .body(Full::new(request.body))
                    .map_err(invalid)?;
                *wire.headers_mut() = request.headers;
                wire.headers_mut().insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("application/json"),
                );
                let answer = client.request(wire).await.map_err(|error| {
                    let kind = if error.is_connect() {
                        ProviderErrorKind::Connect
                    } else {
                        ProviderErrorKind::Interrupted
                    };
                    let verb = match kind {
                        ProviderErrorKind::Connect => "cannot be reached",
                        _ => "closed the connection before it answered",
                    };
                    tracing::warn!(provider.name = %self.name, provider.address = %base.authority, error.message = ?error, "a provider {verb}");
                    ProviderError::new(kind, format!("provider `{}` {verb}", self.name))
                })?;
                let name = Arc::<str>::from(self.name.as_str());
                Ok(answer.map(|body| {
                    body.map_err(move |_| {
                        ProviderError::new(
                            ProviderErrorKind::Interrupted,
                            format!("provider `{name}` closed the connection in the middle of its answer"),
                        )
                    })
                    .boxed_unsync()
                }))
            }
        }
    }
}

async fn read_whole(mut body: AnswerBody, limit: usize) -> Result<Bytes, ProviderError> {
    let mut first: Option<Bytes> = None;
    let mut joined: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if joined.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > limit {
            return Err(ProviderError::new(
                ProviderErrorKind::Malformed,
                format!("the provider's answer is larger than {limit} bytes"),
            ));
        }
        // Most answers come in one piece, which then is passed on without a copy.
        match first.take() {
            None if joined.is_empty() => first = Some(data),
            None => joined.extend_from_slice(&data),
            Some(before) => {
                joined.extend_from_slice(&before);
                joined.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| joined.into()))
}

/// Whether a failure says something about the endpoint's health, as opposed to about this one request.
#[must_use]
pub fn counts_against_endpoint(error: &ProviderError) -> bool {
    use ProviderErrorKind::{
        Connect, FirstByteTimeout, Interrupted, Malformed, Server, TotalTimeout,
    };
    matches!(
        error.kind,
        Connect | FirstByteTimeout | TotalTimeout | Server | Interrupted | Malformed
    ) && error.status != Some(StatusCode::NOT_IMPLEMENTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls() {
        for (url, expected) in [
            (
                "http://127.0.0.1:8080/v1/",
                Ok("http://127.0.0.1:8080/v1/chat"),
            ),
            (
                "https://api.openai.com/v1",
                Ok("https://api.openai.com/v1/chat"),
            ),
            ("http://localhost", Ok("http://localhost/chat")),
            ("localhost:80", Err("must begin with http:// or https://")),
            ("ftp://x/y", Err("must begin with http:// or https://")),
            ("/v1", Err("has no host")),
            ("http://me:secret@x/", Err("must not hold credentials")),
        ] {
            let joined = url
                .parse::<BaseUrl>()
                .map(|base| base.join("/chat").unwrap().to_string());
            match (joined, expected) {
                (Ok(joined), Ok(expected)) => assert_eq!(joined, expected),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{error}");
                    assert!(!error.to_string().contains("secret"), "{error}");
                }
                (joined, _) => panic!("{url}: {joined:?}"),
            }
        }
    }
}
