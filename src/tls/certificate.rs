//! The facts of a client certificate that a connection keeps.
//!
//! The chain is verified by rustls before anything here is asked; this only reads the leaf, strictly.

use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::domain::actor::CertificateFacts;
use crate::domain::clock::Timestamp;

/// Why a verified certificate names no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate needs exactly one uri subject alternative name")]
    NotOneUri,
    #[error("the certificate must name client authentication as its purpose")]
    NotForClients,
}

/// Reads the leaf certificate of a finished handshake.
///
/// Exactly one URI subject alternative name is required (SPIFFE X.509-SVID section 2); names of other kinds are
/// ignored. The extended key usage must name client authentication: webpki lets a certificate without that extension
/// pass as good for every purpose.
pub fn certificate_facts(leaf: &CertificateDer<'_>) -> Result<CertificateFacts, CertificateFault> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| CertificateFault::Unreadable)?;
    if !rest.is_empty() {
        return Err(CertificateFault::Unreadable);
    }
    let usage = certificate.extended_key_usage().map_err(|_| CertificateFault::Unreadable)?;
    if !usage.is_some_and(|usage| usage.value.client_auth) {
        return Err(CertificateFault::NotForClients);
    }
    Ok(CertificateFacts {
        san: only_uri(&certificate)?.to_owned(),
        issuer_sha256: name_sha256(certificate.issuer()),
        serial: serial_hex(certificate.raw_serial()),
        not_after: seconds(certificate.validity().not_after.timestamp()),
        sha256: sha256_hex(leaf),
    })
}

/// When a certificate ends.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Result<Timestamp, CertificateFault> {
    let (_, certificate) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateFault::Unreadable)?;
    Ok(seconds(certificate.validity().not_after.timestamp()))
}

/// SHA-256 of a distinguished name's DER, lower-case hexadecimal.
pub(super) fn name_sha256(name: &X509Name<'_>) -> String {
    sha256_hex(name.as_raw())
}

/// A serial number's one spelling: lower-case hexadecimal of the unsigned bytes, without leading zero bytes.
pub(super) fn serial_hex(raw: &[u8]) -> String {
    let zeros = raw.iter().take_while(|byte| **byte == 0).count();
    to_hex(raw.get(zeros..).unwrap_or_default())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&sha256(bytes))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    digest
}

pub(super) const fn seconds(unix: i64) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(unix)
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateFault> {
    let names = certificate.subject_alternative_name().map_err(|_| CertificateFault::Unreadable)?;
    let names = names.ok_or(CertificateFault::NotOneUri)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        _ => Err(CertificateFault::NotOneUri),
    }
}

#[cfg(test)]
mod tests {
    use super::super::pki::{Leaf, Pki};
    use super::*;

    const PORTAL: &str = "spiffe://strongroom.internal/client/clinic-north/portal";

    #[test]
    fn facts_of_a_client_certificate() {
        let pki = Pki::new();
        let leaf = pki.leaf(&Leaf { serial: &[0x00, 0xab, 0x01], ..Leaf::client(PORTAL) });
        let facts = certificate_facts(&leaf.chain[0]).unwrap();
        assert_eq!(facts.san, PORTAL);
        assert_eq!(facts.serial, "ab01");
        assert_eq!(facts.not_after, Timestamp::parse_rfc3339("2030-01-01T00:00:00Z").unwrap());
        assert_eq!(facts.sha256, sha256_hex(&leaf.chain[0]));
        let (_, issuing) = X509Certificate::from_der(pki.issuing_der()).unwrap();
        assert_eq!(facts.issuer_sha256, name_sha256(issuing.subject()));
    }

    #[test]
    fn anything_but_one_uri_is_refused() {
        let pki = Pki::new();
        for uris in [vec![], vec![PORTAL, "spiffe://strongroom.internal/client/clinic-south/portal"]] {
            let leaf = pki.leaf(&Leaf { uris, ..Leaf::client(PORTAL) });
            assert_eq!(certificate_facts(&leaf.chain[0]), Err(CertificateFault::NotOneUri));
        }
    }

    #[test]
    fn the_purpose_must_be_stated() {
        let pki = Pki::new();
        for purposes in [vec![], vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]] {
            let leaf = pki.leaf(&Leaf { purposes, ..Leaf::client(PORTAL) });
            assert_eq!(certificate_facts(&leaf.chain[0]), Err(CertificateFault::NotForClients));
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        let der = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x01]);
        assert_eq!(certificate_facts(&der), Err(CertificateFault::Unreadable));
    }
}
