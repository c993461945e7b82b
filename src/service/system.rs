//! What the service records about itself and about callers who were not admitted, and which parts it misses.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Service;
use crate::audit::{Act, EntryDraft, Outcome};
use crate::crypto::digest::parse_hex;
use crate::domain::actor::CertificateFacts;
use crate::keys::Health;
use crate::policy::Authoriser;

impl Service {
    /// Puts a caller with a valid chain but no admission on record. The caller is refused whether or not the log can
    /// be written, so a failure is only logged.
    pub async fn note_refused_caller(
        &self,
        certificate: &Arc<CertificateFacts>,
        source: SocketAddr,
        code: &'static str,
    ) {
        let draft = EntryDraft::of_stranger(source, Some(certificate), Outcome::refused(code));
        self.note(draft).await;
    }

    /// Puts a failed handshake on record: only the address is known.
    pub async fn note_refused_handshake(&self, source: SocketAddr, code: &'static str) {
        self.note(EntryDraft::of_stranger(source, None, Outcome::refused(code))).await;
    }

    /// Records that this instance began to serve, under which policy. Nothing is served before it is durable.
    pub async fn note_start(&self) -> Result<(), super::Error> {
        let draft = EntryDraft::of_service(Act::ServiceStart, Outcome::SUCCESS)
            .loaded(digest_of(&self.policy.load()));
        self.put_on_record(draft).await
    }

    /// Records an orderly stop.
    pub async fn note_stop(&self) {
        self.note(EntryDraft::of_service(Act::ServiceStop, Outcome::SUCCESS)).await;
    }

    /// The hash of the policy in force.
    pub fn policy_hash(&self) -> String {
        self.policy.load().policy_set().hash().to_owned()
    }

    /// Takes a policy into use, once the log says so. On an error the old one stays.
    pub async fn adopt_policy(&self, policy: Arc<Authoriser>) -> Result<(), super::Error> {
        let draft = EntryDraft::of_service(Act::PolicyLoad, Outcome::SUCCESS).loaded(digest_of(&policy));
        self.put_on_record(draft).await?;
        self.policy.store(policy);
        Ok(())
    }

    /// Records that a change of `act`'s files was refused and the old state kept.
    pub async fn note_refused_load(&self, act: Act, code: &'static str) {
        self.note(EntryDraft::of_service(act, Outcome::failed(code))).await;
    }

    /// Records that new identities or revocation lists were taken into use.
    pub async fn note_load(&self, act: Act, sha256: [u8; 32]) {
        self.note(EntryDraft::of_service(act, Outcome::SUCCESS).loaded(sha256)).await;
    }

    async fn note(&self, draft: EntryDraft) {
        if let Err(error) = self.put_on_record(draft).await {
            tracing::error!(error = %error, "audit.system_entry_lost");
        }
    }

    /// Names of the parts that do not answer now.
    pub async fn parts_down(&self) -> Vec<&'static str> {
        let (data, keys, vault) = tokio::join!(self.records.ping(), self.keys.ping(), self.transit.health());
        [("data", data.is_err()), ("keys", keys.is_err()), ("vault", vault != Health::Ready)]
            .into_iter()
            .filter_map(|(name, is_down)| is_down.then_some(name))
            .collect()
    }
}

/// The policy set's hash as bytes; it is hexadecimal for people.
fn digest_of(policy: &Authoriser) -> [u8; 32] {
    let bytes = parse_hex(policy.policy_set().hash()).unwrap_or_default();
    bytes.try_into().unwrap_or([0; 32])
}
