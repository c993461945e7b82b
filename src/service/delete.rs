//! Delete: a last version without values. The older ones stay sealed in the history until they expire; where records have
//! keys of their own, nobody can open them any more.

use std::sync::Arc;

use super::update::next_place;
use super::{Error, Service};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{KeyOwner, RecordId, RecordVersion};
use crate::policy::{Collection, KeyScope};
use crate::storage::Successor;

const ATTEMPTS: u32 = 8;

impl Service {
    /// Ends a record, unless a legal hold is in force; with `expected`, only if that is its current version. Durable on return.
    pub async fn delete(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        record: RecordId,
        expected: Option<RecordVersion>,
    ) -> Result<(), Error> {
        let permit = self.authorise(context, collection, Action::Delete, Some(&record)).await?;
        let successor = match collection.key_scope() {
            KeyScope::Subject => Successor::End,
            KeyScope::Record => Successor::EndWithKeys,
        };
        // Without a precondition the caller means whatever version is current, so losing a race is no answer.
        for _ in 0..ATTEMPTS {
            let found = self.current(context, &permit, &record, expected).await?;
            let sealed = self.seal(next_place(found.stored.place)?, &[], &Vec::new())?;
            let entry = self.outbox_entry(context, &permit, &sealed, Vec::new())?;
            let at = self.clock.now();
            let stored =
                entry.commit_with(async |bytes| self.records.replace(&sealed, successor, bytes, at).await);
            match stored.await.map_err(Error::from) {
                Err(Error::Stale) if expected.is_none() => {}
                Err(Error::Stale) => break,
                Err(Error::SubjectHeld) => {
                    let (code, error) = ("subject_held", Error::SubjectHeld);
                    return Err(self.note_failure(context, &permit, Some(&record), code, error).await);
                }
                Ok(_) => {
                    if successor == Successor::EndWithKeys {
                        self.keys.forget(permit.tenant(), &KeyOwner::Record(record));
                        self.key_destruction.asked();
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.note_stale(context, &permit, &record).await)
    }
}
