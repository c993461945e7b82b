//! The way out: one request over TLS 1.3, to a server that the configured roots vouch for.
//!
//! No proxy, no redirect, no second try, no cookies, nothing unpacked. Nothing is logged here, and what the other side or the
//! transport said goes no further: a failure is a class.

use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Bytes;
use reqwest::Url;
use zeroize::Zeroizing;

use super::answer::Answer;
use super::pointer::Pointer;
use super::template::Filled;
use crate::config::RelayConfig;
use crate::domain::secret::SecretBytes;
use crate::tls::{OutgoingFault, outgoing_tls};

const MOST_ANSWER_BYTES: usize = 1024 * 1024;
/// For a connection with its handshake; the whole has the target's own time.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection that nobody used for so long is closed: sooner than servers close theirs, who might meet a request with it.
const IDLE: Duration = Duration::from_secs(10);
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const NOT_PACKED: HeaderValue = HeaderValue::from_static("identity");

/// Why there is no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayClientFault {
    #[error(transparent)]
    Roots(#[from] OutgoingFault),
    #[error("the http client cannot be built")]
    Client,
}

/// Why there is no answer that could go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendFailure {
    /// No connection, or none to whom the roots vouch for: nothing was sent.
    #[error("the destination cannot be reached, or its certificate does not chain to relay.ca_file")]
    Unreachable,
    /// The request may have been done.
    #[error("the destination's answer is broken, or none that may go on")]
    AnswerInvalid,
    /// The request may have been done.
    #[error("the destination did not answer in time")]
    TimedOut,
}

/// Where a body goes and what may come back.
pub struct Target<'a> {
    pub url: &'a Url,
    pub method: Method,
    /// From the first packet to the last byte of the answer.
    pub timeout: Duration,
    /// Those of the caller that go on, and the credential. What the client says itself it puts in their place.
    pub headers: HeaderMap,
    /// What of the answer goes back.
    pub answer: &'a [Pointer],
}

/// The client of all destinations. Cheap to clone; connections are kept for a moment and shared.
#[derive(Clone)]
pub struct RelayClient {
    client: reqwest::Client,
}

impl RelayClient {
    /// Reads the roots; sends nothing. `None` where no file of roots is configured: then nobody is believed.
    pub fn open(config: &RelayConfig) -> Result<Option<Self>, RelayClientFault> {
        let Some(ca_file) = config.ca_file.as_deref() else { return Ok(None) };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(outgoing_tls(Some(ca_file))?.with_no_client_auth())
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|_| RelayClientFault::Client)?;
        Ok(Some(Self { client }))
    }

    /// Sends a body once and takes of the answer what is declared. Dropped while it waits, the request may still be done.
    pub async fn send(&self, target: Target<'_>, filled: Filled) -> Result<Answer, SendFailure> {
        let (body, values) = filled.into_parts();
        let mut headers = target.headers;
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, JSON);
        headers.insert(ACCEPT_ENCODING, NOT_PACKED);
        let request = self
            .client
            .request(target.method, target.url.clone())
            .headers(headers)
            .timeout(target.timeout)
            .body(Bytes::from_owner(Sent(body)));
        let response = request.send().await.map_err(|error| class_of(&error))?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Answer::without_body(status.as_u16()).map_err(|_| SendFailure::AnswerInvalid);
        }
        if status.is_redirection() || !is_plain_json(response.headers()) {
            return Err(SendFailure::AnswerInvalid);
        }
        let answer = collect(response).await?;
        Answer::filtered(status.as_u16(), &answer, target.answer, &values)
            .map_err(|_| SendFailure::AnswerInvalid)
    }
}

/// The transport's view of a body, which is wiped when it lets go of it.
struct Sent(SecretBytes);

impl AsRef<[u8]> for Sent {
    #[expect(clippy::disallowed_methods, reason = "the body goes to its destination")]
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// What reqwest says names the URL and sometimes the peer: it is dropped on purpose.
fn class_of(error: &reqwest::Error) -> SendFailure {
    if error.is_connect() || error.is_builder() {
        SendFailure::Unreachable
    } else if error.is_timeout() {
        SendFailure::TimedOut
    } else {
        SendFailure::AnswerInvalid
    }
}

/// JSON by its name (RFC 8259, or a type that ends in `+json`, RFC 6839 section 3.1), said once, as it is.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if !encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(named) = types.next().and_then(|value| value.to_str().ok()) else { return false };
    let mut parts = named.split(';').map(|part| part.trim().to_ascii_lowercase());
    let is_json = parts.next().is_some_and(|name| {
        name == "application/json"
            || name.strip_prefix("application/").is_some_and(|name| name.ends_with("+json"))
    });
    let is_utf8 = |parameter: String| match parameter.strip_prefix("charset=") {
        Some(charset) => charset.trim_matches('"') == "utf-8",
        None => true,
    };
    is_json && parts.all(is_utf8) && types.next().is_none()
}

async fn collect(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, SendFailure> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > MOST_ANSWER_BYTES) {
        return Err(SendFailure::AnswerInvalid);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(4096)));
    while let Some(chunk) = response.chunk().await.map_err(|error| class_of(&error))? {
        if body.len() + chunk.len() > MOST_ANSWER_BYTES {
            return Err(SendFailure::AnswerInvalid);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_that_is_not_packed_is_read() {
        let check = |lines: &[(&'static str, &'static str)]| {
            let mut all = HeaderMap::new();
            for (name, value) in lines {
                all.append(*name, HeaderValue::from_static(value));
            }
            is_plain_json(&all)
        };
        let json = ("content-type", "application/json");
        for good in [
            &[json][..],
            &[("content-type", "Application/JSON; charset=UTF-8")],
            &[("content-type", "application/json;charset=\"utf-8\"")],
            &[("content-type", "application/problem+json; profile=x")],
            &[json, ("content-encoding", "identity")],
        ] {
            assert!(check(good), "{good:?}");
        }
        for bad in [
            &[][..],
            &[("content-type", "text/html")],
            &[("content-type", "text/json")],
            &[("content-type", "application/json; charset=utf-16")],
            &[("content-type", "application/jsonp")],
            &[("content-type", "application/json, text/html")],
            &[json, ("content-type", "text/html")],
            &[json, ("content-encoding", "gzip")],
            &[json, ("content-encoding", "identity"), ("content-encoding", "br")],
        ] {
            assert!(!check(bad), "{bad:?}");
        }
    }

    #[test]
    fn without_roots_there_is_no_client() {
        assert!(matches!(RelayClient::open(&RelayConfig { ca_file: None }), Ok(None)));
        let missing = RelayConfig { ca_file: Some("/nonexistent/roots.pem".into()) };
        assert_eq!(RelayClient::open(&missing).err(), Some(RelayClientFault::Roots(OutgoingFault::Pem)));
    }
}
