//! The witness's own key.

use std::path::Path;

use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::audit::checkpoint::{Cosignature, KeyKind, KeyName, VerifierKey, cosigned_message, to_base64};
use crate::domain::random::{NoRandomness, Random};

/// RFC 8410 section 7: a `PrivateKeyInfo` of version 1 for Ed25519, up to the 32 bytes of the key.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why a key cannot be used. Nothing of the file is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessKeyFault {
    #[error("the key file cannot be read: {0}")]
    Read(std::io::ErrorKind),
    #[error("the key file is no Ed25519 key in pem (RFC 8410)")]
    Form,
}

/// An Ed25519 key that cosigns, and nothing else: the messages of other uses could be taken for cosignatures.
pub struct WitnessKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl WitnessKey {
    /// Reads a PEM file, of [`Self::generate`] or of `openssl genpkey -algorithm ed25519`.
    pub fn read(name: KeyName, path: &Path) -> Result<Self, WitnessKeyFault> {
        let pem =
            std::fs::read(path).map(Zeroizing::new).map_err(|error| WitnessKeyFault::Read(error.kind()))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| WitnessKeyFault::Form)?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        let pair = pair.map_err(|_| WitnessKeyFault::Form)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| WitnessKeyFault::Form)?;
        Ok(Self { verifier: VerifierKey::new(name, KeyKind::Witness, public), pair })
    }

    /// The PEM of a new key.
    pub fn generate(random: &dyn Random) -> Result<Zeroizing<String>, NoRandomness> {
        let mut der = Zeroizing::new([0_u8; 48]);
        let (head, seed) = der.split_at_mut(PKCS8.len());
        head.copy_from_slice(&PKCS8);
        random.fill(seed)?;
        let base64 = Zeroizing::new(to_base64(der.as_slice()));
        Ok(Zeroizing::new(format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64.as_str()
        )))
    }

    /// What others need to believe it.
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    pub(super) fn cosign(&self, time_s: u64, text: &str) -> Option<Cosignature> {
        let signature = self.pair.sign(cosigned_message(time_s, text).as_bytes());
        Some(Cosignature { time_s, signature: signature.as_ref().try_into().ok()? })
    }
}
