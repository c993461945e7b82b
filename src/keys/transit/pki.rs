//! Certificates of the private CA: issue, revoke, CRLs, chain.
//!
//! Not here: who may have which certificate (the roles that [`crate::keys::bootstrap`] writes), reading CRLs (`tls`).

use std::net::IpAddr;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::wire::Body;
use super::{Transit, TransitError};
use crate::domain::clock::Timestamp;
use crate::domain::secret::SecretBytes;
use crate::keys::bootstrap::SERVICE;

/// Which of the two certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PkiMount {
    Root,
    Issuing,
}

/// What a certificate should say; the role decides what it may say.
#[derive(Clone, Debug, Default)]
pub struct CertificateRequest {
    /// `server`, `service`, `client`, `auditor`, `custodian` or `operator`.
    pub role: &'static str,
    /// The one URI subject alternative name of client certificates.
    pub uri: Option<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub life_seconds: u64,
}

/// A new certificate with its key. The key exists nowhere else.
pub struct IssuedCertificate {
    /// Leaf first, then the issuing CA; without the root.
    pub chain_pem: String,
    /// PKCS #8.
    pub private_key_pem: SecretBytes,
    /// As Vault writes it (`3f:0a:…`), for [`Transit::revoke`].
    pub serial: String,
    pub not_after: Timestamp,
}

impl Transit {
    /// Issues a certificate. Needs a token with the issuer policy.
    pub async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, TransitError> {
        #[derive(Serialize)]
        struct Issue<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            common_name: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            uri_sans: Option<&'a str>,
            alt_names: String,
            ip_sans: String,
            exclude_cn_from_sans: bool,
            ttl: String,
            /// Base64 of DER: unlike PEM it needs no unescaping in JSON, so the key is copied once.
            format: &'a str,
            private_key_format: &'a str,
        }
        #[derive(Deserialize)]
        struct Issued<'a> {
            certificate: &'a str,
            issuing_ca: &'a str,
            private_key: &'a str,
            serial_number: String,
            expiration: i64,
        }
        let addresses: Vec<String> = request.ip_addresses.iter().map(ToString::to_string).collect();
        let body = Body::json(&Issue {
            // Only the service has one: Vault's certificate login calls its caller by it.
            common_name: (request.role == "service").then_some(SERVICE),
            uri_sans: request.uri.as_deref(),
            alt_names: request.dns_names.join(","),
            ip_sans: addresses.join(","),
            exclude_cn_from_sans: true,
            ttl: format!("{}s", request.life_seconds),
            format: "der",
            private_key_format: "pkcs8",
        })?;
        let path = format!("{}/issue/{}", self.inner.pki_issuing_mount, request.role);
        let answer = self.request(Method::POST, &path, Some(body)).await?;
        let issued: Issued = answer.data()?;
        let mut chain_pem = Zeroizing::new(Vec::new());
        pem_block(&mut chain_pem, "CERTIFICATE", issued.certificate);
        pem_block(&mut chain_pem, "CERTIFICATE", issued.issuing_ca);
        // 64 characters a line, and the two boundary lines.
        let mut key_pem = Zeroizing::new(Vec::with_capacity(issued.private_key.len() * 66 / 64 + 96));
        pem_block(&mut key_pem, "PRIVATE KEY", issued.private_key);
        Ok(IssuedCertificate {
            chain_pem: String::from_utf8(chain_pem.to_vec()).map_err(|_| TransitError::Malformed)?,
            private_key_pem: SecretBytes::from(key_pem),
            serial: issued.serial_number,
            not_after: Timestamp::from_micros(0).plus_seconds(issued.expiration),
        })
    }

    /// Revokes a certificate of the issuing CA and has the CRL rebuilt at once: with `auto_rebuild` on, Vault would
    /// otherwise publish the revocation only when the CRL nears its end. Needs a token with the issuer policy.
    pub async fn revoke(&self, serial: &str) -> Result<(), TransitError> {
        #[derive(Serialize)]
        struct Revoke<'a> {
            serial_number: &'a str,
        }
        let mount = &self.inner.pki_issuing_mount;
        let body = Body::json(&Revoke { serial_number: serial })?;
        self.request(Method::POST, &format!("{mount}/revoke"), Some(body)).await?;
        self.request(Method::GET, &format!("{mount}/crl/rotate"), None).await.map(drop)
    }

    /// The complete CRL of one CA, DER. Read without a token.
    pub async fn crl(&self, mount: PkiMount) -> Result<Vec<u8>, TransitError> {
        self.public(&format!("{}/crl", self.mount(mount))).await
    }

    /// The chain of the issuing CA up to and including the root, PEM. Read without a token.
    pub async fn ca_chain(&self) -> Result<String, TransitError> {
        let pem = self.public(&format!("{}/ca_chain", self.mount(PkiMount::Issuing))).await?;
        String::from_utf8(pem).map_err(|_| TransitError::Malformed)
    }

    /// One CA's own certificate, PEM. Read without a token.
    pub async fn ca_certificate(&self, mount: PkiMount) -> Result<String, TransitError> {
        let pem = self.public(&format!("{}/ca/pem", self.mount(mount))).await?;
        String::from_utf8(pem).map_err(|_| TransitError::Malformed)
    }

    async fn public(&self, path: &str) -> Result<Vec<u8>, TransitError> {
        let mut answer = self.inner.public.call(Method::GET, path, None, None).await?;
        // 204: the mount is there, its CA is not.
        if answer.body.is_empty() {
            return Err(TransitError::Missing);
        }
        Ok(std::mem::take(&mut *answer.body))
    }

    fn mount(&self, mount: PkiMount) -> &str {
        match mount {
            PkiMount::Root => &self.inner.pki_root_mount,
            PkiMount::Issuing => &self.inner.pki_issuing_mount,
        }
    }
}

/// RFC 7468: 64 characters a line.
fn pem_block(pem: &mut Vec<u8>, label: &str, base64: &str) {
    for part in ["-----BEGIN ", label, "-----\n"] {
        pem.extend_from_slice(part.as_bytes());
    }
    for line in base64.as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    for part in ["-----END ", label, "-----\n"] {
        pem.extend_from_slice(part.as_bytes());
    }
}
