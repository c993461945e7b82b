//! One witness's address, asked over mutual TLS: its own roots, no redirects, no proxy, no long answers.

use std::time::Duration;

use reqwest::{Method, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::audit::checkpoint::LONGEST_NOTE_BYTES;
use crate::config::AuditWitnessConfig;
use crate::tls::outgoing_tls;

/// What came back, whatever it means.
pub(super) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

/// A client that is made when it is needed, and anew after a failure, so that files that were replaced are taken up.
pub(super) struct Outgoing {
    config: AuditWitnessConfig,
    client: Option<reqwest::Client>,
}

impl Outgoing {
    pub const fn new(config: AuditWitnessConfig) -> Self {
        Self { config, client: None }
    }

    /// `None` when there was no whole answer in time.
    pub async fn send(&mut self, method: Method, url: Url, body: Option<String>) -> Option<Answer> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let config = self.config.clone();
                tokio::task::spawn_blocking(move || build(&config)).await.ok()??
            }
        };
        let answer = exchange(&client, method, url, body).await?;
        self.client = Some(client);
        Some(answer)
    }
}

/// What reqwest says of a failure names the address: it is dropped on purpose.
async fn exchange(
    client: &reqwest::Client,
    method: Method,
    url: Url,
    body: Option<String>,
) -> Option<Answer> {
    let request = client.request(method, url).body(body.unwrap_or_default());
    let mut response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if bytes.len() + chunk.len() > LONGEST_NOTE_BYTES {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    Some(Answer { status, body: bytes })
}

/// Reads files.
fn build(config: &AuditWitnessConfig) -> Option<reqwest::Client> {
    let chain = CertificateDer::pem_file_iter(&config.certificate_file).ok()?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_file(&config.private_key_file).ok()?;
    let tls = outgoing_tls(Some(&config.roots_file)).ok()?.with_client_auth_cert(chain, key).ok()?;
    let timeout = Duration::from_millis(config.timeout_ms);
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(timeout)
        .timeout(timeout)
        .pool_max_idle_per_host(1)
        .build()
        .ok()
}
