//! What follows the approval of an erasure, step by step, whatever is killed on the way.
//!
//! The approval is in the data database, with a digest that only the service can make, and with it the subject is not available
//! any more. The key database then buries the
//! subject and deletes all keys of it and of its records, twice, the second time when nothing that began before the first
//! can still be running. Only then is the subject erased, with a certificate that the log's key signed, and an entry. Each
//! step may be taken again: a restart, or another instance, goes on from what the rows say.

use tokio::sync::Notify;

use super::erase::no_digest;
use super::{Error, Part, Service};
use crate::audit::checkpoint::{ErasureStatement, KeyKind, VerifierKey};
use crate::audit::{Act, EntryDraft, Outcome};
use crate::crypto::keyed_hash::tags_equal;
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyOwner, RecordId};
use crate::keys::TransitError;
use crate::storage::{PendingErasure, PendingErasures, PendingPlace, StorageError};
use crate::telemetry::metrics;

/// Erasures and records in one statement.
const ERASURES: i64 = 16;
const RECORDS: i64 = 1_000;

const DAY_SECONDS: i64 = 24 * 3_600;

/// Wakes the worker when an erasure was approved.
#[derive(Debug, Default)]
pub(super) struct Approved(Notify);

impl Approved {
    pub fn asked(&self) {
        self.0.notify_one();
    }
}

impl Service {
    /// Returns when an erasure was approved.
    pub async fn erasure_approved(&self) {
        self.erasing.0.notified().await;
    }

    /// Takes one step for each erasure that is due; whether there are more, now or soon. One that fails does not hold back
    /// the others.
    pub async fn continue_erasures(&self) -> Result<bool, Error> {
        self.gate.pass()?;
        let (mut place, mut are_more, mut failed) = (Some(PendingPlace::BEGIN), false, None);
        while let Some(after) = place {
            let settled = self.keys.settling_time();
            let PendingErasures { due, next, are_any } =
                self.records.pending_erasures(settled, after, ERASURES).await?;
            for pending in due {
                failed = self.try_to_continue(pending).await.err().or(failed);
            }
            are_more |= are_any;
            place = next;
        }
        failed.map_or(Ok(are_more), Err)
    }

    async fn try_to_continue(&self, pending: Result<PendingErasure, StorageError>) -> Result<(), Error> {
        let pending = pending.inspect_err(|error| tracing::error!(%error, "erasure.not_read"))?;
        self.continue_erasure(&pending).await.inspect_err(|error| {
            let (tenant, id) = (pending.tenant, pending.id);
            tracing::warn!(%tenant, %id, %error, "erasure.not_continued");
        })
    }

    async fn continue_erasure(&self, pending: &PendingErasure) -> Result<(), Error> {
        self.check_approval(pending).await?;
        self.destroy_all_keys(pending).await?;
        if !pending.was_confirmed {
            return Ok(self.records.confirm_erasure(pending.tenant, pending.id).await?);
        }
        let erased_at = self.clock.now();
        let certificate = self.certify_erasure(pending, erased_at).await?;
        let draft = EntryDraft::of_service(Act::ErasureComplete, Outcome::SUCCESS)
            .tenant(pending.tenant)
            .subject(pending.subject)
            .erasure(pending.id, pending.reference.clone());
        let entry = self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))?;
        let finished = entry.commit_with(async |bytes| {
            self.records.finish_erasure(pending, erased_at, &certificate, bytes).await
        });
        match finished.await {
            Ok(_) => {
                tracing::warn!(tenant = %pending.tenant, id = %pending.id, "erasure.complete");
                Ok(())
            }
            // Another instance was faster.
            Err(StorageError::Stale) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// That two people decided it: a row alone destroys nothing.
    async fn check_approval(&self, pending: &PendingErasure) -> Result<(), Error> {
        let root = self.keys.request_root_of(pending.tenant, pending.root).await?;
        let approved = pending.asked.approval_mac(&root, &pending.approver_sha256).map_err(no_digest)?;
        if pending.mac.is_some_and(|mac| tags_equal(&approved, &mac)) {
            return Ok(());
        }
        tracing::error!(tenant = %pending.tenant, id = %pending.id, "erasure.not_approved");
        Err(Error::Tampered)
    }

    /// Those of the subject, and of all its records, those that were deleted among them.
    async fn destroy_all_keys(&self, pending: &PendingErasure) -> Result<(), Error> {
        let (tenant, subject) = (pending.tenant, pending.subject);
        let mut after = None;
        loop {
            let places = self.records.places_of_subject(tenant, subject, after.as_ref(), RECORDS).await?;
            let records: Vec<RecordId> = places.iter().map(|(_, record)| record.clone()).collect();
            self.eraser.destroy_subject_keys(tenant, subject, &records).await.map_err(|error| {
                tracing::error!(%tenant, id = %pending.id, %error, "erasure.keys_not_destroyed");
                Error::Unavailable(Part::Keys)
            })?;
            for record in records {
                self.keys.forget(tenant, &KeyOwner::Record(record));
            }
            after = places.last().cloned();
            if i64::try_from(places.len()).unwrap_or(i64::MAX) < RECORDS {
                break;
            }
        }
        self.keys.forget(tenant, &KeyOwner::Subject(subject));
        Ok(())
    }

    /// Counts, for all tenants, what was approved and has not come to its end for too long.
    pub async fn count_overdue_erasures(&self) -> Result<u64, Error> {
        let overdue = self.records.overdue_erasures(self.erasures.overdue_seconds).await?;
        metrics::erasures_overdue(overdue);
        Ok(overdue)
    }

    /// Signed by the log's key in Vault, and believed only once the signature was checked here.
    async fn certify_erasure(&self, pending: &PendingErasure, erased_at: Timestamp) -> Result<String, Error> {
        let statement = ErasureStatement {
            tenant: pending.tenant,
            subject: pending.subject,
            erasure: pending.id,
            approved_at: pending.approved_at,
            erased_at,
            unrecoverable_from: erased_at
                .plus_seconds(i64::from(self.erasures.key_backup_days) * DAY_SECONDS),
        };
        let down = |error: TransitError| {
            tracing::warn!(%error, "erasure.not_certified");
            Error::Unavailable(Part::Keys)
        };
        let text = statement.text(&self.origin);
        let made = self.transit.sign_audit(text.as_bytes()).await.map_err(down)?;
        let public = self.transit.audit_public_keys().await.map_err(down)?.remove(&made.key_version);
        let public = public.ok_or_else(|| down(TransitError::Malformed))?;
        let key = VerifierKey::new(self.origin.clone(), KeyKind::Log, public);
        statement.certify(&key, &made.signature).map_err(|_| down(TransitError::Malformed))
    }
}
