//! The rustls configuration of the door.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{ProtocolVersion, RootCertStore};

use crate::domain::clock::{SharedClock, Timestamp};

/// Why no configuration can be made of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerConfigError {
    #[error("there is no crl, fetch those of the root and of the issuing ca")]
    NoCrl,
    #[error("the client roots and the crls make no verifier")]
    Verifier,
    #[error("the provider does not do tls 1.3")]
    Provider,
}

/// Key exchange, best first. rustls follows the order of the client, so a client that prefers a classical group gets it;
/// those of OpenSSL 3.5, Go 1.24 and rustls put the hybrid first as well.
const KEY_EXCHANGE: [&dyn SupportedKxGroup; 4] =
    [kx_group::X25519MLKEM768, kx_group::SECP256R1MLKEM768, kx_group::X25519, kx_group::SECP256R1];

/// aws-lc-rs with TLS 1.3 suites and [`KEY_EXCHANGE`] only.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = default_provider();
    provider.kx_groups = KEY_EXCHANGE.to_vec();
    provider.cipher_suites.retain(|suite| suite.version().version == ProtocolVersion::TLSv1_3);
    provider
}

/// What every client certificate must pass: a chain to `roots`, client authentication as its purpose, and a CRL in date
/// for every certificate below the root. A status that is not known is a refusal (rustls' default, kept).
pub(super) fn client_verifier(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    crls: &[CertificateRevocationListDer<'static>],
) -> Result<Arc<dyn ClientCertVerifier>, ServerConfigError> {
    // Without any CRL rustls would not look at revocation at all.
    if crls.is_empty() {
        return Err(ServerConfigError::NoCrl);
    }
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .with_crls(crls.iter().cloned())
        .enforce_revocation_expiration()
        .build()
        .map_err(|_| ServerConfigError::Verifier)
}

/// TLS 1.3 with a client certificate and without resumption: a resumed session would skip the verification, so there are
/// no tickets, no stored sessions and no early data.
pub(super) fn build(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    certificate: &CertifiedKey,
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, ServerConfigError> {
    let resolver = Arc::new(SingleCertAndKey::from(certificate.clone()));
    let mut config = ServerConfig::builder_with_details(Arc::clone(provider), Arc::new(HandshakeTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| ServerConfigError::Provider)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(Arc::new(config))
}

/// Seconds since 1970 as rustls wants them; a clock before 1970 counts as 1970.
pub(super) fn unix_time(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_seconds()).unwrap_or(0)))
}

/// The domain's clock, as rustls asks for it.
struct HandshakeTime(SharedClock);

impl std::fmt::Debug for HandshakeTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandshakeTime")
    }
}

impl TimeProvider for HandshakeTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pki::{Crl, Leaf, Pki};
    use super::*;
    use crate::domain::clock::SystemClock;

    #[test]
    fn nothing_can_be_resumed_and_nothing_is_older_than_tls_1_3() {
        let pki = Pki::new();
        let provider = Arc::new(provider());
        let crls = [pki.root_crl(&Crl::first()), pki.issuing_crl(&Crl::first())];
        let verifier = client_verifier(&provider, &pki.roots(), &crls).unwrap();
        assert!(verifier.client_auth_mandatory());
        let leaf = pki.leaf(&Leaf::server());
        let certified = CertifiedKey::from_der(leaf.chain, leaf.key, &provider).unwrap();
        let config = build(&provider, verifier, &certified, Arc::new(SystemClock)).unwrap();
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
        assert!(!config.ticketer.enabled() && !config.session_storage.can_cache());
        assert!(config.crypto_provider().cipher_suites.iter().all(|suite| suite.tls13().is_some()));
        assert_eq!(
            config.crypto_provider().kx_groups.first().map(|group| group.name()),
            Some(rustls::NamedGroup::X25519MLKEM768)
        );
    }

    #[test]
    fn without_crls_there_is_no_verifier() {
        let pki = Pki::new();
        let refused = client_verifier(&Arc::new(provider()), &pki.roots(), &[]).err();
        assert_eq!(refused, Some(ServerConfigError::NoCrl));
    }
}
