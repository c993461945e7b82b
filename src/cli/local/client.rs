//! The public application as it would be: HTTPS with a client certificate of its own, and a purpose.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::devstack::ClientFiles;

/// One client's connections to the service.
#[derive(Clone)]
pub(crate) struct Application {
    http: reqwest::Client,
    base: String,
    purpose: Option<&'static str>,
}

/// What came back: `body` is null when it was not JSON.
pub(crate) struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Application {
    /// Trusts only `roots`, and presents the certificate in `files`.
    pub fn new(address: SocketAddr, roots: &Path, files: &ClientFiles) -> Result<Self> {
        let root = reqwest::Certificate::from_pem(&read(roots)?).context("the roots are not PEM")?;
        let mut identity = read(&files.certificate)?;
        identity.extend_from_slice(&read(&files.private_key)?);
        let identity = reqwest::Identity::from_pem(&identity).context("the certificate is not PEM")?;
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .identity(identity)
            .no_proxy()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .build()
            .context("cannot make an HTTPS client")?;
        Ok(Self { http, base: format!("https://{address}"), purpose: None })
    }

    /// The same client, stating a purpose of use on every request.
    #[must_use]
    pub fn for_purpose(&self, code: &'static str) -> Self {
        Self { purpose: Some(code), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base));
        self.send(request.header("content-type", "application/json").body(body.to_string())).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let request = match self.purpose {
            Some(code) => request.header("x-purpose-of-use", code),
            None => request,
        };
        let answer = request.send().await.context("the service did not answer")?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.context("the service's answer broke off")?;
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    }
}

impl Answer {
    /// A text of the body, by JSON pointer; empty when there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Names in a list of the body: `masked`, `withheld`.
    pub fn names(&self, member: &str) -> Vec<&str> {
        let list = self.body.get(member).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path).map(Zeroizing::new).with_context(|| format!("cannot read {}", path.display()))
}
