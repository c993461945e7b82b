//! Sealing a version, and the draft of the entry that goes with it into the same transaction.

use std::sync::Arc;

use super::open::key_owner;
use super::{Error, Part, Service};
use crate::audit::{EntryDraft, OutboxEntry, Outcome, RecordObject};
use crate::crypto::{PlainField, SealError, SealPlace, SealedRecord, SubjectKey, seal_record};
use crate::domain::class::DataClass;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldName, KeyOwner};
use crate::policy::Permit;

/// Keys for the classes of one record.
pub(super) type SealingKeys = Vec<(DataClass, Arc<SubjectKey>)>;

/// The classes that occur, in the order of their seals.
pub(super) fn classes_of(fields: &[PlainField]) -> Vec<DataClass> {
    let occurs = |class: &DataClass| fields.iter().any(|field| field.class == *class);
    DataClass::ALL.into_iter().filter(occurs).collect()
}

impl Service {
    /// The active keys of `owner` for the classes of `fields`; made and committed first where there are none.
    pub(super) async fn sealing_keys(
        &self,
        permit: &Permit,
        owner: &KeyOwner,
        is_new: bool,
        fields: &[PlainField],
    ) -> Result<SealingKeys, Error> {
        let classes = classes_of(fields);
        let keys = self.keys.sealing_keys(permit.tenant(), owner, &classes, is_new).await?;
        Ok(classes.into_iter().zip(keys).collect())
    }

    /// The same for the next version of a record that was found.
    pub(super) async fn resealing_keys(
        &self,
        permit: &Permit,
        place: &SealPlace,
        fields: &[PlainField],
    ) -> Result<SealingKeys, Error> {
        let owner = key_owner(permit.collection(), &place.record, place.subject)?;
        match self.sealing_keys(permit, &owner, false, fields).await {
            Err(Error::SubjectUnknown) => Err(self.without_key(permit, &place.record).await),
            keys => keys,
        }
    }

    pub(super) fn seal(
        &self,
        place: SealPlace,
        fields: &[PlainField],
        keys: &SealingKeys,
    ) -> Result<SealedRecord, Error> {
        let key_of = |class| keys.iter().find(|(of, _)| *of == class).map(|(_, key)| &**key);
        seal_record(place, fields, key_of, self.random()).map_err(|error| match error {
            SealError::NoRandomness => Error::Unavailable(Part::Randomness),
            SealError::MissingKey
            | SealError::KeyMismatch
            | SealError::DuplicateField
            | SealError::ValueTooLarge
            | SealError::Refused => Error::Internal("sealing refused its input"),
        })
    }

    /// The entry of a write: what was written, under which seals.
    pub(super) fn outbox_entry(
        &self,
        context: &OperationContext,
        permit: &Permit,
        sealed: &SealedRecord,
        written: Vec<FieldName>,
    ) -> Result<OutboxEntry, Error> {
        let place = sealed.place();
        let mut object =
            RecordObject::new(place.collection.clone()).id(place.record.clone()).version(place.version);
        for seal in sealed.seals() {
            object = object.class(seal.class);
        }
        if !written.is_empty() {
            object = object.fields(written);
        }
        let act = super::authorise::act_of(permit.action());
        let mut draft = EntryDraft::of_request(context, act, Outcome::SUCCESS)
            .policies(permit.policies())
            .seals(sealed.headers_sha256())
            .record(object);
        if let Some(subject) = place.subject {
            draft = draft.subject(subject);
        }
        self.audit.outbox_entry(&draft).map_err(|_| Error::Unavailable(Part::Randomness))
    }
}
