//! Destroying the keys of deleted records, in the collections whose records have keys of their own.
//!
//! The list of what is to be done is part of the transaction that deletes a record, so it survives a crash of any part.
//! The key database buries a record and deletes its keys twice, the second time when nothing that began before the first
//! can still be running; only then is the record struck off the list, with an entry in the audit log.

use tokio::sync::Notify;

use super::{Error, Part, Service};
use crate::audit::{Act, EntryDraft, OutboxEntry, Outcome, RecordObject};
use crate::keys::KeyError;
use crate::storage::{PendingDestruction, StorageError};

/// Records in one statement.
const AT_ONCE: i64 = 500;

/// Wakes the worker when a record was deleted.
#[derive(Debug, Default)]
pub(super) struct Wanted(Notify);

impl Wanted {
    pub fn asked(&self) {
        self.0.notify_one();
    }
}

impl Service {
    /// Returns when a record was deleted whose keys are to go.
    pub async fn key_destruction_wanted(&self) {
        self.key_destruction.0.notified().await;
    }

    /// Takes one step for each record that is due; whether there are more, now or soon.
    pub async fn destroy_keys(&self) -> Result<bool, Error> {
        self.gate.pass_without_keys()?;
        let (due, are_more) = self.records.pending_destructions(self.keys.settling_time(), AT_ONCE).await?;
        let destroyed = self.destroy(&due).await?;
        let (second, first): (Vec<_>, Vec<_>) =
            destroyed.into_iter().partition(|pending| pending.was_confirmed);
        if !first.is_empty() {
            self.records.confirm_destructions(&first).await?;
        }
        if !second.is_empty() {
            let entries = second.iter().map(|pending| self.destroyed_entry(pending));
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let finished = OutboxEntry::commit_all_with(entries, async |bytes| {
                self.records.finish_destructions(&second, bytes).await
            });
            match finished.await {
                Ok(_) => {}
                // Another instance was faster with some of them; what is left is looked for again.
                Err(StorageError::Stale) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(are_more)
    }

    /// All at once, or, when the key database refuses that, one by one: a list that somebody tampered with must not hold
    /// back the others. Those that it refuses stay on the list and in the service's log.
    async fn destroy<'p>(&self, due: &'p [PendingDestruction]) -> Result<Vec<&'p PendingDestruction>, Error> {
        let place = |pending: &PendingDestruction| (pending.tenant, pending.record.clone());
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let places: Vec<_> = due.iter().map(place).collect();
        match self.keys.destroy_record_keys(&places).await {
            Ok(()) => return Ok(due.iter().collect()),
            Err(KeyError::Denied) => {}
            Err(error) => return Err(error.into()),
        }
        let mut destroyed = Vec::new();
        for pending in due {
            match self.keys.destroy_record_keys(&[place(pending)]).await {
                Ok(()) => destroyed.push(pending),
                Err(KeyError::Denied) => tracing::error!(
                    tenant = %pending.tenant,
                    record = pending.record.as_str(),
                    "keys.not_destroyed"
                ),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(destroyed)
    }

    fn destroyed_entry(&self, pending: &PendingDestruction) -> Result<OutboxEntry, Error> {
        let object = RecordObject::new(pending.collection.clone()).id(pending.record.clone());
        let mut draft =
            EntryDraft::of_service(Act::KeyDestroy, Outcome::SUCCESS).tenant(pending.tenant).record(object);
        if let Some(subject) = pending.subject {
            draft = draft.subject(subject);
        }
        self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
    }
}
