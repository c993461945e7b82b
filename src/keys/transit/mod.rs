//! The client of HashiCorp Vault's (or OpenBao's) HTTP API: tenant keys, signatures of the audit log, certificates, and the
//! credentials that destinations of the relay know the service by.
//!
//! Nothing here caches, keeps a key, or falls back to anything local. Errors are classes; what Vault said is read to
//! choose the class and then dropped.
//!
//! Not here: the cache ([`super::KeyRing`]), setting Vault up ([`super::bootstrap`]), deciding who may have a
//! certificate.

mod credentials;
mod pki;
mod session;
pub(super) mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

pub(in crate::keys) use credentials::KEY_VALUE_VERSION;
pub use pki::{CertificateRequest, IssuedCertificate, PkiMount};

use self::session::Sessions;
use self::wire::{Answer, Body, Wire};
use super::place::TenantKeyPlace;
use crate::config::VaultConfig;
use crate::domain::random::SharedRandom;
use crate::domain::secret::{Key256, SecretBytes};

/// The key that signs checkpoints of the audit log and attests instance keys.
pub const AUDIT_KEY: &str = "strongroom-audit";
/// The key-encryption keys: derived AES-256-GCM, one per data class and one for index roots.
pub const KEY_ENCRYPTION_KEYS: [&str; 4] =
    ["strongroom-phi", "strongroom-pii", "strongroom-chd", "strongroom-index"];

/// Why Vault did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitError {
    /// The configuration or a file it names.
    #[error("{0}")]
    Setting(&'static str),
    /// Transport, 5xx, 429, sealed: may pass by itself.
    #[error("vault cannot be reached, is sealed or is overloaded")]
    Unavailable,
    /// 403 after one fresh login, or the login itself refused.
    #[error("vault refused: check the service's credentials and policy")]
    Denied,
    #[error(
        "vault has no such key, role, mount or secret: run `strongroom bootstrap`, which makes all but the secrets"
    )]
    Missing,
    /// The version that wrapped the key is below the key's minimum version.
    #[error("the key version that wrapped this is no longer allowed")]
    TooOld,
    /// The ciphertext does not open: altered, or moved to another place.
    #[error("a wrapped key does not open in its place")]
    Unusable,
    /// A key exists but is not configured as the design demands.
    #[error("vault's key {key} is not usable: {why}")]
    UnsafeKey { key: &'static str, why: &'static str },
    #[error("vault refused the request with status {status}")]
    Refused { status: u16 },
    #[error("vault's answer does not have the expected form")]
    Malformed,
}

/// Whether Vault can serve, without asking it for anything secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// Reachable, but sealed or not initialised.
    Sealed,
    Unreachable,
}

/// A signature by the audit key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSignature {
    pub key_version: u32,
    /// Ed25519 (RFC 8032).
    pub signature: [u8; 64],
}

/// A logged-in client. Cheap to clone; the background renewal ends with the last clone.
#[derive(Clone)]
pub struct Transit {
    inner: Arc<Inner>,
}

struct Inner {
    sessions: Arc<Sessions>,
    /// For what needs no token: CRLs, health.
    public: Wire,
    environment: String,
    transit_mount: String,
    pki_root_mount: String,
    pki_issuing_mount: String,
    credentials_mount: String,
    keeper: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

impl Transit {
    /// Prepares the client and starts the task that logs in and keeps the token alive. Needs no Vault to succeed: a
    /// sealed or absent Vault makes the calls fail with [`TransitError::Unavailable`] until it is back. Must run
    /// within a tokio runtime.
    pub fn connect(
        config: &VaultConfig,
        environment: &str,
        random: SharedRandom,
    ) -> Result<Self, TransitError> {
        let sessions = Arc::new(Sessions::by_login(config, random)?);
        let keeper = tokio::spawn(Arc::clone(&sessions).keep()).abort_handle();
        Self::assemble(config, environment, sessions, Some(keeper))
    }

    /// A client with a token from outside (an administrator's, an issuer's): no login, no renewal.
    pub fn with_token(
        config: &VaultConfig,
        environment: &str,
        token: SecretBytes,
        random: SharedRandom,
    ) -> Result<Self, TransitError> {
        let sessions = Arc::new(Sessions::by_token(config, token, random)?);
        Self::assemble(config, environment, sessions, None)
    }

    fn assemble(
        config: &VaultConfig,
        environment: &str,
        sessions: Arc<Sessions>,
        keeper: Option<AbortHandle>,
    ) -> Result<Self, TransitError> {
        let pki_mounts = [&config.pki_root_mount, &config.pki_issuing_mount];
        for mount in [&config.transit_mount, &config.credentials_mount].into_iter().chain(pki_mounts) {
            if !is_mount(mount) {
                return Err(TransitError::Setting(
                    "a mount in [vault] may hold letters, digits, - _ and / only",
                ));
            }
        }
        let inner = Inner {
            sessions,
            public: Wire::open(config, None)?,
            environment: environment.to_owned(),
            transit_mount: config.transit_mount.clone(),
            pki_root_mount: config.pki_root_mount.clone(),
            pki_issuing_mount: config.pki_issuing_mount.clone(),
            credentials_mount: config.credentials_mount.clone(),
            keeper,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Logs in if that has not happened yet. `Ok` means a token is held, not that it may do everything.
    pub async fn ready(&self) -> Result<(), TransitError> {
        self.inner.sessions.current().await.map(drop)
    }

    /// Asks Vault how it is; needs no token. A standby that forwards counts as ready.
    pub async fn health(&self) -> Health {
        match self.inner.public.send(Method::GET, "sys/health", None, None).await.map(|a| a.status.as_u16()) {
            Ok(200 | 429 | 472 | 473) => Health::Ready,
            Ok(501 | 503) => Health::Sealed,
            _ => Health::Unreachable,
        }
    }

    /// Wraps a tenant key for its place; the answer is `vault:v<n>:…`.
    pub async fn encrypt(&self, place: &TenantKeyPlace, key: &Key256) -> Result<String, TransitError> {
        #[derive(Deserialize)]
        struct Wrapped {
            ciphertext: String,
        }
        let path = format!("{}/encrypt/{}", self.inner.transit_mount, place.kind.transit_key());
        let body = encrypt_body(&place.context(&self.inner.environment), key)?;
        let answer = self.request(Method::POST, &path, Some(body)).await?;
        Ok(answer.data::<Wrapped>()?.ciphertext)
    }

    /// Unwraps a tenant key. Fails with [`TransitError::Unusable`] when the text was wrapped for another place.
    pub async fn decrypt(&self, place: &TenantKeyPlace, wrapped: &str) -> Result<Key256, TransitError> {
        #[derive(Serialize)]
        struct Unwrap<'a> {
            ciphertext: &'a str,
            context: &'a str,
        }
        #[derive(Deserialize)]
        struct Opened<'a> {
            plaintext: &'a str,
        }
        let path = format!("{}/decrypt/{}", self.inner.transit_mount, place.kind.transit_key());
        let context = Base64::encode_string(&place.context(&self.inner.environment));
        let body = Body::json(&Unwrap { ciphertext: wrapped, context: &context })?;
        let answer = self.request(Method::POST, &path, Some(body)).await?;
        let opened: Opened = answer.data()?;
        Key256::filled(|key| match Base64::decode(opened.plaintext, &mut key[..]) {
            Ok(bytes) if bytes.len() == 32 => Ok(()),
            _ => Err(TransitError::Unusable),
        })
    }

    /// Signs with the newest version of the audit key (Ed25519, not pre-hashed).
    pub async fn sign_audit(&self, message: &[u8]) -> Result<AuditSignature, TransitError> {
        #[derive(Serialize)]
        struct Sign<'a> {
            input: &'a str,
        }
        #[derive(Deserialize)]
        struct Signed<'a> {
            signature: &'a str,
        }
        let path = format!("{}/sign/{AUDIT_KEY}", self.inner.transit_mount);
        let body = Body::json(&Sign { input: &Base64::encode_string(message) })?;
        let answer = self.request(Method::POST, &path, Some(body)).await?;
        parse_signature(answer.data::<Signed>()?.signature).ok_or(TransitError::Malformed)
    }

    /// The public keys of the audit key, by version.
    pub async fn audit_public_keys(&self) -> Result<BTreeMap<u32, [u8; 32]>, TransitError> {
        #[derive(Deserialize)]
        struct Versions {
            keys: BTreeMap<u32, Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            public_key: String,
        }
        let answer = self.read_key(AUDIT_KEY).await?;
        let mut keys = BTreeMap::new();
        for (number, version) in answer.data::<Versions>()?.keys {
            let mut public_key = [0_u8; 32];
            match Base64::decode(&version.public_key, &mut public_key) {
                Ok(bytes) if bytes.len() == 32 => keys.insert(number, public_key),
                _ => return Err(TransitError::Malformed),
            };
        }
        Ok(keys)
    }

    /// Reads the configuration of every key the service depends on and refuses the first that is not as it must be.
    /// A derived key is what makes Vault look at `context` at all; the rest keeps keys inside Vault.
    pub async fn check_keys(&self) -> Result<(), TransitError> {
        for key in KEY_ENCRYPTION_KEYS {
            self.check_key(key, "aes256-gcm96", true).await?;
        }
        self.check_key(AUDIT_KEY, "ed25519", false).await
    }

    async fn check_key(&self, key: &'static str, key_type: &str, derived: bool) -> Result<(), TransitError> {
        let answer = self.read_key(key).await?;
        let found: KeyConfiguration = answer.data()?;
        match found.fault(key_type, derived) {
            Some(why) => Err(TransitError::UnsafeKey { key, why }),
            None => Ok(()),
        }
    }

    async fn read_key(&self, key: &str) -> Result<Answer, TransitError> {
        self.request(Method::GET, &format!("{}/keys/{key}", self.inner.transit_mount), None).await
    }

    /// A request with the token; a 403 buys one fresh login and one more try.
    async fn request(&self, method: Method, path: &str, body: Option<Body>) -> Result<Answer, TransitError> {
        let session = self.inner.sessions.current().await?;
        match session.wire.call(method.clone(), path, Some(&session.token), body.as_ref()).await {
            Err(TransitError::Denied) => {
                let fresh = self.inner.sessions.replace(Some(&session)).await?;
                fresh.wire.call(method, path, Some(&fresh.token), body.as_ref()).await
            }
            other => other,
        }
    }
}

/// What `GET transit/keys/<name>` says, as far as it matters. A field that Vault does not send is a refusal.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the form of Vault's answer")]
pub(super) struct KeyConfiguration {
    #[serde(rename = "type")]
    key_type: String,
    derived: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    deletion_allowed: bool,
    #[serde(default)]
    convergent_encryption: bool,
}

impl KeyConfiguration {
    /// The first thing that is wrong, in words for the operator.
    pub(super) fn fault(&self, key_type: &str, derived: bool) -> Option<&'static str> {
        if self.key_type != key_type {
            return Some("it has the wrong type");
        }
        if self.derived != derived {
            return Some(if derived { "it must be derived" } else { "it must not be derived" });
        }
        if self.convergent_encryption {
            return Some("it must not be convergent");
        }
        if self.exportable {
            return Some("it must not be exportable");
        }
        if self.allow_plaintext_backup {
            return Some("it must not allow plaintext backup");
        }
        if self.deletion_allowed {
            return Some("it must not allow deletion");
        }
        None
    }
}

/// `{"context":"…","plaintext":"…"}`: both are base64, which JSON does not escape. The plaintext's text is encoded in
/// place, in a buffer that is wiped.
fn encrypt_body(context: &[u8; 32], key: &Key256) -> Result<Body, TransitError> {
    let mut text = Zeroizing::new([0_u8; 44]);
    let plaintext = Base64::encode(key.expose(), &mut *text).map_err(|_| TransitError::Malformed)?;
    let mut body = Zeroizing::new(Vec::with_capacity(160));
    for part in [r#"{"context":""#, &Base64::encode_string(context), r#"","plaintext":""#, plaintext, r#""}"#]
    {
        body.extend_from_slice(part.as_bytes());
    }
    Ok(Body::from_secret(body))
}

/// `vault:v<n>:<base64>`.
fn parse_signature(text: &str) -> Option<AuditSignature> {
    let (version, encoded) = text.strip_prefix("vault:v")?.split_once(':')?;
    let mut signature = [0_u8; 64];
    let length = Base64::decode(encoded, &mut signature).ok()?.len();
    (length == 64).then_some(AuditSignature { key_version: version.parse().ok()?, signature })
}

fn is_mount(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    !name.is_empty() && !name.starts_with('/') && !name.ends_with('/') && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(change: &str) -> KeyConfiguration {
        let mut value = serde_json::json!({
            "type": "aes256-gcm96", "derived": true, "exportable": false,
            "allow_plaintext_backup": false, "deletion_allowed": false, "convergent_encryption": false,
        });
        if let Some((key, word)) = change.split_once('=') {
            value[key] = serde_json::from_str(word).unwrap();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_the_demanded_configuration_passes() {
        assert_eq!(configuration("").fault("aes256-gcm96", true), None);
        for change in [
            "type=\"chacha20-poly1305\"",
            "derived=false",
            "exportable=true",
            "allow_plaintext_backup=true",
            "deletion_allowed=true",
            "convergent_encryption=true",
        ] {
            assert!(configuration(change).fault("aes256-gcm96", true).is_some(), "{change}");
        }
    }

    #[test]
    fn the_encrypt_body_is_json_with_the_key() {
        let key = Key256::copied_from(&[7; 32]).unwrap();
        let body = encrypt_body(&[1; 32], &key).unwrap();
        let value: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap();
        assert_eq!(value["plaintext"], Base64::encode_string(&[7; 32]));
        assert_eq!(value["context"], Base64::encode_string(&[1; 32]));
    }

    #[test]
    fn signatures_are_parsed_strictly() {
        let good = format!("vault:v3:{}", Base64::encode_string(&[9; 64]));
        assert_eq!(parse_signature(&good).map(|s| s.key_version), Some(3));
        for bad in [
            "",
            "vault:v1:",
            "vault:1:AAAA",
            "v1:AAAA",
            &format!("vault:v1:{}", Base64::encode_string(&[9; 63])),
        ] {
            assert!(parse_signature(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_plain_words() {
        assert!(is_mount("transit") && is_mount("team-a/pki_root"));
        for bad in ["", "/pki", "pki/", "p ki", "pki?x", "pki#", "..%2f"] {
            assert!(!is_mount(bad), "{bad}");
        }
    }
}
