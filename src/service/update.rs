//! Update: a new version with some fields replaced; the whole version is sealed afresh and the old one is kept.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::create::{names, plain_fields};
use super::open::wanted;
use super::{Error, Service, Written};
use crate::crypto::{PlainField, SealPlace, WantedField};
use crate::domain::action::Action;
use crate::domain::context::OperationContext;
use crate::domain::id::{FieldId, FieldName, RecordId, RecordVersion};
use crate::policy::{Collection, ParseMode, Permit};
use crate::storage::{FoundRecord, Successor};

impl Service {
    /// Whether the caller may change this record at all; asked before the body is read.
    pub async fn authorise_update(
        &self,
        context: &OperationContext,
        collection: &Arc<Collection>,
        record: &RecordId,
    ) -> Result<Permit, Error> {
        self.authorise(context, collection, Action::Update, Some(record)).await
    }

    /// Stores version `expected + 1`. [`Error::Stale`] when `expected` is not current. Durable on return.
    pub async fn update(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: RecordId,
        expected: RecordVersion,
        fields: &RawValue,
    ) -> Result<Written, Error> {
        let collection = permit.collection();
        let parsed = collection.parse_fields(fields, ParseMode::Patch).map_err(Error::Invalid)?;
        self.check_writable(context, permit, Some(&record), &parsed).await?;
        let found = self.current(context, permit, &record, Some(expected)).await?;
        let removed = parsed.removed;
        let touched = removed.iter().copied().chain(parsed.set.iter().map(|field| field.id));
        let written = names(collection, touched);
        let fields = plain_fields(parsed.set);
        let fields = self.with_kept(context, permit, &found, fields, &removed).await?;
        match self.replace(context, permit, found, fields, written).await {
            Ok(written) => Ok(written),
            Err(Error::Stale) => Err(self.note_stale(context, permit, &record).await),
            Err(error) => Err(self.note_unopened(context, permit, &record, error).await),
        }
    }

    /// `fields`, and with them those that the new version takes over from `found`.
    pub(super) async fn with_kept(
        &self,
        context: &OperationContext,
        permit: &Permit,
        found: &FoundRecord,
        mut fields: Vec<PlainField>,
        removed: &[FieldId],
    ) -> Result<Vec<PlainField>, Error> {
        let kept = kept_fields(permit.collection(), found, &fields, removed)?;
        match self.open_stored(permit, found, &kept).await {
            Err(error) => Err(self.note_unopened(context, permit, &found.stored.place.record, error).await),
            Ok(opened) => {
                fields.extend(opened.into_iter().filter_map(|opened| {
                    let field = kept.iter().find(|field| field.id == opened.id)?;
                    let (type_id, class) = (field.type_id, field.class);
                    Some(PlainField { id: opened.id, type_id, class, value: opened.value })
                }));
                Ok(fields)
            }
        }
    }

    async fn replace(
        &self,
        context: &OperationContext,
        permit: &Permit,
        found: FoundRecord,
        fields: Vec<PlainField>,
        written: Vec<FieldName>,
    ) -> Result<Written, Error> {
        let place = next_place(found.stored.place)?;
        let keys = self.resealing_keys(permit, &place, &fields).await?;
        let sealed = self.indexed(permit, self.seal(place, &fields, &keys)?, &fields).await?;
        drop(fields);
        let at = self.clock.now();
        let entry = self.outbox_entry(context, permit, &sealed, written)?;
        let ((), receipt) = entry
            .commit_with(async |bytes| self.records.replace(&sealed, Successor::Version, bytes, at).await)
            .await?;
        Ok(Written::confirmed(sealed.place(), at, &receipt))
    }

    /// The current version, if it is the expected one; anything else is in the log.
    pub(super) async fn current(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: &RecordId,
        expected: Option<RecordVersion>,
    ) -> Result<FoundRecord, Error> {
        let found = self.find_stored(permit, record, None).await;
        match found {
            Ok(None) => Err(self.note_unopened(context, permit, record, Error::NotFound).await),
            Ok(Some(found)) if expected.is_some_and(|version| version != found.stored.place.version) => {
                Err(self.note_stale(context, permit, record).await)
            }
            Ok(Some(found)) => Ok(found),
            Err(error) => Err(self.note_unopened(context, permit, record, error).await),
        }
    }

    /// That a version is not current says that the record exists: it is on record as well.
    pub(super) async fn note_stale(
        &self,
        context: &OperationContext,
        permit: &Permit,
        record: &RecordId,
    ) -> Error {
        self.note_failure(context, permit, Some(record), "version_stale", Error::Stale).await
    }
}

/// The same place, one version on.
pub(super) fn next_place(place: SealPlace) -> Result<SealPlace, Error> {
    let version = place.version.next().ok_or(Error::Internal("a record has no versions left"))?;
    Ok(SealPlace { version, ..place })
}

/// The fields that the new version takes over. A stored field that the collection no longer declares cannot be sealed
/// again (its type is unknown) and must not be lost, so the update is refused.
fn kept_fields(
    collection: &Collection,
    found: &FoundRecord,
    replaced: &[PlainField],
    removed: &[FieldId],
) -> Result<Vec<WantedField>, Error> {
    let is_kept = |id: &FieldId| !removed.contains(id) && !replaced.iter().any(|field| field.id == *id);
    found
        .stored
        .fields
        .iter()
        .map(|field| field.id)
        .filter(is_kept)
        .map(|id| {
            collection
                .field_by_id(id)
                .map(wanted)
                .ok_or(Error::Internal("a stored field is not in the collection any more"))
        })
        .collect()
}
