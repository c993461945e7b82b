//! What the service records about itself and about callers who were not admitted, and which parts it misses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Service, attest};
use crate::audit::{Act, CommitError, EntryDraft, Outcome};
use crate::crypto::digest::parse_hex;
use crate::domain::id::TenantId;
use crate::keys::TransitError;
use crate::policy::Authoriser;
use crate::storage::{StorageError, Weakness};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why the service may not run on what it found.
#[derive(Debug, thiserror::Error)]
pub enum FitnessCheck {
    /// Vault's keys are not what the design demands; the service must not use them.
    #[error("refusing to run on these keys: {0}")]
    UnfitKeys(TransitError),
    /// A database would lose what it acknowledged, or lets its roles do more than they may.
    #[error("refusing to run on this database: {0}")]
    UnfitDatabase(Weakness),
    /// They could not be looked at; ask again.
    #[error("Vault's keys could not be looked at: {0}")]
    KeysNotSeen(TransitError),
    #[error("a database could not be looked at: {0}")]
    DatabaseNotSeen(StorageError),
}

impl FitnessCheck {
    /// Whether asking again may help.
    pub const fn is_for_now(&self) -> bool {
        matches!(self, Self::KeysNotSeen(_) | Self::DatabaseNotSeen(_))
    }
}

impl Service {
    /// Puts a failed handshake on record: only the address is known.
    pub async fn note_refused_handshake(&self, source: SocketAddr, code: &'static str) {
        self.note(EntryDraft::of_stranger(source, None, Outcome::refused(code))).await;
    }

    /// Hands the log the entry that this instance began to serve, under which policy. Call it first of all that is
    /// ever put on record. Operations are refused until the entry is durable; `false`: it is not yet, go on with
    /// [`Self::await_start`].
    pub async fn note_start(&self) -> bool {
        let draft = EntryDraft::of_service(Act::ServiceStart, Outcome::SUCCESS)
            .loaded(digest_of(&self.policy.load()));
        let is_durable = loop {
            match self.audit.submit(vec![draft.clone()]).await {
                Ok(_) => break true,
                // Not accepted: nothing was handed over yet.
                Err(CommitError::NoRandomness) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(_) => break false,
            }
        };
        if is_durable {
            self.gate.open_for_records();
        } else {
            tracing::warn!("service.start_not_on_record");
        }
        is_durable
    }

    /// Waits until the entry of [`Self::note_start`] is durable. It was accepted then, and the committer never drops
    /// what it accepted: a second entry would say that there were two starts.
    pub async fn await_start(&self) {
        let mut ticks = tokio::time::interval(LOOK_AGAIN);
        while self.audit.status().committed_entries == 0 {
            ticks.tick().await;
        }
        self.gate.open_for_records();
    }

    /// Reads the configuration of Vault's keys, and has the log's key vouch for this process's; once all was as it must be,
    /// and the databases were, operations are served.
    pub async fn check_keys(&self) -> Result<(), FitnessCheck> {
        self.transit.check_keys().await.map_err(|error| match error {
            TransitError::UnsafeKey { .. } | TransitError::Missing => FitnessCheck::UnfitKeys(error),
            _ => FitnessCheck::KeysNotSeen(error),
        })?;
        attest(&self.audit, &self.transit, &self.origin).await.map_err(FitnessCheck::KeysNotSeen)?;
        self.gate.open_for_keys();
        Ok(())
    }

    /// Looks at the settings, roles and triggers of the databases; once they were as they must be, and Vault's keys
    /// were, operations are served. What should be better, but need not be, goes into the log.
    pub async fn check_databases(&self) -> Result<(), FitnessCheck> {
        let now = self.clock.now();
        let (data, keys, eraser, rotator, reader, sequencer) = tokio::try_join!(
            self.records.weaknesses(now),
            self.keys.weaknesses(now),
            self.eraser.weaknesses(now),
            self.rotator.weaknesses(now),
            self.audit_reader.weaknesses(now),
            self.sequence.weaknesses(now),
        )
        .map_err(FitnessCheck::DatabaseNotSeen)?;
        let all = [data, keys, eraser, rotator, reader, sequencer].into_iter().flatten();
        let (unfit, weak): (Vec<_>, Vec<_>) = all.partition(|weakness| weakness.is_unsafe);
        if let Some(weakness) = unfit.into_iter().next() {
            return Err(FitnessCheck::UnfitDatabase(weakness));
        }
        for weakness in weak {
            tracing::warn!(weakness = %weakness, "database.weak");
        }
        self.gate.open_for_databases();
        Ok(())
    }

    /// The door is about to close: whoever asks whether the service is ready hears so from now on. What was accepted goes on.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
        tracing::info!("service.stopping");
    }

    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Records an orderly stop.
    pub async fn note_stop(&self) {
        self.report_refusals(true).await;
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

    /// Records that something of one tenant was taken into use.
    pub async fn note_load_of(&self, tenant: TenantId, act: Act, sha256: [u8; 32]) {
        self.note(EntryDraft::of_service(act, Outcome::SUCCESS).tenant(tenant).loaded(sha256)).await;
    }

    pub(super) async fn note(&self, draft: EntryDraft) {
        if let Err(error) = self.put_on_record(draft).await {
            tracing::error!(error = %error, "audit.system_entry_lost");
        }
    }
}

/// The policy set's hash as bytes; it is hexadecimal for people.
fn digest_of(policy: &Authoriser) -> [u8; 32] {
    let bytes = parse_hex(policy.policy_set().hash()).unwrap_or_default();
    bytes.try_into().unwrap_or([0; 32])
}
