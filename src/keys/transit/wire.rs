//! One HTTP connection pool to Vault and the meaning of its answers.
//!
//! Plain `reqwest` and not `vaultrs`: `vaultrs` and `rustify` copy every body into `String`s and `Vec`s they do not
//! wipe, put what Vault answered into their errors and log those errors themselves. Here request bodies and tokens sit
//! in buffers that are wiped when the last reference goes, answers are copied once into a wiped buffer, and an error
//! is a class without a word of what Vault said. (`hyper` and `rustls` still have socket buffers of their own; that is
//! why the service also forbids core dumps and locks its memory.)
//!
//! Not here: tokens' lives (`session`), what is asked for (`mod`, `pki`, `bootstrap`).

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::TransitError;
use crate::config::VaultConfig;
use crate::domain::secret::SecretBytes;
use crate::telemetry::metrics;
use crate::tls::{OutgoingFault, outgoing_tls};

/// A CRL of a hundred thousand revocations is about 4 MB; nothing else comes near.
const ANSWER_BYTES: usize = 16 * 1024 * 1024;
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
/// OpenBao and Vault refuse requests that carry no such header where an agent is configured to demand it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A body to send, wiped when its last reference goes.
#[derive(Clone)]
pub(in crate::keys) struct Body(Bytes);

impl Body {
    pub fn from_secret(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Bytes::from_owner(bytes))
    }

    /// JSON of a value without secrets.
    pub fn json(value: &impl Serialize) -> Result<Self, TransitError> {
        Self::secret_json(value, 1024)
    }

    /// JSON of a value that holds secrets; `capacity` is enough for all of it, so that the buffer never moves.
    pub fn secret_json(value: &impl Serialize, capacity: usize) -> Result<Self, TransitError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        serde_json::to_writer(&mut *bytes, value).map_err(|_| TransitError::Malformed)?;
        Ok(Self::from_secret(bytes))
    }

    #[cfg(test)]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An answer: status and wiped body.
pub(in crate::keys) struct Answer {
    pub status: StatusCode,
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The `data` object of the answer; `T` may borrow from it.
    pub fn data<'a, T: Deserialize<'a>>(&'a self) -> Result<T, TransitError> {
        #[derive(Deserialize)]
        struct Envelope<T> {
            data: T,
        }
        serde_json::from_slice::<Envelope<T>>(&self.body)
            .map(|envelope| envelope.data)
            .map_err(|_| TransitError::Malformed)
    }
}

/// A client for one Vault address, with or without a client certificate.
#[derive(Clone)]
pub(in crate::keys) struct Wire {
    client: reqwest::Client,
    base: Arc<str>,
}

impl Wire {
    /// Prepares the client; nothing is sent. Roots come from the configured file only, TLS is 1.3, there are no
    /// proxies and no redirects, and plain HTTP is for loopback only.
    pub fn open(config: &VaultConfig, identity: Option<(&Path, &Path)>) -> Result<Self, TransitError> {
        let base =
            Url::parse(&config.address).map_err(|_| TransitError::Setting("vault.address is not a URL"))?;
        let plain = base.scheme() == "http";
        if plain && !is_loopback(&base) {
            return Err(TransitError::Setting("vault.address may be plain http on loopback only"));
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls_config(config.roots_file.as_deref(), identity)?)
            .https_only(!plain)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(timeout)
            .timeout(timeout)
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|_| TransitError::Setting("the HTTP client for vault.address cannot be built"))?;
        Ok(Self { client, base: config.address.trim_end_matches('/').into() })
    }

    /// Sends and returns whatever status came. Only the transport can fail, as `Unavailable`.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretBytes>,
        body: Option<&Body>,
    ) -> Result<Answer, TransitError> {
        let mut request = self
            .client
            .request(method, format!("{}/v1/{path}", self.base))
            .header(REQUEST, HeaderValue::from_static("true"));
        if let Some(token) = token {
            request = request.header(TOKEN, token_header(token)?);
        }
        if let Some(Body(bytes)) = body {
            request = request.body(bytes.clone());
        }
        let started = Instant::now();
        // What reqwest says names the URL and sometimes the peer: it is dropped on purpose.
        let response = request.send().await.map_err(|_| TransitError::Unavailable);
        let status = response.as_ref().ok().map(|response| response.status().as_u16());
        metrics::vault(operation_of(path), status, started.elapsed());
        let response = response?;
        let status = response.status();
        Ok(Answer { status, body: collect(response).await? })
    }

    /// Sends; any status but success is an error class.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&SecretBytes>,
        body: Option<&Body>,
    ) -> Result<Answer, TransitError> {
        let answer = self.send(method, path, token, body).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(classify(&answer)) }
    }
}

/// What a request is for, as metrics call it.
fn operation_of(path: &str) -> &'static str {
    const OPERATIONS: [(&str, &str); 9] = [
        ("transit/encrypt/", "encrypt"),
        ("transit/decrypt/", "decrypt"),
        ("transit/keys/", "key_check"),
        ("transit/sign/", "sign"),
        ("auth/token/renew-self", "renew"),
        ("auth/", "login"),
        ("sys/health", "health"),
        ("pki/", "revocation_list"),
        ("strongroom-relay/", "credential"),
    ];
    OPERATIONS
        .iter()
        .find(|(prefix, _)| path.starts_with(prefix))
        .map_or("other", |(_, operation)| *operation)
}

/// Vault's status and the few sentences that tell its 400s apart; the sentences go no further.
fn classify(answer: &Answer) -> TransitError {
    #[derive(Deserialize)]
    struct Failure<'a> {
        #[serde(borrow, default)]
        errors: Vec<Cow<'a, str>>,
    }
    let says = |words: &str| {
        serde_json::from_slice::<Failure>(&answer.body)
            .is_ok_and(|failure| failure.errors.iter().any(|error| error.contains(words)))
    };
    let status = answer.status.as_u16();
    match status {
        403 => TransitError::Denied,
        404 => TransitError::Missing,
        400 | 500 if says("key not found") || says("version is too new") => TransitError::Missing,
        400 | 500 if says("too old") => TransitError::TooOld,
        400 | 500 if says("message authentication failed") || says("invalid ciphertext") => {
            TransitError::Unusable
        }
        // 412: a replica that has not caught up; 429: standby or over quota; 472, 473: standbys; 503: sealed.
        300..=399 | 412 | 429 | 472 | 473 | 500..=599 => TransitError::Unavailable,
        _ => TransitError::Refused { status },
    }
}

async fn collect(mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, TransitError> {
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(4096);
    let mut body = Zeroizing::new(Vec::with_capacity(announced.min(ANSWER_BYTES)));
    while let Some(chunk) = response.chunk().await.map_err(|_| TransitError::Unavailable)? {
        let needed = body.len() + chunk.len();
        if needed > ANSWER_BYTES {
            return Err(TransitError::Malformed);
        }
        if needed > body.capacity() {
            // Growing in place would leave the old buffer unwiped.
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            larger.extend_from_slice(&body);
            body = larger;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[expect(clippy::disallowed_methods, reason = "the token goes to Vault, in a header marked as sensitive")]
fn token_header(token: &SecretBytes) -> Result<HeaderValue, TransitError> {
    let owned = Bytes::from_owner(Zeroizing::new(token.expose().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(owned)
        .map_err(|_| TransitError::Setting("the token for Vault is not one line of text"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(address: &Url) -> bool {
    let host = address.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn tls_config(
    roots: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<rustls::ClientConfig, TransitError> {
    let builder = outgoing_tls(roots).map_err(|fault| {
        TransitError::Setting(match fault {
            OutgoingFault::Pem => "vault.roots_file has no usable PEM certificates",
            OutgoingFault::Root => "vault.roots_file holds a certificate that is no root",
            OutgoingFault::Version => "this build has no TLS 1.3",
        })
    })?;
    let Some((certificate_file, private_key_file)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let unusable = |_| TransitError::Setting("vault.auth names a certificate or private key that is not PEM");
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .map_err(unusable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unusable)?;
    let key = PrivateKeyDer::from_pem_file(private_key_file).map_err(unusable)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|_| TransitError::Setting("vault.auth's certificate and private key do not belong together"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn classes_follow_status_and_sentence() {
        // Sentences as OpenBao 2.7 and Vault 1.x say them.
        for (status, body, class) in [
            (403, r#"{"errors":["permission denied"]}"#, TransitError::Denied),
            (400, r#"{"errors":["encryption key not found"]}"#, TransitError::Missing),
            (400, r#"{"errors":["invalid ciphertext: version is too new"]}"#, TransitError::Missing),
            (
                400,
                r#"{"errors":["ciphertext or signature version is disallowed by policy (too old)"]}"#,
                TransitError::TooOld,
            ),
            (400, r#"{"errors":["cipher: message authentication failed"]}"#, TransitError::Unusable),
            (503, r#"{"errors":["Vault is sealed"]}"#, TransitError::Unavailable),
            (429, "", TransitError::Unavailable),
            (307, "", TransitError::Unavailable),
            (502, "<html>proxy</html>", TransitError::Unavailable),
            (400, "not json", TransitError::Refused { status: 400 }),
        ] {
            assert_eq!(classify(&answer(status, body)), class, "{status} {body}");
        }
    }

    fn config(address: &str) -> VaultConfig {
        toml::from_str(&format!(
            "address = \"{address}\"\nauth = {{ method = \"approle\", role_id_file = \"a\", secret_id_file = \"b\" }}"
        ))
        .unwrap()
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        assert!(Wire::open(&config("http://127.0.0.1:8200"), None).is_ok());
        assert!(Wire::open(&config("http://[::1]:8200"), None).is_ok());
        for address in ["http://vault.internal:8200", "http://10.0.0.1:8200", "nonsense"] {
            assert!(matches!(Wire::open(&config(address), None), Err(TransitError::Setting(_))), "{address}");
        }
    }
}
