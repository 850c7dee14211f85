//! The HTTP client: one request, one answer, and errors that say who failed.

mod problem;
mod target;

use std::time::Duration;

use bytes::Bytes;
use flywheel_gateway::endpoint::{self, HttpClient};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

pub(crate) use problem::{ItemError, Problem, local_document};
pub(crate) use target::Target;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Models take their time; the server gives them up to five minutes.
const MODEL_TIMEOUT: Duration = Duration::from_secs(310);
const LARGEST_ANSWER: usize = 256 << 20;

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL cannot be one of a server.
    #[error("--url: you gave `{url}`, which is not the URL of a server: it {problem}")]
    InvalidUrl { url: String, problem: &'static str },
    /// The key has characters that no header can have.
    #[error("--key: what you gave has characters that no key has")]
    InvalidKey,
    /// The system's certificates, without which no https server can be trusted, cannot be read.
    #[error("cannot read the system's certificates")]
    Certificates(#[source] std::io::Error),
    /// Nobody listens there.
    #[error("no server answers at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// The server was there, and then was not.
    #[error("the server at {url} broke off its answer")]
    Interrupted { url: String },
    /// The server did not finish in time.
    #[error("the server at {url} did not answer within {} s", .limit.as_secs())]
    TooLate { url: String, limit: Duration },
    /// Something answers, but not in Flywheel's language.
    #[error("what answers at {url} is no Flywheel server (status {status})")]
    Foreign {
        url: String,
        status: http::StatusCode,
    },
    /// The server refused.
    #[error(transparent)]
    Refused(Box<Problem>),
}

/// Talks to one server.
pub(crate) struct Client {
    transport: Transport,
    /// The server's URL, without a slash at its end.
    url: String,
    key: Option<HeaderValue>,
}

/// Certificates are read only where they are needed: that takes longer than most commands.
enum Transport {
    Plain(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>),
    Tls(HttpClient),
}

impl Client {
    /// A client for the server at a URL.
    pub(crate) fn new(url: &str, key: Option<&str>) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        let invalid = |problem| ClientError::InvalidUrl {
            url: without_credentials(&url),
            problem,
        };
        let uri: Uri = url.parse().map_err(|_| invalid("cannot be read"))?;
        let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("holds credentials, which belong in FLYWHEEL_KEY"));
        }
        if uri.query().is_some() {
            return Err(invalid("has a query"));
        }
        let transport = match uri.scheme_str() {
            Some("http") => {
                let mut connector = HttpConnector::new();
                connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
                connector.set_nodelay(true);
                let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
                Transport::Plain(client.build(connector))
            }
            Some("https") => {
                let client = endpoint::http_client(CONNECT_TIMEOUT);
                Transport::Tls(client.map_err(ClientError::Certificates)?)
            }
            _ => return Err(invalid("must begin with http:// or https://")),
        };
        let key = key.filter(|key| !key.is_empty()).map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.trim()))
                .map_err(|_| ClientError::InvalidKey)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            transport,
            url,
            key: key.transpose()?,
        })
    }

    /// The server's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How a resource is answered, whatever the answer is.
    pub(crate) async fn head_of(
        &self,
        target: &Target,
    ) -> Result<(StatusCode, HeaderMap), ClientError> {
        let asked = self.request(Method::GET, target, None);
        let answer = tokio::time::timeout(TOTAL_TIMEOUT, asked).await;
        let answer = answer.map_err(|_| ClientError::TooLate {
            url: self.url.clone(),
            limit: TOTAL_TIMEOUT,
        })??;
        Ok((answer.status(), answer.headers().clone()))
    }

    /// Reads a resource.
    pub(crate) async fn get(&self, target: &Target) -> Result<Value, ClientError> {
        self.exchange(Method::GET, target, None, TOTAL_TIMEOUT)
            .await
    }

    /// Sends a document and reads the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        target: &Target,
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.exchange(method, target, Some(body), TOTAL_TIMEOUT)
            .await
    }

    /// Posts a document.
    pub(crate) async fn post(&self, target: &Target, body: &Value) -> Result<Value, ClientError> {
        self.send(Method::POST, target, body).await
    }

    /// Posts what a model has to answer before the server can.
    pub(crate) async fn post_to_model(
        &self,
        target: &Target,
        body: &Value,
    ) -> Result<Value, ClientError> {
        self.exchange(Method::POST, target, Some(body), MODEL_TIMEOUT)
            .await
    }

    /// Removes a resource.
    pub(crate) async fn delete(&self, target: &Target) -> Result<Value, ClientError> {
        self.exchange(Method::DELETE, target, None, TOTAL_TIMEOUT)
            .await
    }

    /// Posts a document and returns the answer whose body is still to arrive, however long that takes.
    pub(crate) async fn open_stream(
        &self,
        target: &Target,
        body: &Value,
    ) -> Result<Response<Incoming>, ClientError> {
        let answer = self.request(Method::POST, target, Some(body)).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(match self.read(answer, target).await {
            Ok(_) => self.interrupted(),
            Err(error) => error,
        })
    }

    /// Reads all of a list. Not every list has pages, so the first is asked for without saying how long it may be.
    pub(crate) async fn all_items(&self, target: &Target) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = match cursor.as_deref() {
                None => target.clone(),
                Some(cursor) => target.clone().with("limit", "1000").with("cursor", cursor),
            };
            let mut page = self.get(&page).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            match page.get("next").and_then(Value::as_str) {
                // A cursor that leads nowhere new would be asked for ever.
                Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
                _ => return Ok(items),
            }
        }
    }

    /// The error for a stream that ended before it was complete.
    pub(crate) fn interrupted(&self) -> ClientError {
        ClientError::Interrupted {
            url: self.url.clone(),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: &Target,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, ClientError> {
        let whole = async {
            let answer = self.request(method, target, body).await?;
            self.read(answer, target).await
        };
        tokio::time::timeout(limit, whole)
            .await
            .map_err(|_| ClientError::TooLate {
                url: self.url.clone(),
                limit,
            })?
    }

    async fn request(
        &self,
        method: Method,
        target: &Target,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.url, target.as_str()))
            .header(ACCEPT, "application/json, text/event-stream");
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = request
            .body(Full::new(body))
            .map_err(|_| ClientError::InvalidUrl {
                url: self.url.clone(),
                problem: "cannot be joined with a path",
            })?;
        let answer = match &self.transport {
            Transport::Plain(client) => client.request(request),
            Transport::Tls(client) => client.request(request),
        };
        answer.await.map_err(|source| {
            if source.is_connect() {
                ClientError::Unreachable {
                    url: self.url.clone(),
                    source,
                }
            } else {
                self.interrupted()
            }
        })
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        target: &Target,
    ) -> Result<Value, ClientError> {
        let status = answer.status();
        let call_id = call_id(&answer);
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER);
        let bytes = body
            .collect()
            .await
            .map_err(|_| self.interrupted())?
            .to_bytes();
        let foreign = || ClientError::Foreign {
            url: self.url.clone(),
            status,
        };
        if status.is_success() {
            if bytes.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(&bytes).map_err(|_| foreign());
        }
        let is_ours = |body: &Value| !target.is_api() || Problem::is_flywheels(body);
        let problem = serde_json::from_slice(&bytes).ok().filter(is_ours);
        Err(problem
            .and_then(|body| Problem::read(status, body))
            .map_or_else(foreign, |problem| {
                ClientError::Refused(Box::new(problem.of_call(call_id)))
            }))
    }
}

/// The id of the call that an answer of the OpenAI door is about.
pub(crate) fn call_id(answer: &Response<Incoming>) -> Option<String> {
    let id = answer.headers().get("x-request-id")?.to_str().ok()?;
    Some(id.to_owned())
}

/// A URL as it may be shown.
fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(start), Some(end)) if start + 3 <= end => {
            format!("{}…{}", &url[..start + 3], &url[end..])
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anything_is_sent() {
        for (url, expected) in [
            ("http://127.0.0.1:7700", None),
            ("http://127.0.0.1:7700/", None),
            ("http://host/behind/a/proxy/", None),
            (
                "127.0.0.1:7700",
                Some("must begin with http:// or https://"),
            ),
            ("host:7700/x", Some("cannot be read")),
            ("/x", Some("has no host")),
            ("http://me:secret@host", Some("holds credentials")),
            ("http://host/?q=1", Some("has a query")),
        ] {
            let error = Client::new(url, None).err().map(|error| error.to_string());
            match (&error, expected) {
                (None, None) => {}
                (Some(error), Some(part)) if error.contains(part) && !error.contains("secret") => {}
                _ => panic!("{url}: {error:?}"),
            }
        }
    }

    #[test]
    fn keys_do_not_show() {
        let client = Client::new("http://host", Some("fw_secret")).unwrap();
        assert!(!format!("{:?}", client.key).contains("secret"));
        assert!(Client::new("http://host", Some("a\nb")).is_err());
        assert!(Client::new("http://host", Some("")).unwrap().key.is_none());
    }
}
