//! The few calls that turn a fresh Vault API server into a usable one. Everything a product does with Vault is in
//! `keys`; this only initialises, unseals and seals.

use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::error::DevStackError;

/// Talks to one server on loopback, in clear: without proxies and redirects.
pub(super) struct VaultApi {
    client: reqwest::Client,
    address: String,
}

/// What `init` gives once and never again.
pub(super) struct InitialSecrets {
    pub(super) unseal_key: Zeroizing<String>,
    pub(super) root_token: Zeroizing<String>,
}

/// What an answering server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SealStatus {
    pub(super) initialized: bool,
    pub(super) sealed: bool,
}

impl VaultApi {
    pub(super) fn new(port: u16) -> Result<Self, DevStackError> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|_| DevStackError::Api("at all: no HTTP client"))?;
        Ok(Self { client, address: format!("http://127.0.0.1:{port}") })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// `None` while nothing answers.
    pub(super) async fn seal_status(&self) -> Option<SealStatus> {
        let answer = self.client.get(self.url("seal-status")).send().await.ok()?;
        let body = read(answer).await?;
        Some(SealStatus {
            initialized: body.get("initialized")?.as_bool()?,
            sealed: body.get("sealed")?.as_bool()?,
        })
    }

    /// Whether it takes requests: unsealed and the leader of its cluster of one.
    pub(super) async fn is_active(&self) -> bool {
        let answer = self.client.get(self.url("health")).send().await;
        answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::OK)
    }

    /// Makes the one unseal key and the root token.
    pub(super) async fn initialize(&self) -> Result<InitialSecrets, DevStackError> {
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let refused = || DevStackError::Api("sys/init");
        let answer = self.client.put(self.url("init")).body(body.to_string()).send().await;
        let body = read(answer.map_err(|_| refused())?).await.ok_or_else(refused)?;
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).map(|text| Zeroizing::new(text.to_owned())).ok_or_else(refused)
        };
        Ok(InitialSecrets {
            unseal_key: text(body.pointer("/keys_base64/0"))?,
            root_token: text(body.get("root_token"))?,
        })
    }

    pub(super) async fn unseal(&self, key: &str) -> Result<(), DevStackError> {
        let body = json!({ "key": key }).to_string();
        let answer = self.client.put(self.url("unseal")).body(body).send().await;
        accept(answer, "sys/unseal")
    }

    pub(super) async fn seal(&self, token: &str) -> Result<(), DevStackError> {
        let answer = self.client.put(self.url("seal")).header("X-Vault-Token", token).send().await;
        accept(answer, "sys/seal")
    }

    fn url(&self, call: &str) -> String {
        format!("{}/v1/sys/{call}", self.address)
    }
}

fn accept(answer: reqwest::Result<reqwest::Response>, call: &'static str) -> Result<(), DevStackError> {
    let accepted = answer.is_ok_and(|answer| answer.status().is_success());
    accepted.then_some(()).ok_or(DevStackError::Api(call))
}

async fn read(answer: reqwest::Response) -> Option<Value> {
    if !answer.status().is_success() {
        return None;
    }
    serde_json::from_slice(&answer.bytes().await.ok()?).ok()
}
