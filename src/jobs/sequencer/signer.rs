//! Signatures of the log: made by Vault, believed only once they were checked here.

use std::collections::BTreeMap;

use super::Fault;
use crate::audit::checkpoint::{
    Checkpoint, Distrust, InvalidSignature, KeyKind, KeyName, SignedCheckpoint, Trust, VerifierKey,
};
use crate::audit::export::LogFile;
use crate::audit::tree::TreeHash;
use crate::keys::Transit;

/// Signs under the log's name.
pub(super) struct Signer {
    transit: Transit,
    origin: KeyName,
    /// Public keys by their version in Vault, as far as they were needed.
    keys: BTreeMap<u32, VerifierKey>,
}

impl Signer {
    pub const fn new(transit: Transit, origin: KeyName) -> Self {
        Self { transit, origin, keys: BTreeMap::new() }
    }

    /// A checkpoint of this head, signed with the key's newest version; the signature holds.
    pub async fn sign(&mut self, size: u64, root: TreeHash) -> Result<SignedCheckpoint, Fault> {
        let checkpoint = Checkpoint::new(self.origin.as_str(), size, root).map_err(|_| Fault::Head)?;
        let made = self.transit.sign_audit(checkpoint.text().as_bytes()).await?;
        if !self.keys.contains_key(&made.key_version) {
            self.fetch_keys().await?;
        }
        let key = self.keys.get(&made.key_version).ok_or(InvalidSignature)?;
        Ok(SignedCheckpoint::signed(checkpoint, key, &made.signature)?)
    }

    /// Whether one of the log's keys signed it. An error where Vault does not say what they are.
    pub async fn believes(&mut self, signed: &SignedCheckpoint) -> Result<Result<(), Distrust>, Fault> {
        if !self.keys.is_empty() && self.endorses(signed).is_ok() {
            return Ok(Ok(()));
        }
        // The key may have been rotated, and another instance has signed with it.
        self.fetch_keys().await?;
        Ok(self.endorses(signed))
    }

    fn endorses(&self, signed: &SignedCheckpoint) -> Result<(), Distrust> {
        Trust::of_log(self.keys.values().cloned().collect()).endorse(signed).map(drop)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.origin.as_str()
    }

    /// The log's public keys as far as they are known.
    pub fn keys(&self) -> Vec<VerifierKey> {
        self.keys.values().cloned().collect()
    }

    /// The public keys that were needed so far, as files.
    pub fn key_files(&self) -> Vec<LogFile> {
        self.keys.values().map(LogFile::of_log_key).collect()
    }

    async fn fetch_keys(&mut self) -> Result<(), Fault> {
        let public = self.transit.audit_public_keys().await?;
        let key = |bytes| VerifierKey::new(self.origin.clone(), KeyKind::Log, bytes);
        self.keys = public.into_iter().map(|(version, bytes)| (version, key(bytes))).collect();
        Ok(())
    }
}
