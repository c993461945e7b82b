//! The administrator's few verbs: read, write, and "write only if it differs".

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Step, StepOutcome, agrees};
use crate::config::VaultConfig;
use crate::domain::secret::SecretBytes;
use crate::keys::transit::wire::{Answer, Body, Wire};
use crate::keys::transit::{KEY_VALUE_VERSION, TransitError};

pub(super) struct Administrator {
    wire: Wire,
    token: SecretBytes,
}

impl Administrator {
    pub fn new(config: &VaultConfig, token: SecretBytes) -> Result<Self, TransitError> {
        Ok(Self { wire: Wire::open(config, None)?, token })
    }

    /// `None` when there is nothing at this path.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, TransitError> {
        match self.call(Method::GET, path, None).await {
            Ok(answer) => answer.data().map(Some),
            // Vault says 400 or 404 for what does not exist, depending on the engine.
            Err(TransitError::Missing | TransitError::Refused { status: 400 }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn write(&self, path: &str, value: &impl Serialize) -> Result<Answer, TransitError> {
        self.call(Method::POST, path, Some(&Body::json(value)?)).await
    }

    /// The names under a path, none when the path is empty.
    pub async fn list(&self, path: &str) -> Result<Vec<String>, TransitError> {
        #[derive(serde::Deserialize)]
        struct Listed {
            keys: Vec<String>,
        }
        // `?list=true` is the same as the verb LIST, which proxies like less.
        Ok(self
            .read::<Listed>(&format!("{path}?list=true"))
            .await?
            .map_or_else(Vec::new, |listed| listed.keys))
    }

    /// Writes `wanted` unless what is there says the same.
    pub async fn settle(&self, what: &str, path: &str, wanted: &Value) -> Result<Step, TransitError> {
        let found = self.read::<Value>(path).await?;
        if found.is_some_and(|found| agrees(&found, wanted)) {
            return Ok(Step { what: what.to_owned(), outcome: StepOutcome::AlreadyThere });
        }
        self.write(path, wanted).await?;
        Ok(Step { what: what.to_owned(), outcome: StepOutcome::Done })
    }

    /// Mounts a secrets engine; one of another type in its place is refused by Vault.
    pub async fn mount_engine(&self, mount: &str, kind: &str, config: &Value) -> Result<Step, TransitError> {
        let wanted = json!({ "type": kind, "config": config });
        self.mount("sys/mounts", "secrets engine", mount, &wanted).await
    }

    /// Mounts a key-value store that keeps versions; one that keeps none has other paths, and is refused as another type is.
    pub async fn mount_key_values(&self, mount: &str) -> Result<Step, TransitError> {
        let wanted = json!({ "type": "kv", "options": { "version": KEY_VALUE_VERSION } });
        self.mount("sys/mounts", "secrets engine", mount, &wanted).await
    }

    pub async fn mount_login(&self, mount: &str, kind: &str) -> Result<Step, TransitError> {
        self.mount("sys/auth", "login method", mount, &json!({ "type": kind })).await
    }

    /// What is mounted there stays as it is if its type is the one that is wanted, with the options that are.
    async fn mount(&self, list: &str, noun: &str, mount: &str, wanted: &Value) -> Result<Step, TransitError> {
        let what = format!("{noun} {mount}");
        let mounts = self.read::<Value>(list).await?.unwrap_or_default();
        let is_there = mounts.get(format!("{mount}/")).is_some_and(|found| {
            let same = |key: &str| {
                wanted.get(key).is_none_or(|value| found.get(key).is_some_and(|there| agrees(there, value)))
            };
            same("type") && same("options")
        });
        if is_there {
            return Ok(Step { what, outcome: StepOutcome::AlreadyThere });
        }
        self.write(&format!("{list}/{mount}"), wanted).await?;
        Ok(Step { what, outcome: StepOutcome::Done })
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Body>) -> Result<Answer, TransitError> {
        self.wire.call(method, path, Some(&self.token), body).await
    }
}
