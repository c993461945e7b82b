//! Opening stored values under their subject's keys. The only caller of `crypto::open_fields`.

use std::sync::Arc;

use super::{Error, Part, Service};
use crate::crypto::{OpenError, OpenedField, SubjectKey, WantedField, open_fields};
use crate::domain::class::DataClass;
use crate::domain::id::{KeyId, KeyOwner, RecordId, RecordVersion, SubjectId};
use crate::keys::KeyError;
use crate::policy::{Collection, Field, KeyScope, Permit};
use crate::storage::{FoundRecord, StorageError};

impl Service {
    /// A record's current version, or the one that is named, if there is one.
    pub(super) async fn find_stored(
        &self,
        permit: &Permit,
        record: &RecordId,
        version: Option<RecordVersion>,
    ) -> Result<Option<FoundRecord>, Error> {
        let name = permit.collection().name();
        let found = match version {
            None => self.records.find(permit.tenant(), name, record).await,
            // Boxed: few reads ask for one, and all would make room for it.
            Some(version) => {
                Box::pin(self.records.find_version(permit.tenant(), name, record, version)).await
            }
        };
        found.map_err(|error| {
            if matches!(error, StorageError::Malformed(_)) {
                let tenant = permit.tenant();
                let (collection, record) = (name.as_str(), record.as_str());
                tracing::error!(%tenant, collection, record, %error, "record.integrity_failed");
            }
            Error::from(error)
        })
    }

    /// Opens `wanted` of a stored version, all or nothing. The permit is the proof that policy was asked.
    pub(super) async fn open_stored(
        &self,
        permit: &Permit,
        found: &FoundRecord,
        wanted: &[WantedField],
    ) -> Result<Vec<OpenedField>, Error> {
        let mut wanted = wanted.to_vec();
        wanted.extend(anchor(permit.collection(), found, &wanted));
        let keys = self.opening_keys(permit, found, &wanted).await?;
        let key_of = |class: DataClass, id: KeyId| {
            keys.iter().find(|(of, key)| *of == class && key.id() == id).map(|(_, key)| &**key)
        };
        let opened =
            open_fields(&found.stored, &wanted, key_of).map_err(|error| tampered(permit, found, error))?;
        if opened.is_empty() && !may_be_empty(permit.collection(), found) {
            return Err(tampered(permit, found, OpenError::Tampered));
        }
        Ok(opened)
    }

    /// Why a key is not there: the record was deleted or its person erased since it was found, or somebody took the key away.
    pub(super) async fn without_key(&self, permit: &Permit, record: &RecordId) -> Error {
        match self.find_stored(permit, record, None).await {
            Ok(None) => Error::NotFound,
            Ok(Some(_)) => Error::Tampered,
            Err(error) => error,
        }
    }

    /// The keys of the classes that are wanted and present, usually in memory.
    async fn opening_keys(
        &self,
        permit: &Permit,
        found: &FoundRecord,
        wanted: &[WantedField],
    ) -> Result<Vec<(DataClass, Arc<SubjectKey>)>, Error> {
        let stored = &found.stored;
        let owner = key_owner(permit.collection(), &stored.place.record, stored.place.subject)
            .map_err(|_| tampered(permit, found, OpenError::MissingKey))?;
        let mut named = Vec::with_capacity(stored.seals.len());
        for seal in &stored.seals {
            if !wanted.iter().any(|field| field.class == seal.class) {
                continue;
            }
            let id = seal.key_id().ok_or_else(|| tampered(permit, found, OpenError::Malformed))?;
            if !found.is_usable(seal.class, id) {
                return Err(tampered(permit, found, OpenError::MissingKey));
            }
            named.push((seal.class, id));
        }
        match self.keys.subject_keys(permit.tenant(), &owner, &named).await {
            Ok(keys) => Ok(named.into_iter().map(|(class, _)| class).zip(keys).collect()),
            // Boxed: it hardly ever comes to this, and each read makes room for it.
            Err(KeyError::Missing) => {
                Err(match Box::pin(self.without_key(permit, &stored.place.record)).await {
                    Error::Tampered => tampered(permit, found, OpenError::MissingKey),
                    error => error,
                })
            }
            Err(KeyError::TooOld) => Err(tampered(permit, found, OpenError::MissingKey)),
            Err(KeyError::Unusable) => Err(tampered(permit, found, OpenError::WrongKey)),
            Err(error) => Err(Error::from(error)),
        }
    }
}

/// A field to open although nobody asked for it. What opens proves the list of all fields of the version; if none of
/// the fields that are wanted is listed, nothing would open, and a row could have been trimmed unnoticed.
fn anchor(collection: &Collection, found: &FoundRecord, fields: &[WantedField]) -> Option<WantedField> {
    let stored = &found.stored.fields;
    let proves = fields.iter().any(|field| stored.iter().any(|listed| listed.id == field.id));
    if proves {
        return None;
    }
    stored.iter().find_map(|listed| collection.field_by_id(listed.id)).map(wanted)
}

/// Whether a version may open to nothing at all. Not when it lists fields, of which none is the collection's, nor when
/// the collection requires a field: then whoever holds the database emptied the row or renumbered it.
fn may_be_empty(collection: &Collection, found: &FoundRecord) -> bool {
    found.stored.fields.is_empty() && !collection.fields().iter().any(|field| field.required)
}

/// Whose key seals a record of this collection.
pub(super) fn key_owner(
    collection: &Collection,
    record: &RecordId,
    subject: Option<SubjectId>,
) -> Result<KeyOwner, Error> {
    match (collection.key_scope(), subject) {
        (KeyScope::Record, _) => Ok(KeyOwner::Record(record.clone())),
        (KeyScope::Subject, Some(subject)) => Ok(KeyOwner::Subject(subject)),
        (KeyScope::Subject, None) => Err(Error::Tampered),
    }
}

pub(super) fn wanted(field: &Field) -> WantedField {
    WantedField { id: field.id, type_id: field.field_type.type_id(), class: field.class }
}

/// An integrity failure is told to the operators once, here, with ids and never bytes.
fn tampered(permit: &Permit, found: &FoundRecord, error: OpenError) -> Error {
    tracing::error!(
        tenant = %permit.tenant(),
        collection = permit.collection().name().as_str(),
        record = found.stored.place.record.as_str(),
        version = found.stored.place.version.get(),
        error = %error,
        "record.integrity_failed"
    );
    Error::Tampered
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Stale => Self::Stale,
            StorageError::Held => Self::SubjectHeld,
            StorageError::Malformed(_) => Self::Tampered,
            StorageError::TooMuch => Self::AnswerTooLarge,
            StorageError::Conflict | StorageError::Claimed => Self::Internal("an id was used twice"),
            StorageError::Unavailable
            | StorageError::Timeout
            | StorageError::Secret(_)
            | StorageError::Roots(_)
            | StorageError::Refused { .. } => Self::Unavailable(Part::Data),
        }
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Erased => Self::SubjectUnknown,
            KeyError::NoRandomness => Self::Unavailable(Part::Randomness),
            KeyError::Unavailable
            | KeyError::Denied
            | KeyError::Missing
            | KeyError::TooOld
            | KeyError::Unusable => {
                tracing::warn!(error = %error, "keys.failed");
                Self::Unavailable(Part::Keys)
            }
        }
    }
}
