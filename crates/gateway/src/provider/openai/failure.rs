//! What providers say when they fail, read into one error: which kind, what happened, when to come back.
//!
//! Nothing of a key may reach the message: providers like to repeat the key they refuse, masked or not.

use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use jiff::fmt::rfc2822;
use serde_json::{Map, Value};

use crate::error::{ProviderError, ProviderErrorKind};
use crate::secret::Secret;

/// How much of a provider's own words is told when they came as JSON.
const MAX_MESSAGE_CHARS: usize = 600;

/// How much is told of a text or a page, which is as likely from a proxy as from the provider.
const MAX_TEXT_CHARS: usize = 200;

/// Shorter keys, such as `EMPTY` for a server of one's own, are words; replacing them would garble messages.
const MIN_SECRET_BYTES: usize = 6;

const REDACTED: &str = "[redacted]";

/// The kind of failure that a status and a provider's code stand for. Without a status, as inside a stream, the
/// code alone decides.
pub(crate) fn kind_of(status: Option<StatusCode>, code: Option<&str>) -> ProviderErrorKind {
    use ProviderErrorKind::{Credentials, RateLimited, Refused, Server};
    if matches!(
        code,
        Some(
            // An empty account comes with 429, but waiting does not fill it.
            "insufficient_quota"
                | "billing_hard_limit_reached"
                | "enforced_spend_limit_reached"
                | "content_filter"
                | "ResponsibleAIPolicyViolation"
        )
    ) {
        return Refused;
    }
    match (
        status.map(|status| status.as_u16()),
        code.unwrap_or_default(),
    ) {
        (Some(401 | 403), _) => Credentials,
        (Some(429), _) => RateLimited,
        (Some(408 | 500..), _) => Server,
        (Some(_), _) => Refused,
        (_, "rate_limit_error" | "rate_limit_exceeded" | "requests" | "tokens") => RateLimited,
        (_, "authentication_error" | "permission_error" | "invalid_api_key") => Credentials,
        (
            _,
            "invalid_request_error"
            | "not_found_error"
            | "request_too_large"
            | "billing_error"
            | "context_length_exceeded"
            | "model_not_found"
            | "BadRequestError"
            | "validation",
        ) => Refused,
        _ => Server,
    }
}

/// The failure behind an answer with an error status.
pub(crate) fn failure_of(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    api_key: Option<&Secret>,
) -> ProviderError {
    let parsed = serde_json::from_slice::<Value>(body);
    let is_json = parsed.is_ok();
    let report = match parsed {
        Ok(value) => Report::read(&value),
        Err(_) => Report {
            message: Some(plain_text(body)),
            ..Report::default()
        },
    };
    let limit = if is_json {
        MAX_MESSAGE_CHARS
    } else {
        MAX_TEXT_CHARS
    };
    let kind = kind_of(Some(status), report.code.as_deref());
    let mut message = format!("the provider answered {}", status.as_str());
    if let Some(reason) = status.canonical_reason() {
        message.push(' ');
        message.push_str(reason);
    }
    // What comes with 401 is about the key and nothing else.
    let told = report
        .message
        .filter(|_| status != StatusCode::UNAUTHORIZED);
    let text = told
        .map(|text| presentable(&text, limit, api_key))
        .unwrap_or_default();
    if !text.is_empty() {
        message.push_str(": ");
        message.push_str(&text);
    }
    ProviderError {
        kind,
        message,
        status: Some(status),
        retry_after: retry_after(headers),
        code: report.code,
    }
}

/// Whether an object with status 200, whole or a chunk of a stream, is an error.
pub(crate) fn is_error(object: &Map<String, Value>) -> bool {
    object.get("error").is_some_and(|error| !error.is_null())
        || object
            .get("object")
            .or_else(|| object.get("type"))
            .is_some_and(|it| it == "error")
}

/// The failure that a provider reported with status 200, mostly inside a stream.
pub(crate) fn reported_error(value: &Value, api_key: Option<&Secret>) -> ProviderError {
    let report = Report::read(value);
    let kind = kind_of(report.status, report.code.as_deref());
    let told = report
        .message
        .filter(|_| kind != ProviderErrorKind::Credentials);
    let text = told
        .map(|text| presentable(&text, MAX_MESSAGE_CHARS, api_key))
        .unwrap_or_default();
    let message = match (text.is_empty(), &report.code) {
        (false, _) => format!("the provider reported an error: {text}"),
        (true, Some(code)) => format!("the provider reported an error: `{code}`"),
        (true, None) => "the provider reported an error and did not say which".to_owned(),
    };
    ProviderError {
        code: report.code,
        ..ProviderError::new(kind, message)
    }
}

/// What an error body says.
#[derive(Debug, Default)]
struct Report {
    message: Option<String>,
    code: Option<String>,
    /// A status given as a number in the body.
    status: Option<StatusCode>,
}

impl Report {
    /// Reads OpenAI's, Azure's and Anthropic's error objects, vLLM's flat one, TGI's and Ollama's `error` text,
    /// FastAPI's `detail` and a bare `message`.
    fn read(value: &Value) -> Self {
        let error = match value.get("error") {
            Some(error) if error.is_object() || error.is_string() => error,
            _ => value,
        };
        let message = match error {
            Value::String(text) => Some(text.clone()),
            _ => ["message", "detail", "error_description"]
                .iter()
                .find_map(|name| error.get(name).and_then(detail_text)),
        };
        let inner = error
            .get("details")
            .and_then(|details| details.get("error_code"));
        let flat = value.get("error_type");
        let codes = [inner, error.get("code"), error.get("type"), flat];
        // `error` is the type of Anthropic's envelope; a number repeats the status.
        let is_name = |text: &&str| {
            let is_short = (1..=64).contains(&text.len());
            is_short && *text != "error" && !text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let code = codes
            .iter()
            .find_map(|code| code.and_then(Value::as_str).filter(is_name));
        let number = ["code", "status", "http_status_code"]
            .iter()
            .find_map(|name| {
                let number = error.get(name)?;
                number.as_u64().or_else(|| number.as_str()?.parse().ok())
            });
        let status = number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|number| (400..600).contains(number))
            .and_then(|number| StatusCode::from_u16(number).ok());
        Self {
            message,
            code: code.map(str::to_owned),
            status,
        }
    }
}

/// FastAPI's `detail` is a text, or a list that says where in the request each fault lies.
fn detail_text(detail: &Value) -> Option<String> {
    match detail {
        Value::String(text) => Some(text.clone()),
        Value::Array(faults) => {
            let texts: Vec<String> = faults
                .iter()
                .filter_map(|fault| {
                    let message = fault.get("msg")?.as_str()?;
                    let place = fault.get("loc").and_then(Value::as_array)?;
                    let place: Vec<String> = place
                        .iter()
                        .map(|step| {
                            step.as_str()
                                .map_or_else(|| step.to_string(), str::to_owned)
                        })
                        .collect();
                    Some(format!("`{}`: {message}", place.join(".")))
                })
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        _ => None,
    }
}

/// The words of a text or an HTML page, without tags, scripts and styles.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(16 * 1024)]);
    let start = text.trim_start();
    if !start.starts_with('<') {
        return text.into_owned();
    }
    let mut words = String::new();
    let mut rest = start;
    while let Some((before, after)) = rest.split_once('<') {
        words.push_str(before);
        words.push(' ');
        let tag = after.get(..6).unwrap_or(after).to_ascii_lowercase();
        let end = match tag.as_str() {
            "script" => "</script",
            "style>" | "style " => "</style",
            _ if tag.starts_with("!--") => "-->",
            _ => ">",
        };
        rest = after.split_once(end).map_or("", |(_, rest)| rest);
        if end.starts_with('<') {
            rest = rest.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    words.push_str(rest);
    words
}

/// A provider's words in one line of at most `limit` characters, with nothing in them that looks like a key.
/// Keys go before the line is cut, so that no half of one is left.
fn presentable(text: &str, limit: usize, api_key: Option<&Secret>) -> String {
    let text = match api_key
        .map(Secret::expose)
        .filter(|key| key.len() >= MIN_SECRET_BYTES)
    {
        Some(key) => text.replace(key, REDACTED),
        None => text.to_owned(),
    };
    let mut line = String::new();
    let words = text.split(|letter: char| letter.is_whitespace() || letter.is_control());
    for word in words.filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        let bare = word.trim_start_matches(|letter: char| !letter.is_alphanumeric());
        let is_key = bare.starts_with("sk-") || word.contains("***");
        line.push_str(if is_key { REDACTED } else { word });
        if let Some((end, _)) = line.char_indices().nth(limit) {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line.truncate(line.trim_end_matches('.').len());
    line
}

/// How long the provider asked to be left alone. A date counts from the answer's own `Date`: no clock is read here.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |text: &str, unit: f64| {
        text.parse()
            .ok()
            .and_then(|number: f64| Duration::try_from_secs_f64(number * unit).ok())
    };
    if let Some(wait) = text("retry-after-ms").and_then(|wait| seconds(wait, 1e-3)) {
        return Some(wait);
    }
    let wait = text(RETRY_AFTER.as_str())?;
    seconds(wait, 1.0).or_else(|| {
        let until = rfc2822::parse(wait).ok()?.timestamp();
        let now = rfc2822::parse(text(DATE.as_str())?).ok()?.timestamp();
        Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "live-key-0123456789";

    fn fail(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ProviderError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        failure_of(status, &headers, body.as_bytes(), Some(&Secret::new(KEY)))
    }

    #[test]
    fn statuses_and_codes() {
        use ProviderErrorKind::{Credentials, RateLimited, Refused, Server};
        for (status, code, expected) in [
            (Some(400), None, Refused),
            (Some(401), None, Credentials),
            (Some(402), None, Refused),
            (Some(403), Some("permission_error"), Credentials),
            (Some(404), Some("model_not_found"), Refused),
            (Some(408), None, Server),
            (Some(413), None, Refused),
            (Some(422), None, Refused),
            (Some(429), Some("rate_limit_exceeded"), RateLimited),
            (Some(429), Some("insufficient_quota"), Refused),
            (Some(429), Some("enforced_spend_limit_reached"), Refused),
            (Some(400), Some("content_filter"), Refused),
            (Some(500), Some("content_filter"), Refused),
            (Some(500), None, Server),
            (Some(503), Some("rate_limit_error"), Server),
            (Some(529), Some("overloaded_error"), Server),
            (Some(302), None, Refused),
            (None, None, Server),
            (None, Some("overloaded_error"), Server),
            (None, Some("rate_limit_error"), RateLimited),
            (None, Some("authentication_error"), Credentials),
            (None, Some("invalid_request_error"), Refused),
            (None, Some("content_filter"), Refused),
        ] {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            assert_eq!(kind_of(status, code), expected, "{status:?} {code:?}");
        }
    }

    fn check_body(status: u16, body: &str, message: &str, code: Option<&str>) {
        let error = fail(status, &[], body);
        assert_eq!(error.message, message, "{body}");
        assert_eq!(error.code.as_deref(), code, "{body}");
        assert_eq!(error.status.map(|status| status.as_u16()), Some(status));
    }

    #[test]
    fn json_bodies() {
        for (status, body, message, code) in [
            // OpenAI.
            (
                429,
                r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                "the provider answered 429 Too Many Requests: Rate limit reached for gpt-4o in organization org-x",
                Some("rate_limit_exceeded"),
            ),
            (
                400,
                r#"{"error":{"message":"Unsupported value: 'temperature'","type":"invalid_request_error","param":"temperature","code":null}}"#,
                "the provider answered 400 Bad Request: Unsupported value: 'temperature'",
                Some("invalid_request_error"),
            ),
            // Azure, whose code may be the status again.
            (
                429,
                r#"{"error":{"code":"429","message":"Requests have exceeded the call rate limit."}}"#,
                "the provider answered 429 Too Many Requests: Requests have exceeded the call rate limit",
                None,
            ),
            // vLLM.
            (
                400,
                r#"{"object":"error","message":"max_tokens is too large","type":"BadRequestError","param":null,"code":400}"#,
                "the provider answered 400 Bad Request: max_tokens is too large",
                Some("BadRequestError"),
            ),
            // TGI and Ollama.
            (
                422,
                r#"{"error":"Input validation error: `inputs` is empty","error_type":"validation"}"#,
                "the provider answered 422 Unprocessable Entity: Input validation error: `inputs` is empty",
                Some("validation"),
            ),
            // FastAPI.
            (
                404,
                r#"{"detail":"Not Found"}"#,
                "the provider answered 404 Not Found: Not Found",
                None,
            ),
            (
                422,
                r#"{"detail":[{"type":"missing","loc":["body","messages",0,"role"],"msg":"Field required","input":{}}]}"#,
                "the provider answered 422 Unprocessable Entity: `body.messages.0.role`: Field required",
                None,
            ),
            (
                503,
                r#"{"message":"no healthy upstream"}"#,
                "the provider answered 503 Service Unavailable: no healthy upstream",
                None,
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
                "the provider answered 529: Overloaded",
                Some("overloaded_error"),
            ),
            (
                429,
                r#"{"type":"error","error":{"type":"rate_limit_error","message":"limit","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                "the provider answered 429 Too Many Requests: limit",
                Some("enforced_spend_limit_reached"),
            ),
        ] {
            check_body(status, body, message, code);
        }
    }

    #[test]
    fn other_bodies() {
        let page = "<html>\r\n<head><title>502 Bad Gateway</title><style>h1 { color: red }</style>\
                    <script>if (a < b) { go() }</script></head>\r\n<body><!-- a > b -->\
                    <center><h1>502 Bad Gateway</h1></center><hr>nginx</body></html>";
        for (status, body, message) in [
            (500, "", "the provider answered 500 Internal Server Error"),
            (
                500,
                "null",
                "the provider answered 500 Internal Server Error",
            ),
            (
                500,
                "[1]",
                "the provider answered 500 Internal Server Error",
            ),
            (
                500,
                "upstream\tconnect error\r\n",
                "the provider answered 500 Internal Server Error: upstream connect error",
            ),
            (
                502,
                page,
                "the provider answered 502 Bad Gateway: 502 Bad Gateway 502 Bad Gateway nginx",
            ),
            (502, "<html", "the provider answered 502 Bad Gateway"),
        ] {
            check_body(status, body, message, None);
        }
        let long = fail(500, &[], &"ü".repeat(5000));
        assert_eq!(
            long.message.chars().filter(|letter| *letter == 'ü').count(),
            MAX_TEXT_CHARS
        );
    }

    #[test]
    fn keys_are_not_told() {
        for (status, body) in [
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided: live-key-0123456789"}}"#,
            ),
            (401, "bad key live-key-0123456789"),
            (
                403,
                r#"{"error":"key `live-key-0123456789` is not allowed"}"#,
            ),
            (400, "live-key-0123456789"),
            (400, r#"{"detail":"key=live-key-0123456789;"}"#),
        ] {
            let error = fail(status, &[], body);
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("live-key"), "{shown}");
        }
        let cut = format!("{} {KEY}", "x".repeat(MAX_TEXT_CHARS - 5));
        assert!(!fail(500, &[], &cut).message.contains("live"));
        let masked = fail(
            403,
            &[],
            "no access for sk-proj-abc, ('sk-1') or ab****yz, says a risk-based check",
        );
        assert_eq!(
            masked.message,
            "the provider answered 403 Forbidden: no access for [redacted] [redacted] or [redacted] says a risk-based check"
        );
    }

    #[test]
    fn waits() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (headers, expected) in [
            (vec![], None),
            (vec![("retry-after", "20")], Some(Duration::from_secs(20))),
            (
                vec![("retry-after", "0.5")],
                Some(Duration::from_millis(500)),
            ),
            (
                vec![("retry-after-ms", "1500"), ("retry-after", "2")],
                Some(Duration::from_millis(1500)),
            ),
            (
                vec![("retry-after-ms", "soon"), ("retry-after", "2")],
                Some(Duration::from_secs(2)),
            ),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "NaN")], None),
            (vec![("retry-after", "1e300")], None),
            (vec![("retry-after", "soon")], None),
            (
                vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), date],
                Some(Duration::from_secs(30)),
            ),
            (
                vec![("retry-after", "Sun, 06 Nov 1994 08:49:07 GMT"), date],
                Some(Duration::ZERO),
            ),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
        ] {
            assert_eq!(fail(429, &headers, "").retry_after, expected, "{headers:?}");
        }
    }

    #[test]
    fn errors_inside_streams() {
        use ProviderErrorKind::{Credentials, RateLimited, Refused, Server};
        for (body, kind, message) in [
            (
                r#"{"error":{"message":"The server had an error","type":"server_error"}}"#,
                Server,
                "the provider reported an error: The server had an error",
            ),
            (
                r#"{"error":{"message":"too long","type":"BadRequestError","code":400}}"#,
                Refused,
                "the provider reported an error: too long",
            ),
            (
                r#"{"error":{"message":"slow down","code":"429"}}"#,
                RateLimited,
                "the provider reported an error: slow down",
            ),
            (
                r#"{"error":{"message":"filtered","code":"content_filter","status":400}}"#,
                Refused,
                "the provider reported an error: filtered",
            ),
            (
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key abc"}}"#,
                Credentials,
                "the provider reported an error: `authentication_error`",
            ),
            (
                r#"{"error":"out of memory"}"#,
                Server,
                "the provider reported an error: out of memory",
            ),
            (
                r#""plain""#,
                Server,
                "the provider reported an error: plain",
            ),
            (
                "{}",
                Server,
                "the provider reported an error and did not say which",
            ),
        ] {
            let error = reported_error(&serde_json::from_str(body).unwrap(), None);
            assert_eq!(
                (error.kind, error.message.as_str()),
                (kind, message),
                "{body}"
            );
        }
    }
}
