//! What a client shows, and what an authority publishes. Signatures are checked elsewhere; these readers come after them
//! or before, so they must take anything.

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use strongroom::tls::{Revocations, certificate_facts};

pub fn certificates(data: &[u8]) {
    let Ok(facts) = certificate_facts(&CertificateDer::from(data)) else { return };
    assert!(!facts.san.is_empty(), "a certificate that names nobody");
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(is_hex(&facts.serial) && is_hex(&facts.issuer_sha256) && is_hex(&facts.sha256));
    assert_eq!((facts.issuer_sha256.len(), facts.sha256.len()), (64, 64));
}

pub fn crls(data: &[u8]) {
    let list = [CertificateRevocationListDer::from(data)];
    let Ok(once) = Revocations::parse(&list) else { return };
    assert!(once.next_update().is_some(), "a list that never runs out");
    let twice = [CertificateRevocationListDer::from(data), CertificateRevocationListDer::from(data)];
    let twice = Revocations::parse(&twice).expect("what reads once reads twice");
    assert_eq!(once.revoked_entries(), twice.revoked_entries());
}
