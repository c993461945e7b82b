//! The configuration of `strongroom witness`, which runs elsewhere and shares nothing with the service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::sections::LimitsConfig;

/// A whole configuration. Unknown keys are refused in every section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// The name it signs under, such as `audit.example/w1`.
    pub name: String,
    /// PEM, Ed25519.
    pub key_file: PathBuf,
    /// Keys of the logs it watches: a C2SP tlog-policy file.
    pub logs_file: PathBuf,
    pub state_directory: PathBuf,
    pub server: WitnessServerConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
}

/// The listener and its certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessServerConfig {
    pub listen: SocketAddr,
    pub certificate_file: PathBuf,
    pub private_key_file: PathBuf,
    /// PEM roots that client certificates must chain to.
    pub client_roots_file: PathBuf,
    /// Revocation lists (`*.crl`, DER) of every CA in the chain; kept fresh by whoever runs the witness.
    pub crl_directory: PathBuf,
    /// Who may ask, in the form of `policy/identities.toml`.
    pub identities_file: PathBuf,
}

impl WitnessConfig {
    /// Relative paths are taken from the file's folder.
    pub(super) fn resolve_paths(&mut self, base: &Path) {
        let server = &mut self.server;
        for path in [
            &mut self.key_file,
            &mut self.logs_file,
            &mut self.state_directory,
            &mut server.certificate_file,
            &mut server.private_key_file,
            &mut server.client_roots_file,
            &mut server.crl_directory,
            &mut server.identities_file,
        ] {
            *path = base.join(&*path);
        }
    }
}
