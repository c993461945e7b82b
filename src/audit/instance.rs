//! The key of an instance run: it signs every flush of the group committer, lives in memory alone, and is gone with the
//! process. The log's key in Vault attests it once, so that whoever has the log's public key can tell what a process of the
//! service wrote from what somebody else put into its tables.
//!
//! Not here: asking Vault (`service::attest`), the chains (`committer`), judging them (`verify::chains`).

use std::fmt::Write;

use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::checkpoint::VerifierKey;
use crate::domain::random::{NoRandomness, Random};

/// The first line of what the log's key signs. With its spaces it is no checkpoint's first line, a name.
const ATTESTED: &str = "strongroom instance key v1";
/// Before the digest that an instance key signs.
const FLUSH: &[u8] = b"strongroom flush v1\n";

/// How an entry names the key that signed it: the first bytes of its SHA-256.
pub type InstanceKeyId = [u8; 8];

/// An Ed25519 key of one instance run.
pub struct InstanceKey {
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl InstanceKey {
    pub fn generate(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut seed = Zeroizing::new([0_u8; 32]);
        random.fill(seed.as_mut_slice())?;
        // Fails for another length only.
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).map_err(|_| NoRandomness)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoRandomness)?;
        Ok(Self { pair, public })
    }

    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub fn id(&self) -> InstanceKeyId {
        key_id(&self.public)
    }

    /// Signs an entry, whose bytes are complete but for the signature.
    pub fn sign(&self, unsigned: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.pair.sign(&flush_message(&sha256(unsigned))).as_ref());
        out
    }
}

/// The id of a public key.
pub fn key_id(public: &[u8; 32]) -> InstanceKeyId {
    let mut id = [0; 8];
    id.copy_from_slice(sha256(public).get(..8).unwrap_or(&[0; 8]));
    id
}

/// What the log's key signs for an instance key.
pub fn attested_text(origin: &str, public: &[u8; 32]) -> String {
    let mut text = format!("{ATTESTED}\n{origin}\n");
    for byte in public {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    text
}

/// Whether one of the log's keys attests this instance key.
pub fn is_attested(logs: &[VerifierKey], public: &[u8; 32], attestation: &[u8]) -> bool {
    logs.iter().any(|log| {
        let text = attested_text(log.name().as_str(), public);
        UnparsedPublicKey::new(&ED25519, log.public()).verify(text.as_bytes(), attestation).is_ok()
    })
}

/// Whether the key signed an entry with this digest of its bytes without the signature.
pub fn is_signed(public: &[u8; 32], unsigned_sha256: &[u8; 32], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(&flush_message(unsigned_sha256), signature).is_ok()
}

fn flush_message(unsigned_sha256: &[u8; 32]) -> Vec<u8> {
    [FLUSH, unsigned_sha256].concat()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::{Checkpoint, KeyKind, KeyName, SignedCheckpoint};
    use crate::audit::fixtures::Counting;

    #[test]
    fn a_signature_is_of_one_key_and_of_one_entry() {
        let random = Counting::default();
        let (key, other) = (InstanceKey::generate(&random).unwrap(), InstanceKey::generate(&random).unwrap());
        let signature = key.sign(b"entry");
        assert!(is_signed(key.public(), &sha256(b"entry"), &signature));
        assert!(!is_signed(key.public(), &sha256(b"entri"), &signature));
        assert!(!is_signed(other.public(), &sha256(b"entry"), &signature));
        assert_ne!(key.id(), other.id());
    }

    #[test]
    fn an_attestation_is_of_one_log_and_of_one_key_and_never_a_checkpoint() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        let log = |name: &str| [VerifierKey::new(KeyName::parse(name).unwrap(), KeyKind::Log, public)];
        let text = attested_text("log.test/log", &[7; 32]);
        let attestation = pair.sign(text.as_bytes());
        assert!(is_attested(&log("log.test/log"), &[7; 32], attestation.as_ref()));
        assert!(!is_attested(&log("log.test/other"), &[7; 32], attestation.as_ref()));
        assert!(!is_attested(&log("log.test/log"), &[8; 32], attestation.as_ref()));
        assert!(!is_attested(&[], &[7; 32], attestation.as_ref()));
        assert!(KeyName::parse(ATTESTED).is_none(), "no log has such a name");
        let note = format!("{text}\n\u{2014} log.test/log AAAAAAA=\n");
        assert!(SignedCheckpoint::parse(note.as_bytes()).is_err());
        assert!(Checkpoint::new("log.test/log", 1, crate::audit::tree::TreeHash::of_leaf(b"e")).is_ok());
    }
}
