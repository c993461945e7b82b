//! How the service speaks TLS to others over HTTP: to Vault, and to identity providers.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// Why there is no such configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutgoingFault {
    #[error("the file of roots has no usable pem certificates")]
    Pem,
    #[error("the file of roots holds a certificate that is no root")]
    Root,
    #[error("this build has no tls 1.3")]
    Version,
}

/// TLS 1.3 to servers whose certificates chain to the roots of this file, and to no others; without a file, to nobody.
/// Reads the file.
pub fn outgoing_tls(
    roots: Option<&Path>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, OutgoingFault> {
    let mut store = RootCertStore::empty();
    if let Some(path) = roots {
        for certificate in CertificateDer::pem_file_iter(path).map_err(|_| OutgoingFault::Pem)? {
            store.add(certificate.map_err(|_| OutgoingFault::Pem)?).map_err(|_| OutgoingFault::Root)?;
        }
        if store.is_empty() {
            return Err(OutgoingFault::Pem);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| OutgoingFault::Version)?;
    Ok(builder.with_root_certificates(store))
}
