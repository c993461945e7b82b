//! Credentials of the relay's destinations, from a key-value store of Vault's that keeps versions.
//!
//! Read anew for each use and kept nowhere: one that was replaced or deleted there is so at once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Transit, TransitError};
use crate::domain::secret::SecretBytes;
use crate::relay::CredentialPlace;

/// Of the key-value engine: the one whose values lie under `data/`.
pub(in crate::keys) const KEY_VALUE_VERSION: &str = "2";

#[derive(Deserialize)]
struct Secret<'a> {
    #[serde(borrow)]
    data: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

/// What Vault says of a mount to whoever may use a path in it.
#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    engine: String,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    version: Option<String>,
}

impl Transit {
    /// The newest version of a credential. [`TransitError::Missing`] where there is none, or it was deleted;
    /// [`TransitError::Malformed`] where it is no text or empty.
    pub async fn relay_credential(&self, place: &CredentialPlace) -> Result<SecretBytes, TransitError> {
        let path = format!("{}/data/{}", self.inner.credentials_mount, place.path());
        let answer = self.request(Method::GET, &path, None).await?;
        let secret: Secret<'_> = answer.data()?;
        let value = secret.data.get(place.key()).ok_or(TransitError::Missing)?;
        let text: String = serde_json::from_str(value.get()).map_err(|_| TransitError::Malformed)?;
        if text.is_empty() {
            return Err(TransitError::Malformed);
        }
        Ok(SecretBytes::new(text.into_bytes()))
    }

    /// Whether the store is mounted as it must be and its credentials may be read.
    pub async fn check_credentials(&self) -> Result<(), TransitError> {
        let path = format!("sys/internal/ui/mounts/{}", self.inner.credentials_mount);
        let answer = match self.request(Method::GET, &path, None).await {
            // Vault does not tell whether it is not there or not for us.
            Err(TransitError::Denied) => return Err(TransitError::Missing),
            other => other?,
        };
        let found: Mount = answer.data()?;
        let version = found.options.and_then(|options| options.version);
        if found.engine == "kv" && version.as_deref() == Some(KEY_VALUE_VERSION) {
            Ok(())
        } else {
            Err(TransitError::Setting("vault.credentials_mount is no key-value store of version 2"))
        }
    }
}
