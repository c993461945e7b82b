//! The log's key vouches for the key that signs this process's entries (`audit::instance`).

use super::Service;
use crate::audit::checkpoint::{KeyKind, KeyName, VerifierKey};
use crate::audit::instance::{attested_text, is_attested};
use crate::audit::{ChainEnd, Committer};
use crate::keys::{Transit, TransitError};

/// Asks Vault, once for a process, and believes the answer only where it holds.
pub async fn attest(committer: &Committer, transit: &Transit, origin: &KeyName) -> Result<(), TransitError> {
    let public = committer.instance_key();
    let made = transit.sign_audit(attested_text(origin.as_str(), public).as_bytes()).await?;
    let key = transit.audit_public_keys().await?.remove(&made.key_version).ok_or(TransitError::Malformed)?;
    let log = [VerifierKey::new(origin.clone(), KeyKind::Log, key)];
    if !is_attested(&log, public, &made.signature) {
        return Err(TransitError::Malformed);
    }
    committer.attest(made.signature);
    Ok(())
}

impl Service {
    /// How far this process's chains are confirmed.
    pub fn chain_ends(&self) -> Vec<ChainEnd> {
        self.audit.ends()
    }
}
