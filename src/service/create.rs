//! Create: version 1 of a record, sealed, with its entry in the same transaction.

use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::create_many::Together;
use super::judge::NewPermits;
use super::open::key_owner;
use super::seal::classes_of;
use super::{Created, Error, Service, Written};
use crate::crypto::{PlainField, SealPlace, SealedRecord};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldId, FieldName, KeyOwner, RecordId, RecordVersion, SubjectId, uuid_v7};
use crate::domain::idempotency::IdempotencyKey;
use crate::policy::{
    Collection, KeyScope, ParseMode, ParsedField, ParsedFields, Permit, Prospect, SubjectRule, View,
};
use crate::storage::SubjectRow;

impl Service {
    /// Whether the caller may create records here at all; asked before the body is read.
    pub async fn authorise_create(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
    ) -> Result<Prospect, Error> {
        self.prospect(context, collection, Action::Create, None).await
    }

    /// Stores a record. On return the record, its subject if new, and its audit entry are durable; under a key that was
    /// used before, the answer is that of the first time, and nothing is stored.
    pub async fn create(
        &self,
        context: &OperationContext,
        (collection, prospect): (&Arc<Collection>, Prospect),
        subject: Option<SubjectId>,
        fields: &RawValue,
        key: Option<&IdempotencyKey>,
    ) -> Result<Created, Error> {
        let permits = NewPermits::alike(self.permit_for(context, collection, prospect, subject).await?, 1);
        let permit = permits.any()?;
        let parsed = permit.collection().parse_fields(fields, ParseMode::Create).map_err(Error::Invalid)?;
        self.check_writable(context, permit, None, &parsed).await?;
        let draft = Draft::of(permit.collection(), subject, parsed)?;
        let stored = match key {
            None => self.store_new(context, permit, draft).await.map(Created::now),
            // Boxed: not all have one, and all would make room for it.
            Some(_) => {
                Box::pin(self.store_together(context, &permits, vec![draft], key, Together::One)).await
            }
        };
        match stored {
            // The answer says something about a person, so it is on record.
            Err(Error::SubjectUnknown) => {
                let code = "subject_unknown";
                Err(self.note_failure(context, permit, None, code, Error::SubjectUnknown).await)
            }
            other => other,
        }
    }

    /// One record in one statement: the way of nearly every create.
    async fn store_new(
        &self,
        context: &OperationContext,
        permit: &Permit,
        draft: Draft,
    ) -> Result<Written, Error> {
        let Draft { subject, fields, written } = draft;
        let id = uuid_v7(self.clock(), self.random())?;
        let (subject, row) = self.subject_of(permit, subject, id, &fields).await?;
        let sealed = self.seal_new(permit, id, subject, row, &fields).await?;
        drop(fields);
        let at = self.clock.now();
        let entry = self.outbox_entry(context, permit, &sealed, written)?;
        let stored =
            entry.commit_with(async |bytes| self.records.insert(&sealed, row, bytes, at).await).await;
        let ((), receipt) = stored.map_err(|error| match Error::from(error) {
            // The subject was erased between the look and the write.
            Error::Stale => Error::SubjectUnknown,
            error => error,
        })?;
        Ok(Written::confirmed(sealed.place(), at, &receipt))
    }

    /// Seals the first version of a record with what it is found by, under keys that are made and committed first where there are none.
    pub(super) async fn seal_new(
        &self,
        permit: &Permit,
        id: Uuid,
        subject: SubjectId,
        row: SubjectRow,
        fields: &[PlainField],
    ) -> Result<SealedRecord, Error> {
        let collection = permit.collection();
        let record = RecordId::from_uuid(id);
        let owner = key_owner(collection, &record, Some(subject))?;
        let is_new = row == SubjectRow::New || collection.key_scope() == KeyScope::Record;
        let keys = self.sealing_keys(permit, &owner, is_new, fields).await?;
        let place = SealPlace {
            tenant: permit.tenant(),
            collection: collection.name().clone(),
            record,
            version: RecordVersion::FIRST,
            subject: Some(subject),
        };
        self.indexed(permit, self.seal(place, fields, &keys)?, fields).await
    }

    /// Refuses fields that the caller may not write.
    pub(super) async fn check_writable(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: Option<&RecordId>,
        parsed: &ParsedFields,
    ) -> Result<(), Error> {
        let touched = parsed.set.iter().map(|field| field.id).chain(parsed.removed.iter().copied());
        let refused: Vec<FieldName> =
            names(permit.collection(), touched.filter(|id| permit.view_of(*id) != View::Plain));
        if refused.is_empty() {
            return Ok(());
        }
        Err(self.refuse_fields(context, permit, record, refused).await)
    }

    /// A record that owns its subject shares its id; other records name an active one.
    async fn subject_of(
        &self,
        permit: &Permit,
        named: Option<SubjectId>,
        record: Uuid,
        fields: &[PlainField],
    ) -> Result<(SubjectId, SubjectRow), Error> {
        let Some(subject) = named else { return Ok((SubjectId::from_uuid(record), SubjectRow::New)) };
        // The insert asks under a lock, and it alone decides. Asked beforehand only where a key may have to be made, which
        // must not be for somebody who is not there.
        let is_sealed_by_subject = permit.collection().key_scope() == KeyScope::Subject;
        let owner = KeyOwner::Subject(subject);
        if is_sealed_by_subject && self.keys.holds_sealing_keys(permit.tenant(), &owner, &classes_of(fields))
        {
            return Ok((subject, SubjectRow::Existing));
        }
        // Boxed: most have the key, and all would make room for it.
        if Box::pin(self.records.subject_is_active(permit.tenant(), subject)).await? {
            Ok((subject, SubjectRow::Existing))
        } else {
            Err(Error::SubjectUnknown)
        }
    }
}

/// A record that fits its collection and is about to be stored.
pub(super) struct Draft {
    /// Given exactly where the collection's records refer to one.
    pub subject: Option<SubjectId>,
    pub fields: Vec<PlainField>,
    /// Names of the fields, for the log.
    pub written: Vec<FieldName>,
}

impl Draft {
    /// [`Error::SubjectRule`] when a subject is missing, or given where a record makes its own.
    pub fn of(
        collection: &Collection,
        subject: Option<SubjectId>,
        parsed: ParsedFields,
    ) -> Result<Self, Error> {
        match (collection.subject(), subject) {
            (SubjectRule::OwnsSubject, None) | (SubjectRule::RefersToSubject, Some(_)) => {}
            (SubjectRule::OwnsSubject, Some(_)) | (SubjectRule::RefersToSubject, None) => {
                return Err(Error::SubjectRule);
            }
        }
        let written = names(collection, parsed.set.iter().map(|field| field.id));
        Ok(Self { subject, fields: plain_fields(parsed.set), written })
    }
}

/// Names of fields, for the log.
pub(super) fn names(collection: &Collection, ids: impl Iterator<Item = FieldId>) -> Vec<FieldName> {
    ids.filter_map(|id| collection.field_by_id(id)).map(|field| field.name.clone()).collect()
}

/// The values as `crypto` seals them.
pub(super) fn plain_fields(parsed: Vec<ParsedField>) -> Vec<PlainField> {
    let plain = |field: ParsedField| {
        let ParsedField { id, type_id, class, value } = field;
        PlainField { id, type_id, class, value }
    };
    parsed.into_iter().map(plain).collect()
}
